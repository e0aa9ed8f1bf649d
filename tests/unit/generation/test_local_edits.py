"""Edits of parts of structures, from the cohort table to a judged sibling."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy import attributes, domains, moments
from cardiocohort.anatomy.domains import Domain
from cardiocohort.cohort import people, target_arms
from cardiocohort.cohort.covariates import known
from cardiocohort.cohort.grammar import canonical_name, parse_constraints, parse_edits
from cardiocohort.cohort.table import Arm, read_cohort
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.generation import constraints, guidance
from cardiocohort.generation.judging import Sampler, judge
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.generation.siblings import free_cells
from cardiocohort.population import explicit, siblings
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import Rules
from heart_anatomy import HEART, HEART_GRID, RESOURCES
from tiny_prior import ANATOMY, GRID, write_tiny_bundle

TINY = {
    "low": Domain(form="half_space", frame="heart", axis=[1, 0, 0], high=0.0),
    "slab": Domain(form="slab", frame="heart", axis=[0, 0, 1], low=-8.0, high=0.0),
    "side": Domain(form="half_space", frame="heart", axis=[1, 0, 0], high=-8.0),
    "front": Domain(form="box", frame="heart", centre=[8, 28, 0], size=[32, 40, 32]),
    "within": Domain(form="box", frame="heart", centre=[8, 28, 0], size=[32, 12, 32]),
    "past": Domain(form="slab", frame="heart", axis=[0, 0, 1], low=8.0, high=60.0),
    "far": Domain(form="sphere", frame="heart", centre=[-50, -50, -50], radius=6.0),
}
REAL = {
    "apex": Domain(form="half_space", towards="right_atrium", high=1 / 3),
    "junction": Domain(form="slab", towards="left_ventricle", low=0.56, high=0.7),
}
HEADER = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits\tbase"


def heart() -> np.ndarray:
    """A shell about a ball on the tiny grid, off centre by two voxels."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    r = np.sqrt((x - 8) ** 2 + y**2 + z**2)
    return np.where(r < 20, 2, np.where(r < 36, 1, 0)).astype(np.uint8)


def arm(edits: str, constrained: str = "") -> Arm:
    wanted = parse_constraints(constrained, ANATOMY, TINY)
    return Arm("small", 1, {}, None, wanted, parse_edits(edits, ANATOMY, TINY), "base.nii.gz", TINY)


def targets_of(own: Arm, labels: np.ndarray | None) -> pd.DataFrame:
    bases = siblings.bases_of_map([0], heart(), ANATOMY, GRID)
    bases, places = siblings.with_parts_of_all(own, bases, lambda index: labels, ANATOMY, GRID)
    return siblings.sibling_targets(own, [0], 1, bases, None, places)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    return bundle, load_prior(bundle, "cpu")


# ---- the cohort table


