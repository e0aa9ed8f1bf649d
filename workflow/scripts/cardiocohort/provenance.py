"""What a cohort was made with: packages, code, platform. Owned by the report stage."""

import platform
import shutil
import subprocess
import sys
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
    told = subprocess.run(describe, capture_output=True, text=True, check=False)
    return told.stdout.strip() or None


def machine() -> dict[str, str]:
    """Interpreter and platform; no host or user name."""
    return {
        "python": sys.version.split()[0],
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }
