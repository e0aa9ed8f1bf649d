"""Errors that a user reads. Owned by no stage; raised by all.

An `InputError` says what is wrong, where (file, row, column, key), what is allowed and what to do;
scripts and the Snakefile print its message alone, without a traceback. A `SubjectError` ends one
virtual patient, never the batch: its `reason` goes into the stage's table. A `KilledError` ends the job.
"""


class CardioCohortError(Exception):
    """Base of all errors this project raises on purpose."""


class InputError(CardioCohortError):
    """The user's input cannot be used; the message is complete as it stands."""


class KilledError(CardioCohortError):
    """A process at work was ended from outside, which says nothing about its subject: the job ends and is
    made again, where a SubjectError would stay in the tables."""


class SubjectError(CardioCohortError):
    """One subject cannot go on; `reason` is a short phrase for tables, `str()` the detail.

    `verdict` is "failed", or what it is when that is to be told apart; `record` what a table wants of it too.
    """

    def __init__(self, reason: str, detail: str = "", verdict: str = "failed", record: dict | None = None):
        super().__init__(detail or reason)
        self.reason, self.verdict, self.record = reason, verdict, record or {}
