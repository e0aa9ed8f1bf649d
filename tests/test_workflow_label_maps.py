"""`snakemake label_maps`, whole: two real scans to label maps, which then are a cohort of their own."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workflow_runs import job_counts, make_bundle, make_cohort_table, snakemake

from cardiocohort.segmentations.label_maps import CASES
from cardiocohort.tables import read_table

DATA = Path(__file__).parent / "data/segmentations"
RUN = ("--quiet", "rules", "--cores", "1")
V1 = "v1_labels.nrrd"
CONFIG = {
    "bundle": "bundle",
    "cohort_table": "trial.tsv",
    "segmentations": {
        "name": "clinic",
        "folder": "scans",
        "covariates": "people.tsv",
        "sources": {
            "myocardium": [f"{V1}:44"],
            "left_ventricle": [f"{V1}:46"],
            "right_ventricle": [f"{V1}:48"],
            "left_atrium": [f"{V1}:45"],
            "right_atrium": [f"{V1}:47"],
            "aorta": ["aorta.nii.gz", f"{V1}:7"],
            "pulmonary_artery": ["pulmonary_artery.nii.gz", f"{V1}:49"],
            "superior_vena_cava": ["superior_vena_cava.nii.gz"],
            "inferior_vena_cava": ["inferior_vena_cava.nii.gz"],
            "pulmonary_vein": ["pulmonary_vein.nii.gz"],
        },
    },
}


def write_config(project, changes=None):
    """The config with some keys of `segmentations` changed."""
    config = CONFIG | {"segmentations": CONFIG["segmentations"] | (changes or {})}
    (project / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(DATA, folder / "scans", ignore=shutil.ignore_patterns("README.md"))
    (folder / "people.tsv").write_text("case\tage_years\tsex\ns0327\t61\tmale\ns0001\t50\tfemale\n")
    make_cohort_table(folder / "trial.tsv", {"small": 4})
    (folder / "config").mkdir()
    write_config(folder)
    return folder


@pytest.fixture(scope="module")
def made(project):
    """The folder of the label maps, made without a bundle in sight."""
    run = snakemake(project, "label_maps", *RUN)
    assert run.returncode == 0, run.stdout
    return project / "results/label_maps/clinic"


def test_verdicts_label_maps_and_covariates(made):
    table = read_table(made / "cases.tsv", CASES).set_index("case")
    assert table["verdict"].to_dict() == {"s0327": "accepted", "s0328": "rejected"}
    assert table.loc["s0327", "age_years"] == 61
    assert "cut by the field" in table.loc["s0328", "reason"]
    assert [path.name for path in made.glob("*.nii.gz")] == ["s0327.nii.gz"]
    people = pd.read_csv(made / "covariates.tsv", sep="\t")
    assert people.to_dict("records") == [{"subject": "s0327", "sex": "male", "age_years": 61.0}]
    log = (made.parent / "clinic.log").read_text()
    assert "1 accepted, 1 rejected" in log
    assert "s0001" in log


def test_nothing_is_made_again_until_a_case_changes(project, made):
    assert "Nothing to be done" in snakemake(project, "label_maps", *RUN).stdout
    picture = made / "pictures/s0328.png"
    before = picture.stat().st_mtime_ns
    shutil.copytree(project / "scans/s0327", project / "scans/again")
    run = snakemake(project, "label_maps", *RUN)
    assert run.returncode == 0, run.stdout
    table = read_table(made / "cases.tsv", CASES).set_index("case")
    assert table["verdict"].to_dict() == {"again": "accepted", "s0327": "accepted", "s0328": "rejected"}
    assert table.loc["again", "sha256"] == table.loc["s0327", "sha256"]
    assert picture.stat().st_mtime_ns == before
    shutil.rmtree(project / "scans/again")
    run = snakemake(project, "label_maps", *RUN)
    assert run.returncode == 0, run.stdout
    assert [path.name for path in made.glob("*.nii.gz")] == ["s0327.nii.gz"]


def test_the_label_maps_pass_the_topology_stage_of_a_cohort(project, made):
    make_bundle(project / "bundle")
    folder = "label_maps=results/label_maps/clinic"
    target = "results/cohorts/clinic/topology/clinic-0000.tsv"
    run = snakemake(project, target, *RUN, "--config", folder, "cohort=clinic")
    assert run.returncode == 0, run.stdout
    verdicts = pd.read_csv(project / target, sep="\t")
    assert verdicts["subject"].tolist() == ["s0327"]
    assert verdicts["verdict"].tolist() == ["accepted"]


def test_they_can_train_a_prior(project, made):
    folder = "results/label_maps/clinic"
    prior = f"prior={{label_maps: {folder}, covariates: {folder}/covariates.tsv}}"
    run = snakemake(project, "prior", "--dry-run", *RUN, "--config", prior)
    assert run.returncode == 0, run.stdout
    assert "make_reference_population" in job_counts(run.stdout)


SOURCES = CONFIG["segmentations"]["sources"]
BAD = {
    "no folder": ({"folder": None}, ["'segmentations.folder' is null"]),
    "no such folder": ({"folder": "nowhere"}, ["'segmentations.folder'", "'nowhere'", "looked for"]),
    "no case": ({"folder": "config"}, ["config", "no case here"]),
    "unknown structure": ({"sources": SOURCES | {"liver": ["l.nii"]}}, ["'liver'", "pulmonary_vein"]),
    "no source": ({"sources": {"aorta": ["aorta.nii"]}}, ["'myocardium' has no source"]),
    "no list": ({"sources": SOURCES | {"aorta": "aorta.nii"}}, ["'segmentations.sources.aorta'", "array"]),
    "bad labels": (
        {"sources": SOURCES | {"aorta": ["a.nii:x"]}},
        ["'segmentations.sources.aorta.0'", "a.nii:x"],
    ),
    "unread format": ({"sources": SOURCES | {"aorta": ["a.mha"]}}, ["'aorta': 'a.mha' is not a source"]),
    "no such table": ({"vessels": "no.tsv"}, ["'segmentations.vessels'", "no.tsv"]),
    "unsafe name": ({"name": "../x"}, ["'segmentations.name'", "../x"]),
}


@pytest.mark.parametrize(("changes", "told"), BAD.values(), ids=BAD)
def test_bad_input_ends_in_one_message(project, changes, told):
    write_config(project, changes)
    try:
        run = snakemake(project, "label_maps", "--dry-run", *RUN)
    finally:
        write_config(project)
    assert run.returncode != 0
    for part in told:
        assert part in run.stdout
    assert "Traceback" not in run.stdout
