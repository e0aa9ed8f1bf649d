"""A small cohort for tests of the report: template hearts as anatomies, targets around their moments."""

from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.aha_segments import WALL_COLUMNS
from cardiocohort.anatomy.label_map import read_label_map, write_volume
from cardiocohort.cohort import stage_tables
from cardiocohort.label_maps.importing import to_heart_frame
from cardiocohort.report.cohort_tables import CohortTables, read_cohort_tables
from cardiocohort.runtime import tables
from cardiocohort.runtime.artifacts import sha256
from heart_anatomy import HEART

TEMPLATES = sorted((Path(__file__).resolve().parents[2] / "resources/templates").glob("*.nii.gz"))
CONSTRAINED = HEART.structures[:6]
ARMS = ("healthy_women", "dilated_cardiomyopathy")
STAGES = {
    "targets": ("parquet", stage_tables.TARGETS),
    "anatomies": ("parquet", stage_tables.ANATOMIES | stage_tables.CAUSES),
    "topology": ("tsv", stage_tables.TOPOLOGY | stage_tables.FAILED_RULES),
    "meshes": ("tsv", stage_tables.MESHES),
    "inputs": ("tsv", stage_tables.INPUTS),
}


def write_cohort(
    folder: Path, n: int = 4, volume_factor: float = 1.1, shift_mm: float = 3.0
) -> dict[str, list]:
    """Two arms of `n` under `folder`, as the stages write them; paths of the tables by stage.

    Achieved are the templates' moments; targets have the volume over `volume_factor` and a centroid
    `shift_mm` away. In each arm the last subject breaks a topology rule; of the first arm, the last but
    one has no mesh; of the second arm, the last but one has no anatomy.
    """
    paths = {stage: [] for stage in STAGES}
    for arm in ARMS:
        frames = _arm(folder, arm, n, volume_factor, shift_mm)
        for stage, (suffix, columns) in STAGES.items():
            paths[stage].append(str(folder / stage / f"{arm}-0000.{suffix}"))
            tables.write_table(paths[stage][-1], frames[stage], columns)
    return paths


def read(folder: Path, **options) -> CohortTables:
    return read_cohort_tables(**write_cohort(folder, **options))


def wall_mm(arm: str, index: int, segment: int) -> float:
    """Wall thickness of a meshed subject: another one for every arm, subject and segment."""
    return 6.0 + ARMS.index(arm) + 0.5 * index + 0.1 * segment


def _arm(folder: Path, arm: str, n: int, volume_factor: float, shift_mm: float) -> dict[str, pd.DataFrame]:
    rows = {stage: [] for stage in STAGES}
    for index in range(n):
        subject, source = f"{arm}-{index:05d}", TEMPLATES[index % len(TEMPLATES)]
        has_anatomy = not (arm == ARMS[1] and index == n - 2)
        sound = has_anatomy and index < n - 1
        meshed = sound and not (arm == ARMS[0] and index == n - 2)
        heart = to_heart_frame(read_label_map(source, HEART), HEART)
        achieved = moments.measure_labels(
            heart.labels, [(k,) for k in range(1, HEART.n_channels)], heart.axes_mm
        )
        file = folder / "anatomies" / f"{arm}-0000" / f"{subject}.nii.gz"
        if has_anatomy:
            write_volume(file, heart)
        listed = {
            "file": file.name if has_anatomy else "",
            "size": file.stat().st_size if has_anatomy else None,
            "sha256": sha256(file) if has_anatomy else "",
        }
        target = moments.Moments(
            achieved.volume_ml / volume_factor,
            achieved.centroid_mm + np.array([0, 0, shift_mm]),
            achieved.covariance_mm2,
        )
        head = {"subject": subject, "arm": arm, "structure": HEART.structures}
        constraints = {
            "constrained": ["size,position,shape" if s in CONSTRAINED else "" for s in HEART.structures],
            "plausibility": np.full(len(HEART.structures), 0.4),
        }
        person = {
            "sex": "female",
            "condition": {ARMS[0]: "healthy", ARMS[1]: "dilated_cardiomyopathy"}[arm],
            "bsa_m2": 1.7,
        }
        rows["targets"].append(pd.DataFrame(head | moments.to_columns(target) | constraints | person))
        tried = '[{"attempt": 0, "reasons": ["lv_leak: 12 mm2, max 0", "lv_leak: 3 mm2, max 0"]}]'
        rows["anatomies"].append(
            pd.DataFrame(
                head
                | {k: v if has_anatomy else np.nan for k, v in moments.to_columns(achieved).items()}
                | constraints
                | {"attempts": 2 if has_anatomy else 0, "status": "generated" if has_anatomy else "failed"}
                | {
                    "reason": "" if has_anatomy else "sampling diverged",
                    "tried": tried if index == 0 else "[]",
                    "cause": "" if has_anatomy else "sampling diverged",
                    "tried_causes": '[{"topology": ["lv_leak"]}]' if index == 0 else "[]",
                }
                | listed
            )
        )
        verdict = "accepted" if sound else "rejected" if has_anatomy else "missing"
        reasons = {"accepted": "", "rejected": "lv_leak: 5 mm2, max 0; rv_pieces: 2, max 1"}
        rows["topology"].append(
            {"subject": subject, "verdict": verdict, "reasons": reasons.get(verdict, "x")}
            | {"failed_rules": "lv_leak,rv_pieces" if verdict == "rejected" else ""}
            | dict.fromkeys(("failed_measured", "failed_limit"), np.nan)
        )
        mesh = {"subject": subject, "verdict": "accepted" if meshed else "rejected" if sound else "skipped"}
        mesh |= {
            "reason": "" if meshed else "surface not closed" if sound else "topology",
            "file": "",
            "size": None,
        }
        mesh |= {"sha256": "", "n_tets": 90000 + index if meshed else None}
        mesh |= {"min_scaled_jacobian": 0.1 + 0.01 * index if meshed else None}
        mesh |= {column: wall_mm(arm, index, k) if meshed else None for k, column in WALL_COLUMNS.items()}
        rows["meshes"].append(mesh)
        deck = {"subject": subject, "verdict": "accepted" if meshed else "skipped", "reason": "", "size": 1}
        rows["inputs"] += [
            deck | {"format": f, "file": f"{subject}/{f}", "sha256": "0"} for f in ("vtu", "x")
        ]
    return {
        stage: pd.concat(found, ignore_index=True)
        if stage in ("targets", "anatomies")
        else pd.DataFrame(found)
        for stage, found in rows.items()
    }
