"""The bars that a prior's figures are held against (evaluation stage)."""

import pandas as pd

from .arms import METHODS, UNGUIDED
from .realism_table import REAL

WORST_FD_RATIO = 1.2


def criteria(realism: pd.DataFrame, coupling: pd.DataFrame) -> list[dict]:
    """Rows of bar, found and met (None where a figure is missing), for the largest set of structures."""
    rows = realism[realism["reference"] == "reference"].set_index(["method", "constrained_structures"])
    most = rows.index.get_level_values("constrained_structures").max()
    out = []
    for method in METHODS:
        if (method, most) not in rows.index:
            continue
        row = rows.loc[(method, most)]
        for other, text in ((UNGUIDED, "unguided"), (REAL, "real against real")):
            if (other, 0) in rows.index:
                beside = rows.loc[(other, 0)]
                names = ("one_nna_low", "one_nna_high")
                (low, high), (first, last) = ([r.get(name) for name in names] for r in (row, beside))
                known = not pd.isna([low, high, first, last]).any()
                out.append(
                    {
                        "bar": f"{method}, {most} structures: the interval of 1-NNA meets that of {text}",
                        "found": f"{low:.2f} to {high:.2f}, {first:.2f} to {last:.2f}" if known else "",
                        "met": bool(low <= last and high >= first) if known else None,
                    }
                )
        ratio = row.get("fd_ratio")
        known = not pd.isna(ratio)
        out.append(
            {
                "bar": f"{method}, {most} structures: Fréchet distance at most {WORST_FD_RATIO} x unguided",
                "found": f"{ratio:.2f} ({row['fd_ratio_low']:.2f} to {row['fd_ratio_high']:.2f})"
                if known
                else "",
                "met": bool(ratio <= WORST_FD_RATIO) if known else None,
            }
        )
    if len(coupling):
        kept = int(coupling["within_bar"].sum())
        out.append(
            {
                "bar": "coupling: each slope's interval meets the data's slope ± 0.15 SD/SD",
                "found": f"{kept} of {len(coupling)} slopes",
                "met": kept == len(coupling),
            }
        )
    return out
