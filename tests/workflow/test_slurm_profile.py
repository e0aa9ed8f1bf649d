"""The SLURM profile and the site example: what stands in them, and not in rules. Their plans: test_matrix."""

import re

import yaml

from workflow_runs import REPOSITORY

PROFILES = REPOSITORY / "workflow/profiles"
SITE = {"slurm_account", "slurm_partition", "gpu_model", "constraint", "qos", "reservation", "clusters"}


def read(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "profile.v9+.yaml").read_text())


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
