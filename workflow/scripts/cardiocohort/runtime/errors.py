"""Errors that a user reads. Owned by no stage; raised by all.

An `InputError` says what is wrong, where (file, row, column, key), what is allowed and what to do;
scripts and the Snakefile print its message alone, without a traceback. A `SubjectError` ends one
virtual patient, never the batch: its `ending` goes into the stage's table. A `KilledError` ends the job.
"""

from .outcomes import Ending, Outcome


class CardioCohortError(Exception):
    """Base of all errors this project raises on purpose."""


class InputError(CardioCohortError):
    """The user's input cannot be used; the message is complete as it stands."""


class KilledError(CardioCohortError):
    """A process at work was ended from outside, which says nothing about its subject: the job ends and is
    made again, where a SubjectError would stay in the tables."""


class SubjectError(CardioCohortError):
    """One subject cannot go on: `ending` is its row in the stage's table, `str()` the detail.

    `record` holds what else the table needs of it.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        outcome: Outcome = Outcome.FAILED,
        record: dict | None = None,
    ):
        super().__init__(detail or reason)
        self.ending, self.record = Ending(outcome, reason, detail), record or {}

    @property
    def reason(self) -> str:
        return self.ending.reason
