"""Covariates and volumes of the bundled population's virtual patients (prior stage). Of hearts only.

Every number comes from the tables in resources/reference (`published`): what no source gives is a row of
kind `assumption` there. Each volume is the published mean for condition and sex, times body size, times the
share lost or gained with age, times a log-normal residual that fills the published spread.
"""

from dataclasses import dataclass

import numpy as np

from .published import CHAMBERS, HEALTHY, Published, read_published

__all__ = ["CHAMBERS", "Published", "VirtualPatient", "draw", "read_published", "wall_growth"]


@dataclass(frozen=True)
class VirtualPatient:
    """`septal_growth`: by how much more the septum thickens than the free wall, 1 for an even wall."""

    sex: str
    age_years: float
    bsa_m2: float
    condition: str
    volumes_ml: dict  # chambers and myocardium: absolute
    vessel_factors: dict  # other structures: volume relative to the template's
    septal_growth: float = 1.0


def wall_growth(septal_growth: float, wall_factor: float, septal_share: float) -> tuple[float, float]:
    """Volume factors of septum and free wall of a template's myocardium.

    `wall_factor`: new volume of the whole wall over the template's; `septal_share`: share of the template's
    wall that is septum. The septum's factor is `septal_growth` times the free wall's, and the whole wall
    grows by `wall_factor`.
    """
    free_wall = wall_factor / (1 + septal_share * (septal_growth - 1))
    return septal_growth * free_wall, free_wall


def draw(rng: np.random.Generator, published: Published, vessels: tuple[str, ...]) -> VirtualPatient:
    """One virtual patient; residuals end at the table's `widest_draw` standard deviations."""
    sex = "female" if rng.random() < published.women_share else "male"
    condition = str(rng.choice(list(published.prevalence), p=list(published.prevalence.values())))
    age = float(rng.uniform(*published.age_years))
    bsa_mean, bsa_sd = published.body_surface_m2[sex]
    bsa = float(bsa_mean + bsa_sd * _cut_normal(rng, published))
    volumes = _volumes(rng, published, sex, condition, age, bsa)
    if condition in published.ventricular_ratios:
        volumes |= _split(rng, published, condition, volumes)
    mean, sd = published.septum_ratios[condition]
    septum = float(mean + sd * _cut_normal(rng, published)) / published.septum_ratios[HEALTHY][0]
    factors = {v: float(np.exp(published.vessel_log_sd * rng.standard_normal())) for v in vessels}
    diameter = _aortic_diameter(rng, published, sex, age, bsa)
    factors["aorta"] = float((diameter / published.aorta_of_both_mm) ** 2)
    return VirtualPatient(sex, age, bsa, condition, volumes, factors, septum)


def _cut_normal(rng: np.random.Generator, published: Published) -> float:
    return float(np.clip(rng.standard_normal(), -published.widest, published.widest))


def _volumes(rng, published: Published, sex: str, condition: str, age: float, bsa: float) -> dict[str, float]:
    """Log-normal volumes (mL) with the published mean and SD; size and age explain a part of the SD."""
    shared, of_structure = rng.standard_normal(), rng.standard_normal(len(CHAMBERS))
    correlation = published.residual_correlation
    residual = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * of_structure
    bsa_mean, bsa_sd = published.body_surface_m2[sex]
    volumes = {}
    for structure, z in zip(CHAMBERS, residual, strict=True):
        mean, sd = published.volumes_ml[structure, condition, sex]
        slope = published.relative_slopes[structure, condition, sex]
        spread = np.sqrt(np.log1p((sd / mean) ** 2))
        by_size = published.size_exponent * bsa_sd / bsa_mean
        by_age = slope * np.ptp(published.age_years) / np.sqrt(12)
        least = published.least_own_spread * spread
        own_spread = np.sqrt(max(spread**2 - by_size**2 - by_age**2, least**2))
        deviation = published.size_exponent * np.log(bsa / bsa_mean) + own_spread * z
        deviation = np.clip(deviation, -published.widest * spread, published.widest * spread)
        deviation += slope * (age - published.age_reference)
        volumes[structure] = float(mean * np.exp(deviation - spread**2 / 2))
    return volumes


def _split(rng, published: Published, condition: str, volumes: dict[str, float]) -> dict[str, float]:
    """Both ventricles with a drawn RV/LV ratio; their geometric mean stays."""
    severities = published.ventricular_ratios[condition]
    _, lowest, highest = severities[rng.choice(len(severities), p=[share for share, _, _ in severities])]
    root = np.sqrt(rng.uniform(lowest, highest))
    middle = np.sqrt(volumes["left_ventricle"] * volumes["right_ventricle"])
    return {"left_ventricle": float(middle / root), "right_ventricle": float(middle * root)}


def _aortic_diameter(rng, published: Published, sex: str, age: float, bsa: float) -> float:
    """Diameter (mm) of the ascending aorta, which grows with age and body size."""
    mean, sd = published.aorta_mm[sex]
    bsa_mean, bsa_sd = published.body_surface_m2[sex]
    per_year, per_m2 = published.aorta_mm_per_year, published.aorta_mm_per_m2
    by_age, by_size = per_year * np.ptp(published.age_years) / np.sqrt(12), per_m2 * bsa_sd
    least = published.least_own_spread * sd
    own = np.sqrt(max(sd**2 - by_age**2 - by_size**2, least**2))
    diameter = mean + per_year * (age - published.age_reference) + per_m2 * (bsa - bsa_mean)
    return diameter + own * _cut_normal(rng, published)
