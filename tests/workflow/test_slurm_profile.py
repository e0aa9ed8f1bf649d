"""The SLURM profile and the site example, without SLURM: what every job of a dry run would ask for."""

import re

import pytest
import yaml

from workflow_runs import REPOSITORY, make_bundle, make_cohort_table, planned_resources

PROFILES = REPOSITORY / "workflow/profiles"
SITE = {"slurm_account", "slurm_partition", "gpu_model", "constraint", "qos", "reservation", "clusters"}


def read(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "profile.v9+.yaml").read_text())


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Rule -> what its job asks for, with both profiles and a GPU."""
    folder = tmp_path_factory.mktemp("profiles")
    make_bundle(folder / "bundle")
    make_cohort_table(folder / "trial.tsv", {"a": 4})
    profiles = ("--workflow-profile", str(PROFILES / "slurm"), "--profile", str(PROFILES / "site_example"))
    own = ("--config", "bundle=bundle", "cohort_table=trial.tsv", "device=cuda", "cohort=mine")
    return planned_resources(folder, *profiles, *own)


def test_generation_asks_for_a_gpu_where_the_site_has_it(asked):
    job = asked["generate_anatomies"]
    assert (job["gpu"], job["gpu_model"], job["slurm_partition"]) == ("1", "a100", "gpu")
    assert (job["mem_mb"], job["runtime"]) == ("3500", "240")


OTHERS = ("draw_targets", "check_topology", "build_meshes", "write_inputs", "write_report")


@pytest.mark.parametrize("rule", OTHERS)
def test_all_other_jobs_ask_for_none(asked, rule):
    job = asked[rule]
    assert job.get("gpu", "0") == "0"
    assert "gpu_model" not in job
    assert (job["slurm_partition"], job["slurm_account"]) == ("standard", "heart_lab")
    assert int(job["mem_mb"]) >= 1000
    assert int(job["runtime"]) >= 30


def test_the_sites_own_numbers_count(asked):
    assert asked["build_meshes"]["runtime"] == "480"


def test_the_two_profiles_share_no_key():
    """Of a key that both have one would be lost, whole."""
    assert not read("slurm").keys() & read("site_example").keys()
    assert read("slurm")["executor"] == "slurm"


def test_no_rule_has_a_word_of_a_site():
    for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk")):
        assert not SITE & set(re.findall(r"\w+", path.read_text())), path.name


def test_retries_are_the_profiles_alone():
    """Those of a rule would be made inside the job too, in the first attempt's memory."""
    assert read("slurm")["retries"] == 2
    for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk")):
        assert "retries:" not in path.read_text(), path.name


def test_every_line_of_the_profile_is_explained():
    lines = (PROFILES / "slurm/profile.v9+.yaml").read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    assert len(keys) == len(read("slurm"))
    assert all(lines[i - 1].startswith("# ") for i in keys)
