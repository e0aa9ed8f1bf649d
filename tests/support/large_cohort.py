"""Tables of a large cohort, as the stages would write them: for tests and benches of what reads them all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.aha_segments import WALL_COLUMNS
from cardiocohort.anatomy.label_map import read_label_map, write_volume
from cardiocohort.cohort.table import subject_name
from cardiocohort.label_maps.importing import to_heart_frame
from cardiocohort.runtime import tables
from cardiocohort.runtime.artifacts import sha256
from heart_anatomy import HEART
from report_cohort import ARMS, STAGES, TEMPLATES
from workflow_runs import REPOSITORY, environment

PLATFORM = {"python": "3.11", "system": "Linux", "machine": "x86_64"}
PROVENANCE = {"workflow": {"version": "0", "commit": "0"}, "platform": PLATFORM, "packages": {}}
K = len(HEART.structures)
DECK_FILES = 12  # of a subject, in two formats
FATES = ("accepted", "accepted", "accepted", "accepted", "accepted", "accepted", "gate", "mesh", "no anatomy")


def write_tables(folder: Path, n: int, batch_size: int) -> dict[str, list[str]]:
    """Tables of two arms of `n / 2` subjects under `folder`; paths by stage.

    Every subject's moments are a template's, varied at random; its label map is a link to that template's.
    Of nine subjects six are accepted, one is refused at the gate, one has no mesh, one no anatomy.
    """
    heart = to_heart_frame(read_label_map(TEMPLATES[0], HEART), HEART)
    measured = moments.measure_labels(heart.labels, [(k,) for k in range(1, K + 1)], heart.axes_mm)
    write_volume(folder / "heart.nii.gz", heart)
    label_map = (folder / "heart.nii.gz", (folder / "heart.nii.gz").stat().st_size)
    listed = {"size": label_map[1], "sha256": sha256(label_map[0])}
    paths = {stage: [] for stage in STAGES}
    for arm in ARMS:
        for number, first in enumerate(range(0, n // 2, batch_size)):
            indices = np.arange(first, min(first + batch_size, n // 2))
            name = f"{arm}-{number:04d}"
            frames = _batch(arm, indices, measured, listed)
            for stage, (suffix, columns) in STAGES.items():
                paths[stage].append(str(folder / stage / f"{name}.{suffix}"))
                tables.write_table(paths[stage][-1], frames[stage], columns)
            (folder / "anatomies" / name).mkdir(exist_ok=True)
            for file in frames["anatomies"]["file"].unique():
                if file:
                    os.link(label_map[0], folder / "anatomies" / name / file)
    return paths


def _batch(arm: str, indices: np.ndarray, measured: moments.Moments, listed: dict) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng([ARMS.index(arm), int(indices[0])])
    n, subjects = len(indices), [subject_name(arm, int(i)) for i in indices]
    fate = np.array(FATES)[rng.integers(0, len(FATES), n)]
    size = np.exp(0.2 * rng.standard_normal((n, 1)))
    targets = moments.Moments(
        measured.volume_ml * size,
        measured.centroid_mm + rng.normal(0, 3, (n, K, 3)),
        measured.covariance_mm2 * size[..., None, None] ** (2 / 3),
    )
    achieved = moments.Moments(
        targets.volume_ml * rng.normal(1, 0.01, (n, K)),
        targets.centroid_mm + rng.normal(0, 0.3, (n, K, 3)),
        targets.covariance_mm2,
    )
    head = {"subject": np.repeat(subjects, K), "arm": arm, "structure": np.tile(HEART.structures, n)}
    constrained = np.where(np.tile(np.arange(K), n) < 6, "size,position,shape", "")
    shared = {"constrained": constrained, "plausibility": np.repeat(rng.uniform(0.05, 1, n), K)}
    person = {"sex": "female", "condition": ("healthy", "dilated_cardiomyopathy")[ARMS.index(arm)]}
    person |= {
        "age_years": np.repeat(rng.uniform(30, 70, n), K),
        "bsa_m2": np.repeat(rng.normal(1.7, 0.1, n), K),
    }
    made = fate != "no anatomy"
    columns = {k: v.reshape(-1) for k, v in moments.to_columns(achieved).items()}
    tried = '[{"attempt": 0, "reasons": ["lv_leak: 12 mm2, max 0", "rv_pieces: 2, max 1"]}]'
    causes = '[{"topology": ["lv_leak", "rv_pieces"]}]'
    retried = rng.random(n) < 0.3
    anatomies = {
        "attempts": np.repeat(np.where(made, rng.integers(1, 4, n), 8), K),
        "status": np.repeat(np.where(made, "generated", "failed"), K),
        "reason": np.repeat(np.where(made, "", "no anatomy passed the gate"), K),
        "tried": np.repeat(np.where(retried, tried, "[]"), K),
        "cause": np.repeat(np.where(made, "", "no anatomy passed the gate"), K),
        "tried_causes": np.repeat(np.where(retried, causes, "[]"), K),
        "file": np.repeat([f"{s}.nii.gz" if m else "" for s, m in zip(subjects, made, strict=True)], K),
        "size": pd.array(np.repeat(np.where(made, listed["size"], None), K), dtype="Int64"),
        "sha256": np.repeat(np.where(made, listed["sha256"], ""), K),
    }
    verdict = np.select([~made, fate == "gate"], ["missing", "rejected"], "accepted")
    topology = pd.DataFrame(
        {
            "subject": subjects,
            "verdict": verdict,
            "reasons": np.where(verdict == "rejected", "lv_leak: 5 mm2, max 0", ""),
            "failed_rules": np.where(verdict == "rejected", "lv_leak", ""),
            "failed_measured": np.where(verdict == "rejected", 5.0, np.nan),
            "failed_limit": np.where(verdict == "rejected", 0.0, np.nan),
        }
    )
    meshed = fate == "accepted"
    mesh = {
        "subject": subjects,
        "verdict": np.select([meshed, fate == "mesh"], ["accepted", "rejected"], "skipped"),
    }
    mesh |= {"reason": np.where(meshed, "", "surface not closed"), "file": "", "size": None, "sha256": ""}
    mesh |= {"n_nodes": 20_000, "n_tets": rng.integers(80_000, 120_000, n)}
    mesh |= {name: rng.uniform(0.05, 0.2, n) for name in ("min_scaled_jacobian", "p1_scaled_jacobian")}
    mesh |= {"wall_volume_ml": rng.normal(130, 20, n), "rv_wall_mm": rng.normal(3.5, 0.1, n)}
    mesh |= {column: rng.normal(9, 1, n) for column in WALL_COLUMNS.values()}
    decks = {"subject": np.repeat(subjects, DECK_FILES), "reason": ""}
    decks["verdict"] = np.repeat(np.where(meshed, "accepted", "skipped"), DECK_FILES)
    decks["format"] = np.tile(np.repeat(["vtu", "opencarp"], DECK_FILES // 2), n)
    decks["file"] = [f"{s}/deck/file{i}" for s in subjects for i in range(DECK_FILES)]
    decks |= {"size": 1_000_000, "sha256": [f"{i:064x}" for i in rng.integers(0, 2**62, n * DECK_FILES)]}
    return {
        "targets": pd.DataFrame(
            head | {k: v.reshape(-1) for k, v in moments.to_columns(targets).items()} | shared | person
        ),
        "anatomies": pd.DataFrame(head | columns | shared | anatomies),
        "topology": topology,
        "meshes": pd.DataFrame(mesh),
        "inputs": pd.DataFrame(decks),
    }


CHARTS = ("acceptance", "distributions", "wall_thickness", "targets_and_achieved", "requested_and_accepted")
SCRIPT = """
import json, sys, time
from types import SimpleNamespace
import write_manifest, write_report
from cardiocohort.runtime.peak_memory import peak_mb

