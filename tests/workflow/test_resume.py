"""A whole trial with the shipped prior, killed in every long stage, ends as the undisturbed one."""

import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from killed_runs import PATIENCE_S, log_of, start
from tiny_cohort import COARSE, results
from workflow_runs import COLUMNS, REPOSITORY

COHORT = Path("results/cohorts/mine")
BATCH = "small-0000"


def make_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    constraints = "myocardium, left_ventricle: size position shape"
    (folder / "trial.tsv").write_text(f"{COLUMNS}\nsmall\t3\tfemale\thealthy\t\t\t\t{constraints}\t\n")
    bundle = str(REPOSITORY / "resources/priors/people")
    config = {"cohort": "mine", "cohort_table": "trial.tsv", "bundle": bundle, "max_attempts": 4}
    config["meshing"] = COARSE
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    return folder


def sidecars(project: Path, stage: str) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in (project / COHORT / stage / BATCH).glob("[!.]*.json")}


def kill_in(project: Path, stage: str) -> dict[Path, int]:
    """Start the trial, kill -9 all of it when the stage's first subject is finished; the finished ones."""
    process, deadline = start(project), time.monotonic() + PATIENCE_S
    while not sidecars(project, stage):
        assert time.monotonic() < deadline
        assert process.poll() is None, log_of(project)
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return sidecars(project, stage)


def finish(project: Path) -> str:
    (project / "run.log").unlink(missing_ok=True)
    assert start(project).wait(timeout=PATIENCE_S) == 0, log_of(project)
    return log_of(project)


@pytest.mark.long
def test_a_trial_killed_in_two_stages_ends_as_undisturbed(tmp_path):
    undisturbed, killed = make_project(tmp_path / "a"), make_project(tmp_path / "b")
    finish(undisturbed)
    wanted = results(undisturbed)
    assert any(name.endswith(".vtu") and name.startswith("meshes") for name in wanted)
    generated = kill_in(killed, "anatomies")
    assert not (killed / COHORT / f"anatomies/{BATCH}.parquet").exists(), (
        "it was done before it could be killed"
    )
    meshed = kill_in(killed, "meshes")
    assert not (killed / COHORT / f"meshes/{BATCH}.tsv").exists(), "it was done before it could be killed"
    assert "removing its lock" in finish(killed)
    assert generated.items() <= sidecars(killed, "anatomies").items(), "a finished subject was made again"
    assert meshed.items() <= sidecars(killed, "meshes").items(), "a finished subject was made again"
    assert results(killed) == wanted
    assert "Nothing to be done" in finish(killed)
