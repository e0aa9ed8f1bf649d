"""The plan of a cohort: who is in which batch, and which tables a job reads."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiocohort.cohort import plan, stage_tables, target_arms
from cardiocohort.cohort.table import read_cohort
from cardiocohort.evaluation.arms import template_shares
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART

COLUMNS = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits\tbase"
TABLE = f"""{COLUMNS}
alone\t5\tany\t\t\t\t\tleft_ventricle: all\t\t
sibling\t5\t\t\t\t\t7\tleft_ventricle: all\tleft_ventricle.volume: +10 %\talone
of_a_map\t2\t\t\t\t\t\tleft_ventricle: all\tright_ventricle.volume: -10 %\theart.nii.gz
"""


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    path = tmp_path_factory.mktemp("cohort") / "trial.tsv"
    path.write_text(TABLE)
    return read_cohort(path, HEART)


@pytest.fixture(scope="module")
def planned(arms):
    return plan.batches_of_arms(arms, 2, 1, {"of_a_map": ("there/heart.nii.gz", "0a1b")})


def test_body_surfaces_are_those_of_the_targets_known_or_not(tmp_path):
    people = {"a-00000": 1.7, "a-00001": float("nan")}
    rows = [{"subject": s, "structure": part, "bsa_m2": area} for s, area in people.items() for part in "xy"]
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    found = stage_tables.body_surfaces([tmp_path / "a.parquet"])
    assert found == pytest.approx(people, nan_ok=True)
    assert stage_tables.body_surfaces([]) == {}


def test_batches_of_arms(planned):
    bounds = {name: (batch["first"], batch["last"], batch["seed"]) for name, batch in planned.items()}
    assert bounds == {
        "alone-0000": (0, 1, 1),
        "alone-0001": (2, 3, 1),
        "alone-0002": (4, 4, 1),
        "sibling-0000": (0, 1, 7),
        "sibling-0001": (2, 3, 7),
        "sibling-0002": (4, 4, 7),
        "of_a_map-0000": (0, 1, 1),
    }


def test_very_many_batches_are_announced(arms):
    assert plan.many_batches(arms, 2) == ""
    assert plan.many_batches([dataclasses.replace(arms[0], n=100_000)], 50) == ""
    assert plan.many_batches([dataclasses.replace(arms[0], n=100_000)], 4).startswith("25,000 batches of 4")


sizes = st.integers(1, 40)
names = st.sets(st.text("abcXYZ019_.-", min_size=1, max_size=5), min_size=1, max_size=30)


@given(names, sizes)
def test_each_label_map_is_in_one_batch_whatever_the_order_of_the_folder(subjects, size):
    files = {name: Path("maps") / f"{name}.nii" for name in subjects}
    planned = plan.batches_of_label_maps("mine", files, size)
    assert planned == plan.batches_of_label_maps("mine", dict(reversed(files.items())), size)
    batches = [batch["label_maps"] for batch in planned.values()]
    assert [name for batch in batches for name in batch] == sorted(subjects)
    assert all(len(batch) == size for batch in batches[:-1])
    assert {name: Path(path) for batch in batches for name, path in batch.items()} == files
    assert list(planned) == [f"mine-{number:04d}" for number in range(len(batches))]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), sizes, sizes)
def test_a_simulation_batch_reads_the_meshes_of_its_subjects_only(counts, size, simulated):
    planned = {}
    for i, count in enumerate(counts):
        files = {f"a{i}_{k:02d}": f"{k}.nii" for k in range(count)}
        planned |= plan.batches_of_label_maps(f"arm{i}", files, size)
    home = {subject: name for name, batch in planned.items() for subject in plan.subjects_of(batch)}
    found = plan.simulation_batches(planned, simulated)
    assert [s for batch in found.values() for s in batch["subjects"]] == list(home)
    for name, batch in found.items():
        assert batch["meshes"] == sorted({home[subject] for subject in batch["subjects"]})
        assert {plan.arm_of(mesh) for mesh in batch["meshes"]} == {plan.arm_of(name)}
        assert 1 <= len(batch["subjects"]) <= simulated
    # and what decks of a batch of meshes wait for: every simulation of its subjects
    for mesh, names in plan.simulations_of(found).items():
        assert names == [name for name in found if mesh in found[name]["meshes"]]
        reached = {subject for name in names for subject in found[name]["subjects"]}
        assert {subject for subject in home if home[subject] == mesh} <= reached


def test_a_config_key_that_names_an_unknown_arm_is_refused(planned):
    plan.check_arms(["alone", "sibling"], planned, "simulation.cycle.contractility")
    with pytest.raises(InputError, match=r"contractility': 'dilated' is no arm .* allowed: .*alone"):
        plan.check_arms(["dilated"], planned, "simulation.cycle.contractility")
    maps = plan.batches_of_label_maps("mine", {"a": "a.nii"}, 1)
    with pytest.raises(InputError, match="label maps"):
        plan.check_arms(["dilated"], maps, "simulation.cycle.contractility")


def test_levels_of_an_arm_are_its_own_or_those_of_the_arm_it_comes_from(tmp_path):
    path = tmp_path / "trial.tsv"
    path.write_text(
        f"{COLUMNS}\tmatched\n"
        "ill\t2\tany\tdilated_cardiomyopathy\t\t\t\tleft_ventricle: all\t\t\t\n"
        "sibling\t2\t\t\t\t\t\tleft_ventricle: all\tleft_ventricle.volume: +10 %\till\t\n"
        "again\t2\t\t\t\t\t\tleft_ventricle: all\tleft_ventricle.volume: +10 %\tsibling\t\n"
        "cured\t2\t\thealthy\t\t\t\tleft_ventricle: all\t\t\till\n"
        "twin\t2\t\t\t40\t\t\tleft_ventricle: all\t\t\till\n"
        "anyone\t2\tany\t\t\t\t\tleft_ventricle: all\t\t\t\n"
    )
    planned = plan.batches_of_arms(read_cohort(path, HEART), 2, 1, {})
    assert plan.levels_of_arms(planned, "condition") == {
        "ill": ("dilated_cardiomyopathy",),
        "sibling": ("dilated_cardiomyopathy",),
        "again": ("dilated_cardiomyopathy",),
        "cured": ("healthy",),
        "twin": ("dilated_cardiomyopathy",),
        "anyone": (),
    }


def test_what_a_batch_of_siblings_takes_from_its_base(planned):
    def inputs(name):
        return plan.base_inputs(planned[name], ("targets", "topology"))

    assert inputs("alone-0001") == {}
    assert inputs("sibling-0001") == {
        "base_targets": "<cohort>/targets/alone-0001.parquet",
        "base_topology": "<cohort>/topology/alone-0001.tsv",
    }
    assert inputs("of_a_map-0000") == {"base_map": "there/heart.nii.gz"}
    assert planned["of_a_map-0000"]["base_sha256"] == "0a1b"


def test_tables_of_a_stage_in_several_folders():
    assert plan.stage_tables("anatomies", ["a-0000"]) == ["<cohort>/anatomies/a-0000.parquet"]
    found = plan.stage_tables("meshes", ["a-0000", "a-0001"], ["fine", "coarse"])
    assert found == [f"{folder}/meshes/a-000{i}.tsv" for folder in ("fine", "coarse") for i in (0, 1)]
    assert plan.stage_tables("meshes", ["a-0000"], []) == []


def test_an_arm_of_siblings_is_compared_with_its_base(planned):
    siblings = plan.sibling_arms(planned)
    assert siblings == {"sibling": {"base": "alone", "structure": "left_ventricle"}}
    assert plan.comparisons(siblings, "trial.tsv") == ["<cohort>/comparisons/sibling.tsv"]
    simulations = plan.simulation_batches(planned, 4)
    found = plan.compared_tables("sibling", siblings, planned, simulations)
    assert {key: len(paths) for key, paths in found.items()} == {
        "simulations": 2,
        "anatomies": 3,
        "base_simulations": 2,
        "base_anatomies": 3,
    }
    assert all("/sibling-" in path for key in ("simulations", "anatomies") for path in found[key])
    assert all("/alone-" in path for key in found if key.startswith("base_") for path in found[key])


def test_a_cohort_without_pairs_says_where_to_name_a_base(arms):
    alone = plan.sibling_arms(plan.batches_of_arms(arms[:1], 4, 1, {}))
    with pytest.raises(InputError, match=r"trial\.tsv: no arm has another arm as its base.*'base'"):
        plan.comparisons(alone, "trial.tsv")


def test_the_verified_subject_is_one_of_the_batch(planned):
    own = plan.batches_of_label_maps("mine", {f"p{i}": f"{i}.nii" for i in range(7)}, 3)
    for name, batch in (planned | own).items():
        subject = plan.verified_subject(name, batch)
        assert subject in plan.subjects_of(batch)
        assert subject == plan.verified_subject(name, dict(batch))
    for name, batch in planned.items():
        assert batch["first"] <= plan.verified_index(name, batch) <= batch["last"]


@pytest.mark.parametrize("n", [3, 50])
def test_an_unknown_batch_is_named_with_those_that_there_are(n):
    own = plan.batches_of_label_maps("mine", {f"p{i}": f"{i}.nii" for i in range(n)}, 1)
    with pytest.raises(InputError) as caught:
        plan.batch_named("min-0000", own, "mine")
    told = str(caught.value)
    assert "'min-0000' is no batch of cohort 'mine'" in told
    assert "mine-0000" in told
    assert ("mine-0049, 50 in all" in told) == (n == 50)


TRAINED = {
    "label_maps": None,
    "leave_out": ["b"],
    "templates": {"x/a.nii": 1, "b.nii": 2},
}


@pytest.mark.parametrize(
    ("changes", "which", "expected"),
    [
        ({}, "alike", {"x/a.nii": 1, "b.nii": 2}),
        ({}, "left_out", {"b.nii": 2}),
        ({"focus": [[], ["a"]]}, "alike", {"x/a.nii": 1}),
        ({"focus": [["a"], []]}, "alike", {"x/a.nii": 1, "b.nii": 2}),
        ({"leave_out": []}, "left_out", {}),
    ],
)
def test_templates_that_unseen_hearts_are_deformed_from(changes, which, expected):
    assert template_shares(None, TRAINED | changes, which, "bundle.json") == expected
    assert template_shares("maps", TRAINED | changes, which, "bundle.json") == {}


def test_a_bundle_of_label_maps_needs_others():
    with pytest.raises(InputError, match=r"'evaluation\.label_maps' is null, but bundle\.json"):
        template_shares(None, TRAINED | {"label_maps": "maps"}, "alike", "bundle.json")


def test_arms_that_descend_from_one_heart_are_known():
    bases = {
        "drawn": "",
        "given": "",
        "edited": "drawn",
        "scan": "a.nii",
        "again": "scan",
        "of_given": "given",
    }
    arms = {name: {"base": base} for name, base in bases.items()}
    found = {name: plan.one_origin(name, arms, {"given"}) for name in arms}
    assert [name for name, why in found.items() if not why] == ["drawn", "edited"]
    assert found["again"] == "descend from one label map file (a.nii)"
    assert found["of_given"] == "have the same explicit targets"


@pytest.mark.parametrize("named", [False, True])
def test_arms_whose_subjects_share_targets(tmp_path, named):
    rows = ["a\t\tlv", "b\tb-00000\tlv"] if named else ["a\tlv", "b\tlv"]
    header = "arm\tsubject\tstructure" if named else "arm\tstructure"
    (tmp_path / "t.tsv").write_text("\n".join([header, *rows]) + "\n")
    assert target_arms.arms_of_one_target(tmp_path / "t.tsv") == ({"a"} if named else {"a", "b"})
