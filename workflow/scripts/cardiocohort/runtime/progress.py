"""What a batch logs while it works: one line per subject, and signs of life. Owned by no stage."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import script
from .outcomes import Outcome, ending_of

log = logging.getLogger(__name__)

QUIET_S = 30.0  # the first sign of life of a subject comes after this silence, the next after twice as long
LONGEST_QUIET_S = 300.0
NAMED = 10  # subjects that one line names
ENDED = (Outcome.REJECTED, Outcome.BASE_REJECTED, Outcome.FAILED, Outcome.MISSING)


class Progress:
    """Subjects of a batch that are made, and what is left.

    batch: its name. subjects: one entry per piece of work that is to be made, in the order in which `workers`
    processes begin them, each `group` pieces at a time; a subject with several pieces, as decks in several
    formats, counts once. finished: subjects that were finished before.
    """

    def __init__(self, batch: str, subjects: list[str], finished: int, workers: int, group: int = 1):
        self._batch, self._left = batch, list(subjects)
        self._done, self._total = finished, finished + len(set(subjects))
        self._workers, self._group = workers, group
        self._seconds: Counter[str] = Counter()
        self._pieces = 0
        self._worst: dict[str, dict] = {}
        self._spoke, self._quiet = time.monotonic(), QUIET_S
        self._lock, self._ended = threading.Lock(), threading.Event()

    def begin(self) -> None:
        """The line that begins the batch."""
        to_make = len(set(self._left))
        reused = f", {self._done} already finished" if self._done else ""
        log.info("%s: %s to make%s", self._batch, _subjects(to_make), reused)

    def finished(self, subject: str, record: dict, seconds: float) -> None:
        """A piece of work of `subject` ended with `record` after `seconds`; a line if it was its last one."""
        with self._lock:
            self._left.remove(subject)
            self._pieces += 1
            self._seconds[subject] += seconds
            if subject not in self._worst or _is_ended(record):
                self._worst[subject] = record
            if subject in self._left:
                return
            self._done += 1
            self._spoke, self._quiet = time.monotonic(), QUIET_S
            worst = self._worst[subject]
            text = ending_of(worst).text if worst.get("reason") else ""
            level = logging.WARNING if _is_ended(worst) else logging.INFO
            outcome = f"{worst.get('verdict', 'done')} in {duration(self._seconds[subject])}"
            why = f": {text}" if text else ""
            log.log(level, "%s: %s (%s)%s", subject, outcome, self._count(), why)

    def end(self) -> None:
        """Names the subjects that did not get through the stage."""
        lost = [subject for subject, record in self._worst.items() if _is_ended(record)]
        if lost:
            count = f"{len(lost)} of {_subjects(self._total)} failed or rejected"
            places = " and ".join(filter(None, (script.log_file(), "the batch's table")))
            log.warning("%s: %s: %s; the reasons are in %s", self._batch, count, named(lost), places)

    def watch(self) -> None:
        """Until `stop`: a line where nothing was said for long."""
        while not self._ended.wait(max(self._spoke + self._quiet - time.monotonic(), 0.0)):
            with self._lock:
                if self._left and time.monotonic() - self._spoke >= self._quiet:
                    now = list(dict.fromkeys(self._left[: self._workers * self._group]))
                    log.info("working on %s (%s)", named(now), self._count())
                    self._spoke = time.monotonic()
                    self._quiet = min(2 * self._quiet, LONGEST_QUIET_S)

    def stop(self) -> None:
        self._ended.set()

    def _count(self) -> str:
        """`2 of 4 subjects, about 3 min left`."""
        count = f"{self._done} of {_subjects(self._total)}"
        if not self._left or not self._pieces:
            return count
        mean = self._seconds.total() / self._pieces
        left = mean * len(self._left) / min(self._workers, len(self._left))
        return f"{count}, about {duration(left)} left" if left >= 1 else count


@contextmanager
def reported(
    batch: str | Path, subjects: list[str], finished: int, workers: int, group: int = 1
) -> Iterator[Progress]:
    """Begin a batch, give signs of life inside, and end it unless there is an error."""
    progress = Progress(Path(batch).name, subjects, finished, workers, group)
    progress.begin()
    watcher = threading.Thread(target=progress.watch, daemon=True)
    watcher.start()
    try:
        yield progress
    finally:
        progress.stop()
        watcher.join()
    progress.end()


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `2.5 h`: as exactly as a reader needs it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def named(subjects: list[str]) -> str:
    """The subjects' names, the first ones of many."""
    rest = len(subjects) - NAMED
    return ", ".join(subjects[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _subjects(n: int) -> str:
    return f"{n} subject" if n == 1 else f"{n} subjects"


def _is_ended(record: dict) -> bool:
    return record.get("verdict") in ENDED