def test_parts_are_read_wherever_a_structure_is():
    names = canonical_name(" aorta + left_ventricle@apex ", HEART, REAL)
    assert names == "left_ventricle+aorta@apex"
    found = parse_constraints(
        "aorta@junction: size; aorta@outside_junction/left_atrium: distance", HEART, REAL
    )
    assert found == (("aorta@junction", ("size",)), ("aorta@outside_junction/left_atrium", ("distance",)))
    found = parse_constraints("aorta@junction: area position", HEART, REAL)
    assert found == (("aorta@junction", ("position", "area")),)
    for text, value in (("= 700 mm2", 700.0), ("7 cm2", 700.0), ("350 mm2/m2", 350.0)):
        (edit,) = parse_edits(f"aorta@junction.area: {text}", HEART, REAL)
        assert (edit.operation, edit.value) == ("set_per_m2" if "/" in text else "set", value)
    area, volume = parse_edits("aorta@junction.area: +30 %; right_ventricle@apex.volume: x0.5", HEART, REAL)
    assert (area.structure, area.quantity, area.value) == ("aorta@junction", "area", pytest.approx(1.3))
    assert (volume.structure, volume.operation, volume.value) == ("right_ventricle@apex", "multiply", 0.5)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ("aorta@root.volume: x2", "unknown domain 'root' in 'aorta@root'.*apex, outside_apex, junction"),
        ("body@apex.volume: x2", "unknown structure 'body'"),
        ("aorta@apex.area: x2", "unknown quantity 'area'.*only a slab has an area"),
        ("aorta@outside_junction.area: x2", "only a slab has an area"),
        ("aorta.area: x2", "only a slab has an area"),
        ("aorta@junction.area: 900 mL", "does not give an area; allowed: a positive area '700 mm2'"),
        ("aorta@junction.area: = 0 mm2", "does not give an area"),
        ("aorta@junction.area: = 700 mm2; aorta@junction.volume: x2", "area is volume over the thickness"),
        ("aorta@junction/left_atrium.area_ratio: 0.8", "unknown quantity.*'volume_ratio: x0.8' changes both"),
        ("aorta.volume: x2; aorta@apex.volume: x2", "aorta and aorta@apex are edited together"),
        ("aorta@junction.area: x2; aorta@apex.volume: x2", "edited together, and one changes the other"),
        ("aorta@apex/aorta.distance: +5 mm", "unknown structure"),
        ("myocardium.thickness: x2", "unknown quantity 'thickness'.*only a wall in a domain has a thickness"),
        ("myocardium@outside_apex.thickness: x2", "only a wall in a domain has a thickness"),
        ("myocardium@apex.thickness: 18", "does not give a length; allowed: '= 40 mm'"),
        (
            "left_atrium@apex/left_ventricle@apex.tilt_x: +9 deg; left_ventricle.volume: x2",
            "left_ventricle@apex and left_ventricle are edited together",
        ),
    ],
)
def test_an_edit_of_a_part_that_cannot_be(edits, message):
    with pytest.raises(InputError, match=message):
        parse_edits(edits, HEART, REAL)


@pytest.mark.parametrize("name", ["myocardium", "myocardium@outside_apex", "aorta@apex/left_atrium"])
def test_only_a_wall_in_a_domain_has_a_thickness(name):
    assert parse_constraints("myocardium@apex: thickness", HEART, REAL) == (
        ("myocardium@apex", ("thickness",)),
    )
    with pytest.raises(InputError, match=r"unknown attribute.* 'thickness'.*only a wall in a domain"):
        parse_constraints(f"{name}: thickness", HEART, REAL)


def read(tmp_path, *rows: str, own=REAL):
    path = tmp_path / "trial.tsv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return read_cohort(path, HEART, domains=own)


def test_an_arm_keeps_the_domains_that_it_names(tmp_path):
    _, small = read(tmp_path, "a\t2", "b\t2" + "\t" * 7 + "right_ventricle@apex.volume: x0.5\ta")
    assert small.domains == {"apex": REAL["apex"]}
    assert small.parts() == ["right_ventricle@apex", "right_ventricle@outside_apex"]
    assert Arm.from_dict(small.to_dict()).domains == small.domains


@pytest.mark.parametrize("name", ["aorta", "aorta@apex", "aorta@outside_junction", "aorta@junction/aorta"])
def test_only_a_slab_has_an_area(name):
    with pytest.raises(InputError, match=r"'area'.*only a slab has an area|no relation"):
        parse_constraints(f"{name}: area", HEART, REAL)
    with pytest.raises(InputError, match="area is size over the thickness of the slab; name one"):
        parse_constraints("aorta@junction: all area", HEART, REAL)


WALL = Domain(form="box", frame="heart", centre=[0, 0, 0], size=[40, 40, 40])


@pytest.mark.parametrize(
    ("column", "cell", "allowed"),
    [
        ("thickness_mm", "", "the cell is empty; it is not a thickness, since arm 'a' names that"),
        ("thickness_mm", "-3", "-3 is not a number above 0"),
        ("area_mm2", "500", "is not a slab that arm 'a' names, since area_mm2 is given: none"),
        ("area_mm2", "x", "'x' is not a number above 0"),
    ],
)
def test_explicit_areas_are_of_slabs_and_named_walls_have_a_thickness(tmp_path, column, cell, allowed):
    row = f"a\t1{chr(9) * 6}myocardium@front: thickness\t\t"
    (own,) = read(tmp_path, row, own={"front": WALL})
    header = ["arm", "structure", *explicit.ELLIPSOID_COLUMNS, "thickness_mm"]
    numbers = ["10", "5", "-9", "28", "33", "50", "0", "0", "0"]
    cells = {name: ["a", name, *numbers, "9"] for name in ("myocardium", "myocardium@front")}
    if column == "area_mm2":
        header.append(column)
        cells = {name: [*row, cell if "@" in name else ""] for name, row in cells.items()}
    else:
        cells["myocardium@front"][-1] = cell
    path = tmp_path / "targets.tsv"
    path.write_text("\n".join("\t".join(row) for row in [header, *cells.values()]) + "\n")

    def read_it():
        target_arms.check_parts([own.to_dict()], "trial.tsv", path, None, HEART_GRID)
        explicit.read_targets(path, HEART)

    with pytest.raises(InputError, match=re.escape(allowed)):
        read_it()


