"""Errors that a user reads. Owned by no stage; raised by all.

An `InputError` says what is wrong, where (file, row, column, key), what is allowed and what to do;
scripts and the Snakefile print its message alone, without a traceback. A `SubjectError` ends one
virtual patient, never the batch: its `reason` goes into the stage's table.
"""


class CardioCohortError(Exception):
    """Base of all errors this project raises on purpose."""


class InputError(CardioCohortError):
    """The user's input cannot be used; the message is complete as it stands."""


class SubjectError(CardioCohortError):
    """One subject cannot go on; `reason` is a short phrase for tables, `str()` the detail."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail or reason)
        self.reason = reason
