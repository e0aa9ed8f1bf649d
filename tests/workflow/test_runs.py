"""Real runs of the cheap stages: what is made again and what is not, after changes, errors and kills."""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import psutil
import pytest
import yaml
from rocrate.rocrate import ROCrate
from snakemake.iocontainers import Namedlist

from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.cohort import stage_tables
from cardiocohort.config.check import complete
from cardiocohort.runtime import stale_lock, tables
from cardiocohort.runtime.artifacts import sha256
from heart_anatomy import HEART
from synthetic_population import reference_frame
from workflow_runs import (
    REPOSITORY,
    TEMPLATES,
    environment,
    job_counts,
    label_map_project,
    make_bundle,
    make_cohort_table,
    snakemake,
)

QUIET = ("--quiet", "rules", "--cores", "1")
DRY = ("--dry-run", *QUIET)
COHORT = Path("results/cohorts/mine")
NOTHING = "Nothing to be done"


def scripts():
    return sorted((REPOSITORY / "workflow/scripts").glob("*.py"))


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.stem)
def test_a_script_does_nothing_when_it_is_imported(script):
    """Worker processes import the script again, without Snakemake's objects."""
    body = ast.parse(script.read_text()).body
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    rest = [node for node in body[1:] if not isinstance(node, allowed)]
    assert [ast.unparse(node.test) for node in rest if isinstance(node, ast.If)] == ["__name__ == '__main__'"]
    assert len(rest) == 1


# ---- the user's own label maps