ROOT = {"root": Domain(form="sphere", frame="heart", centre=[-10, 20, 20], radius=20)}


def test_parts_in_the_heart_frame_need_targets_of_their_own(tmp_path):
    """Not of another arm or subject; and no row may be of a part that nobody names."""
    cell = "aorta@root: size position; aorta@root/left_ventricle: distance"
    arms = [a.to_dict() for a in read(tmp_path, "a\t2" + "\t" * 6 + cell + "\t\t", "b\t2", own=ROOT)]
    path = tmp_path / "targets.tsv"

    def check(*rows):
        path.write_text("\n".join(["arm\tsubject\tstructure", *rows]) + "\n")
        target_arms.check_parts(arms, "trial.tsv", path, None, HEART_GRID)

    check("a\t\taorta", "a\t\taorta@root", "b\t\taorta")
    with pytest.raises(InputError, match=r"trial\.tsv, arm 'a': .* aorta@root .* no table of parts"):
        check("b\t\taorta")
    with pytest.raises(InputError, match=r"aorta@root has no row .* for subject 'a-00001'"):
        check("a\t\taorta@root", "a\ta-00001\taorta")
    with pytest.raises(InputError, match=r"row 3, column 'structure': .*'b' names .*: none"):
        check("a\t\taorta@root", "b\t\taorta@root")
    with pytest.raises(InputError, match="Or write its moments in the targets table"):
        target_arms.check_parts(arms, "trial.tsv", None, None, HEART_GRID)


def test_explicit_parts_in_the_frame_of_a_structure_need_its_moments(tmp_path):
    """And those of the structures that its axes point to; where two structures touch no moments say."""
    path = tmp_path / "targets.tsv"

    def check(part, *names):
        (own,) = read(tmp_path, "a\t2" + "\t" * 6 + f"{part}: size\t\t", own=FRAMES)
        path.write_text("\n".join(["arm\tstructure", *(f"a\t{name}" for name in names)]) + "\n")
        target_arms.check_parts([own.to_dict()], "trial.tsv", path, None, HEART_GRID)

    check("aorta@junction", "aorta", "aorta@junction", "left_ventricle")
    with pytest.raises(InputError, match=r"left_ventricle has no row .* domain of aorta@junction lies by"):
        check("aorta@junction", "aorta", "aorta@junction")
    with pytest.raises(InputError, match=r"has the frame 'contact', .*'domains\.annulus'"):
        check("left_atrium@annulus", "left_atrium", "left_atrium@annulus", "left_ventricle")


FRAMES = REAL | {
    "annulus": Domain(form="sphere", frame="contact", towards="left_ventricle", centre=[0, 0, 0], radius=13)
}


