"""A SLURM cluster of one node for tests: real daemons, started in a folder of their own and ended again.

Nothing of the machine's own SLURM or munge is touched: ports, key, socket, state and logs are private, and
clients find the cluster by SLURM_CONF. Needs the programs of Debian's slurmctld, slurmd, slurm-client and
munge, no systemd, no cgroups, no database. GPUs are files in place of devices. Memory is held to what a
job requested by sampling once a second (OverMemoryKill), which a job can outrun; a cgroup it could not.
"""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
CPUS, MEMORY_MB, GPUS = 4, 8000, 2
PATIENCE_S = 60

CONFIG = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MinJobAge=7200
KillWait=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Sockets=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
RealMemory={memory_mb} Gres=gpu:fake:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes={host} MaxTime=1-00:00:00 State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: where it lives and the environment in which clients find it."""

    folder: Path
    host: str
    environment: dict[str, str]

    def run(self, *command: str, check: bool = True) -> str:
        """Output of a SLURM client."""
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if check and run.returncode:
            raise RuntimeError(f"{' '.join(command)}: {run.stdout}{run.stderr}\n{self.logs()}")
        return run.stdout

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """Jobs of the given states (default: all that the controller remembers), oldest first."""
        fields = {"id": "%i", "state": "%T", "partition": "%P", "memory": "%m", "cpus": "%C", "gres": "%b"}
        fields |= {"comment": "%k", "reason": "%r", "minutes": "%l"}
        wanted = f"--states={','.join(states) or 'all'}"
        listed = self.run("squeue", "--noheader", wanted, "--sort=i", f"--format={'|'.join(fields.values())}")
        return [dict(zip(fields, line.split("|"), strict=True)) for line in listed.splitlines()]

    def of_rule(self, rule: str, *states: str) -> list[dict[str, str]]:
        """Jobs whose comment, written by Snakemake's executor, names the rule."""
        return [job for job in self.jobs(*states) if rule in job["comment"]]

    def logs(self) -> str:
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {p.name}\n" + "\n".join(p.read_text().splitlines()[-25:]) for p in paths)


def missing() -> list[str]:
    """Programs of a SLURM cluster that this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name, path=PLACES) is None]


def wait_for(what: str, condition, patience_s: float = PATIENCE_S, logs=lambda: ""):
    """The first true value of `condition()`; TimeoutError with `logs()` after `patience_s` seconds."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError(f"waited {patience_s:.0f} s for {what}\n{logs()}")


@contextmanager
def slurm_cluster() -> Iterator[Cluster]:
    """Start a cluster; at the end its jobs are cancelled, its daemons ended, its folder removed."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path has 107 characters at most
    started: list[subprocess.Popen] = []
    try:
        cluster = _configured(folder)
        _start(cluster, started)
        yield cluster
        cluster.run("scancel", f"--user={os.getuid()}", check=False)
    finally:
        _stop(folder, started)
        shutil.rmtree(folder, ignore_errors=True)


def _configured(folder: Path) -> Cluster:
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    folder.chmod(0o755)
    # slurmd says that these are no devices, and hands them out all the same; without files it counts none
    for number in range(GPUS):
        (folder / f"gpu{number}").touch()
    gpus = f"NodeName={host} Name=gpu Type=fake File={folder}/gpu[0-{GPUS - 1}]\n"
    (folder / "gres.conf").write_text(gpus)
    controller_port, node_port = _free_ports(2)
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            host=host, folder=folder, controller_port=controller_port, node_port=node_port, user=_user(),
            cpus=CPUS, memory_mb=MEMORY_MB, gpus=GPUS,
        )
    )  # fmt: skip
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SQUEUE"))}
    # inside a job Snakemake's executor hides SLURM_CONF from srun, as most sites have one cluster, in /etc
    (folder / "bin").mkdir()
    srun = f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PLACES)} "$@"\n'
    (folder / "bin/srun").write_text(srun)
    (folder / "bin/srun").chmod(0o755)
    places = f"{folder}/bin{os.pathsep}{PLACES}"
    environment = inherited | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": places}
    return Cluster(folder, host, environment)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end_with_parent() -> None:
    """Have the kernel end this process when the tests die without ending it (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _start(cluster: Cluster, started: list[subprocess.Popen]) -> None:
    folder = cluster.folder

    def daemon(*command: str) -> None:
        with open(folder / f"{command[0]}.out.log", "w") as log:
            # sessions of their own: Ctrl-C for pytest is not for them, they are ended by `_stop`
            started.append(
                subprocess.Popen(
                    command, env=cluster.environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True, preexec_fn=_end_with_parent,
                )
            )  # fmt: skip

    daemon(
        "munged", "--force", "--foreground", "--num-threads=2", f"--socket={folder}/munge.socket",
        f"--key-file={folder}/munge.key", f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munged.log",
    )  # fmt: skip
    wait_for("munged", (folder / "munge.socket").exists, logs=cluster.logs)
    daemon("slurmctld", "-D", "-f", f"{folder}/slurm.conf")
    wait_for("slurmctld", lambda: "UP" in cluster.run("scontrol", "ping", check=False), logs=cluster.logs)
    daemon("slurmd", "-D", "-N", cluster.host, "-f", f"{folder}/slurm.conf")
    idle = ("sinfo", "--noheader", "--format=%t")
    wait_for("an idle node", lambda: "idle" in cluster.run(*idle, check=False).split(), logs=cluster.logs)


def _stop(folder: Path, started: list[subprocess.Popen]) -> None:
    for process in reversed(started):  # the node first, the authentication last
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # a job outlives slurmd in its slurmstepd; those of this cluster have its configuration
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in place.read_bytes().split(b"\0"):
                os.kill(int(place.parent.name), signal.SIGKILL)
        except OSError:  # ended meanwhile, or another user's
            continue
