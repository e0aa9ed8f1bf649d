"""Parts of drawn hearts: ellipsoids, whose halves and ends are known, measured, fitted and drawn again."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy import domains, moments
from cardiocohort.anatomy.domains import Domain
from cardiocohort.cohort import target_arms
from cardiocohort.cohort.grammar import parse_constraints, parse_edits
from cardiocohort.cohort.table import Arm
from cardiocohort.population import part_spreads, parts
from cardiocohort.population.plausibility import population_for
from cardiocohort.population.reference import read_reference
from cardiocohort.population.targets import drawn_targets
from cardiocohort.runtime import tables
from cardiocohort.runtime.errors import InputError
from tiny_prior import ANATOMY, GRID

DOMAINS = {
    "top": Domain(form="half_space", towards="wall", low=0.5),
    "touch": Domain(form="cylinder", frame="contact", towards="wall", centre=[0, 0, 0], radius=14, length=24),
    "slab": Domain(form="slab", towards="wall", low=0.3, high=0.6),
    "through": Domain(
        form="cylinder", frame="contact", of="cavity", towards="wall", centre=[4, 0, 0], radius=12, length=70
    ),
    "fixed": Domain(form="half_space", frame="heart", axis=[1, 0, 0], low=0.0),
}
PARTS = ("cavity@top", "cavity@outside_top", "cavity@touch", "cavity@fixed", "cavity@slab", "wall@through")
WALLS = ("wall@through",)
HEARTS = (
    400  # of few hearts the shrunk covariance of the whole structures loosens relations that are exact here
)


def body(centre, semi_axes, turn) -> np.ndarray:
    """Voxels (X, Y, Z) of an ellipsoid."""
    points = np.stack(np.meshgrid(*GRID.axes_mm(), indexing="ij"), axis=-1) - centre
    return (((points @ turn) / semi_axes) ** 2).sum(axis=-1) <= 1.0


def random_heart(rng) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid (2) whose long axis is about x, cut by a wall (1) at its end; and the ellipsoid's axes."""
    turn = Rotation.from_rotvec(0.12 * rng.standard_normal(3)).as_matrix()
    size = np.exp(0.08 * rng.standard_normal())
    axes = size * np.array([36.0, 24.0, 22.0]) * np.exp(0.05 * rng.standard_normal(3))
    centre = 2.0 * rng.standard_normal(3)
    end = centre + turn[:, 0] * axes[0]
    half = 12.0 * np.exp(0.15 * rng.standard_normal())
    cavity = body(centre, axes, turn)
    wall = body(end + 6.0 * turn[:, 0], np.array([half, 26.0, 26.0]), turn) & ~cavity
    return np.where(cavity, 2, np.where(wall, 1, 0)).astype(np.uint8), axes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference table and a table of parts of the same random hearts."""
    path = tmp_path_factory.mktemp("population")
    rng = np.random.default_rng(3)
    rows = []
    for k in range(HEARTS):
        labels, _ = random_heart(rng)
        rows.append(
            parts.measure_heart(labels, PARTS, DOMAINS, ANATOMY, GRID, WALLS).assign(subject=f"h{k:03d}")
        )
    table = pd.concat(rows, ignore_index=True)
    tables.write_table(path / "parts.parquet", table, {"subject": "str"} | parts.COLUMNS)
    whole = table[table["structure"].isin(ANATOMY.structures)]
    centred = dataclasses.replace(ANATOMY, centred_on=("cavity",))
    further = [*parts.FRAME_COLUMNS, "definition", moments.THICKNESS]
    whole.drop(columns=further).to_parquet(path / "reference.parquet")
    return path, centred


def arm(constrained: str, edits: str = "") -> Arm:
    wanted = parse_constraints(constrained, ANATOMY, DOMAINS)
    own = Arm("drawn", None, {}, 5, wanted, parse_edits(edits, ANATOMY, DOMAINS))
    named = {domains.split(name)[1].removeprefix(domains.REST) for name in own.parts()}
    return dataclasses.replace(own, domains={name: DOMAINS[name] for name in named})


def drawn(folder, own: Arm, n: int = 12, with_parts: bool = True) -> pd.DataFrame:
    path, anatomy = folder
    reference = read_reference(path / "reference.parquet", anatomy)
    model = None
    if with_parts:
        wanted = (own.parts(), own.domains, reference.structures, own.walls())
        model = parts.read_parts(path / "parts.parquet", *wanted)
    return drawn_targets(own, range(n), 1, population_for(own, reference, model), 0.95, GRID)


# ---- frames


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["top", "touch"]))
def test_a_frame_survives_its_numbers(seed, name):
    """The heart's moments and `frame_entries` give the frame that the voxels gave."""
    labels, _ = random_heart(np.random.default_rng(seed))
    found = moments.measure_labels(labels, [(1,), (2,)], GRID.axes_mm())
    frame = domains.frame_on(labels, "cavity", DOMAINS[name], ANATOMY, GRID)
    entries = domains.frame_entries(DOMAINS[name], frame, found[1])
    again = domains.frame_of_moments(f"cavity@{name}", DOMAINS, (found, ANATOMY.structures), entries)
    np.testing.assert_allclose(again.origin, frame.origin, atol=1e-6)
    np.testing.assert_allclose(again.axes, frame.axes, atol=1e-6)
    assert again.unit_mm == pytest.approx(frame.unit_mm)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_without_numbers_the_ends_are_those_of_the_ellipsoid(seed):
    labels, axes = random_heart(np.random.default_rng(seed))
    found = moments.measure_labels(labels, [(1,), (2,)], GRID.axes_mm())
    frame = domains.frame_of_moments("cavity@top", DOMAINS, (found, ANATOMY.structures))
    assert frame.unit_mm == pytest.approx(2 * axes[0], abs=GRID.spacing_mm / 2)
    middle = frame.origin + frame.axes[0] * frame.unit_mm / 2
    np.testing.assert_allclose(middle, found.centroid_mm[1], atol=1e-9)


