"""What a cohort, or one file, was made with: packages, code, platform. Owned by no stage; light."""

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path


def packages() -> dict[str, str]:
    """Versions of all distributions that this interpreter can import, by name."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def commit(repository: str | Path) -> str | None:
    """The commit of the repository, `-dirty` if files differ from it; None without git or a history."""
    git = shutil.which("git")
    if git is None or not (Path(repository) / ".git").exists():
        return None
    describe = [git, "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(describe, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


@cache
def machine() -> dict[str, str | int | None]:
    """Interpreter, platform and processor, which decide about the last bits; no host or user name."""
    return {
        "python": sys.version.split()[0],
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str | None:
    """The processor's model as Linux reports it, else as the platform does; None if neither does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or None