class Files(dict):
    __getattr__ = dict.__getitem__

with open(sys.argv[1]) as handle:
    job = json.load(handle)
begun = time.process_time()
snakemake = SimpleNamespace(
    input=Files(job["input"]), output=Files(job["output"]), params=SimpleNamespace(**job["params"])
)
{"manifest": write_manifest, "report": write_report}[sys.argv[2]].main(snakemake)
print(time.process_time() - begun, peak_mb())
"""


def run_script(what: str, folder: Path, paths: dict[str, list[str]]) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of the script that writes the manifest, or the report, of `paths`."""
    bundle = REPOSITORY / "resources/priors/people/bundle.json"
    report = folder / "report"
    if what == "manifest":
        output = {"table": str(folder / "manifest.tsv")}
        params = {"seeds": {Path(path).stem: 1 for path in paths["targets"]}, "arms": {}}
        inputs = paths
    else:
        (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
        output = {name: str(report / f"{name}.png") for name in CHARTS}
        output |= {"gallery": str(report / "gallery.jpg"), "page": str(report / "cohort.html")}
        params = {"config": {"cohort": "large", "formats": ["vtu", "opencarp"]}, "arms": []}
        inputs = paths | {
            "manifest": str(folder / "manifest.tsv"),
            "bundle": str(bundle),
            "provenance": str(folder / "provenance.json"),
            "reference_values": str(REPOSITORY / "resources/reference/reference_values.tsv"),
            "anatomy": str(REPOSITORY / "resources/anatomies/heart/anatomy.json"),
            "viewer": str(REPOSITORY / "resources/viewer/three.min.js"),
        }
    (folder / "job.json").write_text(json.dumps({"input": inputs, "output": output, "params": params}))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "job.json"), what],
        text=True, capture_output=True, check=False,
        env=environment() | {"PYTHONPATH": str(REPOSITORY / "workflow/scripts")},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    cpu, peak = map(float, run.stdout.split())
    return cpu, peak
