"""Digests of users' files by content, remembered between runs. Owned by no stage.

Snakemake compares times of files, but a file may replace another one and be older (cp -p, unzip, rsync). So
users' files are `ancient()` inputs, and a digest of their content is among the `params` of the rules. Light
on purpose: the Snakefile calls it.
"""

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .artifacts import digest, read_store, sha256, write_store
from .errors import InputError

SETTLED_NS = 3 * 10**9  # file times are as coarse as 2 s
READERS = 8  # files read side by side: network storage answers late


class ContentDigests:
    """sha256 of files. Each is computed once per content and kept in the file `store`.

    A stored digest counts while size, inode, mtime and ctime of the file are the same; no program can choose
    the ctime. A file that changed within the last seconds is not stored, since a second change could leave
    the same times. A store that is not whole is ignored. Runs may share a store: the last one to write wins,
    and what it drops is computed again.
    """

    def __init__(self, store: str | Path):
        self._store = Path(store)
        self._known: dict[str, str] = {}  # for this process: what a plan was made from does not change

    def of(self, paths: Iterable[str | Path]) -> str:
        """One digest of the contents of `paths` in this order; InputError for a file that cannot be read."""
        files = [os.path.abspath(path) for path in paths]
        new = [file for file in dict.fromkeys(files) if file not in self._known]
        if new:
            self._add(new)
        return digest([self._known[file] for file in files])

    def _add(self, files: list[str]) -> None:
        stored = read_store(self._store)
        states = {file: _state(file) for file in files}
        known = {f: stored[f][-1] for f in files if f in stored and stored[f][:-1] == states[f]}
        changed = [file for file in files if file not in known]
        with ThreadPoolExecutor(READERS) as pool:
            known |= zip(changed, pool.map(_sha256, changed), strict=True)
        self._known |= known
        settled = time.time_ns() - SETTLED_NS
        new = {
            file: [*states[file], known[file]]
            for file in changed
            if max(states[file][2:]) < settled and _state(file) == states[file]
        }
        if new:
            self._write(new)

    def _write(self, new: dict[str, list]) -> None:
        kept = {file: state for file, state in read_store(self._store).items() if os.path.exists(file)}
        write_store(self._store, kept | new)


def _state(file: str) -> list[int]:
    """Size, inode, mtime and ctime (ns) of a file, of its target where it is a link."""
    try:
        stat = os.stat(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _sha256(file: str) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
