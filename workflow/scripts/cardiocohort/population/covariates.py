"""Who a subject is: sex, age, body-surface area and condition. Owned by the population stage.

What an arm leaves open is taken, all together, from one random subject of the reference population
who has the arm's sex and condition; so open covariates keep their joint distribution.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from ..cohort.table import LIMITS, Arm, Distribution
from ..runtime.errors import InputError
from .model import Person
from .reference import Reference


def check_arm(arm: Arm, reference: Reference) -> None:
    """InputError if the arm asks for covariates that the reference population does not have."""
    asked = {
        "sex": arm.female_share is not None,
        "age_years": arm.age is not None,
        "bsa_m2": arm.bsa is not None,
        "condition": arm.condition is not None,
    }
    table = reference.covariates
    for column, wanted in asked.items():
        if wanted and column not in table.columns:
            raise InputError(
                f"arm {arm.name!r} gives {column.split('_')[0]}, but the reference table has no column "
                f"{column!r}; leave the cell empty, or add the column to the reference table"
            )
    if arm.condition is not None and arm.condition not in set(table["condition"]):
        raise InputError(
            f"arm {arm.name!r}, column 'condition': {arm.condition!r} is not in the reference population; "
            f"allowed: {', '.join(sorted(set(table['condition'])))}"
        )
    shares = {} if arm.female_share is None else {"female": arm.female_share, "male": 1.0 - arm.female_share}
    for sex, share in shares.items():
        if share > 0.0 and not _alike(reference, sex, arm.condition).any():
            raise InputError(
                f"arm {arm.name!r}, column 'sex': the reference population has no {sex} subject"
                + (f" with {arm.condition}" if arm.condition else "")
            )


def draw_person(arm: Arm, reference: Reference, rng: np.random.Generator) -> Person:
    """One subject's covariates: always four uniform numbers of the stream, whatever the arm leaves open."""
    of_sex, of_row, of_age, of_bsa = rng.random(4)
    sex = None
    if arm.female_share is not None:
        sex = "female" if of_sex < arm.female_share else "male"
    rows = np.flatnonzero(_alike(reference, sex, arm.condition))
    like = reference.covariates.iloc[rows[int(of_row * len(rows))]]
    return Person(
        sex=sex or like.get("sex", ""),
        age_years=quantile(arm.age, of_age, *LIMITS["age"])
        if arm.age
        else float(like.get("age_years", np.nan)),
        bsa_m2=quantile(arm.bsa, of_bsa, *LIMITS["bsa"]) if arm.bsa else float(like.get("bsa_m2", np.nan)),
        condition=arm.condition or like.get("condition", ""),
    )


def quantile(distribution: Distribution, u: float, low: float, high: float) -> float:
    """Inverse of the cumulative distribution at u in [0, 1); a normal one is cut to [low, high]."""
    first, *second = distribution.parameters
    if distribution.kind == "fixed":
        return first
    if distribution.kind == "uniform":
        return first + u * (second[0] - first)
    below, above = ndtr((low - first) / second[0]), ndtr((high - first) / second[0])
    return float(np.clip(first + second[0] * ndtri(below + u * (above - below)), low, high))


def _alike(reference: Reference, sex: str | None, condition: str | None) -> np.ndarray:
    table = reference.covariates
    alike = np.ones(len(table), dtype=bool)
    if sex is not None:
        alike &= (table["sex"] == sex).to_numpy()
    if condition is not None:
        alike &= (table["condition"] == condition).to_numpy()
    return alike
