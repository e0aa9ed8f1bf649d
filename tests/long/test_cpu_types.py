"""A heart on processors of several types: how far its label maps are apart (docs/cluster.md states it).

`CPU_TYPES=2 python -m pytest -s tests/long/test_cpu_types.py` compares two subjects of each arm of the demo
on all types, and prints the differences (minutes). The suite takes the first subject.
"""

import os
import platform

import pytest

import cpu_types
from cardiocohort.cohort.table import read_cohort
from cardiocohort.population.plausibility import population_for
from cardiocohort.population.reference import read_reference
from cardiocohort.population.targets import drawn_targets
from heart_anatomy import HEART

SUBJECTS = int(os.environ.get("CPU_TYPES", "0"))
CONSTRAINED = HEART.structures[:6]  # of the demo's cohort table
HOME = "this one"
TIES = 3  # of 884,736 voxels; none or one in eight samples
FLOAT32 = ("AVX-512 without bfloat16", "AVX2")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"),
        reason="NOT TESTED: other processors; only x86 is emulated",
    ),
]


@pytest.fixture(scope="module")
def targets():
    """Target rows by subject."""
    reference = read_reference(cpu_types.BUNDLE / "reference_moments.parquet", HEART)
    rows_of = {}
    for arm in read_cohort(cpu_types.REPOSITORY / "config/cohort.tsv", HEART)[: None if SUBJECTS else 1]:
        drawn = drawn_targets(arm, range(SUBJECTS or 1), 1, population_for(arm, reference), 0.95)
        rows_of |= {name: rows.to_dict("records") for name, rows in drawn.groupby("subject", sort=False)}
    return rows_of


@pytest.fixture(scope="module")
def sampled(targets, tmp_path_factory):
    """Folder of the label maps, and records, of each type of processor; made at its first use."""
    folder, made = tmp_path_factory.mktemp("processors"), {}

    def of(name):
        if name not in made:
            place = folder / str(len(made))
            made[name] = place, cpu_types.sample(place, cpu_types.PROCESSORS[name], targets)
        return made[name]

    return of


def compare(sampled, one: str, other: str):
    """Differences of the subjects' label maps; their verdicts at the gate must be the same."""
    (folder, (_, records)), (folder2, (_, records2)) = sampled(one), sampled(other)
    for subject, record in records.items():
        found = cpu_types.differences(folder / record["file"], folder2 / records2[subject]["file"])
        print(
            f"\n{subject}: {one} ({record['networks']}), {other} ({records2[subject]['networks']})\n{found}"
        )
        reasons = [own[subject]["tried"][0]["reasons"] for own in (records, records2)]
        assert bool(reasons[0]) == bool(reasons[1]), (subject, reasons)
        yield found


def test_float32_makes_the_same_voxels_except_for_ties(sampled):
    """Latents differ in their last digits, so a voxel whose two labels are equally likely may have either."""
    used = [sampled(name)[1][0] for name in FLOAT32]
    assert used[1] == "AVX2", "the child was not kept to AVX2"
    for found in compare(sampled, *FLOAT32):
        assert found["voxels"].sum() <= 2 * TIES  # each is of two structures


def test_bfloat16_makes_a_heart_of_the_same_targets(sampled):
    """Where this processor has none, both are the same."""
    for found in compare(sampled, HOME, "AVX2"):
        held, free = found.loc[list(CONSTRAINED)], found.drop(index=list(CONSTRAINED))
        assert held["dice"].min() > 0.9
        assert held["volume_percent"].max() < 2
        assert held["centroid_mm"].max() < 2
        assert held["shape"].max() < 0.02
        assert free["dice"].min() > 0.7
        assert free["volume_percent"].max() < 5


@pytest.mark.skipif(not SUBJECTS, reason="minutes: set CPU_TYPES")
def test_processors_with_bfloat16_differ_less(sampled):
    for found in compare(sampled, HOME, "bfloat16 without AMX"):
        assert found["dice"].min() > 0.95
    for found in compare(sampled, HOME, "this one, two threads"):
        assert found["voxels"].sum() == 0
