"""The loop over the subjects of a batch, the same for every stage. Owned by no stage.

Finished subjects are reused, the others made (side by side where `threads` allows), each ending in
a record; a subject that fails is a record with a reason and does not end the batch.
"""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from . import artifacts, progress, script
from .errors import KilledError, SubjectError
from .outcomes import Ending, Outcome

BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@dataclass(frozen=True)
class Task:
    """One piece of a subject's work: its file, what it depends on, and the payload.

    `file` and `beside`, files or folders that belong to it, are relative to the batch folder.
    """

    subject: str
    file: str
    inputs: str  # digest of all the result depends on
    payload: tuple
    beside: tuple[str, ...] = ()


def run_batch(
    folder: str | Path,
    tasks: list[Task],
    work: Callable[..., dict],
    threads: int = 1,
    initializer: Callable | None = None,
    initargs: tuple = (),
    group: int = 0,
) -> list[dict]:
    """Make every task's file with `work(path, payload) -> record`; returns records in task order.

    `work` writes the file at `path` (atomically) and returns a JSON-able record; what it writes beside
    it must be finished before and named in the record's `files` (relative to the batch folder), which
    comes back as a list of file, size and sha256; without all of them whole nothing is reused. It may raise
    SubjectError, which becomes its ending's columns (verdict, reason, detail) and is not cached. Every record
    gets subject, file, size, sha256 (the last three empty on failure). What `initializer(*initargs)` returns,
    once per process, is then the first argument of `work`; what it raises ends the batch. `work` and
    `initializer` are module-level functions: with threads > 1 they run in child processes. With group > 0,
    for devices that are fast on many subjects at once, `work` takes lists of up to `group` paths and
    payloads and returns a list of records, with a SubjectError in place of a record that could not be made.
    """
    folder = Path(folder)
    with artifacts.batch_lock(folder):
        artifacts.remove_unlisted(folder, {name for task in tasks for name in (task.file, *task.beside)})
        records = {t.file: _finished(folder, t) for t in tasks}
        todo = [t for t in tasks if records[t.file] is None]
        groups = [todo[i : i + max(group, 1)] for i in range(0, len(todo), max(group, 1))]
        work = work if group else partial(_each, work)
        subjects = [task.subject for task in todo]
        finished = len({task.subject for task in tasks} - set(subjects))
        workers = max(min(threads, len(groups)), 1)
        with progress.reported(folder, subjects, finished, workers, max(group, 1)) as report:
            for made, seconds in _make(folder, groups, work, threads, initializer, initargs):
                for task, record in made:
                    records[task.file] = record
                    report.finished(task.subject, record, seconds / len(made))
        return [_complete(folder, task, records[task.file]) for task in tasks]


def skipped(subject: str, stage: str, verdict: str, reason: str) -> dict:
    """The record of a subject that an earlier `stage` ended with `verdict` and `reason`."""
    ending = Ending(Outcome.SKIPPED, f"{stage} {verdict}: {reason}")
    return {"subject": subject} | ending.columns() | artifacts.NO_FILE


def _finished(folder: Path, task: Task) -> dict | None:
    """The record of a task whose files are all whole and made from its inputs, else None."""
    record = artifacts.read_sidecar(folder / task.file, task.inputs)
    beside = record.get("files", []) if record else []
    return record if all(artifacts.listing(folder, b["file"]) == b for b in beside) else None


def _make(folder, groups, work, threads, initializer, initargs):
    if threads > 1 and len(groups) > 1:
        # spawn: forking a process that holds OpenMP threads can deadlock
        with (
            _blas_on_one_thread(),
            ProcessPoolExecutor(
                min(threads, len(groups)),
                get_context("spawn"),
                _start_worker,
                (initializer, initargs, script.logging_for_children()),
            ) as pool,
        ):
            waiting = [pool.submit(_make_in_worker, folder, tasks, work) for tasks in groups]
            try:
                for future in as_completed(waiting):
                    yield future.result()
            except BrokenProcessPool as error:
                raise KilledError(
                    f"{folder}: a process that worked on this batch was killed, often for lack of memory, or "
                    "crashed; finished subjects are kept: run the same command again, with more memory "
                    "(mem_mb) or fewer threads"
                ) from error
    elif groups:
        opened = _open(initializer, initargs)
        for tasks in groups:
            yield _make_group(folder, tasks, work, opened)


@contextmanager
def _blas_on_one_thread():
    """In processes that start within. Further threads of a BLAS wait busily, on the cores of the others."""
    before = os.environ.get(BLAS_THREADS)
    os.environ[BLAS_THREADS] = "1"  # Snakemake sets it to all threads of the job
    try:
        yield
    finally:
        if before is None:
            del os.environ[BLAS_THREADS]
        else:
            os.environ[BLAS_THREADS] = before


def _open(initializer, initargs) -> tuple:
    return (initializer(*initargs),) if initializer else ()


# of a child process: what its initializer returned, or the error that it ended with
_opened: tuple = ()
_not_opened: Exception | None = None


def _start_worker(initializer, initargs, logging_arguments: tuple) -> None:
    global _opened, _not_opened
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process; the parent reports it
    if logging_arguments:
        script.start_logging(*logging_arguments)
    try:
        _opened = _open(initializer, initargs)
    except Exception as error:  # raised here it would break the pool, as a killed process does
        _not_opened = error


def _make_in_worker(folder: Path, tasks: list[Task], work) -> tuple[list[tuple[Task, dict]], float]:
    if _not_opened:
        raise _not_opened
    return _make_group(folder, tasks, work, _opened)


def _each(work, *given) -> list:
    """A work function of one subject, as one of many."""
    *opened, paths, payloads = given
    out = []
    for path, payload in zip(paths, payloads, strict=True):
        try:
            out.append(work(*opened, path, payload))
        except SubjectError as error:
            out.append(error)
    return out


def _make_group(
    folder: Path, tasks: list[Task], work, opened: tuple
) -> tuple[list[tuple[Task, dict]], float]:
    """Each task with its record, and the seconds that all of them took together."""
    started = time.perf_counter()
    paths = [folder / task.file for task in tasks]
    for path in paths:
        artifacts.sidecar_path(path).unlink(missing_ok=True)
    made = work(*opened, paths, [task.payload for task in tasks])
    pairs = [(task, _record(folder, task, result)) for task, result in zip(tasks, made, strict=True)]
    return pairs, time.perf_counter() - started


def _record(folder: Path, task: Task, result: dict | SubjectError) -> dict:
    if isinstance(result, SubjectError):
        for name in (task.file, *task.beside):
            artifacts.remove(folder / name)
        return result.record | result.ending.columns()
    if "files" in result:
        result = result | {"files": [artifacts.listing(folder, name) for name in result["files"]]}
    artifacts.write_sidecar(folder / task.file, task.inputs, result)
    return result


def _complete(folder: Path, task: Task, record: dict) -> dict:
    listing = artifacts.listing(folder, task.file) or artifacts.NO_FILE
    return {"subject": task.subject, **record, **listing}
