"""Functions compiled by Numba, kept on the disk. Only stages with Numba in their environment import this."""

import os
from collections.abc import Callable
from pathlib import Path

import numba
from llvmlite import binding

from .artifacts import digest


def _keep_apart() -> None:
    """Let each kind of processor keep its code in a folder of its own, below the package's `__pycache__`.

    Numba numbers the versions of a function in one index a folder. Two machines that write it at once could
    swap their code. Where the folder cannot be written, or NUMBA_CACHE_DIR is set, Numba's own rules hold.
    """
    kind = digest([binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()])
    folder = Path(__file__).resolve().parents[1] / "__pycache__" / f"numba-{kind[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not numba.config.CACHE_DIR and os.access(folder, os.W_OK):
        numba.config.CACHE_DIR = str(folder)


_keep_apart()


def compiled(**options) -> Callable:
    """Decorator for loops over arrays; `options` as for `numba.njit`.

    They let go of the interpreter's lock, so that threads run them side by side. What was compiled is kept on
    the disk, and made anew when the function's file changes. Numba sees neither other files nor `options`
    here: functions may use compiled functions and constants of their own file only. Each layout of an array,
    by rows or by columns, is compiled apart: pass contiguous ones.
    """
    options = {"nogil": True, "error_model": "numpy", **options}

    def compile_(function):
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # nowhere to write: each process compiles for itself
            return numba.njit(**options)(function)

    return compile_
