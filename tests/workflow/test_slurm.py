"""The workflow on a real SLURM of one node (tests/slurm_cluster.py): all ends with the local results.

The shipped profile is used as it is; only the pace of status checks, and a fake GPU that `device: cpu`
does without, are set here. Skipped, loudly, where SLURM is not installed.
"""

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import slurm_cluster
import tiny_cohort
from workflow_runs import REPOSITORY, command, environment, snakemake

MISSING = slurm_cluster.missing()
if MISSING:
    warnings.warn(
        f"NOT TESTED: the workflow on SLURM; {', '.join(MISSING)} not found "
        "(Debian: apt-get install slurmctld slurmd slurm-client munge)",
        stacklevel=1,
    )
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: no {', '.join(MISSING)}"),
]

PROFILE = ("--workflow-profile", str(REPOSITORY / "workflow/profiles/slurm"))
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--slurm-no-account", "--latency-wait", "10")
GPU = ("--set-resources", "generate_anatomies:gpu=1", "generate_anatomies:slurm_partition=gpu")
NOTHING = "Nothing to be done"
GENERATE = "rule_generate_anatomies"
LOCAL = ("--cores", "2")


GATE = "results/cohorts/tiny/topology/small-0000.tsv"  # of one batch: what the troubles happen to


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster.slurm_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Results of the tiny cohort, whole, without SLURM."""
    project = tiny_cohort.make_project(tmp_path_factory.mktemp("local"))
    run = snakemake(project, *LOCAL)
    assert run.returncode == 0, run.stdout
    return tiny_cohort.results(project)


@pytest.fixture
def project(tmp_path):
    return tiny_cohort.make_project(tmp_path)


@pytest.fixture(scope="module")
def local_batch(tmp_path_factory):
    """Results of the target GATE, without SLURM."""
    project = tiny_cohort.make_project(tmp_path_factory.mktemp("local_batch"))
    run = snakemake(project, GATE, *LOCAL)
    assert run.returncode == 0, run.stdout
    return tiny_cohort.results(project)


class Run:
    """Snakemake in the background, as a user's on a login node; ended at the latest with the `with` block."""

    def __init__(self, cluster, project: Path, *arguments: str, launcher: tuple[str, ...] = ()):
        start = [*launcher, *arguments] if launcher else command(project, *arguments)
        self.log = project / "run.log"
        self.cluster = cluster
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*start, *PROFILE, *QUICK], cwd=project, stdout=log, stderr=log, start_new_session=True,
                env=environment() | cluster.environment,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def logs(self) -> str:
        return self.log.read_text() + self.cluster.logs()

    def wait_for(self, what: str, condition, patience_s: float = 240):
        def met():
            assert self.process.poll() is None or condition(), self.logs()
            return condition()

        return slurm_cluster.wait_for(what, met, patience_s, self.logs)

    def finish(self, patience_s: float = 600) -> str:
        try:
            code = self.process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(self.logs()) from None
        assert code == 0, self.logs()
        return self.log.read_text()


@pytest.fixture
def jobs_since(cluster):
    """Jobs of a rule that were submitted since the test began."""
    before = {job["id"] for job in cluster.jobs()}
    return lambda rule, *states: [j for j in cluster.of_rule(rule, *states) if j["id"] not in before]


def test_a_cohort_with_generation_on_a_gpu_node_is_the_local_one(cluster, project, local, jobs_since):
    with Run(cluster, project, *GPU) as run:
        run.finish()
    assert tiny_cohort.results(project) == local
    assert (project / "results/cohorts/tiny/report/cohort.html").stat().st_size > 10_000
    generated, checked = jobs_since(GENERATE), jobs_since("rule_check_topology")
    assert len(generated) == len(checked) == 2
    for job in generated:
        assert (job["partition"], job["memory"], job["cpus"]) == ("gpu", "3500M", "1")
        assert job["minutes"] == "4:00:00"
        assert re.search(r"TresPerJob=\S*gpu:1\b", cluster.run("scontrol", "show", "job", job["id"]))
    assert {job["partition"] for job in checked} == {"cpu"}
    assert "gpu" not in cluster.run("scontrol", "show", "job", checked[0]["id"]).lower()
    again = snakemake(project, *LOCAL)
    assert NOTHING in again.stdout


