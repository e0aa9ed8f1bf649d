"""Simulated hearts beside the siblings made of them. Owned by the simulation stage; needs no solver."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ..cohort import stage_tables
from ..mesh.model import REGIONS
from ..runtime import tables
from ..runtime.artifacts import check_file, listed_file
from ..runtime.outcomes import Outcome

CONFIDENCE = 0.95
CAVITIES = ("lv_unloaded_ml", "lv_loaded_ml", "rv_unloaded_ml", "rv_loaded_ml")
QUANTITIES = (
    "volume_ml", *(f"{part}_{which}_mm" for part in REGIONS for which in ("mean", "max")), *CAVITIES,
)  # fmt: skip
REGIONAL = {f"regional_{name}": kind for name, kind in tables.FILE_COLUMNS.items()}


def hearts(simulations: list[Path], anatomies: list[Path], structure: str) -> pd.DataFrame:
    """One row per heart, indexed by subject: verdict, reason and QUANTITIES; NaN where a simulation failed.

    simulations, anatomies: batch tables, the former with their subjects' files beside them. `volume_ml` is
    the structure's in the label map. Raises InputError where a listed file is missing or was changed.
    """
    moments = pd.concat([tables.read_table(path, stage_tables.ANATOMIES) for path in anatomies])
    volume = moments[moments["structure"] == structure].set_index("subject")["volume_ml"]
    rows = []
    for path in simulations:
        for row in tables.read_table(path, stage_tables.SIMULATIONS | REGIONAL).to_dict("records"):
            figures = dict.fromkeys(QUANTITIES, np.nan) | {"volume_ml": volume.get(row["subject"], np.nan)}
            if row["verdict"] == Outcome.ACCEPTED:
                figures |= {name: row[name] for name in CAVITIES} | _displacements(path.with_suffix(""), row)
            rows.append({name: row[name] for name in ("subject", "verdict", "reason")} | figures)
    return pd.DataFrame(rows).set_index("subject")


def pairs(bases: pd.DataFrame, siblings: pd.DataFrame) -> pd.DataFrame:
    """One row per sibling, beside the base of the same index: `verdict` compared or left_out, `reason`.

    Columns `base_<quantity>` and `<quantity>` for QUANTITIES. A pair is compared where both hearts were
    simulated to the full load.
    """
    base_arm = bases.index[0].rpartition("-")[0]
    rows = []
    for subject, heart in siblings.iterrows():
        name = f"{base_arm}-{subject.rpartition('-')[2]}"
        base = bases.loc[name]
        reasons = [
            f"{s}: {h['reason']}"
            for s, h in ((name, base), (subject, heart))
            if h["verdict"] != Outcome.ACCEPTED
        ]
        row = {"subject": subject, "base": name, "verdict": "left_out" if reasons else "compared"}
        row["reason"] = "; ".join(reasons)
        for quantity in QUANTITIES:
            row |= {f"base_{quantity}": base[quantity], quantity: heart[quantity]}
        rows.append(row)
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, independent: bool = True) -> pd.DataFrame:
    """One row per quantity over the compared pairs of `pairs`: means, and the mean difference within pairs.

    `difference_low` and `difference_high` bound its 95 % confidence interval (Student's t of the differences,
    NaN below two pairs, and where the pairs are not independent); `greater` counts the pairs whose sibling
    has more.
    """
    compared = table[table["verdict"] == "compared"]
    rows = []
    for quantity in QUANTITIES:
        base, sibling = compared[f"base_{quantity}"].to_numpy(float), compared[quantity].to_numpy(float)
        low, high = _interval(sibling - base) if independent else (np.nan, np.nan)
        rows.append({
            "quantity": quantity, "pairs": len(compared), "base_mean": _mean(base),
            "sibling_mean": _mean(sibling), "difference_mean": _mean(sibling - base),
            "difference_low": low, "difference_high": high, "greater": int((sibling > base).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _displacements(folder: Path, row: dict) -> dict[str, float]:
    parts = pd.read_csv(check_file(*listed_file(row, folder, "regional_")), sep="\t").set_index("part")
    return {
        f"{part}_{which}_mm": float(parts.loc[part, f"{which}_mm"])
        for part in REGIONS
        for which in ("mean", "max")
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _interval(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 2:
        return np.nan, np.nan
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)
