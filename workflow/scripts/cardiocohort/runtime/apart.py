"""One call in a process of its own. Owned by no stage; light.

For what is checked before any job: the process that plans would keep the memory of what a reader loads.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def apart(function: Callable, *args):
    """What `function(*args)` returns or raises; function, arguments and result must be picklable."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as process:
        return process.submit(function, *args).result()