def topology_of(project: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    return snakemake(project, f"{COHORT}/topology/mine-0000.tsv", *arguments, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the workflow and a project whose label maps it has imported and checked."""
    repository = tmp_path_factory.mktemp("repository")
    copied = [
        "workflow",
        "envs",
        *(
            f"resources/{n}"
            for n in (
                "templates",
                "topology",
                "anatomies",
                "reference",
                "segmentations",
                "verification",
                "viewer",
                "atlas",
            )
        ),
    ]
    for name in copied:
        # what other test processes write there meanwhile
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, repository / name, ignore=ignored)
    project = label_map_project(tmp_path_factory.mktemp("project"))
    run = topology_of(project, *QUIET, repository=repository)
    assert run.returncode == 0, run.stdout
    return repository, project


def test_imported_anatomies(finished):
    _, project = finished
    folder = project / COHORT / "anatomies"
    table = tables.read_table(folder / "mine-0000.parquet", stage_tables.ANATOMIES)
    assert list(table["subject"].unique()) == ["T1_0", "T2_0", "T3_0", "T4_0"]
    assert len(table) == 4 * len(HEART.structures)
    for subject, rows in table.groupby("subject"):
        file = folder / "mine-0000" / rows["file"].iloc[0]
        assert sha256(file) == rows["sha256"].iloc[0]
        original = read_label_map(project / "maps" / f"{subject}.nii.gz", HEART)
        copy = read_label_map(file, HEART)
        assert np.array_equal(copy.labels, original.labels)
        assert copy.spacing_mm == original.spacing_mm
        # heart frame: the origin is the centroid of the structures that the anatomy is centred on
        voxels = np.argwhere(np.isin(copy.labels, [HEART.label(s) for s in HEART.centred_on]))
        assert np.allclose(voxels.mean(0) * copy.spacing_mm + copy.affine[:3, 3], 0.0, atol=1e-3)
        volumes = np.bincount(copy.labels.ravel(), minlength=11)[1:] * np.prod(copy.spacing_mm) / 1000.0
        assert np.allclose(rows["volume_ml"], volumes)
    verdicts = tables.read_table(project / COHORT / "topology/mine-0000.tsv", stage_tables.TOPOLOGY)
    assert set(verdicts["verdict"]) == {"accepted"}


def test_a_second_run_has_nothing_to_do(finished):
    repository, project = finished
    assert NOTHING in topology_of(project, *QUIET, repository=repository).stdout


def test_file_times_of_bundle_and_resources_do_not_count(finished):
    repository, project = finished
    for path in (project / "bundle/bundle.json", repository / "resources/anatomies/heart/topology.tsv"):
        os.utime(path)
    assert NOTHING in topology_of(project, *DRY, repository=repository).stdout


LIBRARY = "workflow/scripts/cardiocohort"


@pytest.mark.parametrize(
    ("file", "addition", "rules"),
    [
        # coarse maps are repaired by the gate's rules as they are imported
        (f"{LIBRARY}/topology/gate.py", "NEW = 1\n", {"import_anatomies", "check_topology"}),
        (f"{LIBRARY}/label_maps/importing.py", "NEW = 1\n", {"import_anatomies", "check_topology"}),
        (f"{LIBRARY}/anatomy/label_map.py", "# a comment\n", set()),
        (f"{LIBRARY}/diffusion/sampler.py", "NEW = 1\n", set()),
        ("resources/anatomies/heart/topology.tsv", "\n", {"import_anatomies", "check_topology"}),
    ],
)
def test_a_change_reruns_the_stages_that_use_it(finished, changed, file, addition, rules):
    repository, project = finished
    changed(repository / file, lambda text: text + addition)
    run = topology_of(project, *DRY, repository=repository)
    assert run.returncode == 0, run.stdout
    assert job_counts(run.stdout).keys() == rules


def test_settings_rerun_only_what_they_concern(finished):
    repository, project = finished
    settings = ("seed=9", "max_attempts=9", "device=cpu", "formats=[vtu]", "truncation=0.5")
    assert NOTHING in topology_of(project, *DRY, "--config", *settings, repository=repository).stdout


def test_a_broken_label_map_is_reported_and_spares_the_rest(tmp_path):
    project = label_map_project(tmp_path)
    wrong, cut = (project / "maps" / f"{name}_0.nii.gz" for name in ("T2", "T3"))
    labels = nib.load(wrong)
    nib.save(nib.Nifti1Image(np.asarray(labels.dataobj) * 5, labels.affine), wrong)
    cut.write_bytes(cut.read_bytes()[:5000])
    targets = [f"{COHORT}/anatomies/mine-{k:04d}.parquet" for k in range(4)]

    def status(target):
        return set(tables.read_table(project / target, stage_tables.ANATOMIES)["status"])

    run = snakemake(project, *targets, *QUIET, "--config", "batch_size=1")
    assert run.returncode == 0, run.stdout
    for subject, why in (
        ("T2_0", "its labels look like 5 myocardium"),
        ("T3_0", "not a readable NIfTI file"),
    ):
        line = rf"{subject}: failed in .* \(1 of 1 subject\): label map cannot be used: {why}"
        assert re.search(line, run.stdout), run.stdout
    assert "Traceback" not in run.stdout
    assert list(map(status, targets)) == [{"imported"}, {"failed"}, {"failed"}, {"imported"}]
    shutil.copy(TEMPLATES[1], wrong)
    shutil.copy(TEMPLATES[2], cut)
    again = snakemake(project, *targets, *QUIET, "--config", "batch_size=1")
    assert again.returncode == 0, again.stdout
    assert job_counts(again.stdout) == {"import_anatomies": 2}
    assert list(map(status, targets)) == [{"imported"}] * 4


# ---- kills


RUN = (sys.executable, str(REPOSITORY / "workflow/run.py"), *QUIET, "--rerun-incomplete")
TARGET = f"{COHORT}/topology/mine-0000.tsv"


def start(project: Path) -> subprocess.Popen:
    """`make run` in a session of its own, until the first subject is finished."""
    process = subprocess.Popen(
        [*RUN, TARGET], cwd=project, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        # Ctrl-C as at a terminal: a background that ignores it, as of some runners of tests, hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((project / COHORT / "anatomies/mine-0000").glob("[!.]*.nii.gz.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


def rerun(project: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*RUN, TARGET], cwd=project, env=environment(), check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def contents(project: Path) -> dict[str, str]:
    folder = project / COHORT
    files = [p for stage in ("anatomies", "topology") for p in (folder / stage).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): sha256(p) for p in files if p.suffix != ".lock"}


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["--cores", "2"], "."),
        (["verify", "--directory", "there", "--config", "a=b"], "there"),
        (["-d", "there", "-n"], "there"),
        (["--directory=there"], "there"),
        (["-dthere"], "there"),
    ],
)
def test_a_dead_runs_lock_is_sought_where_snakemake_works(arguments, place):
    spec = importlib.util.spec_from_file_location("run", REPOSITORY / "workflow/run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    assert run.working_directory(arguments) == Path(place)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    project = label_map_project(tmp_path_factory.mktemp("undisturbed"), copies=12)
    assert rerun(project).returncode == 0
    return contents(project)


@pytest.mark.long
@pytest.mark.parametrize("how", ["kill -9 of all", "kill -9 of Snakemake alone", "Ctrl-C"])
def test_the_same_command_resumes_after(how, tmp_path, undisturbed):
    project = label_map_project(tmp_path, copies=12)
    process = start(project)
    done = {p: p.stat().st_mtime_ns for p in (project / COHORT / "anatomies").rglob("[!.]*.nii.gz.json")}
    table = project / COHORT / "anatomies/mine-0000.parquet"
    if how == "kill -9 of Snakemake alone":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL if how == "kill -9 of all" else signal.SIGINT)
    process.wait(timeout=60)
    assert not table.exists(), "it was finished before it could be killed"
    assert any((project / stale_lock.LOCKS).glob("*.lock")) == (how != "Ctrl-C")

    again = rerun(project)
    assert again.returncode == 0, again.stdout
    assert ("removing its lock" in again.stdout) == (how != "Ctrl-C")
    assert contents(project) == undisturbed
    assert {p: p.stat().st_mtime_ns for p in done} == done, "a finished subject was made again"
    assert NOTHING in rerun(project).stdout


@pytest.mark.long
def test_the_lock_of_a_living_run_is_respected(tmp_path):
    project = label_map_project(tmp_path)
    process = start(project)
    os.killpg(process.pid, signal.SIGSTOP)  # it lives, but cannot finish before the second is refused
    try:
        second = rerun(project)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was finished before it could be stopped"
    assert second.returncode != 0
    assert "cannot be locked" in second.stdout
    assert "removing its lock" not in second.stdout


def lock(folder: Path, owner: dict | None) -> Path:
    (folder / stale_lock.LOCKS).mkdir(parents=True)
    (folder / stale_lock.LOCKS / "0.input.lock").touch()
    if owner is not None:
        (folder / stale_lock.NOTE).write_text(json.dumps(owner))
    return folder


def test_whose_lock_is_left(tmp_path):
    stale_lock.record(tmp_path / "now")
    me = json.loads((tmp_path / "now" / stale_lock.NOTE).read_text())
    assert me["pid"] == os.getpid()
    assert me["started"] == psutil.Process().create_time()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not stale_lock.left_locked(tmp_path / "now"), "there is no lock"
    assert not stale_lock.left_locked(lock(tmp_path / "alive", me))
    assert not stale_lock.left_locked(
        lock(tmp_path / "elsewhere", me | {"host": "another", "pid": ended.pid})
    )
    assert stale_lock.left_locked(lock(tmp_path / "dead", me | {"pid": ended.pid}))
    assert stale_lock.left_locked(
        lock(tmp_path / "pid given out again", me | {"started": me["started"] - 100})
    )
    assert stale_lock.left_locked(lock(tmp_path / "killed before its note", None))
    stale_lock.forget(tmp_path / "now")
    assert not (tmp_path / "now" / stale_lock.NOTE).exists()


@pytest.mark.parametrize(("arguments", "holds"), [((), True), (("--nolock", "--mode", "remote"), False)])
def test_snakemake_inside_a_job_holds_no_lock(tmp_path, arguments, holds):
    folder = lock(tmp_path / "here", None)
    waits = "print(flush=True); import time; time.sleep(60)"
    (tmp_path / "snakemake").write_text(waits)
    command = [sys.executable, str(tmp_path / "snakemake"), *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            assert stale_lock.left_locked(folder) != holds
        finally:
            process.kill()


# ---- targets: growing a trial


def test_growing_a_trial_leaves_finished_batches_alone(tmp_path):
    make_bundle(tmp_path / "bundle")
    reference_frame(150).to_parquet(tmp_path / "bundle/reference_moments.parquet")
    own = ("bundle=bundle", "cohort_table=trial.tsv", "cohort=mine", "batch_size=2")

    def targets(arms, *arguments, seed=1):
        make_cohort_table(tmp_path / "trial.tsv", arms)
        names = [f"{arm}-{k:04d}" for arm, n in arms.items() for k in range((n + 1) // 2)]
        files = [f"{COHORT}/targets/{name}.parquet" for name in names]
        return snakemake(tmp_path, *files, *arguments, "--config", *own, f"seed={seed}")

    first = targets({"b": 4}, *QUIET)
    assert first.returncode == 0, first.stdout
    before = contents_of_targets(tmp_path)
    grown = targets({"a": 2, "b": 6}, *QUIET)
    assert job_counts(grown.stdout) == {"draw_targets": 2}, grown.stdout
    after = contents_of_targets(tmp_path)
    assert after.keys() == {"a-0000", "b-0000", "b-0001", "b-0002"}
    assert after.items() >= before.items()
    assert job_counts(targets({"a": 2, "b": 6}, *DRY, seed=2).stdout) == {"draw_targets": 4}


def contents_of_targets(project: Path) -> dict[str, str]:
    return {p.stem: sha256(p) for p in (project / COHORT / "targets").glob("*.parquet")}


# ---- what is recorded


def test_the_config_as_used_is_a_result(tmp_path):
    project = label_map_project(tmp_path)
    run = snakemake(project, f"{COHORT}/config.resolved.yaml", *QUIET, "--config", "seed=77")
    assert run.returncode == 0, run.stdout
    written = yaml.safe_load((project / COHORT / "config.resolved.yaml").read_text())
    own = yaml.safe_load((project / "config/config.yaml").read_text())
    assert written == complete(own | {"seed": 77})


def test_provenance(tmp_path):
    import write_provenance

    bundle = make_bundle(tmp_path / "bundle") / "bundle.json"
    (tmp_path / "manifest.tsv").write_text("subject\n")
    config = tmp_path / "config.resolved.yaml"
    config.write_text("seed: 1\n")
    (tmp_path / "meshes").mkdir()
    meshes = [tmp_path / f"meshes/a-{i:04d}.tsv" for i in range(2)]
    for path in meshes:
        path.write_text(f"subject\n{path.stem}\n")
    (tmp_path / "cohort.tsv").write_text("arm\n")
    given = {
        "bundle": str(bundle),
        "cohort_table": str(tmp_path / "cohort.tsv"),
        "config": str(config),
        "manifest": str(tmp_path / "manifest.tsv"),
        "environments": [str(REPOSITORY / "envs/meshing.yaml")],
    }
    job = SimpleNamespace(
        input=Namedlist(fromdict=given),
        params=SimpleNamespace(
            weights_sha256="w",
            reference_sha256="r",
            rules_sha256="t",
            targets_sha256=None,
            parts_sha256=None,
            bases_sha256={"base.nii.gz": "b"},
            batches=[path.stem for path in meshes],
            stages=["meshes"],
        ),
        output=SimpleNamespace(
            provenance=str(tmp_path / "provenance.json"), crate=str(tmp_path / "ro-crate-metadata.json")
        ),
    )
    write_provenance.main(job)
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["packages"]["snakemake"] == "9.27.1"
    assert record["platform"]["cores"] == os.cpu_count()
    assert record["platform"]["processor"]
    assert record["bundle_sha256"] == sha256(bundle)
    assert record["environments"] == {"meshing.yaml": sha256(REPOSITORY / "envs/meshing.yaml")}
    assert record["manifest_sha256"] == sha256(tmp_path / "manifest.tsv")
    assert record["config_sha256"] == sha256(config)
    assert record["cohort_table_sha256"] == sha256(tmp_path / "cohort.tsv")
    assert record["bases_sha256"] == {"base.nii.gz": "b"}
    if (REPOSITORY / ".git").exists() and shutil.which("git"):
        head = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        assert record["workflow"]["commit"].removesuffix("-dirty") == commit
    assert str(tmp_path) not in json.dumps(record)

    # as others read it: rocrate resolves every reference, and knows files from what is not there
    crate = ROCrate(tmp_path)
    assert str(tmp_path) not in (tmp_path / "ro-crate-metadata.json").read_text()
    parts = {part.id: part for part in crate.root_dataset["hasPart"]}
    names = {
        "config.resolved.yaml",
        "cohort.tsv",
        "provenance.json",
        "manifest.tsv",
        "meshes/a-0000.tsv",
        "meshes/a-0001.tsv",
    }
    assert parts.keys() == names
    for name, part in parts.items():
        assert part.type == "File"
        assert part["sha256"] == sha256(tmp_path / name)
        assert int(part["contentSize"]) == (tmp_path / name).stat().st_size
    run = crate.root_dataset["mentions"]
    assert run.type == "CreateAction"
    assert run["instrument"]["softwareVersion"] == record["workflow"]["version"]
    assert {entity.id for entity in run["result"]} == names - {"config.resolved.yaml", "cohort.tsv"}
    used = [entity["sha256"] for entity in run["object"]]
    assert used == [sha256(config), sha256(tmp_path / "cohort.tsv"), "w"]
    assert crate.root_dataset["license"]["name"] == "not stated"
    assert crate.root_dataset["datePublished"] == run["endTime"]
