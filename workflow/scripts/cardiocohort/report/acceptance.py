"""Who was accepted, why others were not, and what that does to the population. Owned by the report stage."""

import json

import pandas as pd

from ..cohort.ignored_edits import idle
from ..cohort.stage_tables import FAR
from ..cohort.table import Arm
from ..metrics.agreement import constrained_in
from ..runtime.outcomes import Outcome, Stage
from .manifest import STATUSES

BIASED = 0.2  # standard deviations: a small effect by Cohen's (1988) convention
MANY = 30  # subjects from which a difference of means is reported as a bias


def by_arm(manifest: pd.DataFrame) -> pd.DataFrame:
    """arm, requested, one column per status, accepted_percent, attempts_mean (per subject)."""
    counts = pd.crosstab(manifest["arm"], manifest["status"]).reindex(columns=list(STATUSES), fill_value=0)
    table = counts.reindex(manifest["arm"].unique())
    table.insert(0, "requested", table.sum(axis=1))
    table["accepted_percent"] = 100.0 * table[Outcome.ACCEPTED] / table["requested"]
    table["attempts_mean"] = manifest.groupby("arm")["attempts"].mean().astype(float)
    return table.rename_axis("arm").reset_index()


def by_reason(manifest: pd.DataFrame, anatomies: pd.DataFrame) -> pd.DataFrame:
    """reason, stage, subjects (ended by it) and attempts (refused by it, those made good later included).

    Reasons are the names in the columns `causes` and `tried_causes`: in topology those of rules, of which
    several may refuse one heart.
    """
    ended = manifest[manifest["status"] != Outcome.ACCEPTED]
    pairs = [
        (stage, name)
        for stage, causes in zip(ended["stage"], ended["causes"], strict=True)
        for name in (causes.split(",") if stage == Stage.TOPOLOGY else [causes])
    ]
    subjects = pd.Series(pairs, dtype=object).value_counts()
    refusals = [
        (stage, name)
        for text in anatomies.drop_duplicates("subject")["tried_causes"]
        for attempt in json.loads(text)
        for stage, names in attempt.items()
        for name in names
    ]
    attempts = pd.Series(refusals, dtype=object).value_counts()
    table = pd.DataFrame({"subjects": subjects, "attempts": attempts}).fillna(0).astype(int)
    rows = [{"stage": s, "reason": r, **table.loc[[(s, r)]].iloc[0]} for s, r in table.index]
    frame = pd.DataFrame(rows, columns=["stage", "reason", "subjects", "attempts"])
    return frame.sort_values(["subjects", "attempts"], ascending=False, ignore_index=True)


def selection(targets: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Target volumes of all requested against those of the accepted, per arm and structure.

    Rows whose size is constrained. Columns: arm, structure, and for each of requested and accepted n,
    mean and sd (mL; the sample's, NaN for one); shift, the difference of the means in requested sd.
    """
    rows = targets[constrained_in(targets, "size")]
    good = rows["subject"].isin(manifest.loc[manifest["status"] == Outcome.ACCEPTED, "subject"])
    keys = ["arm", "structure"]
    statistics = {"n": "count", "mean": "mean", "sd": "std"}
    parts = []
    for name, part in (("requested", rows), ("accepted", rows[good])):
        volumes = part.groupby(keys, sort=False)["volume_ml"].agg(list(statistics.values()))
        parts.append(volumes.rename(columns={old: f"{name}_{new}" for new, old in statistics.items()}))
    table = parts[0].join(parts[1])
    table["accepted_n"] = table["accepted_n"].fillna(0).astype(int)
    table["shift"] = (table["accepted_mean"] - table["requested_mean"]) / table["requested_sd"]
    return table.reset_index()


def warnings(
    arms: list[Arm], targets: pd.DataFrame, manifest: pd.DataFrame, shifts: pd.DataFrame
) -> list[str]:
    """What a reader must know before using the cohort, one sentence each; `arms` are the cohort table's."""
    in_vain = [f"Arm {arm.name}: {text}." for arm in arms for text in idle(arm)]
    return [*in_vain, *_far(targets), *_lost(manifest), *_shifted(shifts)]


def _far(targets: pd.DataFrame) -> list[str]:
    medians = targets.groupby(["arm", "structure"], sort=False)["plausibility"].median()
    hearts = targets.drop_duplicates("subject").reindex(columns=["arm", "heart_plausibility"])
    together = hearts.groupby("arm", sort=False)["heart_plausibility"].median()
    return [
        f"Arm {arm}: the structures of its targets together lie far outside the reference population "
        f"(median plausibility {value:.1e})."
        for arm, value in together[together < FAR].items()
    ] + [
        f"Arm {arm}: the targets of {structure} lie far outside the reference population "
        f"(median plausibility {value:.1e})."
        for (arm, structure), value in medians[medians < FAR].items()
    ]


def _lost(manifest: pd.DataFrame) -> list[str]:
    return [
        f"Arm {row.arm}: {row.requested - row.accepted} of {row.requested} subjects were not accepted."
        for row in by_arm(manifest).itertuples()
        if row.accepted < row.requested
    ]


def _shifted(shifts: pd.DataFrame) -> list[str]:
    if shifts.empty:
        return []
    biased = shifts[(shifts["shift"].abs() > BIASED) & (shifts["accepted_n"] >= MANY)]
    return [
        f"Arm {row.arm}: the accepted subjects' target volume of {row.structure} is on average "
        f"{row.shift:+.2f} SD from that of all requested."
        for row in biased.itertuples()
    ]
