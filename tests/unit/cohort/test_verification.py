"""`snakemake verify`: what is not as it was made is found and named; what is passes."""

import shutil

import pandas as pd
import pytest
import yaml

import tiny_cohort
from cardiocohort.cohort import stage_tables, verification
from cardiocohort.runtime import tables
from cardiocohort.runtime.artifacts import sha256
from workflow_runs import TEMPLATES, job_counts, make_bundle, snakemake

DRY = ("verify", "--dry-run", "--quiet", "rules", "--cores", "1")


@pytest.fixture
def stored(tmp_path):
    """A stage's table of two subjects and the folder with their files."""
    rows = []
    for subject, seconds in (("a-00000", 1.5), ("a-00001", 2.5)):
        (tmp_path / f"{subject}.vtu").write_text(subject)
        (tmp_path / f"{subject}.surface.vtp").write_text(f"surface of {subject}")
        row = {"subject": subject, "volume_ml": 100.0, "reason": None, "seconds": seconds}
        for prefix, suffix in (("", "vtu"), ("surface_", "surface.vtp")):
            path = tmp_path / f"{subject}.{suffix}"
            row |= {f"{prefix}file": path.name, f"{prefix}size": path.stat().st_size}
            row[f"{prefix}sha256"] = sha256(path)
        rows.append(row)
    return pd.DataFrame(rows), tmp_path


def again(stored: pd.DataFrame, **changes) -> pd.DataFrame:
    """The second subject, recomputed at another speed."""
    return stored[stored["subject"] == "a-00001"].assign(seconds=9.0, **changes)


def judge(stored, recomputed):
    return verification.verdict_of("meshes", "a-00001", stored[0], recomputed, stored[1])


def test_the_same_is_identical_however_long_it_took(stored):
    assert judge(stored, again(stored[0]))["verdict"] == "identical"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"volume_ml": 100.0 + 1e-9}, "volume_ml by 1.0e-11"),
        ({"volume_ml": 50.0}, "volume_ml by 5.0e-01"),
        ({"volume_ml": float("nan")}, "volume_ml"),
        ({"reason": "thin"}, "reason"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"more": 1}, "columns: more"),
    ],
)
def test_what_differs_is_named(stored, changes, told):
    found = judge(stored, again(stored[0], **changes))
    assert (found["verdict"], found["detail"]) == ("differs", told)


def test_a_subject_with_other_rows_differs(stored):
    found = judge(stored, pd.concat([again(stored[0])] * 2))
    assert (found["verdict"], found["detail"]) == ("differs", "rows: 1 stored, 2 recomputed")


