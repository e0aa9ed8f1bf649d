"""Hearts of two arms side by side: pairs where the arms are siblings, samples where not. Owned by trial."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..runtime.errors import InputError
from .endpoints import Endpoint


@dataclass(frozen=True)
class Comparison:
    """One endpoint of one arm beside the reference arm.

    arm_values, reference_values: of hearts that have one, in the same order and number if `paired`.
    arm_subjects, reference_subjects: their names. requested: subjects of the arm and of the reference arm
    that the design compares, pairs if paired.
    """

    endpoint: Endpoint
    arm: str
    reference: str
    paired: bool
    arm_values: np.ndarray
    reference_values: np.ndarray
    arm_subjects: tuple[str, ...]
    reference_subjects: tuple[str, ...]
    requested: tuple[int, int]

    @property
    def differences(self) -> np.ndarray:
        """Arm minus reference within pairs."""
        return self.arm_values - self.reference_values

    @property
    def missing(self) -> tuple[int, int]:
        """Requested hearts (pairs) without a value, of the arm and of the reference arm."""
        return self.requested[0] - len(self.arm_values), self.requested[1] - len(self.reference_values)

    @property
    def enough(self) -> bool:
        """Whether there is a spread to test with."""
        if self.paired:
            return len(self.arm_values) > 1 and np.ptp(self.differences) > 0
        both = (self.arm_values, self.reference_values)
        return min(map(len, both)) > 1 and max(np.ptp(v) for v in both) > 0


def origins(subjects: pd.DataFrame) -> pd.Series:
    """By subject, the heart that it descends from: itself, or the base of its base if there is one."""
    base = dict(zip(subjects["subject"], subjects["base"], strict=True))

    def origin(name: str) -> str:
        while base.get(name) in base:
            name = base[name]
        return name

    return pd.Series({name: origin(name) for name in base})


def comparisons(subjects: pd.DataFrame, endpoints: list[Endpoint], reference: str) -> list[Comparison]:
    """Every endpoint of every arm beside the reference arm, in the order of endpoints and arms.

    subjects: the subject table. Arms are paired where their hearts descend from the same ones. InputError for
    an endpoint without values, or with one value alone.
    """
    origin = subjects["subject"].map(origins(subjects))
    arms = [name for name in subjects["arm"].unique() if name != reference]
    found = []
    for endpoint in endpoints:
        values = subjects[endpoint.column].astype(float)
        _check_values(endpoint, values)
        table = pd.DataFrame(
            {"subject": subjects["subject"], "arm": subjects["arm"], "origin": origin, "value": values}
        )
        base = table[table["arm"] == reference].set_index("origin")
        for arm in arms:
            own = table[table["arm"] == arm].set_index("origin")
            both = own.join(base, how="inner", suffixes=("", "_reference"))
            paired = len(both) > 0
            if paired:
                whole = both.dropna(subset=["value", "value_reference"])
                sides = (
                    whole["value"],
                    whole["value_reference"],
                    whole["subject"],
                    whole["subject_reference"],
                )
                requested = (len(both), len(both))
            else:
                kept = [side.dropna(subset="value") for side in (own, base)]
                sides = (*(k["value"] for k in kept), *(k["subject"] for k in kept))
                requested = (len(own), len(base))
            found.append(
                Comparison(
                    endpoint, arm, reference, paired, *(s.to_numpy(float) for s in sides[:2]),
                    *(tuple(s) for s in sides[2:]), requested,
                )
            )  # fmt: skip
    return found


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
