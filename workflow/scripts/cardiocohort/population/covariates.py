"""Who a subject is: one value of every covariate. Owned by the population stage.

What an arm leaves open is taken, all together, from one random subject of the reference population
who has the levels that the arm gives; so open covariates keep their joint distribution.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from scipy.special import ndtr, ndtri

from ..cohort import covariates
from ..cohort.covariates import Distribution, Person
from ..cohort.people import alike
from ..cohort.table import Arm
from .reference import Reference


def draw_person(arm: Arm, reference: Reference, rng: np.random.Generator) -> Person:
    """One subject's covariates. Each has a random number of its own, whatever the arm leaves open.

    So another distribution, or a further covariate, changes no other covariate that the arm gives. rng: of
    the arm's subject, or of the subject it is matched to; a matched person is that one except for covariates
    whose distributions differ.
    """
    of_sex, of_row, of_age, of_bsa = rng.random(4)
    ranks = {"sex": of_sex, "age_years": of_age, "bsa_m2": of_bsa}
    further = int(rng.integers(2**63))

    def values(distributions: Mapping[str, Distribution]) -> Person:
        found = {}
        for column, distribution in distributions.items():
            covariate = reference.known[column]
            rank = ranks[column] if column in ranks else _rank(further, column)
            found[column] = quantile(distribution, rank, covariate.low, covariate.high)
        return found

    if arm.matched:
        person = _like_others(values(arm.matched.covariates), reference, of_row)
        theirs = arm.matched.covariates
        own = values({name: d for name, d in arm.covariates.items() if d != theirs.get(name)})
        return reference.regression.completed(person | own)
    return _like_others(values(arm.covariates), reference, of_row)


def _like_others(given: Person, reference: Reference, of_row: float) -> Person:
    """The given covariates, and those of a random subject with the same levels for the others."""
    levels = {column: value for column, value in given.items() if not reference.known[column].numeric}
    rows = np.flatnonzero(alike(reference.covariates, levels))
    like = reference.covariates.iloc[rows[int(of_row * len(rows))]].to_dict()
    person = unknown_person(reference) | like | given
    one_row = len(levels) == len(given)  # whose own numbers fit each other
    return person if one_row else reference.regression.completed(person)


def unknown_person(reference: Reference | None) -> Person:
    """Somebody of whom nothing is known: every covariate of the targets' table, standard ones first."""
    known = reference.known if reference else covariates.known()
    columns = (*covariates.STANDARD, *(reference.covariates.columns if reference else ()))
    return {name: known[name].unknown for name in columns}


def _rank(entropy: int, column: str) -> float:
    """A number in [0, 1) that depends on the covariate's name, not on which others there are."""
    word = int.from_bytes(hashlib.sha256(column.encode()).digest()[:8], "little")
    return float(np.random.default_rng([entropy, word]).random())


def quantile(distribution: Distribution, u: float, low: float, high: float) -> float | str:
    """Inverse of the cumulative distribution at u in [0, 1); a normal one is cut to [low, high]."""
    if distribution.kind == "shares":
        levels, shares = zip(*distribution.parameters, strict=True)
        return levels[min(int(np.searchsorted(np.cumsum(shares), u, side="right")), len(levels) - 1)]
    first, *second = distribution.parameters
    if distribution.kind == "fixed":
        return first
    if distribution.kind == "uniform":
        return first + u * (second[0] - first)
    below, above = ndtr((low - first) / second[0]), ndtr((high - first) / second[0])
    return float(np.clip(first + second[0] * ndtri(below + u * (above - below)), low, high))