@pytest.mark.parametrize("name", ["a-00000.vtu", "a-00000.surface.vtp", "a-00001.vtu"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_file_of_any_subject_is_found(stored, name, how):
    path = stored[1] / name
    path.write_text(path.read_text().replace("a", "b")) if how == "changed" else path.unlink()
    found = judge(stored, again(stored[0]))
    assert (found["verdict"], found["detail"]) == ("damaged", name)


def test_a_subject_without_files_has_none_to_damage(stored):
    empty = stored[0].assign(**{k: None for k in stored[0] if k.endswith(("file", "size", "sha256"))})
    assert judge((empty, stored[1]), again(empty))["verdict"] == "identical"


def test_the_jobs_of_a_verification(tmp_path):
    tiny_cohort.make_project(tmp_path, {"a": 5, "b": 2})
    run = snakemake(tmp_path, *DRY)
    assert run.returncode == 0, run.stdout
    stages = ("draw_targets", "generate_anatomies", "check_topology", "build_meshes", "write_inputs")
    repeats = ("draw_again", "generate_again", "check_again", "mesh_again", "write_inputs_again")
    assert job_counts(run.stdout) == dict.fromkeys((*stages, *repeats, "compare_batch"), 4) | {"verify": 1}


def with_siblings(project, n=3):
    """The trial with an arm `s` of `n` digital siblings of arm `a`."""
    table = project / "trial.tsv"
    header, *rows = table.read_text().splitlines()
    rows = [f"{row}\t" for row in rows] + [f"s\t{n}\t\t\t\t\t\t\tcavity.volume: x0.9\ta"]
    table.write_text("\n".join([f"{header}\tbase", *rows]) + "\n")


def test_siblings_are_made_again_of_the_same_base(tmp_path):
    tiny_cohort.make_project(tmp_path, {"a": 3})
    with_siblings(tmp_path)
    table = "results/cohorts/tiny/verification/anatomies/s-0000.parquet"
    run = snakemake(tmp_path, table, "--dry-run", "--cores", "1")
    assert run.returncode == 0, run.stdout
    (reason,) = [line for line in run.stdout.splitlines() if f"Missing output files: {table}" in line]
    for stage in ("anatomies/a-0000.parquet", "topology/a-0000.tsv"):
        assert f" results/cohorts/tiny/{stage}" in reason


def test_a_column_of_other_subjects_makes_no_difference(stored):
    others = stored[0].assign(size_residual_sd=[0.1, float("nan")])
    assert judge((others, stored[1]), again(stored[0]))["verdict"] == "identical"
    own = stored[0].assign(size_residual_sd=[float("nan"), 0.1])
    assert judge((own, stored[1]), again(stored[0]))["detail"] == "columns: size_residual_sd"


def test_the_jobs_of_a_verification_of_the_users_own_hearts(tmp_path):
    make_bundle(tmp_path / "bundle")
    (tmp_path / "maps").mkdir()
    for name in ("p1.nii.gz", "p2.nii.gz", "p3.nii.gz"):
        (tmp_path / "maps" / name).touch()
    own = ("bundle=bundle", "label_maps=maps", "cohort=mine", "batch_size=2")
    run = snakemake(tmp_path, *DRY, "--config", *own)
    assert run.returncode == 0, run.stdout
    repeats = ("import_again", "check_again", "mesh_again", "write_inputs_again", "compare_batch")
    assert dict.fromkeys(repeats, 2).items() <= job_counts(run.stdout).items()
    assert "draw_again" not in job_counts(run.stdout)


def own_hearts(project):
    """A cohort of two real label maps, in batches of one, with a coarse mesh."""
    make_bundle(project / "bundle")
    (project / "maps").mkdir()
    for template in TEMPLATES[2:]:
        shutil.copy(template, project / "maps")
    (project / "config").mkdir()
    config = {
        "bundle": "bundle", "label_maps": "maps", "cohort": "mine", "batch_size": 1, "formats": ["vtu"],
        "meshing": {"edge_length_mm": 5.5, "rv_wall_mm": 6.0},
    }  # fmt: skip
    (project / "config/config.yaml").write_text(yaml.safe_dump(config))
    return project / "results/cohorts/mine"


def test_a_users_own_hearts_are_imported_again(tmp_path):
    cohort = own_hearts(tmp_path)
    both = [
        folder / "mine-0001.parquet" for folder in (cohort / "anatomies", cohort / "verification/anatomies")
    ]
    run = snakemake(tmp_path, *(str(path.relative_to(tmp_path)) for path in both), "--cores", "1")
    assert run.returncode == 0, run.stdout
    one, other = (tables.read_table(path, stage_tables.ANATOMIES) for path in both)
    assert one["subject"].unique().tolist() == ["T4_cemrg_afib"]
    assert one["sha256"].tolist() == other["sha256"].tolist()


@pytest.mark.long
def test_a_cohort_of_the_users_own_hearts_verifies(tmp_path):
    own_hearts(tmp_path)
    run = snakemake(tmp_path, "verify", "--cores", "2")
    assert run.returncode == 0, run.stdout
    assert "2 batches: stored files are whole, recomputed subjects are identical" in run.stdout


@pytest.mark.long
def test_a_cohort_verifies_until_it_is_changed(tmp_path):
    project = tiny_cohort.make_project(tmp_path, {"a": 3})
    # a second batch of the arm, and one of siblings: their base is refused, and so are they, again too
    with_siblings(project, 1)
    target = ("verify", "--cores", "2")
    first = snakemake(project, *target)
    assert first.returncode == 0, first.stdout
    assert "3 batches: stored files are whole, recomputed subjects are identical" in first.stdout
    cohort = project / "results/cohorts/tiny"
    found = pd.concat([pd.read_csv(p, sep="\t") for p in cohort.glob("verification/*.tsv")])
    assert len(found) == 3 * 5

    heart = cohort / "anatomies/a-0001/a-00002.nii.gz"
    whole = heart.read_bytes()
    heart.write_bytes(whole[:-1])
    table = cohort / "targets/a-0000.parquet"
    rows = tables.read_table(table, stage_tables.TARGETS)
    rows["volume_ml"] *= 1.01
    rows.to_parquet(table)
    again = snakemake(project, *target, "--forcerun", "compare_batch", "--rerun-triggers", "input")
    assert again.returncode != 0
    assert "a-0001, anatomies (a-00002): damaged: a-00002.nii.gz" in again.stdout
    assert "a-0000, targets" in again.stdout
    assert "differs: volume_ml by 9.9e-03" in again.stdout
    assert "Traceback" not in again.stdout
