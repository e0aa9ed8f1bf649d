"""What a rule of the gate is. Owned by the topology stage."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

GENERATED = "generated"  # for hearts of the generator only, since a scan may differ
SCAN = "scan"  # a repair of the user's own maps
COARSE = "coarse"  # a repair of maps that are coarser than the anatomy's grid
PRESENT = "present"  # it holds only if its structures are there: a scan may lack some
UNOPENED = "unopened"  # it holds for a map that has none of its openings
SCOPES = ("any", GENERATED, PRESENT, UNOPENED, SCAN, COARSE)


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

    @property
    def sides(self) -> tuple[str, ...]:
        """The bounds that it has: "min", "max" or both."""
        given = {"min": self.minimum > -math.inf, "max": self.maximum < math.inf}
        return tuple(side for side in given if given[side])


@dataclass(frozen=True)
class Rules:
    """checks: what `examine` tests; repairs: what `repair` may change, and how much; coarse: further repairs
    of maps coarser than the anatomy's grid; scan: of the user's own maps; unopened: further checks of maps
    that have none of a rule's openings."""

    checks: tuple[Rule, ...]
    repairs: tuple[Rule, ...]
    coarse: tuple[Rule, ...] = ()
    scan: tuple[Rule, ...] = ()
    unopened: tuple[Rule, ...] = ()

    def optional(self) -> frozenset[int]:
        """Labels of the structures that a scan may lack: those whose least volume holds if they are there."""
        least = (rule for rule in self.checks if rule.kind == "volume" and rule.minimum > 0)
        return frozenset(label for rule in least if rule.scope == PRESENT for label in rule.structure)

    def required(self) -> frozenset[int]:
        """Labels of the structures that every generated map must have: those whose least volume always holds.

        Of a union none is, since another one may have the volume.
        """
        least = (rule for rule in self.checks if rule.kind == "volume" and rule.minimum > 0)
        return frozenset(r.structure[0] for r in least if r.scope != PRESENT and len(r.structure) == 1)

    def holding(self, present: Collection[int]) -> "Rules":
        """The rules that hold for a heart which has the labels `present` and is to have no others."""
        checks = [
            rule
            for rule in self.checks
            if rule.scope != PRESENT
            or (
                all(label in present for label in rule.structure + rule.other)
                and (not rule.openings or any(label in present for label in rule.openings))
            )
        ]
        checks += [r for r in self.unopened if not any(label in present for label in r.openings)]
        return replace(self, checks=tuple(checks))

    def for_scans(self, present: Collection[int]) -> "Rules":
        """The rules that hold for a segmented scan too, in which the labels `present` are found."""
        holding = self.holding(present)
        checks = (rule for rule in holding.checks if rule.scope != GENERATED)
        repairs = (rule for rule in (*self.repairs, *self.scan) if rule.scope != GENERATED)
        return replace(holding, checks=tuple(checks), repairs=tuple(repairs))

    def of_kind(self, kind: str) -> "Rules":
        """The checks of one kind, without repairs."""
        return Rules(tuple(rule for rule in self.checks if rule.kind == kind), ())

    def for_coarse_maps(self, factor: float) -> "Rules":
        """With all repairs, which may change `factor` times the volume: a dozen voxels are more mL there."""
        repairs = (*self.repairs, *self.coarse)
        return replace(self, repairs=tuple(replace(r, maximum=factor * r.maximum) for r in repairs))