def test_an_explicit_part_lies_in_the_frame_of_the_explicit_ellipsoid(tmp_path):
    """The upper third of an ellipsoid along its long axis, which the rotation turns from x to y."""
    third = {"third": Domain(form="half_space", towards="wall", low=2 / 3)}
    wanted = parse_constraints("cavity@third: size", ANATOMY, third)
    own = Arm("a", None, {}, None, wanted, (), domains=third)
    rows = ["cavity\t4\t8\t0\t30\t20\t10\t0\t0\t90", "wall\t4\t48\t0\t8\t8\t9\t0\t0\t0"]
    rows += ["cavity@third\t4\t26\t0\t12\t10\t8\t0\t0\t0"]
    header = "arm\tstructure\t" + "\t".join(explicit.ELLIPSOID_COLUMNS)
    (tmp_path / "targets.tsv").write_text("\n".join([header, *(f"a\t{row}" for row in rows)]) + "\n")
    table = explicit.read_targets(tmp_path / "targets.tsv", ANATOMY)
    found = explicit.explicit_targets(own, range(1), 0, table, None, GRID).set_index("structure")
    ((normal, low, high),) = domains.from_text(found["domain"]["cavity@third"]).layers
    np.testing.assert_allclose(normal, [0, 1, 0], atol=1e-9)
    assert (low, high) == (pytest.approx(8 - 30 + 2 / 3 * 60), None)
    assert found["domain"]["cavity"] == ""
    with pytest.raises(InputError, match="subject 'a-00000': cavity@third: the heart has no wall"):
        explicit.explicit_targets(own, range(1), 0, table[table["structure"] != "wall"], None, GRID)


def test_explicit_targets_of_a_part_have_its_domain(tmp_path):
    """And the whole follows an edit of its part."""
    cell = "cavity@low: size position\tcavity@low.volume: x0.5\t"
    header = HEADER.removesuffix("\tbase")
    (tmp_path / "trial.tsv").write_text(f"{header}\na\t2" + "\t" * 6 + cell.removesuffix("\t") + "\n")
    (own,) = read_cohort(tmp_path / "trial.tsv", ANATOMY, domains=TINY)
    weights = domains.place(TINY["low"], domains.HEART, GRID).weights(GRID.axes_mm())
    names = ["wall", "cavity", "cavity@low"]
    found = domains.measure_parts(heart(), names, [None, None, weights], ANATOMY, GRID)
    table = pd.DataFrame({"arm": "a", "structure": names} | moments.to_columns(found))
    table.to_csv(tmp_path / "targets.tsv", sep="\t", index=False)
    read_again = explicit.read_targets(tmp_path / "targets.tsv", ANATOMY)
    rows = explicit.explicit_targets(own, range(2), 0, read_again, None, GRID)
    one = rows[rows["subject"] == "a-00001"].set_index("structure")
    assert one["constrained"].to_dict() == {"wall": "", "cavity": "", "cavity@low": "size,position"}
    (placed,) = (weight for weight in domains.weights_of(one.reset_index(), GRID) if weight is not None)
    np.testing.assert_array_equal(placed, weights)
    assert one["volume_ml"]["cavity@low"] == pytest.approx(found.volume_ml[2] / 2)
    assert one["volume_ml"]["cavity"] == pytest.approx(found.volume_ml[1] - found.volume_ml[2] / 2)
    assert constraints.impossible(one.reset_index(), GRID) is None


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (Domain(form="slab", towards="left_ventricle", low=0.5, high=0.52), "thinner than a cell, 4 mm"),
        (Domain(form="sphere", frame="heart", centre=[-80, -80, -80], radius=9), "lies outside aorta"),
    ],
    ids=["thin", "outside"],
)
def test_a_part_without_a_place_in_the_median_heart_ends_the_dry_run(tmp_path, domain, message):
    arms = read(tmp_path, "a\t2", "b\t2" + "\t" * 7 + "aorta@d.volume: x2\ta", own={"d": domain})
    reference = RESOURCES / "priors/people/reference_moments.parquet"
    with pytest.raises(InputError, match=rf"trial\.tsv, arm 'b': aorta@d .*{message}.*'domains\.d'"):
        people.check_trial(
            arms, "trial.tsv", reference, RESOURCES / "anatomies/heart/topology.tsv", known(), HEART_GRID
        )


def test_a_wall_thinner_than_a_cell_ends_the_dry_run(tmp_path):
    arms = read(tmp_path, "a\t2", "b\t2" + "\t" * 7 + "myocardium@apex.thickness: = 3 mm\ta")
    reference = RESOURCES / "priors/people/reference_moments.parquet"
    with pytest.raises(InputError, match=r"'edits': myocardium@apex\.thickness is 3 mm.* at least 4 mm"):
        people.check_parts(arms, "trial.tsv", reference, HEART_GRID)


