"""A reference population with known truth, for the tests of the population stage.

Hearts are a linear Gaussian model in population vectors: mean + sex, age, log BSA and condition
effects + correlated residuals, shifted to the heart frame. Nothing here is anatomy beyond scale.
"""

import dataclasses

import numpy as np
import pandas as pd

from cardiocohort.anatomy.moments import Moments, from_vector, to_columns
from cardiocohort.anatomy.unions import select
from cardiocohort.cohort.covariates import Distribution
from cardiocohort.cohort.table import Arm, parse_constraints, parse_edits
from cardiocohort.population.reference import COLUMNS
from heart_anatomy import HEART

K, D = len(HEART.structures), 10 * len(HEART.structures)
CONDITIONS = ("dilated_cardiomyopathy", "healthy", "hypertrophic_cardiomyopathy")
VOLUMES = np.array([110.0, 130.0, 145.0, 75.0, 85.0, 45.0, 40.0, 15.0, 12.0, 9.0])
CENTRES = np.array(
    [[-10, 5, -10], [-12, 6, -8], [12, 18, -12], [-5, -35, 20], [38, -10, 5], [8, 5, 50], [0, 30, 45],
     [40, -5, 55], [42, -20, -40], [-15, -50, 30]],
    dtype=float,
)  # fmt: skip


SIX = "myocardium, left_ventricle, right_ventricle, left_atrium, right_atrium, aorta: size position shape"


WOMAN = {"sex": "female", "age_years": 50.0, "bsa_m2": 1.75, "condition": "healthy"}


def given(**values) -> dict[str, Distribution]:
    """The covariates of an arm: levels, numbers and distributions, by column."""

    def distribution(value) -> Distribution:
        if isinstance(value, Distribution):
            return value
        return Distribution("shares", ((value, 1.0),)) if isinstance(value, str) else fixed(value)

    return {column: distribution(value) for column, value in values.items()}


def fixed(value: float) -> Distribution:
    return Distribution("fixed", (value,))


def arm(name="women", constraints=SIX, edits="", covariates=WOMAN, **changes) -> Arm:
    parsed = parse_constraints(constraints, HEART), parse_edits(edits, HEART)
    return dataclasses.replace(Arm(name, None, given(**covariates), None, *parsed), **changes)


def structure_rows(targets: pd.DataFrame, name: str) -> pd.DataFrame:
    return targets[targets["structure"] == name].reset_index(drop=True)


def population_vectors(n: int, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Vectors (n, D) before the shift to the heart frame, and the covariates."""
    rng = np.random.default_rng(seed)
    covariates = pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], n),
            "age_years": rng.uniform(20.0, 80.0, n),
            "condition": np.asarray(CONDITIONS)[np.arange(n) % 3],
        }
    )
    male = (covariates["sex"] == "male").to_numpy()
    covariates["bsa_m2"] = np.where(male, 2.0, 1.75) + 0.15 * rng.standard_normal(n)
    dilated = (covariates["condition"] == "dilated_cardiomyopathy").to_numpy()

    mean = np.zeros((K, 10))
    mean[:, 0], mean[:, 1:4] = np.log(VOLUMES), CENTRES
    mean[:, 4] = np.log(3.0 * (VOLUMES * 1000.0) ** (2.0 / 3.0) / 8.0)
    size = (
        np.log(covariates["bsa_m2"].to_numpy() / 1.85) + 0.1 * male - 0.002 * (covariates["age_years"] - 50.0)
    )
    vectors = np.repeat(mean[None], n, axis=0)
    vectors[:, :, 0] += size.to_numpy()[:, None]
    vectors[:, :, 4] += 2.0 / 3.0 * size.to_numpy()[:, None]
    vectors[dilated, 1, 0] += 0.7
    vectors[dilated, 1, 4] += 0.45

    spread = np.tile([0.15, 3.0, 3.0, 3.0, 0.1, 0.08, 0.08, 0.08, 0.08, 0.08], K)
    mixing = np.random.default_rng(1).standard_normal((D, D)) / np.sqrt(D) + np.eye(D)
    residual = rng.standard_normal((n, D)) @ mixing.T / np.sqrt(np.sum(mixing**2, axis=1)) * spread
    residual[dilated] *= 1.4
    return vectors.reshape(n, D) + residual, covariates


def reference_frame(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """The reference table of n subjects, as a user would write it."""
    vectors, covariates = population_vectors(n, seed)
    moments = from_vector(vectors.reshape(n, K, 10))
    centre = select(moments, HEART.structures, ("+".join(HEART.centred_on),)).centroid_mm
    moments = Moments(moments.volume_ml, moments.centroid_mm - centre, moments.covariance_mm2)
    frame = pd.DataFrame({name: values.ravel() for name, values in to_columns(moments).items()})
    frame["subject"] = np.repeat([f"ref-{i:04d}" for i in range(n)], K)
    frame["structure"] = np.tile(HEART.structures, n)
    return pd.concat(
        [frame[list(COLUMNS)], covariates.loc[np.repeat(np.arange(n), K)].reset_index(drop=True)], axis=1
    )