def test_a_structure_that_the_frame_needs_is_named():
    cavity = (moments.from_ellipsoid(np.zeros((1, 3)), np.full((1, 3), 9.0), np.eye(3)[None]), ("cavity",))
    with pytest.raises(InputError, match="no wall, which the domain's 'towards' names"):
        domains.frame_of_moments("cavity@top", DOMAINS, cavity)


# ---- the regression


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_left_out_residuals_are_those_of_fits_without_the_heart(seed):
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((14, 5)) * 10.0 ** rng.integers(-2, 3, 5), rng.standard_normal((14, 2))
    y = x @ rng.standard_normal((5, 2)) + noise
    x -= x.mean(
        axis=0
    )  # the closed form is that of a penalty and a scale which stay when a heart is left out
    offset, gain, residuals = parts.ridge(x, y)
    scale, penalties = x.std(axis=0), parts.PENALTIES * len(x)

    def fitted(rows, penalty, column):
        z = x[rows] / scale
        mean = z.mean(axis=0)
        middle = y[rows, column].mean()
        centred = z - mean
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(5), centred.T @ (y[rows, column] - middle)
        )
        return lambda row: middle + (x[row] / scale - mean) @ weights

    for column in range(2):
        errors = {}
        for penalty in penalties:
            left_out = [y[i, column] - fitted(np.arange(14) != i, penalty, column)(i) for i in range(14)]
            errors[penalty] = np.mean(np.square(left_out)), left_out
        best = min(errors, key=lambda penalty: errors[penalty][0])
        np.testing.assert_allclose(residuals[:, column], errors[best][1], rtol=1e-6, atol=1e-9)
        whole = fitted(np.arange(14) >= 0, best, column)
        np.testing.assert_allclose(
            offset[column] + x @ gain[column], [whole(i) for i in range(14)], rtol=1e-6
        )


# ---- drawn hearts


def test_half_an_ellipsoid_is_drawn_as_half_of_the_drawn_ellipsoid(folder):
    """Its volume is half, its centroid 3/8 of the half axis away, and its face lies in the drawn centroid.

    Voxels of 4 mm blur all three; the drawn hearts differ as much as the measured ones do.
    """

    def shares(rows):
        one = [rows[rows["structure"] == name] for name in ("cavity", "cavity@top")]
        whole, part = map(moments.from_columns, one)
        half_axis = np.sqrt(5 * np.linalg.eigvalsh(whole.covariance_mm2)[:, 2])
        apart = np.linalg.norm(part.centroid_mm - whole.centroid_mm, axis=1)
        return part.volume_ml / whole.volume_ml, apart / half_axis

    rows = drawn(folder, arm("cavity@top: size position; cavity: size position"), 100)
    pairs = zip(
        shares(rows), shares(pd.read_parquet(folder[0] / "parts.parquet")), (1 / 2, 3 / 8), strict=True
    )
    for own, measured, exact in pairs:
        assert own.mean() == pytest.approx(exact, abs=0.01)
        assert own.mean() == pytest.approx(measured.mean(), abs=0.005)
        assert measured.std() / 1.5 < own.std() < 2.5 * measured.std()
    part = rows[rows["structure"] == "cavity@top"]
    centroids = moments.from_columns(rows[rows["structure"] == "cavity"]).centroid_mm
    for text, centroid in zip(part["domain"], centroids, strict=True):
        ((normal, low, high),) = domains.from_text(text).layers
        assert high is None
        assert np.dot(normal, centroid) == pytest.approx(low, abs=4.0)


