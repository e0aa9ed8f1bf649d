"""NGSolve, loaded so that PyTorch in the same process is not harmed. Owned by the simulation stage.

NGSolve's wheel makes its OpenBLAS that of every library loaded later. PyTorch would take it for its own (MKL)
and crash in batched products. So the library of PyTorch that calls a BLAS is loaded first, where it is
installed, which binds these calls. This stage has no other use for PyTorch: its own environment lacks it.

The wheel also needs two libraries of the system, libgfortran and libquadmath, and does not say so where they
are missing: it then ends with another library's name.
"""

import ctypes
import importlib.util
from pathlib import Path

from ..runtime.errors import InputError


def protect_torch() -> None:
    """Bind PyTorch's calls of a BLAS, where it is installed, before NGSolve's is there."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return
    try:
        # a second and 90 MB less than all of PyTorch
        ctypes.CDLL(str(Path(found.origin).parent / "lib" / "libtorch_cpu.so"))
    except OSError:
        importlib.import_module("torch")


def missing_library() -> str:
    """What the system lacks for NGSolve's wheel, in the words of the dynamic linker; empty if nothing."""
    if not importlib.util.find_spec("ngsolve_openblas"):
        return ""  # another build of NGSolve, which brings what it needs
    for path in importlib.import_module("ngsolve_openblas").get_libraries():
        if "gfortran" in str(path):
            try:
                ctypes.CDLL(str(path))
            except OSError as error:
                return str(error)
    return ""


protect_torch()
try:
    import ngsolve as ng
except ImportError as error:
    if not (missing := missing_library()):
        raise
    raise InputError(
        f"NGSolve, which simulates, cannot be loaded on this machine: {missing}; install the Fortran "
        "runtime, on Debian and Ubuntu with: apt-get install libgfortran5"
    ) from error

__all__ = ["missing_library", "ng"]
