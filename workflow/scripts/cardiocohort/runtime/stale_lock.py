"""Who holds Snakemake's lock on a working directory, and whether they still live. Owned by no stage.

Snakemake locks a working directory by files that outlive a killed process and do not say whose they
are. The workflow notes its process at the start of every run, so that `make run` can tell a lock left
by a dead run, which it removes, from one of a run that is still at work, which it respects.
"""

import json
import platform
from pathlib import Path

import psutil

from .artifacts import write_text

NOTE = ".snakemake/run-owner.json"
LOCKS = ".snakemake/locks"


def record(workdir: str | Path) -> None:
    """Note that this process runs the workflow in `workdir`."""
    process = psutil.Process()
    owner = {"host": platform.node(), "pid": process.pid, "started": process.create_time()}
    write_text(Path(workdir) / NOTE, json.dumps(owner) + "\n")


def forget(workdir: str | Path) -> None:
    """The run in `workdir` has ended by itself."""
    (Path(workdir) / NOTE).unlink(missing_ok=True)


def left_locked(workdir: str | Path) -> bool:
    """Whether `workdir` is locked and whoever locked it is dead.

    False, to be safe, if the note names another host, whose processes cannot be seen from here.
    """
    locked = any((Path(workdir) / LOCKS).glob("*.lock"))
    return locked and _owner_is_dead(Path(workdir)) and not _running_in(Path(workdir))


def _owner_is_dead(workdir: Path) -> bool:
    try:
        owner = json.loads((workdir / NOTE).read_text(encoding="utf-8"))
        host, pid, started = owner["host"], owner["pid"], owner["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return True  # killed before it could write the note; a live one is found by _running_in
    if host != platform.node():
        return False
    try:
        # a process id is given out again, its start time is not
        return abs(psutil.Process(pid).create_time() - started) > 1.0
    except psutil.NoSuchProcess:
        return True


def _running_in(workdir: Path) -> bool:
    """Whether Snakemake runs in `workdir` on this host.

    What a dead one left behind does not count: scripts, and the Snakemake inside a cluster's job, which
    takes no lock.
    """
    for process in psutil.process_iter(["cmdline"]):
        try:
            started_as = (process.info["cmdline"] or [])[:3]  # python -m snakemake, python .../bin/snakemake
            if "snakemake" not in [Path(argument).name for argument in started_as]:
                continue
            if "--nolock" in process.info["cmdline"]:
                continue
            if Path(process.cwd()).resolve() == workdir.resolve():
                return True
        except psutil.Error:  # it has ended, or is another user's and cannot be looked at
            continue
    return False
