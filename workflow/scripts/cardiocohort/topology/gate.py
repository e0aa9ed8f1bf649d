"""The gate: a label map against the rules of its anatomy. Owned by the topology stage.

Used by generation and the prior too: the same `examine` decides everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..anatomy.labels import Anatomy
from .measures import KINDS
from .repairs import REPAIRS, joined_through_wall
from .rules import Rule, Rules
from .scene import Scene


@dataclass(frozen=True)
class Failure:
    """One violated rule: its id, what was measured and the bound that this breaks, in the rule's unit.

    `measured` and `limit` are NaN, and `side` is "", where a structure that the measure needs is absent.
    """

    rule: str
    measured: float
    side: str  # "min" or "max": which bound `limit` is
    limit: float
    unit: str

    def __str__(self) -> str:
        if np.isnan(self.measured):
            return f"{self.rule}: not measurable, a structure is missing"
        unit = "" if self.unit == "count" else f" {self.unit}"
        return f"{self.rule}: {self.measured:.4g}{unit}, {self.side} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """One failure per violated rule, in table order; every measure by rule id."""

    failures: tuple[Failure, ...]
    measures: dict[str, float]

    @property
    def accepted(self) -> bool:
        return not self.failures

    @property
    def reasons(self) -> tuple[str, ...]:
        """The failures as people read them."""
        return tuple(map(str, self.failures))

    @property
    def failed_rules(self) -> tuple[str, ...]:
        """Ids of the violated rules."""
        return tuple(failure.rule for failure in self.failures)


def examine(
    labels: np.ndarray, spacing_mm: float | Sequence[float], anatomy: Anatomy, rules: Rules
) -> Verdict:
    """Measure labels (X, Y, Z) against every check of `rules`; spacing in mm, one number or per axis.

    Pure: nothing is repaired here. A measure is NaN, and its rule violated, where a structure that
    it needs is absent.
    """
    return _examined(_scene(labels, spacing_mm, anatomy), rules)


def _examined(scene: Scene, rules: Rules) -> Verdict:
    measures = {rule.id: float(KINDS[rule.kind].measure(scene, rule)) for rule in rules.checks}
    failures = tuple(
        _failure(rule, measures[rule.id])
        for rule in rules.checks
        if not rule.minimum <= measures[rule.id] <= rule.maximum
    )
    return Verdict(failures, measures)


def repair(
    labels: np.ndarray, spacing_mm: float | Sequence[float], anatomy: Anatomy, rules: Rules, span: int = 1
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Apply the repairs of `rules` in table order: (repaired labels, one line per repair).

    The labels given are not changed; without repairs they are returned as they are. `span`: voxels along
    an axis for one of the map that these labels were refined from.
    """
    scene, done = _repaired(_scene(labels, spacing_mm, anatomy, span), rules)
    return scene.labels, done


def _repaired(scene: Scene, rules: Rules) -> tuple[Scene, tuple[str, ...]]:
    """A repair without a note has changed nothing: what is known of the scene stays known."""
    done = []
    for rule in rules.repairs:
        labels, notes = REPAIRS[rule.kind].apply(scene, rule)
        if notes:
            scene = replace(scene, labels=labels)
            done += notes
    return scene, tuple(done)


def joined(
    labels: np.ndarray, spacing_mm: float | Sequence[float], anatomy: Anatomy, rules: Rules, span: int = 1
) -> tuple[str, ...]:
    """One line per row `parting` of `rules` whose structures meet through the wall; `span` as in `repair`."""
    scene = _scene(labels, spacing_mm, anatomy, span)
    found = (rule for rule in rules.repairs if rule.kind == "parting" and joined_through_wall(scene, rule))
    return tuple(
        f"{' and '.join(anatomy.structures[k - 1] for k in rule.other)} meet through the wall"
        for rule in found
    )


def judge(
    labels: np.ndarray,
    spacing_mm: float | Sequence[float],
    anatomy: Anatomy,
    rules: Rules,
    raw: Verdict | None = None,
) -> tuple[np.ndarray, tuple[str, ...], Verdict]:
    """Repair labels (X, Y, Z), then examine them: (repaired labels, one line per repair, verdict).

    `raw` is the verdict on the labels as given, where it is known: it holds if nothing was repaired.
    """
    scene, repairs = _repaired(_scene(labels, spacing_mm, anatomy), rules)
    verdict = raw if raw and not repairs else _examined(scene, rules)
    return scene.labels, repairs, verdict


def _scene(labels: np.ndarray, spacing_mm, anatomy: Anatomy, span: int = 1) -> Scene:
    return Scene(labels, tuple(float(s) for s in np.broadcast_to(spacing_mm, 3)), anatomy, span)


def _failure(rule: Rule, value: float) -> Failure:
    if np.isnan(value):
        return Failure(rule.id, value, "", np.nan, rule.unit)
    side, bound = ("min", rule.minimum) if value < rule.minimum else ("max", rule.maximum)
    return Failure(rule.id, value, side, bound, rule.unit)
