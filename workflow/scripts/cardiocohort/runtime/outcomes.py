"""What becomes of a subject in a stage: one vocabulary, from exception to manifest. Owned by no stage.

The tables keep the column names that people read: `status` in the anatomies table and the manifest, `verdict`
elsewhere. Their cells are values of `Outcome`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """The stages that can end a subject, in their order."""

    GENERATION = "generation"
    TOPOLOGY = "topology"
    MESHING = "meshing"
    INPUTS = "inputs"


class Outcome(StrEnum):
    """How a subject leaves a stage."""

    ACCEPTED = "accepted"  # its files are made, and the stage's gate accepts them
    GENERATED = "generated"  # of the anatomies table: sampled, not yet judged by the topology stage
    IMPORTED = "imported"  # of the anatomies table: the user's own label map
    REJECTED = "rejected"  # a gate refused it
    BASE_REJECTED = "base_rejected"  # the sibling of a heart that was rejected or not made
    FAILED = "failed"  # the stage could not make its file
    MISSING = "missing"  # no label map to judge
    SKIPPED = "skipped"  # an earlier stage ended it


@dataclass(frozen=True)
class Ending:
    """How one subject leaves a stage, and why.

    reason: a short phrase, the same for all subjects that end alike; detail: what was measured. `stage` is
    None where the code that raises does not know which stage calls it.
    """

    outcome: Outcome
    reason: str = ""
    detail: str = ""
    stage: Stage | None = None

    @property
    def text(self) -> str:
        """`reason: detail`, as one cell of a table; what is the same in both stands once."""
        return ": ".join(dict.fromkeys(filter(None, (self.reason, self.detail))))

    def columns(self) -> dict[str, str]:
        """verdict, reason and detail, as the records and tables of batches have them."""
        return {"verdict": str(self.outcome), "reason": self.reason, "detail": self.detail}


def ending_of(record: dict) -> Ending:
    """The ending in a record of `batch_runner.run_batch`."""
    return Ending(Outcome(record["verdict"]), record["reason"], record.get("detail", ""))
