"""What a rule of the gate is. Owned by the topology stage."""

from dataclasses import dataclass

GENERATED = "generated"  # for hearts of the generator only, since a scan may differ
SCOPES = ("any", GENERATED)


@dataclass(frozen=True)
class Rule:
    """One bound on one measured quantity; the measure's arguments are labels, already looked up.

    `minimum` and `maximum` are inclusive, infinite where the table leaves them empty. Of a repair,
    `maximum` is the volume that it may change.
    """

    id: str
    kind: str
    scope: str
    structure: tuple[int, ...]
    other: tuple[int, ...]
    openings: tuple[int, ...]
    openings_mm: float
    percentile: float
    minimum: float
    maximum: float
    unit: str
    reason: str


@dataclass(frozen=True)
class Rules:
    """checks: what `examine` tests; repairs: what `repair` may change, and how much."""

    checks: tuple[Rule, ...]
    repairs: tuple[Rule, ...]

    def for_scans(self) -> "Rules":
        """The rules that hold for segmented scans too: those of scope `any`."""
        return Rules(
            tuple(rule for rule in self.checks if rule.scope != GENERATED),
            tuple(rule for rule in self.repairs if rule.scope != GENERATED),
        )
