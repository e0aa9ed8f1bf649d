"""`snakemake label_maps`, whole: two real scans to label maps, which then are a cohort of their own."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cardiocohort.anatomy.label_map import LabelMap, read_label_map, write_volume
from cardiocohort.cohort.stage_tables import ANATOMIES
from cardiocohort.label_maps.scans import CASES
from cardiocohort.runtime.tables import read_table
from heart_anatomy import HEART
from resampled import resample
from workflow_runs import REPOSITORY, job_counts, make_bundle, make_cohort_table, snakemake

DATA = Path(__file__).resolve().parents[1] / "data/segmentations"
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
    (folder / "scans/s0001.mha").touch()
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
    assert run.stdout.count("not read: 1 file (s0001.mha)") == 1
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
    (made / "s0001.mhd").touch()
    run = snakemake(project, "prior", "--dry-run", *RUN, "--config", prior)
    (made / "s0001.mhd").unlink()
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("not read: 1 file (s0001.mhd)") == 1
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
        ["'segmentations.sources'", "'aorta': 'a.nii:x' is not a source"],
    ),
    "unread format": ({"sources": SOURCES | {"aorta": ["a.mgz"]}}, ["'aorta': 'a.mgz' is not a source"]),
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


FORMATS = ["vtu", "opencarp", "febio", "svmultiphysics", "fenicsx", "calculix"]


def test_a_map_that_cannot_be_used_stops_no_other(tmp_path):
    """It is a row of the manifest that says why; the cohort goes on to its report."""
    (tmp_path / "maps").mkdir()
    whole = (REPOSITORY / "resources/templates/T1_totalsegmentator_s0327.nii.gz").read_bytes()
    (tmp_path / "maps/whole.nii.gz").write_bytes(whole)
    (tmp_path / "maps/cut.nii.gz").write_bytes(whole[:5000])
    make_bundle(tmp_path / "bundle")
    (tmp_path / "config").mkdir()
    meshing = {"edge_length_mm": 5, "rv_wall_mm": 5.5}
    own = {"bundle": "bundle", "label_maps": "maps", "cohort": "mine", "formats": ["vtu"], "meshing": meshing}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(own))
    run = snakemake(tmp_path, "--quiet", "rules", "--cores", "1")
    assert run.returncode == 0, run.stdout
    assert "cut: label map cannot be used" in run.stdout
    rows = pd.read_csv(tmp_path / "results/cohorts/mine/manifest.tsv", sep="\t", index_col="subject")
    assert rows["status"].to_dict() == {"cut": "failed", "whole": "accepted"}
    assert rows.loc["cut", "stage"] == "generation"
    assert "truncated or corrupt" in rows.loc["cut", "reason"]
    assert "label map cannot be used" in (tmp_path / "results/cohorts/mine/report/cohort.html").read_text()


@pytest.mark.long
def test_label_maps_of_any_voxel_size_become_decks(tmp_path):
    """The templates as they are, on 1 mm and on 3 mm voxels, and two without veins: decks of all of them."""
    (tmp_path / "maps").mkdir()
    for path in sorted((REPOSITORY / "resources/templates").glob("*.nii.gz")):
        own, name = read_label_map(path, HEART), path.name[:2]
        versions = {
            "2mm": own,
            "1mm": resample(own, 1.0),
            "3mm": resample(own, 3.0),
            "3mm_smooth": resample(own, 3.0, how="smooth"),
        }
        if name in ("T1", "T3"):
            gone = np.isin(own.labels, [HEART.label(s) for s in ("superior_vena_cava", "pulmonary_vein")])
            versions["no_veins"] = LabelMap(np.where(gone, 0, own.labels).astype(np.uint8), own.affine)
        for version, label_map in versions.items():
            write_volume(tmp_path / f"maps/{name}_{version}.nii.gz", label_map)
    make_bundle(tmp_path / "bundle")
    config = {
        "bundle": "bundle",
        "batch_size": 100,
        "formats": FORMATS,
        "meshing": {"edge_length_mm": 3.4},
        "threads": {"meshing": 2},
    }
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(
        tmp_path, "inputs", "--quiet", "rules", "--cores", "2", "--config", "label_maps=maps", "cohort=mine"
    )
    assert run.returncode == 0, run.stdout
    results = tmp_path / "results/cohorts/mine"
    meshes = pd.read_csv(results / "meshes/mine-0000.tsv", sep="\t").set_index("subject")
    assert (meshes["verdict"] == "accepted").all(), meshes[["verdict", "reason", "detail"]]
    assert len(meshes) == 18
    inputs = pd.read_csv(results / "inputs/mine-0000.tsv", sep="\t")
    assert set(inputs[inputs["verdict"] == "accepted"]["format"]) == set(FORMATS)
    assert inputs.groupby("subject")["format"].nunique().tolist() == [6] * 18
    told = (
        read_table(results / "anatomies/mine-0000.parquet", ANATOMIES).groupby("subject")["repairs"].first()
    )
    refined = told.str.contains("refined from 3 x 3 x 3 mm")
    assert refined[refined].index.tolist() == [s for s in told.index if "3mm" in s]
    assert (told[~refined] == "").all()
    # the same heart, whatever its voxels: cavities of the meshes
    for name, own in meshes.groupby(meshes.index.str[:2]):
        for cavity in ("lv_cavity_ml", "rv_cavity_ml"):
            expected = own.loc[f"{name}_2mm", cavity]
            assert own[cavity].between(0.9 * expected, 1.1 * expected).all(), own[cavity]
