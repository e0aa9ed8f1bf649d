"""Arms, errors, slopes and shares of the evaluation, on samples whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.folder import Variation
from cardiocohort.anatomy.moments import Moments, from_ellipsoid
from cardiocohort.evaluation import (
    acceptance_criteria,
    arms,
    coupling,
    features,
    fidelity,
    gate_rates,
    hearts,
    sampling,
    summary,
    table_columns,
)
from cardiocohort.evaluation.samples import Hearts, Samples, read_samples
from cardiocohort.generation import judging
from cardiocohort.generation.constraints import OUTSIDE
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.population.reference import read_reference
from cardiocohort.runtime import batch_runner, tables
from cardiocohort.runtime.errors import InputError
from tiny_cohort import GUIDANCE, RULES
from tiny_prior import ANATOMY, write_reference, write_tiny_bundle
from workflow_runs import REPOSITORY

SETTINGS = {
    "implicit": None,
    "constrained": [["wall", "cavity"], ["wall"]],
    "samples": {"unguided": 20, "polyak": 10, "dps": 5, "cohort": 7, "implicit": 6}
    | {"strengths": 8, "dps_strengths": 3, "extremes": 2},
    "strengths": [0.5, 1.0, 2.0],
    "extremes": [-4.0, 4.0],
}


def test_arms_are_named_by_what_they_constrain():
    found = arms.arms(SETTINGS)
    assert list(found) == [
        "unguided", "polyak_1", "polyak_2", "dps_1", "dps_2", "cohort_0", "cohort_1", "cohort_2",
        "polyak_1_size", "polyak_1_position", "polyak_1_shape", "polyak_1_orientation",
        "polyak_2_x0.5", "polyak_2_x2", "dps_2_x0.5", "dps_2_x2", "extremes",
    ]  # fmt: skip
    assert all(arm.name == name for name, arm in found.items())
    assert found["polyak_1_size"].constrained == ("wall",)
    assert (found["polyak_2_x2"].samples, found["dps_2_x2"].samples) == (8, 3)
    few = arms.arms(SETTINGS | {"samples": SETTINGS["samples"] | {"dps": 2}})
    assert few["dps_2_x2"].samples == 2
    assert arms.hearts_needed(SETTINGS) == 20
    assert all(arms.Arm.from_dict(json.loads(json.dumps(a.to_dict()))) == a for a in found.values())
    baseline = arms.arms(SETTINGS | {"implicit": "bundle"})
    assert set(baseline) - set(found) == {"implicit_0", "implicit_1", "implicit_2"}
    assert baseline["implicit_0"].constrained == ()
    without = arms.arms(SETTINGS | {"samples": SETTINGS["samples"] | {"dps": 0, "extremes": 0}})
    assert set(found) - set(without) == {name for name in found if name.startswith("dps")} | {"extremes"}


def test_strength_is_that_of_the_methods_own_step():
    guidance = {"step_fraction": 0.5, "trust_radius": 0.2, "dps": {"weight": 3.0}}
    found = arms.arms(SETTINGS)
    fast, dps = (sampling.settings_of(found[name], guidance) for name in ("polyak_2_x2", "dps_2_x2"))
    assert (fast.method, fast.step_fraction, fast.trust_radius, fast.dps.weight) == ("polyak", 1.0, 0.4, 3.0)
    assert (dps.method, dps.step_fraction, dps.trust_radius, dps.dps.weight) == ("dps", 0.5, 0.2, 6.0)


def test_sets_of_equal_size_or_unknown_structures_are_refused():
    hearts.check_constrained([["wall"], ["wall", "cavity"]], ANATOMY)
    with pytest.raises(InputError, match="give every set another number"):
        hearts.check_constrained([["wall"], ["cavity"]], ANATOMY)
    with pytest.raises(InputError, match="'septum'"):
        hearts.check_constrained([["septum"]], ANATOMY)


def test_hearts_are_parted_and_refused_ones_left_out():
    records = [
        {"subject": f"h{i}", "verdict": "failed" if i == 2 else "accepted", "reason": "torn"}
        for i in range(13)
    ]
    few = hearts.split(records, 4, 8)
    assert [len(few[name]) for name in ("targets", "reference")] == [4, 8]
    more = hearts.split(records, 8, 5)  # more targets than reference, one of which was refused
    assert [len(more[name]) for name in ("targets", "reference")] == [8, 4]
    assert more["targets"][:4] == few["targets"]
    many = hearts.split(records, 100, 4)
    assert [len(many[name]) for name in ("targets", "reference")] == [6, 6]
    names = [[r["subject"] for r in own] for own in many.values()]
    assert "h2" not in [*names[0], *names[1]]
    assert not set(names[0]) & set(names[1])
    with pytest.raises(InputError, match="7 hearts"):
        hearts.split(records[:8], 4, 4)


def test_new_deformations_vary_as_the_anatomy_says(tmp_path):
    """The population that a prior learned varies so; one that varies otherwise would be another reference."""
    path = REPOSITORY / "resources/anatomies/aorta"
    anatomy, grid = read_anatomy(path / "anatomy.json")
    templates = {str(path / "templates/hra_female.nii.gz"): 1.0}
    volumes = {}
    for together in (0.0, 0.5):
        context = anatomy, grid, path / "topology.tsv", None, Variation(together, 0.0)
        out = tmp_path / str(together)
        made = hearts.deformed(out, context, templates, range(4), 1, f"{together}", 1)
        assert {record["verdict"] for record in made} == {"accepted"}
        volumes[together] = np.array([np.sum(record["moments"]["volume_ml"]) for record in made])
    narrow, wide = (np.log(v).std() for v in volumes.values())
    assert narrow < 0.06, "volumes follow from the template's, up to voxels"
    assert wide > 3 * narrow


def test_extreme_targets_move_one_entry_of_the_mean_heart(tmp_path):
    write_reference(tmp_path / "reference_moments.parquet")
    reference = read_reference(tmp_path / "reference_moments.parquet", ANATOMY)
    vectors = moments.to_vector(reference.moments)
    arm = arms.arms(SETTINGS)["extremes"]
    found = sampling.targets_of(arm, pd.DataFrame(), tmp_path, ANATOMY)
    assert len(found) == 2 * 2 * 2
    for rows, (attribute, entry), sign in zip(
        found, [("size", 0), ("size", 0), ("position", 1), ("position", 1)] * 2, [-1, 1] * 4, strict=True
    ):
        assert list(rows["constrained"]) == [attribute, ""]
        moved = (moments.to_vector(moments.from_columns(rows)) - vectors.mean(axis=0)) / vectors.std(axis=0)
        assert moved[0, entry] == pytest.approx(4 * sign)
        moved[0, entry] = 0
        assert np.abs(moved).max() < 1e-6


def many(n, seed, shift=0.0):
    """Moments (n, 2) of random ellipsoids."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(0, 0.2, (2 * n, 3))).as_matrix().reshape(n, 2, 3, 3)
    axes = np.exp(rng.normal(0, 0.1, (n, 2, 3))) * [20.0, 14.0, 10.0]
    return from_ellipsoid(rng.normal(0, 3, (n, 2, 3)) + shift, axes, turns)


