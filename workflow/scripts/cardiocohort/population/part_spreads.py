"""Reference spreads of what targets constrain of parts `structure@domain`. Owned by the population stage.

A residual counts in standard deviations of its attribute over a reference population. That of a bundle has
whole structures alone. Parts have their own where the table of parts (`parts`) has measured them in the
hearts of a prior's population. The targets table takes them along: guidance and judging need no other file.
"""

import json
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ..anatomy import attributes
from ..anatomy.domains import is_part
from ..cohort.stage_tables import SPREADS
from .parts import spreads


def with_spreads(targets: pd.DataFrame, path: str | Path, measured: Collection[str]) -> pd.DataFrame:
    """Targets of an arm with the column SPREADS, empty for rows that constrain no part.

    path: the table of parts. measured: the arm's parts that it has of the same domains.
    """
    keys = targets[["structure", "constrained"]].drop_duplicates()
    wanted: dict[tuple, tuple] = {}
    for name, constrained in keys.itertuples(index=False):
        for word in filter(None, constrained.split(",")):
            attribute, other = attributes.split(word)
            names = (name, other) if other else (name,)
            local = [one for one in names if is_part(one)]
            if local and set(local) <= set(measured):
                wanted[name, word] = attribute, names
    found = spreads(path, wanted.values())
    texts: dict[str, dict[str, float]] = {}
    for (name, word), pair in wanted.items():
        if pair in found:
            texts.setdefault(name, {})[word] = found[pair]
    column = [json.dumps(texts[name]) if name in texts else "" for name in targets["structure"]]
    return targets.assign(**{SPREADS: column})
