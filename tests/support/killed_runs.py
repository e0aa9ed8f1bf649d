"""Runs that are killed at seeded random moments: the tiny cohort, and a real heart that is meshed.

A killed run is started again, and killed again, until it ends by itself: then its results are held to
those of a run that nobody disturbed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

import tiny_cohort
from workflow_runs import REPOSITORY, environment

# as `make run` starts it
RUN = (
    sys.executable,
    str(REPOSITORY / "workflow/run.py"),
    *("--quiet", "rules", "--cores", "2", "--rerun-incomplete"),
)
VICTIMS = ("all", "snakemake", "script", "child")
PATIENCE_S = 600
MAKERS: dict[str, Callable[[Path], Path]] = {
    # two subjects of a batch side by side, so that scripts have children
    "tiny": lambda folder: tiny_cohort.make_project(folder, {"small": 2}, threads={"generation": 2}),
    "heart": tiny_cohort.make_heart_project,
}


@dataclass(frozen=True)
class Kill:
    """What was killed, and the rule that was at work (none while Snakemake plans)."""

    project: str
    victim: str
    rule: str
    seconds: float


def start(project: Path) -> subprocess.Popen:
    with open(project / "run.log", "a") as log:
        return subprocess.Popen(
            RUN, cwd=project, env=environment(), start_new_session=True, stdout=log, stderr=log
        )


def log_of(project: Path) -> str:
    return (project / "run.log").read_text()


def undisturbed(folder: Path, name: str) -> tuple[dict[str, str], float]:
    """Results of the project, and the seconds that it took."""
    project, begun = MAKERS[name](folder), time.monotonic()
    assert start(project).wait(timeout=PATIENCE_S) == 0, log_of(project)
    return tiny_cohort.results(project), time.monotonic() - begun


def kill_until_it_ends(
    project: Path, name: str, seconds: float, rng: np.random.Generator, wanted: dict, most: int
) -> list[Kill]:
    """Start the run and kill it, again and again until it ends by itself; the kills, `most` of them.

    Then it is left alone: on a machine that has become slower than it was for the undisturbed run, each kill
    would come before the run gets on.

    Snakemake, or all, are killed at some moment of the `seconds` that an undisturbed run takes, early ones
    being the likelier since a run goes on where the last one was killed; a script or child some time
    after the first of its kind has begun. After each kill all files that have their name are those of the
    undisturbed run, and no subject that was finished before is made again.
    """
    kills, kept = [], {}
    while True:
        (project / "run.log").unlink(missing_ok=True)
        wish, share = str(rng.choice(VICTIMS)), rng.uniform() ** 2
        spared = len(kills) == most
        begun, process = time.monotonic(), start(project)
        if wish not in ("all", "snakemake") and not spared:
            while process.poll() is None and not victims(process)[0][wish]:
                time.sleep(0.2)
            share /= 2
        try:
            code = process.wait(timeout=PATIENCE_S if spared else share * seconds)
        except subprocess.TimeoutExpired:
            assert not spared, log_of(project)
            victim, rule = strike(process, wish)
            moment = time.monotonic() - begun
            code = process.wait(timeout=PATIENCE_S)
            if code != 0:  # else what was killed had just done its work
                kills.append(Kill(name, victim, rule, round(moment, 1)))
                print(kills[-1], flush=True)
                if victim in ("script", "child"):
                    log = log_of(project)
                    assert "At least one job did not complete successfully" in log, log
                    assert victim == "script" or "killed" in log or "TetGen was ended" in log, log
        else:
            assert code == 0, log_of(project)
        here = tiny_cohort.results(project, only_whole=True)
        assert here.items() <= wanted.items(), {k for k, v in here.items() if wanted.get(k) != v}
        now = finished(project)
        lost = {path for path, made in kept.items() if now.get(path) != made}
        assert not lost, f"finished before the kill, lost or made again: {lost}"
        kept = now
        if code == 0:
            return kills


def strike(process: subprocess.Popen, wish: str) -> tuple[str, str]:
    """Kill the wished victim, or the nearest that there is; who it was and the rule at work."""
    found, rule = victims(process)
    victim = wish if wish in ("all", "snakemake") or found[wish] else next(v for v in found if found[v])
    if victim == "all":
        os.killpg(process.pid, signal.SIGKILL)
    for own in found[victim][-1:]:
        own.kill()
    return victim, rule


def victims(process: subprocess.Popen) -> tuple[dict[str, list[psutil.Process]], str]:
    """Living processes of a run by kind, the deepest last, and the rule of a script among them."""
    main = psutil.Process(process.pid)  # ours to wait for, so it is there even when it has ended
    found = {"script": [], "child": [], "snakemake": [main], "all": [main]}
    rule, scripts = "", set()
    for own in main.children(recursive=True):
        try:
            line, parent = own.cmdline(), own.ppid()
        except psutil.NoSuchProcess:
            continue
        if any(".snakemake/scripts/" in word for word in line):
            found["script"].append(own)
            scripts.add(own.pid)
            rule = Path(line[-1]).name.split(".", 1)[-1]
        elif parent in scripts and not any("resource_tracker" in word for word in line):
            found["child"].append(own)
    return found, rule


def finished(project: Path) -> dict[Path, tuple[int, int]]:
    """Subject files with a sidecar and when both were written, of the stages whose subjects take long."""
    found = {}
    for stage in ("anatomies", "meshes"):
        for sidecar in project.glob(f"results/cohorts/*/{stage}/*/[!.]*.json"):
            file = sidecar.with_name(sidecar.name.removesuffix(".json"))
            if file.is_file():
                found[file] = (file.stat().st_mtime_ns, sidecar.stat().st_mtime_ns)
    return found
