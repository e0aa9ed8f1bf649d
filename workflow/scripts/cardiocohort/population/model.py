"""The Gaussian model of hearts: regression on covariates, shrunk covariance, truncated draws.

Owned by the population stage. A heart is the concatenation of its structures' population vectors
(`moments.to_vector`, ten numbers each), so every real vector is a valid set of moments. Sources:
Ledoit and Wolf 2004 (shrinkage); Anderson, Multivariate Statistical Analysis (conditioning).
Body sizes enter as logarithms: those of hearts scale with them by a power (allometry).
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import chi2
from sklearn.covariance import ledoit_wolf

from ..anatomy.moments import VECTOR_ENTRIES, to_vector
from ..anatomy.unions import select
from ..cohort.covariates import GROUP, Person
from ..cohort.regressors import Regression, check_size
from ..runtime.errors import InputError
from .reference import Reference

ENTRIES = len(VECTOR_ENTRIES)
# a condition's own variances count as if this many more subjects had the pooled ones
POOLED_SUBJECTS = 10


@dataclass(frozen=True)
class Gaussian:
    """mean (D,), covariance (D, D), positive definite."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class PopulationModel:
    """Entries D = 10 per name; regressors P; a row of `spread` (C, D) for each condition.

    The covariance of a condition is diag(spread) correlation diag(spread): conditions differ in
    mean and spread, and share the correlations, which a small group could not tell.
    """

    names: tuple[str, ...]
    regression: Regression
    conditions: tuple[str, ...]
    coefficients: np.ndarray  # (P, D)
    spread: np.ndarray
    correlation: np.ndarray  # (D, D)

    def given(self, person: Person) -> Gaussian:
        """The hearts of people with these covariates."""
        row = self.regression.design({name: [value] for name, value in person.items()}, 1)
        spread = self.spread[self.conditions.index(person[GROUP]) if len(self.conditions) > 1 else 0]
        return Gaussian((row @ self.coefficients)[0], self.correlation * np.outer(spread, spread))

    def entries(self, name: str) -> np.ndarray:
        """Indices (10,) of a structure's entries in the vector."""
        return self.names.index(name) * ENTRIES + np.arange(ENTRIES)


def fit(reference: Reference, names: tuple[str, ...]) -> PopulationModel:
    """Fit the joint model of structures or unions `names` to a reference population.

    Least squares on the covariates, then the residuals' standard deviations by condition and their
    correlations, shrunk (in units of those deviations, so that millimetres and logarithms weigh alike).
    Raises InputError if there are too few subjects or an entry does not vary.
    """
    vectors = to_vector(select(reference.moments, reference.structures, names))
    vectors = vectors.reshape(len(vectors), -1)
    table = reference.covariates
    n = len(vectors)
    condition = table[GROUP].to_numpy() if GROUP in table.columns else np.full(n, "")
    conditions = tuple(sorted(set(condition)))
    design = reference.regression.design(table, n)
    check_size(reference.regression, n)
    freedom = n - design.shape[1]
    coefficients = np.linalg.lstsq(design, vectors, rcond=None)[0]
    residuals = vectors - design @ coefficients

    pooled = np.sum(residuals**2, axis=0) / freedom
    constant = pooled <= 1e-18 * (1.0 + np.mean(vectors**2, axis=0))
    if constant.any():
        entry = int(np.argmax(constant))
        raise InputError(
            f"{VECTOR_ENTRIES[entry % ENTRIES]} of {names[entry // ENTRIES]} does not vary in the reference "
            "population; a population needs hearts that differ"
        )
    spread = np.empty((len(conditions), vectors.shape[1]))
    for i, name in enumerate(conditions):
        own = residuals[condition == name]
        lost = design.shape[1] / n * len(own)  # the regression's share of the group's freedom
        weight = len(own) - lost + POOLED_SUBJECTS
        spread[i] = np.sqrt((np.sum(own**2, axis=0) + POOLED_SUBJECTS * pooled) / weight)
    scaled = residuals / spread[[conditions.index(name) for name in condition]]
    covariance, _ = ledoit_wolf(scaled, assume_centered=True)
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviation, deviation)
    return PopulationModel(tuple(names), reference.regression, conditions, coefficients, spread, correlation)


def condition_on(gaussian: Gaussian, index: np.ndarray, values: np.ndarray) -> Gaussian:
    """The Gaussian of the other entries, in their order, given that entries `index` have `values`."""
    free = np.setdiff1d(np.arange(len(gaussian.mean)), index)
    s = gaussian.covariance
    gain = cho_solve(cho_factor(s[np.ix_(index, index)]), s[np.ix_(index, free)]).T
    mean = gaussian.mean[free] + gain @ (values - gaussian.mean[index])
    covariance = s[np.ix_(free, free)] - gain @ s[np.ix_(index, free)]
    return Gaussian(mean, (covariance + covariance.T) / 2.0)


def draw(gaussian: Gaussian, truncation: float, rng: np.random.Generator) -> np.ndarray:
    """One draw (D,) with Mahalanobis distance below the chi-square quantile `truncation` in (0, 1].

    Exact and without rejection: a Gaussian draw keeps its direction, and the rank u of its radius
    becomes u * truncation. So a subject takes D normal numbers from its stream, however it is cut.
    """
    d = len(gaussian.mean)
    z = rng.standard_normal(d)
    squared = z @ z
    radius = np.sqrt(chi2.ppf(truncation * chi2.cdf(squared, d), d) / squared)
    return gaussian.mean + radius * (np.linalg.cholesky(gaussian.covariance) @ z)


def squared_distance(gaussian: Gaussian, vector: np.ndarray) -> float:
    """Squared Mahalanobis distance of a vector (D,)."""
    offset = vector - gaussian.mean
    return float(offset @ cho_solve(cho_factor(gaussian.covariance), offset))


def marginal(gaussian: Gaussian, index: np.ndarray) -> Gaussian:
    return Gaussian(gaussian.mean[index], gaussian.covariance[np.ix_(index, index)])
