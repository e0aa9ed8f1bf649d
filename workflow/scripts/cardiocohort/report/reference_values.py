"""Published means and standard deviations beside the cohort's volumes. Owned by the report stage."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..cohort.subject_columns import MUSCLE_G_PER_ML
from ..runtime.errors import InputError

VOLUMES = ("end_diastolic_volume", "maximal_volume")
INDEXED = ("end_diastolic_volume_index", "maximal_volume_index")  # mL/m2
COLUMNS = ("quantity", "structure", "group", "sex", "mean", "sd", "unit", "source")


@dataclass(frozen=True)
class Who:
    """Of the subjects of an arm: conditions and sexes there are, mean body surface area (NaN: unknown)."""

    conditions: tuple[str, ...]
    sexes: tuple[str, ...]
    bsa_m2: float


def who(rows: pd.DataFrame) -> Who:
    """From the targets of an arm; empty where they do not say who the subjects are."""

    def known(column: str) -> tuple[str, ...]:
        values = rows[column] if column in rows.columns else pd.Series(dtype=str)
        return tuple(sorted({value for value in values.dropna() if value}))

    bsa = rows["bsa_m2"].mean() if "bsa_m2" in rows.columns else float("nan")
    return Who(known("condition"), known("sex"), float(bsa))


def read_reference_values(path: str | Path) -> pd.DataFrame:
    """The table of published values; InputError naming a column that is missing."""
    frame = pd.read_csv(path, sep="\t")
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(COLUMNS)}")
    return frame


def comparable(values: pd.DataFrame, people: Who) -> pd.DataFrame:
    """Published volumes that an arm compares with: structure, group, sex, mean_ml, sd_ml, source.

    Groups are those of the arm's conditions (`healthy_ct` is one of healthy), healthy where the
    condition is unknown; sexes the arm's, and `both`. Masses become volumes by 1.05 g/mL, values
    per square metre those of the arm's mean body surface area where it is known.
    """
    conditions = people.conditions or ("healthy",)
    sexes = {*(people.sexes or ("female", "male")), "both"}
    fits = values["group"].map(lambda g: any(g == c or g.startswith(f"{c}_") for c in conditions))
    rows = values[fits & values["sex"].isin(sexes)]
    factor = pd.Series(float("nan"), index=rows.index)
    factor[rows["quantity"].isin(VOLUMES)] = 1.0
    factor[rows["quantity"].eq("mass")] = 1.0 / MUSCLE_G_PER_ML
    factor[rows["quantity"].isin(INDEXED)] = people.bsa_m2
    out = rows[["structure", "group", "sex", "source"]].assign(
        mean_ml=rows["mean"] * factor, sd_ml=rows["sd"] * factor
    )
    return out.dropna(subset=["mean_ml"]).reset_index(drop=True)


def compare(volumes: pd.DataFrame, targets: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Achieved volumes of every arm beside the published ones.

    `volumes` has arm, structure, volume_ml. Columns: arm, structure, n, mean_ml, sd_ml (the cohort's),
    then group, sex, reference_mean_ml, reference_sd_ml, source, and z, the arm's mean in reference sd.
    """
    blocks = []
    for arm, rows in volumes.groupby("arm", sort=False):
        published = comparable(values, who(targets[targets["arm"] == arm]))
        published = published.rename(columns={"mean_ml": "reference_mean_ml", "sd_ml": "reference_sd_ml"})
        achieved = rows.groupby("structure", sort=False)["volume_ml"].agg(["count", "mean", "std"])
        achieved.columns = ["n", "mean_ml", "sd_ml"]
        block = achieved.reset_index().merge(published, on="structure", how="inner")
        blocks.append(block.assign(arm=arm))
    columns = ["arm", "structure", "n", "mean_ml", "sd_ml", "group", "sex"]
    columns += ["reference_mean_ml", "reference_sd_ml", "source"]
    table = pd.concat(blocks, ignore_index=True)[columns] if blocks else pd.DataFrame(columns=columns)
    table["z"] = (table["mean_ml"] - table["reference_mean_ml"]) / table["reference_sd_ml"]
    return table