# ---- targets


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 2.5), st.sampled_from(["volume", "area"]))
def test_the_whole_follows_its_part(factor, quantity):
    """The part has the wanted volume, what lies beyond stays, and the whole gains what the part does."""
    before = targets_of(arm("cavity@slab.volume: x1"), heart()).set_index("structure")
    after = targets_of(arm(f"cavity@slab.{quantity}: x{factor:.6f}"), heart()).set_index("structure")
    volume = after["volume_ml"]
    assert volume["cavity@slab"] == pytest.approx(factor * before["volume_ml"]["cavity@slab"], rel=1e-5)
    assert volume["cavity@outside_slab"] == pytest.approx(before["volume_ml"]["cavity@outside_slab"])
    gain = volume - before["volume_ml"]
    assert gain["cavity"] == pytest.approx(gain["cavity@slab"], abs=1e-9)
    whole, part = (
        [moments.from_columns(table.loc[[name]])[0] for table in (before, after)]
        for name in ("cavity", "cavity@slab")
    )
    first = [m.volume_ml * m.centroid_mm for m in (*whole, *part)]
    np.testing.assert_allclose(first[1] - first[0], first[3] - first[2], atol=1e-6)
    second = [
        m.volume_ml * (m.covariance_mm2 + np.outer(m.centroid_mm, m.centroid_mm)) for m in (*whole, *part)
    ]
    np.testing.assert_allclose(second[1] - second[0], second[3] - second[2], atol=1e-4)
    assert before["volume_ml"]["wall"] == pytest.approx(volume["wall"])


@settings(max_examples=10, deadline=None)
@given(st.floats(300.0, 1500.0))
def test_an_area_of_a_sibling_is_its_volume_over_the_slab(area_mm2):
    """The slab is 8 mm thick; the same edit by volume gives the same targets."""
    given_area = targets_of(arm(f"cavity@slab.area: = {area_mm2!r} mm2"), heart())
    by_volume = targets_of(arm(f"cavity@slab.volume: {8.0 * area_mm2 / 1000.0!r} mL"), heart())
    volume = given_area.set_index("structure")["volume_ml"]
    assert volume["cavity@slab"] == pytest.approx(8.0 * area_mm2 / 1000.0)
    for column in moments.MOMENT_COLUMNS:
        np.testing.assert_allclose(given_area[column], by_volume[column], atol=1e-9)


def test_an_explicit_area_is_that_of_the_slab_where_it_is_placed(tmp_path):
    """A slab from 1/3 to 2/3 of an ellipsoid 60 mm long is 20 mm thick."""
    third = {"third": Domain(form="slab", towards="wall", low=1 / 3, high=2 / 3)}
    own = Arm("a", None, {}, None, parse_constraints("cavity@third: area", ANATOMY, third), (), domains=third)
    rows = ["cavity\t4\t8\t0\t30\t20\t10\t0\t0\t90\t", "wall\t4\t48\t0\t8\t8\t9\t0\t0\t0\t"]
    rows += ["cavity@third\t4\t8\t0\t12\t10\t8\t0\t0\t0\t450"]
    header = "arm\tstructure\t" + "\t".join((*explicit.ELLIPSOID_COLUMNS, "area_mm2"))
    (tmp_path / "targets.tsv").write_text("\n".join([header, *(f"a\t{row}" for row in rows)]) + "\n")
    table = explicit.read_targets(tmp_path / "targets.tsv", ANATOMY)
    found = explicit.explicit_targets(own, range(1), 0, table, None, GRID).set_index("structure")
    assert found["volume_ml"]["cavity@third"] == pytest.approx(450.0 * 20.0 / 1000.0)
    assert found["constrained"]["cavity@third"] == "area"
    (tmp_path / "targets.tsv").write_text("\n".join([header, f"a\t{rows[0]}9"]) + "\n")
    with pytest.raises(InputError, match=r"row 2, column 'area_mm2': 9 is not empty; only a slab"):
        explicit.read_targets(tmp_path / "targets.tsv", ANATOMY)


def test_a_sibling_keeps_the_rest_of_an_edited_structure():
    rows = targets_of(arm("cavity@slab.area: x1.3"), heart()).set_index("structure")
    assert rows["constrained"].to_dict() == {
        "wall": "size,position,shape",
        "cavity": "",
        "cavity@slab": "size,position",
        "cavity@outside_slab": "size,position,shape",
    }
    assert (rows["domain"] != "").tolist() == [False, False, True, True]
    volume = targets_of(arm("cavity@slab.volume: x1.3"), heart()).set_index("structure")
    assert volume["constrained"]["cavity@slab"] == "size"


