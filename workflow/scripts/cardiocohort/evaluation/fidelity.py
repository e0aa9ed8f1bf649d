"""fidelity.tsv: how far samples are from their targets, constrained or not (evaluation stage)."""

import numpy as np
import pandas as pd

from ..anatomy import attributes
from ..anatomy.moments import of_each
from ..metrics.agreement import agreement
from .arms import PAPER
from .intervals import quantile_intervals
from .samples import Samples

# attribute: column of `agreement`, unit, and the attributes whose constraint constrains it
ERRORS = {
    "size": ("volume_error_percent", "%", {"size"}),
    "position": ("centroid_error_mm", "mm", {"position"}),
    "shape": ("shape_error", "norm of the difference of S / tr S", {"shape"}),
    "orientation": ("axis_error_deg", "degrees between the long axes", {"shape", "orientation"}),
    "aspect": ("aspect_error", "norm of the difference of the eigenvalues of S / tr S", {"shape", "aspect"}),
}
COLUMNS = {
    "method": "str",
    "constrained_structures": "int64",
    "attribute": "str",
    "median_error": "float64",
    "p95_error": "float64",
    "unit": "str",
}


def errors(samples: Samples) -> pd.DataFrame:
    """Unsigned errors of every sample and structure that is there: `agreement`'s columns, aspect_error."""
    rows = samples.rows
    keyed = rows.assign(subject=rows["sample"].astype(str))
    targets = keyed[["subject", "arm", "structure", "constrained"]].copy()
    for name in (column for column in rows if column.startswith("target_")):
        targets[name.removeprefix("target_")] = rows[name]
    errors_ = agreement(targets, keyed[keyed["volume_ml"] > 0])
    errors_["volume_error_percent"] = errors_["volume_error_percent"].abs()
    there = samples.hearts.moments.volume_ml.ravel() > 0
    flat, wanted = (
        of_each(lambda values: values.reshape(-1, *values.shape[2:])[there], m)
        for m in (samples.hearts.moments, samples.targets)
    )
    differs = attributes.differences("aspect", (flat,), (wanted,))
    return errors_.assign(aspect_error=np.linalg.norm(differs, axis=-1))


def table(arms: dict[str, Samples], sets: list[tuple[str, ...]], resamples: int, seed: int) -> pd.DataFrame:
    """One row per arm, attribute, and structure or set of structures (`set_<number>`, their errors together).

    Columns: COLUMNS; low and high, the median's 95 % interval, p95_low and p95_high; arm, strength;
    structure; constrained, whether the arm constrains the attribute of it; n, errors behind the figures.
    Resamples are of samples, not of structures.
    """
    out = []
    for samples in arms.values():
        if samples.arm.deviations:
            continue
        unsigned = errors(samples)
        groups = {f"set_{len(names)}": names for names in sets}
        groups |= {name: (name,) for name in dict.fromkeys(unsigned["structure"])}
        for group, names in groups.items():
            part = unsigned[unsigned["structure"].isin(names)]
            for attribute, (column, unit, by) in ERRORS.items():
                wide = part.pivot(index="subject", columns="structure", values=column).to_numpy()
                wide = wide[np.isfinite(wide).any(axis=1)]  # what is round has no long axis
                if not len(wide):
                    continue
                (middle, far), ends = quantile_intervals(wide, (0.5, 0.95), resamples, seed)
                constrained = set(names) <= set(samples.arm.constrained) and by & set(samples.arm.attributes)
                out.append(
                    {
                        "method": samples.arm.method,
                        "constrained_structures": len(samples.arm.constrained),
                        "attribute": attribute,
                        "median_error": middle,
                        "p95_error": far,
                        "unit": unit,
                        "low": ends[0, 0],
                        "high": ends[0, 1],
                        "p95_low": ends[1, 0],
                        "p95_high": ends[1, 1],
                        "arm": samples.arm.name,
                        "strength": samples.arm.strength,
                        "structure": group,
                        "constrained": bool(constrained),
                        "n": int(np.isfinite(wide).sum()),
                    }
                )
    return pd.DataFrame(out)


def headline(table_: pd.DataFrame) -> pd.DataFrame:
    """Of `table`: the paper's attributes at full strength, of each method's own set of structures and, beside
    it, of the same structures unguided.
    """
    paper = table_[table_["attribute"].isin(PAPER) & (table_["strength"] == 1)]
    n_structures = paper["constrained_structures"].astype(str)
    of_method = paper[
        (paper["structure"] == "set_" + n_structures) & (paper["arm"] == paper["method"] + "_" + n_structures)
    ]
    plain = paper[(paper["arm"] == "unguided") & paper["structure"].isin(of_method["structure"])]
    return pd.concat([plain, of_method], ignore_index=True)
