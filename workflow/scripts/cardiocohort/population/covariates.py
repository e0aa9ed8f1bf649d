"""Who a subject is: sex, age, body-surface area and condition. Owned by the population stage.

What an arm leaves open is taken, all together, from one random subject of the reference population
who has the arm's sex and condition; so open covariates keep their joint distribution.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from ..cohort.people import alike
from ..cohort.table import LIMITS, Arm, Distribution
from .model import Person
from .reference import Reference


def draw_person(arm: Arm, reference: Reference, rng: np.random.Generator) -> Person:
    """One subject's covariates: always four uniform numbers of the stream, whatever the arm leaves open."""
    of_sex, of_row, of_age, of_bsa = rng.random(4)
    sex = None
    if arm.female_share is not None:
        sex = "female" if of_sex < arm.female_share else "male"
    rows = np.flatnonzero(alike(reference.covariates, sex, arm.condition))
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
