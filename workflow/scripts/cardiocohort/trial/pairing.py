"""Hearts of two arms side by side: pairs where they share clusters, samples where not. Owned by trial.

The unit of all statistics is the cluster (column `cluster` of the subject table): hearts that descend from
one heart, from one label map file or from the same explicit targets. An arm's hearts of one cluster count
once, by their mean. This is the analysis of cluster means (Donner and Klar, Design and analysis of cluster
randomization trials in health research, 2000): intervals of the hearts themselves would be too short.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from .endpoints import Endpoint


@dataclass(frozen=True)
class Comparison:
    """One endpoint of one arm beside the reference arm.

    arm_values, reference_values: one per cluster with a value, in the same order and number if `paired`.
    arm_hearts, reference_hearts: names of the hearts of each. requested: clusters of the arm and of the
    reference arm that the design compares, pairs if paired. left_out: hearts with a value in clusters that
    the other arm does not have, if paired.
    """

    endpoint: Endpoint
    arm: str
    reference: str
    paired: bool
    arm_values: np.ndarray
    reference_values: np.ndarray
    arm_hearts: tuple[tuple[str, ...], ...]
    reference_hearts: tuple[tuple[str, ...], ...]
    requested: tuple[int, int]
    left_out: int = 0

    @property
    def hearts(self) -> tuple[int, int]:
        """Hearts behind the values of the arm and of the reference arm."""
        return sum(map(len, self.arm_hearts)), sum(map(len, self.reference_hearts))

    @property
    def clustered(self) -> bool:
        """Whether a value is the mean of several hearts."""
        return self.hearts != (len(self.arm_values), len(self.reference_values))

    @property
    def differences(self) -> np.ndarray:
        """Arm minus reference within pairs."""
        return self.arm_values - self.reference_values

    @property
    def missing(self) -> tuple[int, int]:
        """Requested clusters (pairs) without a value, of the arm and of the reference arm."""
        return self.requested[0] - len(self.arm_values), self.requested[1] - len(self.reference_values)

    @property
    def enough(self) -> bool:
        """Whether there is a spread to test with."""
        if self.paired:
            return len(self.arm_values) > 1 and np.ptp(self.differences) > 0
        both = (self.arm_values, self.reference_values)
        return min(map(len, both)) > 1 and max(np.ptp(v) for v in both) > 0


def comparisons(subjects: pd.DataFrame, endpoints: list[Endpoint], reference: str) -> list[Comparison]:
    """Every endpoint of every arm beside the reference arm, in the order of endpoints and arms.

    subjects: the subject table. Arms are paired where they share clusters. InputError for an endpoint without
    values, or with one value alone.
    """
    arms = [name for name in subjects["arm"].unique() if name != reference]
    found = []
    for endpoint in endpoints:
        values = values_of(subjects, endpoint.column)
        _check_values(endpoint, values)
        table = subjects[["subject", "arm", "cluster"]].assign(value=values)
        of_arm = dict(list(table.groupby("arm", sort=False)))
        found += [_compared(endpoint, arm, reference, of_arm[arm], of_arm[reference]) for arm in arms]
    return found


def values_of(subjects: pd.DataFrame, column: str) -> pd.Series:
    """A column's numbers of accepted hearts, NaN for others, whose targets and covariates are known too."""
    return subjects[column].astype(float).where(subjects["status"] == Outcome.ACCEPTED)


def remarks(compared: list[Comparison]) -> list[str]:
    """One sentence per arm that has fewer independent hearts than hearts, or hearts without a partner."""
    found = []
    for c in compared:
        for arm, hearts, n in (
            (c.arm, c.hearts[0], len(c.arm_values)),
            (c.reference, c.hearts[1], len(c.reference_values)),
        ):
            if hearts != n:
                found.append(
                    f"{arm}: {hearts} hearts count as {n}, since siblings of one heart or label map file, "
                    "and hearts with the same explicit targets, are not independent (column 'cluster' of "
                    "subjects.tsv)"
                )
        if c.left_out:
            found.append(
                f"{c.arm} beside {c.reference}: {c.left_out} hearts of {c.endpoint.column} have no partner "
                "in the other arm and are left out of the paired comparison"
            )
    return list(dict.fromkeys(found))


def _compared(
    endpoint: Endpoint, arm: str, reference: str, own: pd.DataFrame, base: pd.DataFrame
) -> Comparison:
    sides = [_by_cluster(rows) for rows in (own, base)]
    shared = sides[0].index.intersection(sides[1].index, sort=False)
    left_out, requested = 0, (len(sides[0]), len(sides[1]))
    if len(shared):
        requested = (len(shared), len(shared))
        left_out = sum(len(hearts) for side in sides for hearts in side["hearts"].drop(shared))
        whole = [name for name in shared if all(side.at[name, "hearts"] for side in sides)]
        sides = [side.loc[whole] for side in sides]
    kept = [side[side["hearts"].map(len) > 0] for side in sides]
    values = (side["value"].to_numpy(float) for side in kept)
    hearts = (tuple(side["hearts"]) for side in kept)
    return Comparison(endpoint, arm, reference, len(shared) > 0, *values, *hearts, requested, left_out)


def _by_cluster(rows: pd.DataFrame) -> pd.DataFrame:
    """By cluster: mean `value`, and the names of the `hearts` that have one."""
    known = rows["value"].notna()
    groups = rows.assign(name=rows["subject"].where(known)).groupby("cluster", sort=False)
    return pd.DataFrame({
        "value": groups["value"].mean(),
        "hearts": groups["name"].agg(lambda names: tuple(names.dropna())),
    })  # fmt: skip


def _check_values(endpoint: Endpoint, values: pd.Series) -> None:
    known = values.dropna()
    if known.empty:
        raise InputError(
            f"endpoint {endpoint.column!r}: no heart has a value in subjects.tsv; check the column 'reason', "
            "and whether its stage has run"
        )
    if known.nunique() == 1:
        raise InputError(
            f"endpoint {endpoint.column!r}: all {len(known)} hearts have the value {known.iloc[0]:g}; a "
            "constant column cannot be compared"
        )