def test_a_wall_is_thickened_and_nothing_else_is_asked_of_it():
    own = arm("wall@front.thickness: = 18 mm")
    rows = targets_of(own, heart()).set_index("structure")
    assert rows["constrained"].to_dict() == {
        "wall": "",
        "cavity": "size,position,shape",
        "wall@front": "thickness",
        "wall@outside_front": "size,position,shape",
    }
    before = targets_of(arm("wall@front.thickness: x1"), heart()).set_index("structure")
    had = before["thickness_mm"]["wall@front"]
    # of the shell that `heart` is, which the box cuts obliquely, in cells of 8 mm
    assert had == pytest.approx(16.0, rel=0.15)
    assert rows["thickness_mm"].isna().tolist() == [True, True, False, True]
    assert rows["thickness_mm"]["wall@front"] == 18.0
    volume = rows["volume_ml"] / before["volume_ml"]
    assert volume["wall@front"] == pytest.approx(18.0 / had)
    gain = (rows["volume_ml"] - before["volume_ml"])[["wall", "wall@front"]]
    assert gain["wall"] == pytest.approx(gain["wall@front"])
    assert "thickness_mm" not in targets_of(arm("wall@front.volume: x1.1"), heart())


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ("wall@front.thickness: = 6 mm", "6.0 mm thick, a cell is 8 mm"),
        ("cavity@slab.thickness: x1.5", "cavity is no wall there: "),
        ("wall@within.thickness: x1.5", "the domain ends inside wall: "),
        ("cavity@past.area: x1.5", "the structure fills 12.0 mm of a slab of 52.0 mm"),
    ],
)
def test_a_thickness_or_an_area_that_cannot_be_measured(edit, reason):
    ending = constraints.impossible(targets_of(arm(edit), heart()), GRID)
    assert reason in ending.detail


def test_a_surface_between_two_parts_is_tilted():
    """Its normal is the way between them: the direction is kept, and both sizes, and what lies beyond."""
    edit = "cavity@low/wall@low.tilt_y: +30 deg"
    rows = targets_of(arm(edit), heart()).set_index("structure")
    assert rows["constrained"].to_dict() == {
        "wall": "",
        "cavity": "",
        "cavity@low": "size,direction/wall@low",
        "wall@low": "size",
        "cavity@outside_low": "size,position,shape",
        "wall@outside_low": "size,position,shape",
    }
    before = targets_of(arm(edit.replace("30", "0")), heart()).set_index("structure")
    was, now = (
        attributes.direction(*(moments.from_columns(table.loc[[n]])[0] for n in ("cavity@low", "wall@low")))
        for table in (before, rows)
    )
    assert np.degrees(np.arccos(was @ now)) == pytest.approx(30.0, abs=1e-3)
    assert now[1] > was[1]
    assert np.linalg.det([was, now, [0, 1, 0]]) == pytest.approx(
        0.0, abs=1e-9
    )  # in the plane of way and axis
    with pytest.raises(InputError, match="lies along this axis already"):
        targets_of(arm("cavity@low/wall@low.tilt_x: +5 deg"), heart())


def test_neighbours_that_give_way_are_held_beyond_the_domain():
    held = "wall@front: thickness; wall@outside_front, cavity@outside_front: all"
    rows = targets_of(arm("wall@front.thickness: x1.2", held), heart())
    names = list(rows["structure"])
    assert names == ["wall", "cavity", "wall@front", "wall@outside_front", "cavity@outside_front"]
    beyond = [domains.lies_beyond(name, ["wall@front"]) for name in names]
    assert beyond == [False, False, False, True, True]


def test_targets_without_parts_are_as_they_were():
    assert "domain" not in targets_of(arm("cavity.volume: x0.5"), None)


