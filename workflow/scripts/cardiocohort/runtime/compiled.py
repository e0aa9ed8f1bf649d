"""Functions compiled by Numba, kept on the disk. Only stages with Numba in their environment import this."""

from collections.abc import Callable

import numba


def compiled(**options) -> Callable:
    """Decorator for loops over arrays; `options` as for `numba.njit`.

    They let go of the interpreter's lock, so that threads run them side by side. What was compiled is kept
    beside the module, or in the user's cache where that folder cannot be written.
    """
    options = {"nogil": True, "error_model": "numpy", **options}

    def compile_(function):
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither folder can be written: each process compiles for itself
            return numba.njit(**options)(function)

    return compile_