def test_a_real_heart_to_decks_is_the_local_one(cluster, tmp_path):
    projects = [tiny_cohort.make_heart_project(tmp_path / name) for name in ("local", "slurm")]
    here = snakemake(projects[0], "inputs", *LOCAL)
    assert here.returncode == 0, here.stdout
    with Run(cluster, projects[1], "inputs") as run:
        run.finish()
    found = [tiny_cohort.results(project) for project in projects]
    assert any(name.startswith("inputs/") and name.endswith(".pts") for name in found[0])
    assert found[0] == found[1]


def test_a_cancelled_job_is_sent_again_with_more_memory(cluster, project, local_batch, jobs_since):
    with Run(cluster, project, GATE) as run:
        running = run.wait_for("a generation job", lambda: jobs_since(GENERATE, "RUNNING"))
        cluster.run("scancel", running[0]["id"])
        log = run.finish()
    assert f"SLURM-job '{running[0]['id']}' failed, SLURM status is: 'CANCELLED'" in log
    assert tiny_cohort.results(project) == local_batch
    jobs = {job["id"]: job for job in jobs_since(GENERATE)}
    assert len(jobs) == 2
    assert jobs[running[0]["id"]]["state"] == "CANCELLED"
    batch = running[0]["comment"]
    assert [j["memory"] for j in jobs.values() if j["comment"] == batch] == ["3500M", "7000M"]


def test_a_job_killed_for_its_memory_succeeds_with_more(cluster, project, local_batch, jobs_since):
    """SLURM itself ends the first attempt: it was given less than PyTorch needs to start."""
    little = ("--set-resources", "generate_anatomies:mem_mb=300 if attempt == 1 else 2500")
    with Run(cluster, project, GATE, *little) as run:
        run.finish()
    assert tiny_cohort.results(project) == local_batch
    jobs = jobs_since(GENERATE)
    states = {(job["memory"], job["state"]) for job in jobs}
    assert states == {("300M", "FAILED"), ("2500M", "COMPLETED")}, run.logs()
    assert "exceeded memory limit" in "".join(
        path.read_text() for path in (project / ".snakemake/slurm_logs").rglob("*.log")
    )


def test_a_drained_node_holds_jobs_back_until_it_is_resumed(cluster, project, local_batch, jobs_since):
    node = f"nodename={cluster.host}"
    cluster.run("scontrol", "update", node, "state=drain", "reason=test")
    try:
        with Run(cluster, project, GATE) as run:
            held = run.wait_for("held jobs", lambda: jobs_since("rule_draw_targets", "PENDING"))
            assert not jobs_since("rule_draw_targets", "RUNNING", "COMPLETED")
            cluster.run("scontrol", "update", node, "state=resume")
            run.finish()
    finally:
        cluster.run("scontrol", "update", node, "state=resume", check=False)
    assert tiny_cohort.results(project) == local_batch
    done = {job["id"] for job in jobs_since("rule_draw_targets", "COMPLETED")}
    assert {job["id"] for job in held} <= done, "jobs were held, not lost"


def test_snakemake_killed_and_started_again_while_its_jobs_go_on(cluster, project, local_batch, jobs_since):
    launcher = (sys.executable, str(REPOSITORY / "workflow/run.py"))
    with Run(cluster, project, GATE, launcher=launcher) as run:
        orphans = run.wait_for("a generation job", lambda: jobs_since(GENERATE, "RUNNING"))
        run.process.kill()
        run.process.wait()
    assert cluster.of_rule(GENERATE, "RUNNING"), "the job ended with Snakemake: nothing is tested"
    with Run(cluster, project, GATE, launcher=launcher) as run:
        log = run.finish()
    assert "removing its lock" in log
    assert tiny_cohort.results(project) == local_batch
    assert len(jobs_since(GENERATE)) > len(orphans)
