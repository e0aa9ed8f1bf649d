"""Files that are whole or absent: atomic writes, digests, sidecars, the batch lock.

Owned by no stage; every stage writes its subject files through `atomic_path` and decides by the
sidecar whether a finished file can be reused (docs/architecture.md, "Resume inside a batch").
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InputError
from .provenance import machine

SIDECAR = ".json"
NO_FILE = {"file": "", "size": None, "sha256": ""}  # as tables list a file that was not made
LOCK_PATIENCE_S = 60.0  # a script that is being ended needs some seconds to let go


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a unique temporary path beside `path`; renamed to `path` on success, removed otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays, since writers such as meshio choose the format by it
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def link_to(source: str | Path, path: str | Path) -> None:
    """Make `path` a second name of `source` (hard link), or a copy on another disk; atomically."""
    path = Path(path)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_store(path: str | Path, store: dict) -> None:
    """Keep a JSON object for `read_store`; nothing is kept where its folder cannot be written to."""
    text = json.dumps(store)
    with suppress(OSError):
        write_text(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def read_store(path: str | Path) -> dict:
    """What `write_store` kept last; empty for a store that is absent or not whole."""
    try:
        checksum, _, text = Path(path).read_text(encoding="utf-8").partition("\n")
    except (OSError, ValueError):
        return {}
    return json.loads(text) if hashlib.sha256(text.encode()).hexdigest() == checksum else {}


def sha256(path: str | Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(value) -> str:
    """sha256 of a JSON-able value; equal values have equal digests whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_arrays(arrays: Iterable) -> str:
    """sha256 of numpy arrays, whose JSON would be large: their types, shapes and bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(array if array.flags.c_contiguous else array.tobytes())
    return found.hexdigest()


def _plain(value):
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be digested")


def sidecar_path(path: str | Path) -> Path:
    path = Path(path)
    return path.with_name(path.name + SIDECAR)


def write_sidecar(path: str | Path, inputs: str, record: dict) -> None:
    """Record, beside the finished file `path`, the digest of all it depends on, and `record`.

    And the machine: it decides about the last bits, not whether the file is reused.
    """
    path = Path(path)
    record = json.loads(json.dumps(record, default=_plain))  # as it will be read: its digest is of that
    content = {"inputs": inputs, "size": path.stat().st_size, "sha256": sha256(path), "record": record}
    content |= {"record_sha256": digest(record), "made_on": machine()}
    write_text(sidecar_path(path), json.dumps(content, indent=1) + "\n")


def read_sidecar(path: str | Path, inputs: str) -> dict | None:
    """The record of `path` if both are whole and made from `inputs`, else None (then remake it)."""
    path = Path(path)
    try:
        content = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
        if content["inputs"] != inputs or path.stat().st_size != content["size"]:
            return None
        whole = sha256(path) == content["sha256"] and digest(content["record"]) == content["record_sha256"]
        return content["record"] if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def check_file(path: str | Path, size: int, expected_sha256: str) -> Path:
    """Return `path` if it is what its batch table lists; InputError naming it otherwise."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: listed in its batch table but missing; delete the table to remake it")
    if path.stat().st_size != size or sha256(path) != expected_sha256:
        raise InputError(f"{path}: changed since its batch table was written; delete the table to remake it")
    return path


def listing(folder: str | Path, name: str) -> dict | None:
    """file, size and sha256 of a file of a batch folder, as tables list it; None if it is not there."""
    path = Path(folder) / name
    if not path.is_file():
        return None
    return {"file": name, "size": path.stat().st_size, "sha256": sha256(path)}


def listed_in(record: dict) -> dict:
    """file, size and sha256 of a record or row."""
    return {name: record[name] for name in NO_FILE}


def listed_file(row: dict, folder: str | Path, part: str = "") -> tuple[str, int, str]:
    """Path, size and sha256 for `check_file`, from the row's columns `<part>file` and so on."""
    return str(Path(folder) / row[f"{part}file"]), int(row[f"{part}size"]), row[f"{part}sha256"]


def remove_unlisted(folder: str | Path, keep: set[str]) -> None:
    """Remove from a batch folder what no row of its table lists (old temporaries included)."""
    folder = Path(folder)
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        listed = any(name == k or name.startswith(f"{k}/") or name == k + SIDECAR for k in keep)
        parent_of_listed = path.is_dir() and any(k.startswith(f"{name}/") for k in keep)
        if not (listed or parent_of_listed):
            path.rmdir() if path.is_dir() else path.unlink()


def remove(path: str | Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing if there is none."""
    path = Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def batch_lock(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a batch folder, so that an orphaned script and its successor keep apart.

    Raises InputError if another process holds it (the lock ends with its owner, even by kill -9).
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    try:
        with FileLock(path, timeout=LOCK_PATIENCE_S):
            yield
    except Timeout as error:
        raise InputError(
            f"{folder}: another process is working on this batch (lock {path}); wait for it or end it"
        ) from error


def readable_json(value) -> str:
    return json.dumps(value, indent=2, default=_plain) + "\n"