@pytest.mark.parametrize(
    ("name", "labels", "reason"),
    [("far", heart(), "0.00 mL of cavity"), ("low", None, "the base has no label map")],
)
def test_a_part_that_a_heart_does_not_have_ends_that_subject_alone(tiny, name, labels, reason):
    rows = targets_of(arm(f"cavity@{name}.volume: x0.5"), labels)
    ending = constraints.impossible(rows, GRID)
    assert ending.reason == "domain not in this heart"
    assert f"cavity@{name}: " in ending.detail
    assert reason in ending.detail
    part = rows.set_index("structure").loc[f"cavity@{name}"]
    assert np.isnan(part["volume_ml"])


def test_a_sibling_can_be_a_base():
    """Its parts are rows of its tables, and none of the next sibling's structures."""
    made = targets_of(arm("cavity@slab.area: x1.3"), heart())
    (base,) = siblings.bases_of_tables(
        arm("cavity.volume: x2"),
        [0],
        made.assign(subject="base.nii.gz-00000"),
        made.assign(subject="base.nii.gz-00000"),
    ).values()
    assert base[0] == ("wall", "cavity")
    wanted = made.set_index("structure")["volume_ml"]
    assert base[1].volume_ml.tolist() == [wanted["wall"], wanted["cavity"]]


# ---- guidance and judgement


def test_loop_and_verdict_measure_the_same_part(tiny):
    """The residual of a base without an edit is zero in both, and a changed target is the same error."""
    bundle, prior = tiny
    labels = heart()
    rows = targets_of(arm("cavity@low.volume: x1"), labels)
    sampler = Sampler(bundle, prior, Rules((), ()), GuidanceSettings())
    found = judge(sampler, rows, labels)
    assert max(found.residuals.values()) == pytest.approx(0.0, abs=1e-6)
    halved = judge(sampler, targets_of(arm("cavity@low.volume: x0.5"), labels), labels)
    spread = constraints.spread_of(bundle, prior.anatomy, "size", ("cavity@low",))
    assert spread == constraints.spread_of(bundle, prior.anatomy, "size", ("cavity",))
    assert halved.residuals["cavity@low.size"] == pytest.approx(np.log(2) / spread, rel=1e-6)
    assert halved.residuals["cavity@outside_low.size"] == pytest.approx(0.0, abs=1e-6)

    made = constraints.make_constraints([rows], prior, bundle, ("cavity@low",))
    occupancy = torch.nn.functional.one_hot(torch.tensor(labels).long(), 3).permute(3, 0, 1, 2)[None].float()
    axes = tuple(torch.tensor(a, dtype=torch.float32) for a in GRID.axes_mm())
    loop = guidance._measured(occupancy, axes, 1, made)
    own = [c for c in made if c.within[0]]
    assert len(own) == 4  # size of the part; size, position and shape of the rest
    for c in own:
        torch.testing.assert_close(loop[c.measured[0]].volume_ml, c.wanted[0].volume_ml, rtol=1e-4, atol=0.0)
        torch.testing.assert_close(
            loop[c.measured[0]].centroid_mm, c.wanted[0].centroid_mm, rtol=0.0, atol=0.01
        )
    assert {c.attribute: c.weight for c in own} == dict.fromkeys(("size", "position", "shape"), 10.0)


def test_loop_and_verdict_measure_the_same_thickness(tiny):
    bundle, prior = tiny
    labels = heart()
    rows = targets_of(arm("wall@front.thickness: x1.25"), labels)
    found = judge(Sampler(bundle, prior, Rules((), ()), GuidanceSettings()), rows, labels)
    spread = constraints.spread_of(bundle, prior.anatomy, "thickness", ("wall@front",))
    assert spread == constraints.spread_of(bundle, prior.anatomy, "size", ("wall",))
    assert found.residuals["wall@front.thickness"] == pytest.approx(np.log(1.25) / spread, rel=1e-6)

    made = constraints.make_constraints([rows], prior, bundle, ("wall@front",))
    occupancy = torch.nn.functional.one_hot(torch.tensor(labels).long(), 3).permute(3, 0, 1, 2)[None].float()
    cells = torch.nn.functional.avg_pool3d(occupancy, 2)
    axes = tuple(torch.tensor(a, dtype=torch.float32) for a in GRID.axes_mm(2))
    (own,) = [c for c in made if c.attribute == "thickness"]
    loop = guidance._measured(cells, axes, 2, made)[own.measured[0]].thickness_mm
    axes = tuple(torch.tensor(a, dtype=torch.float32) for a in GRID.axes_mm())
    voxels = guidance._measured(occupancy, axes, 1, made)[own.measured[0]].thickness_mm
    assert float(voxels) == pytest.approx(float(loop), rel=1e-4)
    assert float(loop) == pytest.approx(float(found.achieved.thickness_mm[2]), rel=1e-4)
    assert float(loop) * 1.25 == pytest.approx(float(own.wanted[0].thickness_mm), rel=1e-4)