def samples_of(arm, achieved, targets, causes=None, ended=""):
    """Samples as if read from a table; structures wall and cavity."""
    n = len(achieved.volume_ml)
    words = ",".join(arm.attributes)
    rows = pd.DataFrame(
        {
            "arm": arm.name,
            "sample": np.repeat(np.arange(n), 2),
            "structure": list(ANATOMY.structures) * n,
            "constrained": [words if s in arm.constrained else "" for s in ANATOMY.structures] * n,
            "residual_sd": 0.0,
            "ended": ended,
        }
    )
    for prefix, own in (("", achieved), ("target_", targets)):
        rows = rows.assign(**{f"{prefix}{k}": v.ravel() for k, v in moments.to_columns(own).items()})
    causes = causes or ((),) * n
    listed = (("", 0, ""),) * n
    return Samples(arm, Hearts(achieved, features.complete(achieved), listed), targets, rows, causes, causes)


def test_errors_are_those_that_were_made():
    """Twice the volume without a change of place, a turn by 30 degrees, a shift by 5 mm."""
    axes, eye = np.array([20.0, 12.0, 8.0]), np.eye(3)
    turned = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    target = from_ellipsoid(
        np.zeros((12, 2, 3)), np.broadcast_to(axes, (12, 2, 3)), np.broadcast_to(eye, (12, 2, 3, 3))
    )
    turns = np.broadcast_to(np.stack([eye, turned]), (12, 2, 3, 3))
    factor = np.array([2 ** (1 / 3), 1.0])[None, :, None]
    centre = np.broadcast_to(np.array([[0, 0, 0], [0, 3.0, 4.0]]), (12, 2, 3))
    achieved = from_ellipsoid(centre, np.broadcast_to(axes * factor, (12, 2, 3)), turns)
    arm = arms.Arm("polyak", ("wall",), ("size", "orientation"), 12)
    found = fidelity.table({"polyak": samples_of(arm, achieved, target)}, [("wall",)], 50, 0)
    wall, cavity = (
        found[found["structure"] == name].set_index("attribute")["median_error"]
        for name in ANATOMY.structures
    )
    assert wall.to_dict() == pytest.approx(
        {"size": 100, "position": 0, "shape": 0, "orientation": 0, "aspect": 0}, abs=1e-5
    )
    assert cavity[["size", "position", "orientation", "aspect"]].tolist() == pytest.approx(
        [0, 5, 30, 0], abs=1e-5
    )
    assert cavity["shape"] > 0.1
    together = found[found["structure"] == "set_1"].set_index("attribute")
    assert together["constrained"].to_dict() == {
        "size": True, "position": False, "shape": False, "orientation": True, "aspect": False,
    }  # fmt: skip
    assert not found.loc[found["structure"] == "cavity", "constrained"].any()


