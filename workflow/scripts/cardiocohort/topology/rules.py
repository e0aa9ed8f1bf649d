"""What a rule of the gate is. Owned by the topology stage."""

from collections.abc import Collection
from dataclasses import dataclass, replace

GENERATED = "generated"  # for hearts of the generator only, since a scan may differ
COARSE = "coarse"  # a repair of maps that are coarser than the anatomy's grid
PRESENT = "present"  # in a scan it holds only if its structures are there: veins may be missing
SCOPES = ("any", GENERATED, PRESENT, COARSE)


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
    """checks: what `examine` tests; repairs: what `repair` may change, and how much; coarse: further repairs
    of maps coarser than the anatomy's grid."""

    checks: tuple[Rule, ...]
    repairs: tuple[Rule, ...]
    coarse: tuple[Rule, ...] = ()

    def for_scans(self, present: Collection[int]) -> "Rules":
        """The rules that hold for a segmented scan too, in which the labels `present` are found."""
        checks = (
            rule
            for rule in self.checks
            if rule.scope == "any"
            or (rule.scope == PRESENT and all(label in present for label in rule.structure + rule.other))
        )
        repairs = (rule for rule in self.repairs if rule.scope != GENERATED)
        return Rules(tuple(checks), tuple(repairs), self.coarse)

    def of_kind(self, kind: str) -> "Rules":
        """The checks of one kind, without repairs."""
        return Rules(tuple(rule for rule in self.checks if rule.kind == kind), ())

    def for_coarse_maps(self, factor: float) -> "Rules":
        """With all repairs, which may change `factor` times the volume: a dozen voxels are more mL there."""
        repairs = (*self.repairs, *self.coarse)
        return Rules(self.checks, tuple(replace(rule, maximum=factor * rule.maximum) for rule in repairs))
