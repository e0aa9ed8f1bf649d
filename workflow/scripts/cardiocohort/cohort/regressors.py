"""The covariates of people as columns of a regression, and which covariates a population cannot tell apart.

Owned by the population stage; light, because the Snakefile's check of a trial uses it. Columns come in the
order of the table of covariates. No data determine the effect of a column that those before it explain:
weight beside height and body-surface area, or NYHA class I where all of the healthy have it and no other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..runtime.errors import InputError
from .covariates import Covariate, Person

# what the columns before it must leave of a numeric column's variance (1 / variance inflation factor): below,
# the standard error of its effect is above ten times that of an independent covariate
MIN_OWN_VARIANCE = 0.01
# a level is an effect of its own unless it is exactly determined; rounding leaves less than this
MIN_OWN_LEVEL = 1e-8
MIN_FREEDOM = 10  # subjects beyond the number of effects, from whom a spread can be estimated
NAMED_SHARE = 0.1  # of a standard deviation: what a covariate must explain of another to be named for it


@dataclass(frozen=True)
class Regressor:
    """One column: a level of a categorical covariate, 0 or 1, or (transform(x) - centre) / scale."""

    covariate: Covariate
    level: str = ""
    centre: float = 0.0
    scale: float = 1.0

    def values(self, column) -> np.ndarray:
        """The column (N,) of values (N,)."""
        if not self.covariate.numeric:
            return (np.asarray(column) == self.level).astype(float)
        return (_transformed(self.covariate, column) - self.centre) / self.scale

    def inverse(self, value: float) -> float:
        """The numeric covariate at a value of the column, within its range."""
        transformed = value * self.scale + self.centre
        own = np.exp(transformed) if self.covariate.transform == "log" else transformed
        return float(np.clip(own, self.covariate.low, self.covariate.high))


@dataclass(frozen=True)
class Derived:
    """A numeric covariate that others explain: its regression (1 + P,) on the first P regressors."""

    regressor: Regressor
    others: tuple[str, ...]  # columns of the covariates that explain it
    own_variance: float  # what they leave of its variance
    coefficients: np.ndarray


@dataclass(frozen=True)
class Regression:
    """What hearts are regressed on: an intercept and the `kept` columns. `constant`: have one value."""

    kept: tuple[Regressor, ...]
    constant: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = ()

    def design(self, people: Mapping[str, Sequence], n: int) -> np.ndarray:
        """The design (n, 1 + P) of people, from their covariates (n,) by column."""
        return np.stack([np.ones(n), *(r.values(people[r.covariate.column]) for r in self.kept)], axis=1)

    def completed(self, person: Person) -> dict[str, str | float]:
        """A person whose derived covariates fit the others."""
        whole = dict(person)
        if self.derived:
            row = self.design({name: [value] for name, value in person.items()}, 1)[0]
            for derived in self.derived:
                value = row[: len(derived.coefficients)] @ derived.coefficients
                whole[derived.regressor.covariate.column] = derived.regressor.inverse(value)
        return whole

    def remarks(self, people: pd.DataFrame) -> list[str]:
        """One sentence per covariate that is no regressor."""
        found = [
            f"{name} is {people[name].iloc[0]:g} for every subject, so hearts cannot depend on it"
            for name in self.constant
        ]
        return found + [
            f"{d.regressor.covariate.column} is determined by {' and '.join(d.others)} (R2 "
            f"{1.0 - d.own_variance:.4f}) and has no effect of its own. Subjects get the value that fits"
            for d in self.derived
        ]


def regression_on(covariates: Sequence[Covariate], people: pd.DataFrame) -> Regression:
    """The columns that a population's `covariates` give, in their order; `people` has one row per subject."""
    n = len(people)
    kept: list[Regressor] = []
    constant: list[str] = []
    derived: list[Derived] = []
    basis = np.full((n, 1), 1.0 / np.sqrt(n))  # orthonormal, of the columns kept so far
    for covariate in covariates:
        column = people[covariate.column].to_numpy()
        for regressor in _candidates(covariate, column):
            values = regressor.values(column)
            total = np.sum((values - values.mean()) ** 2)
            rest = values - basis @ (basis.T @ values)
            rest -= basis @ (basis.T @ rest)
            own = np.sum(rest**2) / total if total > 1e-18 * np.sum(values**2 + 1.0) else None
            if own is None:
                constant.append(covariate.column)
            elif own < (MIN_OWN_VARIANCE if covariate.numeric else MIN_OWN_LEVEL):
                if covariate.numeric:
                    derived.append(_derived(regressor, values, kept, people, own))
            else:
                kept.append(regressor)
                basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return Regression(tuple(kept), tuple(constant), tuple(derived))


def check_size(regression: Regression, n: int) -> None:
    """InputError where n subjects are too few to fit the effects and a spread about them."""
    effects = 1 + len(regression.kept)
    if n < effects + MIN_FREEDOM:
        columns = dict.fromkeys(r.covariate.column for r in regression.kept)
        raise InputError(
            f"the reference population has {n} subjects; a fit of {effects} effects (a mean, one per number "
            f"and per level but the first) needs at least {effects + MIN_FREEDOM}. The covariates are "
            f"{', '.join(columns) or 'none'}: leave columns out of the reference table, or add subjects"
        )


def _candidates(covariate: Covariate, column: np.ndarray) -> list[Regressor]:
    if not covariate.numeric:
        present = set(column)
        order = covariate.levels or sorted(present)
        return [Regressor(covariate, level) for level in order if level in present][1:]
    transformed = _transformed(covariate, column)
    centre = float(transformed.mean())
    # logarithms of sizes vary by a tenth or so; other numbers are brought near 1 by a power of ten
    deviation = float(transformed.std())
    linear = covariate.transform == "identity" and deviation > 1e-9 * np.abs(transformed).max()
    return [Regressor(covariate, "", centre, 10.0 ** np.round(np.log10(deviation)) if linear else 1.0)]


def _transformed(covariate: Covariate, column) -> np.ndarray:
    values = np.asarray(column, dtype=float)
    return np.log(values) if covariate.transform == "log" else values


def _derived(
    regressor: Regressor, values: np.ndarray, kept: list[Regressor], people: pd.DataFrame, own: float
) -> Derived:
    design = Regression(tuple(kept)).design(people, len(values))
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    shares = np.abs(coefficients[1:]) * design[:, 1:].std(axis=0) / values.std()
    others = [r.covariate.column for r, share in zip(kept, shares, strict=True) if share > NAMED_SHARE]
    return Derived(regressor, tuple(dict.fromkeys(others)), float(own), coefficients)