def test_a_heart_with_a_vanished_structure_is_incomplete():
    target = many(6, 0)
    gone = target.volume_ml.copy()
    gone[2, 1] = 0.0
    achieved = Moments(gone, target.centroid_mm, target.covariance_mm2)
    samples = samples_of(arms.Arm("unguided", (), (), 6), achieved, target)
    assert np.flatnonzero(~samples.hearts.complete).tolist() == [2]
    found = fidelity.table({"unguided": samples}, [("wall", "cavity")], 20, 0)
    size = found[found["attribute"] == "size"].set_index("structure")["n"]
    assert size.to_dict() == {"set_2": 11, "wall": 6, "cavity": 5}


def test_resamples_of_pooled_structures_are_of_samples():
    """Structures of a sample that fail together make a wide interval, not that of as many free errors."""
    target = many(40, 0)
    factor = np.where(np.arange(40) % 2, 1.5, 1.1)[:, None] * np.ones(2)
    achieved = Moments(target.volume_ml * factor, target.centroid_mm, target.covariance_mm2)
    arm = arms.Arm("unguided", (), (), 40)
    found = fidelity.table({"unguided": samples_of(arm, achieved, target)}, [("wall", "cavity")], 400, 0)
    row = found[(found["attribute"] == "size") & (found["structure"] == "set_2")].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((10, 50))
    assert row["p95_low"] <= row["p95_error"] <= row["p95_high"]


def scaled_of(data, own):
    passed = np.arange(len(own)) % 2 == 0
    arms_ = dict.fromkeys(("unguided", "polyak_1_size"), own)
    return coupling.Scaled(data, arms_, dict.fromkeys(arms_, passed))


def test_only_slopes_of_the_data_are_within_the_bar():
    rng = np.random.default_rng(0)
    names = coupling.ENTRIES

    def population(n, slope):
        values = rng.standard_normal((n, len(names)))
        values[:, 1] = slope * values[:, 0] + np.sqrt(1 - slope**2) * values[:, 1]
        return values

    data, same, other = population(2000, 0.6), population(2000, 0.6), population(2000, 0.0)
    for own, expected in ((same, True), (other, False)):
        found = coupling.table(scaled_of(data, own), {"size": "polyak_1_size"}, 100, 0).set_index("y")
        assert found.loc["x", "data_slope"] == pytest.approx(0.6, abs=0.05)
        assert found.loc["x", "data_low"] < 0.6 < found.loc["x", "data_high"]
        assert found.loc["x", "within_bar"] == expected
        assert found["within_bar"].drop("x").all()
        assert found["slope"].tolist() == found["unguided_slope"].tolist()
        x, y = own[::2, :2].T
        assert found.loc["x", "passed_slope"] == pytest.approx(np.polyfit(x, y, 1)[0])
        assert len(found) == 8


