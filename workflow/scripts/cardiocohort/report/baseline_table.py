"""Who was requested and who was accepted, by arm. Owned by the report stage."""

import pandas as pd

from ..anatomy.labels import Anatomy
from ..cohort.covariates import known
from ..cohort.stage_tables import covariate_columns
from ..cohort.subject_columns import Column
from ..runtime.outcomes import Outcome
from ..trial.baseline import describe
from .cohort_tables import CohortTables

FIGURES = ("n", "mean", "sd", "median", "count", "percent")
KEYS = ["arm", "column", "level", "unit"]


def baseline_table(tables: CohortTables, manifest: pd.DataFrame, anatomy: Anatomy) -> pd.DataFrame:
    """Covariates and volumes (mL) by arm: KEYS, then FIGURES with `requested_` and `accepted_`.

    Covariates are those of the subjects; volumes are targets of the requested hearts and label map volumes of
    the accepted ones. Label maps of the user have no targets.
    """
    shown = list(anatomy.shown or anatomy.structures)
    people = tables.targets.drop_duplicates("subject") if not tables.targets.empty else pd.DataFrame()
    covariates = covariate_columns(people)
    requested = manifest[["subject", "arm", "status"]]
    if covariates:
        requested = requested.merge(people[["subject", *covariates]], on="subject")
    accepted = requested[requested["status"] == Outcome.ACCEPTED]
    requested, accepted = (
        frame.merge(_volumes(rows, shown), left_on="subject", right_index=True, how="left")
        for frame, rows in ((requested, tables.targets), (accepted, tables.anatomies))
    )
    columns, everyone = _columns(requested, covariates, shown), pd.concat([requested, accepted])
    parts = [describe(hearts, everyone, columns, list(columns)) for hearts in (requested, accepted)]
    named = [
        part.set_index(KEYS)[list(FIGURES)].add_prefix(prefix)
        for prefix, part in zip(("requested_", "accepted_"), parts, strict=True)
    ]
    return named[0].join(named[1]).reset_index()


def _volumes(rows: pd.DataFrame, shown: list[str]) -> pd.DataFrame:
    """Volumes by subject, one column per structure `shown`; empty where there are none."""
    if rows.empty:
        return pd.DataFrame(columns=shown)
    return rows.pivot(index="subject", columns="structure", values="volume_ml").reindex(columns=shown)


def _columns(frame: pd.DataFrame, covariates: list[str], shown: list[str]) -> dict[str, Column]:
    """What `describe` must know of the columns; the unit of a covariate of the user's own is not shown."""
    shipped = known()
    found = {}
    for name in covariates:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        unit = shipped[name].unit if name in shipped else ""
        found[name] = Column(name, unit, "", "population", "covariate", "number" if numeric else "text")
    return found | {name: Column(name, "mL", "", "generation", "geometry") for name in shown}