def test_a_placed_part_has_its_moments_in_the_heart_that_was_drawn(folder):
    """An ellipsoid with the drawn moments, measured in the drawn domain, has the drawn moments of the part.

    In the median heart the part's share of the whole is met within 3 %, its centroid within 1 mm, which is a
    quarter of a voxel. Shares, since drawn volume and covariance of the whole need not be of one ellipsoid.
    """
    rows = drawn(folder, arm("cavity@top, cavity@touch: size position; cavity: size position"), 20)
    errors = {name: [] for name in ("cavity@top", "cavity@touch")}
    for _, heart in rows.groupby("subject"):
        heart = heart.set_index("structure")
        whole = moments.from_columns(heart.loc[["cavity"]])[0]
        labels = np.where(body(*moments.to_ellipsoid(whole)), 2, 0).astype(np.uint8)
        for name, found in errors.items():
            weight = domains.from_text(heart["domain"][name]).weights(GRID.axes_mm())
            own = domains.measure_parts(labels, [name], [weight], ANATOMY, GRID)[0]
            wanted = moments.from_columns(heart.loc[[name]])[0]
            apart = np.linalg.norm(own.centroid_mm - wanted.centroid_mm)
            whole_ml = (labels == 2).sum() * GRID.voxel_volume_ml
            shares = own.volume_ml / whole_ml, wanted.volume_ml / whole.volume_ml
            found.append((abs(np.log(shares[0] / shares[1])), apart))
    for name, limits in (("cavity@top", (0.03, 1.0)), ("cavity@touch", (0.10, 2.0))):
        assert (np.median(errors[name], axis=0) < limits).all(), (name, np.median(errors[name], axis=0))


def test_parts_leave_the_whole_structures_as_they_are_drawn_without(folder):
    """So naming parts in an arm leaves its hearts as they are."""
    own = arm("cavity@top, cavity@touch, cavity@fixed: size; cavity: size")
    with_parts = drawn(folder, own)
    without = drawn(folder, arm("cavity: size"), with_parts=False)
    whole = with_parts[with_parts["structure"].isin(ANATOMY.structures)].reset_index(drop=True)
    for column in moments.MOMENT_COLUMNS:
        np.testing.assert_allclose(whole[column], without[column], rtol=1e-8, atol=1e-8)
    assert "domain" not in without.columns
    assert (whole["domain"] == "").all()


@settings(max_examples=6, deadline=None)
@given(st.floats(0.5, 1.8))
def test_a_changed_part_changes_the_whole_by_as_much(folder, factor):
    constrained = "cavity@top: size; cavity@outside_top: size"
    before = drawn(folder, arm(constrained), 3)
    after = drawn(folder, arm(constrained, f"cavity@top.volume: x{factor:.6f}"), 3)
    volume = [table.set_index(["structure", "subject"])["volume_ml"] for table in (before, after)]
    np.testing.assert_allclose(volume[1]["cavity@top"], factor * volume[0]["cavity@top"], rtol=1e-5)
    np.testing.assert_allclose(volume[1]["cavity@outside_top"], volume[0]["cavity@outside_top"])
    gain = volume[1] - volume[0]
    np.testing.assert_allclose(gain["cavity"], gain["cavity@top"], atol=1e-6)
    assert before["domain"].tolist() == after["domain"].tolist()


def test_the_heart_is_drawn_around_a_part_of_given_volume(folder):
    """The whole follows: twice the given volume, with half the ellipsoid."""
    for given_ml in (32.0, 44.0):
        rows = drawn(folder, arm("cavity@top: size", f"cavity@top.volume: {given_ml:g} mL"), 10)
        volume = rows.set_index(["structure", "subject"])["volume_ml"]
        np.testing.assert_allclose(volume["cavity@top"], given_ml, rtol=1e-9)
        np.testing.assert_allclose(volume["cavity"], 2 * given_ml, rtol=0.08)