def test_a_sample_whose_wall_leaves_its_domain_is_a_miss(tiny):
    bundle, prior = tiny
    rows = targets_of(arm("wall@front.thickness: x1.25"), heart())
    sampler = Sampler(bundle, prior, Rules((), ()), GuidanceSettings(max_miss=1000.0))
    assert judge(sampler, rows, heart()).miss is None
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    thicker = np.where((heart() == 0) & ((x - 8) ** 2 + y**2 + z**2 < 54**2), 1, heart()).astype(np.uint8)
    miss = judge(sampler, rows, thicker).miss
    assert miss.reason == "a wall left its domain"
    assert "wall@front: the domain ends inside wall: " in miss.detail


def test_an_area_and_a_size_are_the_same_residual(tiny):
    bundle, prior = tiny
    found = []
    for word in ("size", "area"):
        rows = targets_of(arm("cavity@slab.area: x0.5", f"cavity@slab: {word}"), heart())
        judged = judge(Sampler(bundle, prior, Rules((), ()), GuidanceSettings()), rows, heart())
        found.append(judged.residuals[f"cavity@slab.{word}"])
        (made,) = constraints.make_constraints([rows], prior, bundle, ("cavity@slab",))
        assert made.spread == constraints.spread_of(bundle, prior.anatomy, "size", ("cavity",))
    assert found[0] == pytest.approx(found[1])
    assert found[0] > 1.0


def test_a_part_counts_in_its_own_spread_where_the_targets_have_it(tiny):
    bundle, prior = tiny
    rows = targets_of(arm("cavity@slab.volume: x0.5", "cavity@slab: size position"), heart())
    rows["spreads"] = ['{"size": 0.125}' if name == "cavity@slab" else "" for name in rows["structure"]]
    judged = judge(Sampler(bundle, prior, Rules((), ()), GuidanceSettings()), rows, heart())
    assert judged.residuals["cavity@slab.size"] == pytest.approx(np.log(2) / 0.125, rel=1e-6)
    made = constraints.make_constraints([rows], prior, bundle, ("cavity@slab",))
    spread = {c.attribute: c.spread for c in made}
    whole = constraints.spread_of(bundle, prior.anatomy, "position", ("cavity",))
    assert spread == {"size": 0.125, "position": whole}


def test_the_gradient_of_a_part_stays_in_its_domain(tiny):
    bundle, prior = tiny
    made = constraints.make_constraints(
        [targets_of(arm("cavity@slab.volume: x0.5", "cavity@slab: size"), heart())], prior, bundle
    )
    occupancy = torch.full((1, 3, *GRID.shape), 1 / 3, requires_grad=True)
    axes = tuple(torch.tensor(a, dtype=torch.float32) for a in GRID.axes_mm())
    (part,) = guidance._measured(occupancy, axes, 1, made).values()
    (gradient,) = torch.autograd.grad(part.volume_ml.sum(), occupancy)
    weights = torch.tensor(domains.place(TINY["slab"], domains.HEART, GRID).weights(GRID.axes_mm()))
    torch.testing.assert_close(gradient[0, 2].double(), weights * GRID.voxel_volume_ml)
    assert not gradient[0, :2].any()


def test_only_cells_near_an_edited_part_are_free(tiny):
    _, prior = tiny
    free = {}
    for name in ("wall@side", "wall"):
        rows = targets_of(arm(f"{name}.volume: x0.9"), heart())
        masks = domains.masks_of(heart(), rows[rows["structure"] == name], ANATOMY, GRID)
        free[name] = free_cells([(masks[0], 0.0)], prior, 0.0)
    assert 0 < free["wall@side"].sum() < free["wall"].sum()
    assert (free["wall"] >= free["wall@side"]).all()
