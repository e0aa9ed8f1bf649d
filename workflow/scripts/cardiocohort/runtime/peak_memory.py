"""The largest memory of a program: for tables and benches of what a job needs."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """Largest resident memory (MB) of this program so far.

    Linux keeps two such figures. That of getrusage begins with the memory of whichever process started this
    one, which may be far larger; VmHWM is of the program alone (proc(5)).
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) * 1024 / 1e6
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6