def test_the_heart_is_drawn_around_a_slab_of_given_area(folder):
    """The area holds exactly. The whole is as large as in hearts of the table with such an area.

    Beside a given area, the thickness of the slab still differs between hearts, since their lengths do.
    """
    table = pd.read_parquet(folder[0] / "parts.parquet")
    for area_mm2 in (1500.0, 1900.0):
        rows = drawn(folder, arm("cavity@slab: area", f"cavity@slab.area: = {area_mm2:g} mm2"), 30)
        own = rows[rows["structure"] == "cavity@slab"]
        thickness = own["domain"].map(domains.slab_mm).to_numpy()
        np.testing.assert_allclose(1000.0 * own["volume_ml"] / thickness, area_mm2, rtol=1e-7)
        assert thickness.std() > 0.3
        whole, part = (
            table[table["structure"] == name].sort_values("subject") for name in ("cavity", "cavity@slab")
        )
        m = moments.from_columns(whole)
        long = np.sqrt(np.linalg.eigvalsh(m.covariance_mm2)[:, 2])
        mm = 0.3 * long * np.exp(part[["frame_1", "frame_2"]]).sum(axis=1).to_numpy()
        log_area = np.log(1000.0 * part["volume_ml"].to_numpy() / mm)
        slope, level = np.polyfit(log_area, np.log(m.volume_ml), 1)
        usual = np.exp(level + slope * np.log(area_mm2))
        drawn_ml = rows.loc[rows["structure"] == "cavity", "volume_ml"]
        assert np.exp(np.log(drawn_ml).mean()) == pytest.approx(usual, rel=0.04)
    again = drawn(folder, arm("cavity@slab: area", "cavity@slab.area: = 1900 mm2"), 30)
    pd.testing.assert_frame_equal(rows, again)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_the_heart_is_drawn_around_a_wall_of_given_thickness(folder, share):
    """The wall is as much larger as it is in hearts of the table with such a wall: a quantile of theirs."""
    table = pd.read_parquet(folder[0] / "parts.parquet").pivot(index="subject", columns="structure")
    given_mm = table["thickness_mm"]["wall@through"].quantile(share)
    rows = drawn(
        folder, arm("wall@through: thickness", f"wall@through.thickness: = {float(given_mm)!r} mm"), 20
    )
    by_name = rows.set_index("structure")
    np.testing.assert_allclose(by_name["thickness_mm"]["wall@through"], given_mm)
    assert by_name["thickness_mm"]["wall"].isna().all()
    slope, level = np.polyfit(
        np.log(table["thickness_mm"]["wall@through"]), np.log(table["volume_ml"]["wall"]), 1
    )
    usual = np.exp(level + slope * np.log(given_mm))
    assert np.exp(np.log(by_name["volume_ml"]["wall"]).mean()) == pytest.approx(usual, rel=0.05)
    assert (by_name["constrained"]["wall@through"] == "thickness").all()


def test_a_changed_thickness_is_that_of_the_drawn_wall(folder):
    before = drawn(folder, arm("wall@through: thickness"), 4).set_index(["structure", "subject"])
    after = drawn(folder, arm("wall@through: thickness", "wall@through.thickness: x1.2"), 4)
    after = after.set_index(["structure", "subject"])
    for column in ("thickness_mm", "volume_ml"):
        was, now = (table[column]["wall@through"] for table in (before, after))
        np.testing.assert_allclose(now, 1.2 * was)
    gain = (after["volume_ml"] - before["volume_ml"]).unstack()
    np.testing.assert_allclose(gain.loc["wall"], gain.loc["wall@through"])


def test_targets_have_the_spreads_of_their_parts(folder):
    path = folder[0] / "parts.parquet"
    own = arm("cavity@top: size position; wall@through: thickness; cavity@top/wall: distance; cavity: size")
    rows = part_spreads.with_spreads(drawn(folder, own, 2), path, own.parts()).set_index("structure")
    found = {name: json.loads(text) for name, text in rows["spreads"].items() if text}
    assert set(found) == {"cavity@top", "wall@through"}
    table = pd.read_parquet(path).pivot(index="subject", columns="structure")
    top, wall = ([table[f"centroid_{a}_mm"][name] for a in "xyz"] for name in ("cavity@top", "wall"))
    expected = {
        "size": np.log(table["volume_ml"]["cavity@top"]).std(ddof=0),
        "position": np.sqrt(np.mean([values.var(ddof=0) for values in top])),
        "distance/wall": np.linalg.norm(np.subtract(top, wall), axis=0).std(),
    }
    assert found["cavity@top"] == pytest.approx(expected, rel=0.02)
    thickness = np.log(table["thickness_mm"]["wall@through"]).std(ddof=0)
    assert found["wall@through"] == pytest.approx({"thickness": thickness}, rel=0.02)
    none = part_spreads.with_spreads(drawn(folder, own, 1), path, ())
    assert (none["spreads"] == "").all(), "of another domain: that of the whole structure is taken"


