"""An environment with DOLFINx and fenicsx-pulse, made once in .cache/, in which tests run the FEniCSx deck.

DOLFINx needs Python 3.12, beside the 3.11 of the workflow. FENICSX_PYTHON names it where it is not found.
"""

import glob
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from filelock import FileLock

from cardiocohort.runtime import artifacts

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "envs/fenicsx.txt"
CACHE = REPOSITORY / ".cache"
SCIFEM = "0.27.0"
# stands for scifem's compiled part, which does not build for the wheel of DOLFINx
UNBUILT = '''"""Names of scifem's compiled part; using one is an error."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*args):
        raise NotImplementedError(f"scifem's compiled {name} is not built in this environment")

    return refuse
'''


def python312() -> str | None:
    """A Python 3.12 that runs, if there is one."""
    named = os.environ.get("FENICSX_PYTHON")
    installed = sorted(glob.glob(str(Path.home() / ".pyenv/versions/3.12.*/bin/python3.12")))
    for found in (named, shutil.which("python3.12"), *installed):
        if found and _succeeds(
            [found, "-c", "import sys, ensurepip; assert sys.version_info[:2] == (3, 12)"]
        ):
            return found
    return None


def lacking() -> str:
    """What this machine lacks for the environment; empty where nothing is."""
    if python312() is None:
        return "Python 3.12 with ensurepip (FENICSX_PYTHON can name one)"
    return "" if shutil.which("cc") else "a C compiler (cc), which FFCx needs"


def need() -> None:
    """Skip a test without the environment. In continuous integration it fails where nothing is lacking."""
    try:
        environment()
    except RuntimeError as error:
        if os.environ.get("CI") and not lacking():
            raise
        pytest.skip(f"THE FENICSX DECK IS NOT RUN: {error}")


def environment() -> Path:
    """Folder of the environment, made at the first call; RuntimeError saying why it cannot be."""
    if missing := lacking():
        raise RuntimeError(f"this machine lacks {missing}")
    folder = CACHE / f"fenicsx-{artifacts.digest([REQUIREMENTS.read_text(), SCIFEM, UNBUILT])[:12]}"
    CACHE.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(python312(), folder)
            (folder / "complete").touch()
    return folder


def _make(python: str, folder: Path) -> None:
    _run([python, "-m", "venv", folder])
    pip = [folder / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "install", "--no-deps", "-r", REQUIREMENTS])
    _run([*pip, "download", "--no-deps", "--no-binary", "scifem", "-d", folder, f"scifem=={SCIFEM}"])
    source = folder / f"scifem-{SCIFEM}"
    with tarfile.open(f"{source}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    (packages,) = folder.glob("lib/python3.12/site-packages")
    shutil.copytree(source / "src/scifem", packages / "scifem")
    (packages / "scifem/_scifem.py").write_text(UNBUILT)
    about = packages / f"scifem-{SCIFEM}.dist-info"
    about.mkdir()
    shutil.copy(source / "PKG-INFO", about / "METADATA")


def run(arguments: list[str], cwd: Path, processes: int = 1) -> subprocess.CompletedProcess:
    """Run the environment's Python on `arguments`, with MPI where there is more than one process."""
    folder = environment()
    command = [folder / "bin/python", *arguments]
    if processes > 1:
        command = [folder / "bin/mpiexec", "-n", str(processes), *command]
    # compiled forms are kept beside the environment
    variables = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    variables.pop("PYTHONPATH", None)
    return subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=1200, check=False
    )


def _succeeds(command: list) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: list) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr[-1500:]}")
