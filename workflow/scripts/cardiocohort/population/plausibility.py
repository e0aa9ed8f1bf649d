"""How far targets lie from the reference population, and the warning for the user.

Owned by the population stage. The final target counts, with its edits. Plausibility is
the chi-square tail probability of the squared Mahalanobis distance of a structure's ten entries,
among people with the subject's covariates.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2

from ..anatomy.domains import is_part
from ..anatomy.labels import Grid
from ..anatomy.moments import Moments, from_columns, to_ellipsoid, to_vector
from ..cohort.covariates import Person
from ..cohort.ignored_edits import idle
from ..cohort.people import check_arm
from ..cohort.stage_tables import FAR
from ..cohort.table import Arm
from .model import ENTRIES, Gaussian, PopulationModel, fit, marginal, squared_distance
from .parts import PartsModel
from .reference import Reference


@dataclass(frozen=True)
class Population:
    """The reference population as one arm needs it: the joint model, and one of each of its unions."""

    reference: Reference
    joint: PopulationModel
    unions: dict[str, PopulationModel]
    parts: PartsModel | None = None  # of the parts that the table of parts has

    @property
    def names(self) -> tuple[str, ...]:
        """What a drawn heart has."""
        return (*self.joint.names, *(self.parts.names if self.parts else ()))

    def given(self, person: Person) -> Gaussian:
        """Whole structures, then parts, of people with these covariates."""
        wholes = self.joint.given(person)
        return self.parts.joined(wholes) if self.parts else wholes


def population_for(arm: Arm, reference: Reference, parts: PartsModel | None = None) -> Population:
    """Fit the models an arm needs; InputError if the reference population cannot answer the arm.

    parts: the model of the parts that the arm names, where a table has them.
    """
    check_arm(arm, reference.covariates, reference.known, reference.regression)
    known = set(reference.structures)
    unions = [name for name in arm.asked() if "+" in name and known.issuperset(name.split("+"))]
    return Population(
        reference,
        fit(reference, reference.structures),
        {name: fit(reference, (name,)) for name in unions},
        parts,
    )


def judge(population: Population, person: Person, names: tuple[str, ...], moments: Moments) -> dict:
    """Plausibility and Mahalanobis distance by name (K,), and the plausibility of the whole heart.

    NaN for a structure that the reference population does not have. Parts have no share in the whole heart.
    """
    drawn = population.parts.names if population.parts else ()
    known = [
        k
        for k, name in enumerate(names)
        if not is_part(name)
        or (name in drawn and not np.isnan(moments.volume_ml[k]))  # missing parts are NaN
    ]
    vectors = dict(zip([names[k] for k in known], to_vector(moments[known]), strict=True))
    joint = population.given(person)
    members = [name for name in names if name in population.joint.names]
    squared = np.full(len(names), np.nan)
    for k, name in enumerate(names):
        if name in members:
            squared[k] = squared_distance(marginal(joint, population.joint.entries(name)), vectors[name])
        elif name in drawn and name in vectors:
            own = marginal(joint, population.parts.entries(name))
            squared[k] = squared_distance(own, vectors[name])
        elif name in population.unions:
            squared[k] = squared_distance(population.unions[name].given(person), vectors[name])
    whole = np.nan
    if members:
        index = np.concatenate([population.joint.entries(name) for name in members])
        heart = np.concatenate([vectors[name] for name in members])
        whole = chi2.sf(squared_distance(marginal(joint, index), heart), len(heart))
    return {
        "plausibility": chi2.sf(squared, ENTRIES),
        "mahalanobis": np.sqrt(squared),
        "heart_plausibility": whole,
    }


def warnings_of(arm: Arm, frame: pd.DataFrame, population: Population | None, grid: Grid) -> list[str]:
    """What a user should know of an arm's targets: how far from the population, where, what is in vain."""
    found = [*_far(frame), *_extrapolated(frame, population), *_unreachable(frame, grid), *idle(arm)]
    return [f"arm {arm.name!r}: {text}" for text in found]


def _far(frame: pd.DataFrame) -> list[str]:
    hearts = frame.drop_duplicates("subject")
    usual = np.sqrt(chi2.ppf(0.95, ENTRIES))
    found = [
        f"{name} lies far outside the reference population, at Mahalanobis distance "
        f"{rows['mahalanobis'].median():.1f} where 95 % of people are below {usual:.1f}; "
        f"plausibility {rows['plausibility'].median():.1e} (medians of {len(rows)} subjects)"
        for name, rows in frame.groupby("structure", sort=False)
        if rows["plausibility"].median() < FAR
    ]
    together = hearts["heart_plausibility"].median()
    if together < FAR:
        found.append(
            f"the structures together lie far outside the reference population; plausibility "
            f"{together:.1e} (median of {len(hearts)} subjects)"
        )
    return found


def _extrapolated(frame: pd.DataFrame, population: Population | None) -> list[str]:
    found = []
    hearts = frame.drop_duplicates("subject")
    table = pd.DataFrame() if population is None else population.reference.covariates
    for column in table.select_dtypes("number").columns:
        low, high = table[column].min(), table[column].max()
        known = hearts[column].dropna()  # siblings of a label map: of nobody known
        outside = int((~known.between(low, high)).sum())
        if outside:
            found.append(
                f"{column} of {outside} of {len(hearts)} subjects is outside the reference population's "
                f"{low:.4g} to {high:.4g}; their hearts are extrapolated"
            )
    return found or _extrapolated_together(hearts, population)


def _extrapolated_together(hearts: pd.DataFrame, population: Population | None) -> list[str]:
    """Covariates that the population has, but not together: a leverage above that of all its subjects."""
    hearts = hearts[hearts["heart_plausibility"].notna()]
    if population is None or hearts.empty:
        return []
    regression, table = population.reference.regression, population.reference.covariates
    own, others = (regression.design(people, len(people)) for people in (hearts, table))
    root = np.linalg.qr(others, mode="r")
    leverage, usual = (np.sum(np.linalg.solve(root.T, x.T) ** 2, axis=0) for x in (own, others))
    outside = int((leverage > usual.max() * (1.0 + 1e-9)).sum())
    if not outside:
        return []
    return [
        f"the covariates of {outside} of {len(hearts)} subjects are together unlike those of anybody in the "
        f"reference population ({', '.join(dict.fromkeys(r.covariate.column for r in regression.kept))}); "
        "their hearts are extrapolated. Covariates that an arm leaves empty do not follow those that it gives"
    ]


def _unreachable(frame: pd.DataFrame, grid: Grid) -> list[str]:
    asked = frame[(frame["constrained"] != "") & frame["volume_ml"].notna()]
    if asked.empty:
        return []
    centre, half_axes, rotation = to_ellipsoid(from_columns(asked))
    # half the width of an ellipsoid along x, y, z
    reach = np.sqrt(np.einsum("kij,kj->ki", rotation**2, half_axes**2))
    field = np.array(grid.shape) * grid.spacing_mm / 2.0
    outside = (np.abs(centre) + reach > field).any(axis=-1)
    edges = " x ".join(f"{2 * f:g}" for f in field)
    return [
        f"the target of {name} of {len(rows)} subjects reaches out of the field ({edges} mm about the "
        "heart's centre) and, if it is one solid body, cannot be met there"
        for name, rows in asked[outside].groupby("structure", sort=False)
    ]
