"""Covariates and volumes of the bundled population's virtual patients (prior stage).

Published means and standard deviations (resources/reference/reference_values.tsv) set the volumes;
relations that no cited source gives are assumptions, written here and nowhere else:

* body surface area: normal, men 1.9 +- 0.18, women 1.7 +- 0.17 m2; age: uniform 20-80 years;
* volumes are proportional to body surface area (the convention behind indexed values) and do not
  depend on age; log residuals of the chambers and the wall correlate with 0.5 pairwise;
* a condition's published values pool the sexes: the healthy sex ratio is kept around their mean;
  atria and vessels keep their healthy values in all conditions;
* spread of the vessels other than the aorta: 15 % of the volume.

The ascending aorta's diameter grows 1 mm per decade and 1 mm per 0.23 m2 (MESA, Turkbey 2014).
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

CONDITIONS = {
    "healthy": 0.5,
    "dilated_cardiomyopathy": 0.25,
    "hypertrophic_cardiomyopathy": 0.1,
    "infarct_reduced_ejection": 0.075,
    "abnormal_right_ventricle": 0.075,
}
BODY_SURFACE_M2 = {"male": (1.9, 0.18), "female": (1.7, 0.17)}
AGE_YEARS = (20.0, 80.0)
CHAMBERS = ("left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "myocardium")
RESIDUAL_CORRELATION = 0.5
VESSEL_LOG_SD = 0.15
MYOCARDIAL_DENSITY_G_ML = 1.05
AORTA_MM_PER_YEAR, AORTA_MM_PER_M2 = 0.1, 1 / 0.23
WIDEST = 2.0  # draws end at this many standard deviations of a published distribution


@dataclass(frozen=True)
class VirtualPatient:
    sex: str
    age_years: float
    bsa_m2: float
    condition: str
    volumes_ml: dict  # chambers and myocardium: absolute
    vessel_factors: dict  # other structures: volume relative to the template's


@dataclass(frozen=True)
class Published:
    """Published means and standard deviations of volumes and of the ascending aorta's diameter.

    volumes_ml by structure, condition and sex; aorta_mm by sex; aorta_of_both_mm, the mean over the sexes.
    """

    volumes_ml: dict[tuple[str, str, str], tuple[float, float]]
    aorta_mm: dict[str, tuple[float, float]]
    aorta_of_both_mm: float


def read_published(path: str | Path) -> Published:
    """From reference_values.tsv, at end-diastole."""
    reference = pd.read_csv(path, sep="\t")
    volumes = {of: _published(reference, *of) for of in product(CHAMBERS, CONDITIONS, BODY_SURFACE_M2)}
    aorta = reference[reference.structure == "ascending_aorta"]
    first = aorta.drop_duplicates("sex").set_index("sex")
    diameters = {sex: (first.loc[sex, "mean"], first.loc[sex, "sd"]) for sex in BODY_SURFACE_M2}
    return Published(volumes, diameters, aorta["mean"].mean())


def _published(reference: pd.DataFrame, structure: str, condition: str, sex: str) -> tuple[float, float]:
    """Mean and SD (mL). Healthy values are by sex (Kawel-Boehm 2015 for the left ventricle, Hudsmith 2005 for
    right ventricle and left atrium, indexed value for the right atrium).
    """

    def look_up(group: str, of_sex: str) -> tuple[float, float]:
        rows = reference[(reference.structure == structure) & (reference.group == group)]
        rows = rows[(rows.sex == of_sex) & ~rows.quantity.isin(["mass_index", "end_diastolic_volume_index"])]
        row = rows.iloc[0]
        if row.unit == "g":
            return row["mean"] / MYOCARDIAL_DENSITY_G_ML, row["sd"] / MYOCARDIAL_DENSITY_G_ML
        if row.unit == "mL/m2":
            return row["mean"] * BODY_SURFACE_M2[sex][0], row["sd"] * BODY_SURFACE_M2[sex][0]
        return row["mean"], row["sd"]

    if structure == "right_atrium":
        return look_up("healthy", "both")
    healthy = {s: look_up("healthy", s) for s in ("male", "female")}
    if condition == "healthy" or structure == "left_atrium":
        return healthy[sex]
    mean, sd = look_up(condition, "both")
    ratio = healthy[sex][0] / np.mean([healthy[s][0] for s in healthy])
    return mean * ratio, sd * ratio


def draw(rng: np.random.Generator, published: Published, vessels: tuple[str, ...]) -> VirtualPatient:
    """One virtual patient; volumes are log-normal with the published mean and SD, cut at WIDEST SDs."""
    sex = str(rng.choice(["female", "male"]))
    condition = str(rng.choice(list(CONDITIONS), p=list(CONDITIONS.values())))
    age = float(rng.uniform(*AGE_YEARS))
    bsa_mean, bsa_sd = BODY_SURFACE_M2[sex]
    bsa = float(bsa_mean + bsa_sd * np.clip(rng.standard_normal(), -WIDEST, WIDEST))

    shared, of_structure = rng.standard_normal(), rng.standard_normal(len(CHAMBERS))
    residual = np.sqrt(RESIDUAL_CORRELATION) * shared + np.sqrt(1 - RESIDUAL_CORRELATION) * of_structure
    volumes = {}
    for structure, z in zip(CHAMBERS, residual, strict=True):
        mean, sd = published.volumes_ml[structure, condition, sex]
        spread = np.sqrt(np.log1p((sd / mean) ** 2))
        by_size = bsa_sd / bsa_mean  # what body size already contributes to the spread
        own_spread = np.sqrt(max(spread**2 - by_size**2, (0.3 * spread) ** 2))
        deviation = np.log(bsa / bsa_mean) + own_spread * z
        deviation = np.clip(deviation, -WIDEST * spread, WIDEST * spread)
        volumes[structure] = float(mean * np.exp(deviation - spread**2 / 2))

    mean, sd = published.aorta_mm[sex]
    diameter = mean + AORTA_MM_PER_YEAR * (age - np.mean(AGE_YEARS)) + AORTA_MM_PER_M2 * (bsa - bsa_mean)
    explained = AORTA_MM_PER_YEAR * np.ptp(AGE_YEARS) / np.sqrt(12), AORTA_MM_PER_M2 * bsa_sd
    left = np.sqrt(max(sd**2 - explained[0] ** 2 - explained[1] ** 2, 1.0))
    diameter += left * np.clip(rng.standard_normal(), -WIDEST, WIDEST)
    factors = {v: float(np.exp(VESSEL_LOG_SD * rng.standard_normal())) for v in vessels}
    factors["aorta"] = float((diameter / published.aorta_of_both_mm) ** 2)
    return VirtualPatient(sex, age, bsa, condition, volumes, factors)