def test_entries_of_coupling_say_what_they_are_named():
    """A turned, stretched, moved and swollen heart differs from the typical one in those entries alone."""
    axes = np.array([10.0, 14.0, 20.0])
    typical = from_ellipsoid(np.zeros((1, 3)), axes[None], np.eye(3)[None])

    def entries(centre=(0, 0, 0), axes=axes, turn=(0, 0, 0)):
        r = Rotation.from_rotvec(np.radians(turn)).as_matrix()
        heart = from_ellipsoid(np.array([centre], float), np.array([axes]), r[None])
        difference = coupling.scalars(heart, typical) - coupling.scalars(typical, typical)
        return {name: v for name, v in zip(coupling.ENTRIES, difference[0], strict=True) if abs(v) > 1e-4}

    assert entries(centre=(0, 4, 0)) == pytest.approx({"y": 4})
    assert entries(axes=1.1 * axes) == pytest.approx({"log_volume": 3 * np.log(1.1)})
    assert {k: abs(v) for k, v in entries(turn=(0, 0, 10)).items()} == pytest.approx(
        {"turn_1_2": np.radians(10)}, rel=1e-4
    )
    assert {k: abs(v) for k, v in entries(turn=(10, 0, 0)).items()} == pytest.approx(
        {"turn_2_3": np.radians(10)}, rel=1e-4
    )
    stretched = entries(axes=axes * [1, 1, 1.2])
    assert stretched == pytest.approx({"log_volume": np.log(1.2), "aspect_3_2": 2 * np.log(1.2)})


def test_real_hearts_scale_the_samples():
    data = {"targets": many(30, 1), "reference": many(30, 2)}
    real = {name: Hearts(m, features.complete(m), ()) for name, m in data.items()}
    arm = arms.Arm("unguided", (), (), 30)
    own = coupling.scale({"unguided": samples_of(arm, many(30, 3), many(30, 1))}, real, 0)
    assert own.data.shape == (60, 9)
    assert own.data.mean(axis=0) == pytest.approx(0)
    assert own.data.std(axis=0, ddof=1) == pytest.approx(1)
    assert np.abs(own.arms["unguided"].mean(axis=0)).max() < 0.8
    assert own.passed["unguided"].all()


def test_shares_that_pass_are_counted_by_rule():
    made = many(8, 0)
    causes = (("holes.wall",),) * 2 + (("holes.wall", "contact.a"),) + ((),) * 5
    own = {
        "unguided": samples_of(arms.Arm("unguided", (), (), 8), made, made),
        "polyak_1": samples_of(arms.Arm("polyak", ("wall",), arms.PAPER, 8), made, made, causes),
        "polyak_1_size": samples_of(arms.Arm("polyak", ("wall",), ("size",), 8), made, made, causes),
    }
    table = gate_rates.topology(own, 200, 0).set_index(["method", "rule"])
    assert table["share"].to_dict() == {
        ("unguided", "all rules"): 1, ("unguided", "contact.a"): 1, ("unguided", "holes.wall"): 1,
        ("polyak", "all rules"): 5 / 8, ("polyak", "contact.a"): 7 / 8, ("polyak", "holes.wall"): 5 / 8,
    }  # fmt: skip
    row = table.loc[("polyak", "all rules")]
    assert row["minus_unguided"] == -3 / 8
    assert row["minus_unguided_low"] < -3 / 8 < row["minus_unguided_high"] <= 0


def test_causes_of_samples_come_back_from_their_table_as_ids_of_rules(tmp_path):
    """One sample that breaks a rule, and one whose target no anatomy on the grid can meet."""
    bundle, rules, path = tmp_path / "bundle", tmp_path / "rules.tsv", tmp_path / "s.parquet"
    write_tiny_bundle(bundle)
    rules.write_text(RULES)
    settings = GuidanceSettings.from_config(GUIDANCE)
    reference = read_reference(bundle / "reference_moments.parquet", ANATOMY)
    rows = pd.DataFrame(moments.to_columns(reference.moments[0])).assign(structure=ANATOMY.structures)
    targets = [rows.assign(constrained="size", volume_ml=rows["volume_ml"] * f) for f in (1.0, 1e6)]
    records = batch_runner.run_batch(
        tmp_path / "s", sampling.tasks(targets, 1, ""), sampling.work,
        initializer=judging.open_sampler, initargs=(str(bundle), str(rules), settings, "cpu"), group=2,
    )  # fmt: skip
    arm = arms.Arm("polyak", ANATOMY.structures, ("size",), 2)
    frame = sampling.table(arm, records, targets)
    tables.write_table(path, frame, table_columns.SAMPLES)
    found = read_samples(path, arm)
    assert found.causes == found.raw_causes == (("volume.cavity",), (OUTSIDE,))
    assert frame["ended"].iloc[-1].startswith(f"{OUTSIDE}: ")
    frame.drop(columns="causes").to_parquet(path)
    with pytest.raises(InputError, match=r"an older version wrote this table.*delete it"):
        read_samples(path, arm)


