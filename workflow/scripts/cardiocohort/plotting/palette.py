"""One colour per structure, the same in every figure. Owned by no stage."""

from collections.abc import Iterable

BACKGROUND = "#ffffff"
MUSCLE = "#8c3b3b"
OTHERS = ("#b07aa1", "#edc948", "#499894", "#d37295", "#86bcb6", "#bab0ac")


def colours(structures: tuple[str, ...], own: Iterable[tuple[str, str]]) -> list[str]:
    """Colours of structures: their `own` (`Anatomy.colours`), or the spare colours in turn."""
    known = dict(own)
    return [known.get(name, OTHERS[i % len(OTHERS)]) for i, name in enumerate(structures)]
