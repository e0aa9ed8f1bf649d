"""The bars that a prior's figures are held against (evaluation stage)."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .arms import COHORT, METHODS, UNGUIDED
from .fidelity import headline
from .gate_rates import ALL
from .realism_table import REAL
from .variety import BAR as VARIETY_BAR

log = logging.getLogger(__name__)
WORST_FD_RATIO = 1.2
CARD = "card"  # card.json beside the tables of an evaluation
# Dice, an assumption: samples are more than held-out hearts, so the largest Dice of them is larger by chance
# without any copy; that of a copy is near 1
COPY_MARGIN = 0.02
GUIDED = METHODS[0]
FORM = ("centroid", "principal axes", "log covariance")  # groups of the variety table that are no size


@dataclass(frozen=True)
class Bar:
    """Every figure that `read(source, most)` gives must be at most, or at least, `limit`.

    text: `{most}` stands for the number of structures of the largest constrained set. source: a table of the
    evaluation by name, or CARD. `read` gives no figure where the source does not have it.
    """

    text: str
    source: str
    read: Callable[..., list[float]]
    limit: float
    at_most: bool = False
    unit: str = ""


def _of_arm(column: str, method: str, factor: float = 1.0, guided: bool = True) -> Callable:
    """Figures of a method, at the structures of the largest set or (not `guided`) at none."""

    def read(table: pd.DataFrame, most: int) -> list[float]:
        own = table[(table["method"] == method) & (table["constrained_structures"] == most * guided)]
        for name, value in {"reference": "reference", "rule": ALL, "strength": 1}.items():
            own = own[own[name] == value] if name in own else own
        return (factor * own[column]).tolist() if column in own else []

    return read


def _median(attribute: str) -> Callable:
    def read(table: pd.DataFrame, most: int) -> list[float]:
        own = headline(table)
        own = own[(own["method"] == GUIDED) & (own["constrained_structures"] == most)]
        return own.loc[own["attribute"] == attribute, "median_error"].tolist()

    return read


def _within(table: pd.DataFrame, most: int) -> list[float]:
    form = table[table["group"].isin(FORM)]
    return [100 * form["within"].mean()] if len(form) else []


def _nearer_than_held_out(card: dict, most: int) -> list[float]:
    found = [card.get(f"nearest_training_dice_{of}", {}).get("q100") for of in ("samples", "held_out")]
    return [found[0] - found[1]] if None not in found else []


def _left_out(columns: Callable[[pd.DataFrame], list]) -> Callable:
    def read(table: pd.DataFrame, most: int) -> list[float]:
        own = table[(table["heart"] == "all") & (table["method"] == "guided")]
        return columns(own)

    return read


def _accepted(own: pd.DataFrame) -> list[float]:
    return (100 * own["accepted"] / own["n"]).tolist()


def _each(what: str, *structures: str) -> Callable:
    columns = [f"{what}.{name}" for name in structures]
    return _left_out(lambda own: own[columns].to_numpy().ravel().tolist() if {*columns} <= {*own} else [])


OF_SET = f"{GUIDED}, {{most}} structures: "
LEFT_OUT = "left-out hearts, own moments: "
ARTERIES = ("aorta", "pulmonary_artery")
BARS = (
    Bar(
        "unguided: 1-NNA against held-out hearts", "realism",
        _of_arm("one_nna", UNGUIDED, guided=False), 0.60, at_most=True,
    ),
    Bar(
        "unguided: pass the gate, one attempt", "topology",
        _of_arm("share", UNGUIDED, 100, guided=False), 85, unit=" %",
    ),
    Bar(OF_SET + "pass the gate, one attempt", "topology", _of_arm("share", GUIDED, 100), 93, unit=" %"),
    Bar(
        f"{COHORT}, no structures: pass the gate, one attempt", "topology",
        _of_arm("share", COHORT, 100, guided=False), 92, unit=" %",
    ),
    Bar(
        f"{COHORT}, {{most}} structures: pass the gate, one attempt", "topology",
        _of_arm("share", COHORT, 100), 97, unit=" %",
    ),
    Bar(OF_SET + "median error of volumes", "fidelity", _median("size"), 0.5, True, " %"),
    Bar(OF_SET + "median error of centroids", "fidelity", _median("position"), 0.6, True, " mm"),
    Bar(
        "unguided: entries of centroid, axes and covariance with a spread within "
        f"{100 * VARIETY_BAR:.0f} % of that of real hearts", "variety", _within, 100, unit=" %",
    ),
    Bar(
        "unguided: largest Dice with a training heart, less that of held-out hearts", CARD,
        _nearer_than_held_out, COPY_MARGIN, at_most=True,
    ),
    Bar(LEFT_OUT + "accepted", "whole_hearts", _left_out(_accepted), 90, unit=" %"),
    Bar(LEFT_OUT + "Dice of the LV", "whole_hearts", _each("dice", "left_ventricle"), 0.93),
    Bar(LEFT_OUT + "Dice of the RV", "whole_hearts", _each("dice", "right_ventricle"), 0.92),
    Bar(LEFT_OUT + "Dice of LA, RA", "whole_hearts", _each("dice", "left_atrium", "right_atrium"), 0.88),
    Bar(LEFT_OUT + "Dice of the myocardium", "whole_hearts", _each("dice", "myocardium"), 0.84),
    Bar(LEFT_OUT + "Dice of aorta, pulmonary artery", "whole_hearts", _each("dice", *ARTERIES), 0.80),
    Bar(
        LEFT_OUT + "surface distance of LV, RV", "whole_hearts",
        _each("distance_mm", "left_ventricle", "right_ventricle"), 1.5, True, " mm",
    ),
)  # fmt: skip


def read_figures(path: str | Path, weights_sha256: str) -> dict | None:
    """card.json of a bundle with these weights; None, and a warning, for one of other weights."""
    figures = json.loads(Path(path).read_text(encoding="utf-8"))
    if figures.get("weights_sha256") == weights_sha256:
        return figures
    log.warning("%s: of other weights than the bundle's; what it states counts as not measured", path)
    return None


def criteria(tables: dict[str, pd.DataFrame], card: dict | None = None) -> list[dict]:
    """Rows of bar, found and met, for the largest set of structures; met is None for what is not measured.

    tables: of an evaluation, by name; `realism` must be there. card: card.json of the bundle.
    """
    realism = tables["realism"]
    rows = realism[realism["reference"] == "reference"].set_index(["method", "constrained_structures"])
    most = rows.index.get_level_values("constrained_structures").max()
    out = []
    for method in METHODS:
        if (method, most) in rows.index:
            out += _beside_others(rows, method, most)
    for at, plain in ((0, UNGUIDED), (most, GUIDED)):
        if {(COHORT, at), (plain, at)} <= set(rows.index):
            out.append(_no_worse(rows.loc[(COHORT, at)], rows.loc[(plain, at)], at))
    if len(coupling := tables.get("coupling", ())):
        kept = int(coupling["within_bar"].sum())
        out.append(
            {
                "bar": "coupling: each slope's interval meets the data's slope ± 0.15 SD/SD",
                "found": f"{kept} of {len(coupling)} slopes",
                "met": kept == len(coupling),
            }
        )
    sources = {name: table for name, table in tables.items() if len(table)} | {CARD: card or {}}
    return out + [_held(bar, sources, most) for bar in BARS]


def _held(bar: Bar, sources: dict, most: int) -> dict:
    figures = bar.read(sources[bar.source], most) if bar.source in sources else []
    known = len(figures) > 0 and not pd.isna(figures).any()
    met = known and all(f <= bar.limit if bar.at_most else f >= bar.limit for f in figures)
    side = "most" if bar.at_most else "least"
    return {
        "bar": f"{bar.text.format(most=most)}, at {side} {bar.limit:g}{bar.unit}",
        "found": ", ".join(f"{f:.3g}{bar.unit}" for f in figures) if known else "",
        "met": met if known else None,
    }


def _no_worse(row: pd.Series, plain: pd.Series, structures: int) -> dict:
    """Bar of attempts as cohorts make them: the gate's repairs move samples no farther from real hearts."""
    low, high = row.get("fd_ratio_low"), plain.get("fd_ratio_high")
    known = not (pd.isna(low) or pd.isna(high))
    return {
        "bar": f"{COHORT}, {structures or 'no'} structures: Fréchet ratio no worse than {plain.name[0]}'s",
        "found": f"{_ratio(row)}, {_ratio(plain)}" if known else "",
        "met": bool(low <= high) if known else None,
    }


def _ratio(row: pd.Series) -> str:
    return f"{row['fd_ratio']:.2f} ({row['fd_ratio_low']:.2f} to {row['fd_ratio_high']:.2f})"


def _beside_others(rows: pd.DataFrame, method: str, most: int) -> list[dict]:
    """Bars of a method's samples beside unguided ones and real hearts."""
    row, out = rows.loc[(method, most)], []
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
            "found": _ratio(row) if known else "",
            "met": bool(ratio <= WORST_FD_RATIO) if known else None,
        }
    )
    return out