def test_extremes_are_in_standard_deviations():
    reference, arm = many(200, 0), arms.arms(SETTINGS)["extremes"]
    vectors = moments.to_vector(reference)
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
    target, came = np.stack([mean, mean]), np.stack([mean, mean])
    target[0, 0, 0] += 4 * spread[0, 0]
    came[0, 0, 0] += 2.5 * spread[0, 0]
    target[1, 0, 1] -= 4 * spread[0, 1]
    came[1, 0, 1] -= 4 * spread[0, 1]
    samples = samples_of(arm, moments.from_vector(came), moments.from_vector(target))
    rows = samples.rows.assign(constrained=["size", "", "position", ""], ended=["far", "far", "", ""])
    samples = replace(samples, rows=rows, causes=(("holes.wall",), ()))
    found = gate_rates.extremes(samples, reference[:, 0])
    assert found["deviations"].tolist() == [4, -4]
    assert found["achieved"].tolist() == pytest.approx([2.5, -4])
    assert found["ended"].tolist() == ["far", ""]
    assert found["gate"].tolist() == ["holes.wall", ""]
    assert gate_rates.extremes(None, reference[:, 0]).empty


def realism_rows(**changes):
    rows = [
        {"method": "real", "constrained_structures": 0, "one_nna_low": 0.4, "one_nna_high": 0.6},
        {"method": "unguided", "constrained_structures": 0, "one_nna_low": 0.55, "one_nna_high": 0.7},
        {"method": "polyak", "constrained_structures": 1, "one_nna_low": 0.9, "one_nna_high": 1.0,
         "fd_ratio": 9},
        {"method": "polyak", "constrained_structures": 6, "one_nna_low": 0.65, "one_nna_high": 0.8,
         "fd_ratio": 1.1, "fd_ratio_low": 1.0, "fd_ratio_high": 1.3} | changes,
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(reference="reference")


def test_bars_are_of_the_largest_set():
    found = [row["met"] for row in acceptance_criteria.criteria({"realism": realism_rows()})]
    assert found[:3] == [True, False, True]  # meets unguided's interval, not that of real hearts; ratio 1.1
    assert set(found[3:]) == {None}
    assert acceptance_criteria.criteria({"realism": realism_rows(fd_ratio=1.21)})[2]["met"] is False
    unknown = realism_rows(fd_ratio=np.nan, one_nna_low=np.nan)
    assert acceptance_criteria.criteria({"realism": unknown})[2]["met"] is None
    slopes = pd.DataFrame({"within_bar": [True, False]})
    assert acceptance_criteria.criteria({"realism": realism_rows(), "coupling": slopes})[3] == {
        "bar": "coupling: each slope's interval meets the data's slope ± 0.15 SD/SD",
        "found": "1 of 2 slopes",
        "met": False,
    }


def test_the_summary_names_the_slopes_outside_the_bar():
    row = {"constrained": "size", "x": "log_volume", "y": "z", "slope": 0.5, "low": 0.4, "high": 0.6}
    row |= {"data_slope": 0.0, "data_low": -0.1, "data_high": 0.1, "within_bar": False}
    inside = row | {"y": "x", "slope": 0.1, "low": 0.0, "high": 0.2, "within_bar": True}
    plain = {"unguided_slope": 0.2, "unguided_low": 0.1, "unguided_high": 0.3}
    found = summary.coupling(pd.DataFrame([row | plain, inside | plain])).splitlines()
    assert found[2] == "| size | 1 of 2 | 0.30 | 0.20 | – | 2 of 2 | 0.20 | 0.20 |"
    assert (
        found[6]
        == "| size | z | log_volume | 0.50 (0.40 to 0.60) | 0.20 (0.10 to 0.30) | 0.00 (−0.10 to 0.10) |"
    )
    assert len(found) == 7
    none = dict.fromkeys(("passed_slope", "passed_low", "passed_high"), np.nan)
    kept = summary.coupling(pd.DataFrame([inside | plain | none])).splitlines()
    assert kept[2] == "| size | 1 of 1 | 0.10 | 0.20 | – | 1 of 1 | 0.20 | 0.20 |"
    assert len(kept) == 3