def test_a_table_without_a_thickness_is_named(folder, tmp_path):
    own = arm("wall@through: thickness")
    table = pd.read_parquet(folder[0] / "parts.parquet").drop(columns=moments.THICKNESS)
    table.to_parquet(tmp_path / "old.parquet")
    with pytest.raises(InputError, match=r"the thickness of wall@through is to be drawn, but .* has none of"):
        target_arms.check_parts([own.to_dict() | {"n": 1}], "t.tsv", None, tmp_path / "old.parquet", GRID)
    with pytest.raises(InputError, match="not every heart has a thickness of wall@through"):
        parts.read_parts(tmp_path / "old.parquet", own.parts(), own.domains, ANATOMY.structures, own.walls())
    hearts = parts.read_parts(tmp_path / "old.parquet", own.parts(), own.domains, ANATOMY.structures)
    assert not hearts.walls


def test_parts_are_judged_among_people_and_not_in_the_whole_heart(folder):
    usual = drawn(folder, arm("cavity@top: size"))
    odd = drawn(folder, arm("cavity@top: size", "cavity@top.volume: x4"))  # 5 standard deviations
    part = [table[table["structure"] == "cavity@top"] for table in (usual, odd)]
    assert part[0]["plausibility"].median() > 0.01
    assert part[1]["plausibility"].median() < 1e-3
    without = drawn(folder, arm("cavity: size"), with_parts=False)
    np.testing.assert_allclose(
        usual.drop_duplicates("subject")["heart_plausibility"],
        without.drop_duplicates("subject")["heart_plausibility"],
        rtol=1e-6,
    )


def test_a_part_without_a_place_fails_its_subject_alone(folder):
    """Where the drawn part has next to no volume, moments are NaN and the column `domain` says why."""
    rows = drawn(folder, arm("cavity@top: size", "cavity@top.volume: 0.05 mL"), 2)
    part = rows[rows["structure"] == "cavity@top"]
    assert part["volume_ml"].isna().all()
    assert "0.05 mL of cavity in it, less than 0.1 mL" in domains.refused(part["domain"].iloc[0])
    assert rows.loc[rows["structure"] == "cavity", "volume_ml"].notna().all()


# ---- tables that do not fit


def test_a_table_of_parts_that_does_not_fit(folder, tmp_path):
    path = folder[0] / "parts.parquet"
    with pytest.raises(InputError, match="not every heart has one row of wall@top"):
        parts.read_parts(path, ["wall@top"], DOMAINS, ANATOMY.structures)
    few = pd.read_parquet(path).query("subject < 'h020'")
    few.to_parquet(tmp_path / "few.parquet")
    with pytest.raises(InputError, match="it has 20 hearts; drawing parts needs at least 30"):
        parts.read_parts(tmp_path / "few.parquet", ["cavity@top"], DOMAINS, ANATOMY.structures)


def test_drawn_parts_need_a_table_of_the_same_domains(folder):
    own, path = arm("cavity@top, cavity@touch: size"), folder[0] / "parts.parquet"

    def check(own, table=path, grid=GRID):
        target_arms.check_parts([own.to_dict() | {"n": 1}], "trial.tsv", None, table, grid)

    check(own)
    with pytest.raises(InputError, match=r"'drawn': .* cavity@top .* no table of parts .*`snakemake ref"):
        check(own, None)
    with pytest.raises(InputError, match=r"parts\.parquet has no row of it .*`snakemake reference_parts`"):
        check(dataclasses.replace(own, constraints=(("wall@top", ("size",)),)))
    moved = own.domains | {"touch": dataclasses.replace(DOMAINS["touch"], radius=15.0)}
    with pytest.raises(InputError, match=r"cavity@touch of another domain than config key 'domains\.touch'"):
        check(dataclasses.replace(own, domains=moved))
    with pytest.raises(InputError, match="of another voxel size"):
        check(own, grid=dataclasses.replace(GRID, spacing_mm=2.0))


def test_a_heart_in_which_a_part_has_no_place_is_named():
    labels, _ = random_heart(np.random.default_rng(1))
    labels[labels == 1] = 0
    with pytest.raises(InputError, match="cavity@top: the heart has no wall"):
        parts.measure_heart(labels, PARTS, DOMAINS, ANATOMY, GRID)
