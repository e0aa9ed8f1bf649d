"""What the page shows of digital siblings beside the hearts they were made of. Owned by the report stage."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..anatomy.domains import split
from ..anatomy.moments import MOMENT_COLUMNS, from_columns
from ..cohort.grammar import Edit
from ..cohort.table import Arm
from ..runtime import tables
from ..runtime.outcomes import Outcome
from . import heart_mesh
from .cohort_tables import CohortTables

SIGNS = {"multiply": "×", "set": "= ", "set_per_m2": "= "}
UNITS = {"volume": " mL", "area": " mm²", "thickness": " mm"} | dict.fromkeys(
    ("centroid x", "centroid y", "centroid z", "distance"), " mm"
)
UNITS |= dict.fromkeys(("rotation x", "rotation y", "rotation z"), "°")
COMPARED = (
    {"volume_ml": "volume of the edited structure, mL"}
    | {
        f"{part}_{key}_mm": f"{words} displacement, {wall}, mm"
        for part, wall in heart_mesh.WALLS.items()
        for key, words in (("mean", "mean"), ("max", "largest"))
    }
    | {
        f"{name}_{state}_ml": f"{name.upper()} volume, {state}, mL"
        for name in heart_mesh.POOLS
        for state in ("unloaded", "loaded")
    }
)
MOST_CHANGED = 5.0  # percent of its volume, by which an unedited structure is said to have moved


@dataclass(frozen=True)
class Compared:
    """What `paired_comparison` found for an arm: its summary, and its figure (PNG)."""

    arm: str
    summary: pd.DataFrame
    figure: bytes


@dataclass(frozen=True)
class Pairs:
    """`pair_table`, `pair_counts`, and what `paired_comparison` found where it has run."""

    table: pd.DataFrame
    counts: pd.DataFrame
    compared: list[Compared]


def pairs_of(
    tables: CohortTables, manifest: pd.DataFrame, arms: Iterable[Arm], comparisons: Iterable[str]
) -> Pairs | None:
    """None where no arm has a base. comparisons: files of `paired_comparison`."""
    table = pair_table(tables, manifest, arms)
    if table.empty:
        return None
    return Pairs(table, pair_counts(table, manifest), read_comparisons(comparisons))


def pair_table(tables: CohortTables, manifest: pd.DataFrame, arms: Iterable[Arm]) -> pd.DataFrame:
    """One row per arm of siblings and structure: what was edited, and how siblings differ from their bases.

    Columns: arm, base, structure, edit, constrained, n pairs of accepted hearts; wanted_percent, change of
    volume that the targets want, of edited volumes;
    change_percent, change_sd, least_percent, most_percent, achieved change of volume; moved_mm and
    moved_most_mm, of the centroid; dice and dice_least, with the base. A base that is a label map file has no
    moments in the tables: then of unedited structures the targets stand for it, which are its moments.
    """
    accepted = set(manifest.loc[manifest["status"] == Outcome.ACCEPTED, "subject"])
    rows = [_rows(arm, tables, accepted) for arm in arms if arm.base]
    return pd.DataFrame([row for of_arm in rows for row in of_arm])


def pair_counts(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """arm, base, edits, requested, compared, and `moved`: what changed beside the edit (MOST_CHANGED)."""
    rows = []
    for (arm, base), own in table.groupby(["arm", "base"], sort=False):
        far = own[(own["edit"] == "") & (own["change_percent"].abs() > MOST_CHANGED)]
        rows.append({
            "arm": arm, "base": base, "requested": int((manifest["arm"] == arm).sum()),
            "compared": int(own["n"].max()), "moved": list(far["structure"]),
            "edits": [f"{row.structure}: {row.edit}" for row in own.itertuples() if row.edit],
        })  # fmt: skip
    return pd.DataFrame(rows)


def read_comparisons(paths: Iterable[str]) -> list[Compared]:
    """Of the files `<arm>.summary.tsv` and `<arm>.png`."""
    files = {Path(path).name: Path(path) for path in paths}
    arms = [name.removesuffix(".summary.tsv") for name in files if name.endswith(".summary.tsv")]
    return [
        Compared(
            arm,
            tables.read_table(files[f"{arm}.summary.tsv"], {"quantity": "str"}),
            files[f"{arm}.png"].read_bytes(),
        )
        for arm in arms
    ]


def _rows(arm: Arm, tables: CohortTables, accepted: set[str]) -> list[dict]:
    siblings = tables.anatomies[
        (tables.anatomies["arm"] == arm.name) & tables.anatomies["subject"].isin(accepted)
    ]
    edited: dict[str, list[Edit]] = {}
    for edit in arm.edits:
        edited.setdefault(edit.structure.split("/")[0], []).append(edit)
    changed = {name for edit in arm.edits for part in edit.changes for name in (part, split(part)[0])}
    source = tables.anatomies if arm.base_arm else tables.targets
    bases = source.set_index(["subject", "structure"])[list(MOMENT_COLUMNS)]
    targets = tables.targets.set_index(["subject", "structure"])[list(MOMENT_COLUMNS)]
    found = []
    for structure in siblings["structure"].unique():
        own = siblings[siblings["structure"] == structure]
        names = own["subject"]
        if arm.base_arm:
            names = [f"{arm.base}-{name.rpartition('-')[2]}" for name in names]
            there = np.isin(names, list(accepted))
            own, names = own[there], np.array(names)[there]
        places = pd.MultiIndex.from_product([[structure], names]).swaplevel()
        base = from_columns(bases.reindex(places))
        now = from_columns(own)
        of_pairs = pd.MultiIndex.from_product([[structure], own["subject"]]).swaplevel()
        wanted = targets.reindex(of_pairs)["volume_ml"].to_numpy()
        known = bool(arm.base_arm) or structure not in changed
        volume = np.where((base.volume_ml > 0) & known, base.volume_ml, np.nan)
        change = 100 * (now.volume_ml / volume - 1)
        moved = np.linalg.norm(now.centroid_mm - base.centroid_mm, axis=-1)
        dice = own.get("dice_with_base", pd.Series(np.nan, own.index)).to_numpy(dtype=float)
        sized = any(edit.quantity.startswith("volume") for edit in edited.get(structure, ()))
        found.append({
            "arm": arm.name, "base": Path(arm.base).name, "structure": structure, "n": len(own),
            "constrained": own["constrained"].iloc[0] if len(own) else "",
            "edit": ", ".join(map(edit_words, edited.get(structure, ()))),
            "wanted_percent": _of(np.mean, 100 * (wanted / volume - 1)) if sized else np.nan,
            "change_percent": _of(np.mean, change), "change_sd": _of(np.std, change, ddof=1),
            "least_percent": _of(np.min, change), "most_percent": _of(np.max, change),
            "moved_mm": _of(np.mean, np.where(known, moved, np.nan)),
            "moved_most_mm": _of(np.max, np.where(known, moved, np.nan)),
            "dice": _of(np.mean, dice), "dice_least": _of(np.min, dice),
        })  # fmt: skip
    return found


def edit_words(edit: Edit) -> str:
    """An edit as a reader sees it, `volume ×0.5`."""
    quantity, (_, *other) = edit.quantity.replace("_", " "), edit.structure.split("/")
    of = "".join(f" to {name.replace('_', ' ')}" for name in other)
    unit = "" if edit.operation == "multiply" else UNITS.get(quantity, "")
    if edit.operation == "add":
        return f"{quantity}{of} {edit.value:+g}{unit}".replace("-", "−")
    per_area = "/m²" if edit.operation == "set_per_m2" else ""
    return f"{quantity}{of} {SIGNS[edit.operation]}{edit.value:g}{unit}{per_area}"


def _of(what, values: np.ndarray, **options) -> float:
    """Of the known values; NaN for none, and for a spread of one."""
    values = values[np.isfinite(values)]
    return float(what(values, **options)) if len(values) > options.get("ddof", 0) else float("nan")
