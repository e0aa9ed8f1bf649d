"""Which bounds of a rules table topology guidance has terms for. Owned by the topology stage; light.

A bound is ("min" or "max") of a rule. The terms are in `generation/topology_guidance`; a test compares them
with these sets. They are here, without torch, so that a dry run can name the bounds that only judge.
"""

from collections.abc import Iterator

from .rules import Rule, Rules

Bound = tuple[str, str]  # kind of rule, "min" or "max"

# bounds with a term for the steps on the clean latent of a sample that the gate rejects
STEPPED: frozenset[Bound] = frozenset(
    {
        ("border", "max"),
        ("breach", "max"),
        ("contact", "max"),
        ("contact", "min"),
        ("exposure", "max"),
        ("leak", "max"),
        ("wall_thickness", "min"),
    }
)
# bounds with a term while a rejected sample is restarted
DRAWN: frozenset[Bound] = frozenset(
    {("contact", "max"), ("contact", "min"), ("gap", "max"), ("volume", "max"), ("volume", "min")}
)
# bounds whose terms cover a structure by its wall, `other`: they close holes in this wall too
CLOSING: frozenset[Bound] = frozenset(
    {("breach", "max"), ("exposure", "max"), ("leak", "max"), ("wall_thickness", "min")}
)


def stepped(rule: Rule, side: str, rules: Rules) -> bool:
    """Whether steps on the latent can undo a violation of this bound; `rules` are all that hold."""
    return (rule.kind, side) in STEPPED or _closed_with(rule, side, rules.checks)


def unguided(rules: Rules) -> list[tuple[Rule, str]]:
    """The bounds of a table that no term steers by, in the table's order: rule, and "min" or "max"."""
    checks = (*rules.checks, *rules.unopened)
    return [
        (rule, side)
        for rule in checks
        for side in rule.sides
        if (rule.kind, side) not in STEPPED | DRAWN and not _closed_with(rule, side, checks)
    ]


def _closed_with(rule: Rule, side: str, checks: tuple[Rule, ...]) -> bool:
    """Whether the bound is one on the holes of a wall that the term of another rule closes."""
    if (rule.kind, side) != ("holes", "max"):
        return False
    walls: Iterator[Rule] = (one for one in checks if any((one.kind, s) in CLOSING for s in one.sides))
    return any(set(rule.structure) <= set(one.other) for one in walls)
