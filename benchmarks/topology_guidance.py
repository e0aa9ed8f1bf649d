"""What topology guidance and restarts change, arm by arm: a table of cohorts of the same subjects.

    python benchmarks/topology_guidance.py results/cohorts/guided results/cohorts/plain

Each folder is a cohort's, with its anatomies generated. The cohorts have the same cohort table and seed, and
differ in `guidance`, `topology_rules` or `max_attempts`. Processor time is of whole jobs, start included.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.evaluation.page import number
from cardiocohort.evaluation.summary import markdown_table

SHARES = ("as_sampled", "first", "in_the_end")
# in the column `repairs`, where steps on the final latent succeeded, and where a restart made the heart
STEPS, RESTART = "topology guidance", "restart"


def subjects(cohort: Path) -> pd.DataFrame:
    """One row per subject: arm, whether its first attempt passed as sampled and in the end, whether a restart
    made the heart, attempts, errors.

    Siblings of a base that was rejected are left out: nothing was sampled.
    """
    rows = []
    for table in sorted((cohort / "anatomies").glob("*.parquet")):
        made = pd.read_parquet(table)
        wanted = pd.read_parquet(cohort / "targets" / table.name).set_index(["subject", "structure"])
        for name, part in made.groupby("subject", sort=False):
            tried = json.loads(part["tried"].iloc[0] or "[]")
            if not tried:
                continue
            accepted, first = not tried[-1]["reasons"], not tried[0]["reasons"]
            done = part["repairs"].iloc[0] or ""
            restarted = RESTART in done
            target = wanted.loc[name].reindex(part["structure"])
            constrained = (target["constrained"].fillna("") != "").to_numpy() & accepted
            volume = 100 * np.abs(part["volume_ml"].to_numpy() / target["volume_ml"].to_numpy() - 1)
            axes = [f"centroid_{axis}_mm" for axis in "xyz"]
            centroid = np.linalg.norm(part[axes].to_numpy() - target[axes].to_numpy(), axis=1)
            rows.append(
                {
                    "arm": part["arm"].iloc[0],
                    "subject": name,
                    "as_sampled": first and STEPS not in done and not restarted,
                    "restarted": restarted,
                    "first": first,
                    "in_the_end": accepted,
                    "attempts": len(tried),
                    "volume": np.mean(volume[constrained]) if constrained.any() else np.nan,
                    "centroid": np.mean(centroid[constrained]) if constrained.any() else np.nan,
                }
            )
    return pd.DataFrame(rows)


def seconds(cohort: Path) -> dict[str, float]:
    """Processor time of generation by arm, s."""
    total: dict[str, float] = {}
    for table in (cohort / "benchmarks/generation").glob("*.tsv"):
        arm = table.stem.rsplit("-", 1)[0]
        total[arm] = total.get(arm, 0.0) + pd.read_csv(table, sep="\t")["cpu_time"].sum()
    return total


def table(cohorts: list[Path]) -> str:
    rows = []
    for cohort in cohorts:
        found, spent = subjects(cohort), seconds(cohort)
        for arm, part in found.groupby("arm", sort=False):
            n = len(part)
            shares = [f"{part[c].sum()} ({100 * part[c].mean():.1f} %)" for c in SHARES]
            errors = [number(part[c].median()) for c in ("volume", "centroid")]
            costs = [number(part["attempts"].mean()), number(spent.get(arm, np.nan) / n, 1)]
            made = str(part["restarted"].sum())
            rows.append([arm, cohort.name, str(n), *shares, made, *costs, *errors])
    columns = ["arm", "cohort", "sampled", "first attempt, as sampled", "in the end", "accepted in the end"]
    columns += ["by a restart", "attempts", "CPU s", "volume, %", "centroid, mm"]
    return markdown_table(columns, sorted(rows))


if __name__ == "__main__":
    print(table([Path(name) for name in sys.argv[1:]]))
