"""Subjects as other processors would sample them: children whose libraries may use only some instructions.

The bundle that ships, one attempt per subject. What a processor lacks is kept from PyTorch's kernels, oneDNN,
MKL, OpenBLAS and NumPy by variables of theirs, which act when a process starts; whether it multiplies
bfloat16, which decides the networks' number format (diffusion/device.py), is for the child to say.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.label_map import read_label_map
from heart_anatomy import HEART, HEART_GRID
from workflow_runs import REPOSITORY, environment

BUNDLE = REPOSITORY / "resources/priors/people"
RULES = REPOSITORY / "resources/anatomies/heart/topology.tsv"
CHILD = """
import json, sys
from pathlib import Path
import torch
if not json.loads(sys.argv[3]):
    torch.cpu._is_avx512_bf16_supported = lambda: False
from cardiocohort.runtime import batch_runner
from cardiocohort.generation import anatomies

job = json.loads(Path(sys.argv[1]).read_text())
tasks = [
    batch_runner.Task(name, f"{name}.nii.gz", name, (rows, 1, *anatomies.arm_and_index(name), None))
    for name, rows in job["targets"].items()
]
given = (job["bundle"], job["rules"], {}, 1, "cpu")
folder = Path(sys.argv[2])
records = batch_runner.run_batch(
    folder, tasks, anatomies.work, initializer=anatomies.open_generator, initargs=given, group=1
)
folder.with_suffix(".json").write_text(json.dumps(records))
print(torch.backends.cpu.get_cpu_capability())
"""


@dataclass(frozen=True)
class Processor:
    """Variables that keep libraries to its instructions, and whether it multiplies bfloat16."""

    variables: dict[str, str] = field(default_factory=dict)
    bfloat16: bool = False


NO_AVX512 = {
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}
PROCESSORS = {
    "this one": Processor(bfloat16=True),
    "this one, two threads": Processor({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}, bfloat16=True),
    "bfloat16 without AMX": Processor({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, bfloat16=True),
    "AVX-512 without bfloat16": Processor({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    "AVX2": Processor({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"} | NO_AVX512),
}


def sample(folder: Path, processor: Processor, targets: dict[str, list[dict]]) -> tuple[str, dict[str, dict]]:
    """What PyTorch says it may use, and records of the subjects by name; their label maps lie in `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    job = {"targets": targets, "bundle": str(BUNDLE), "rules": str(RULES)}
    request = folder.with_name(f"{folder.name}_job.json")
    request.write_text(json.dumps(job))
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(request), str(folder), json.dumps(processor.bfloat16)],
        env=environment() | {"PYTHONPATH": str(REPOSITORY / "workflow/scripts")} | processor.variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    records = json.loads(folder.with_suffix(".json").read_text())
    return run.stdout.strip(), {record["subject"]: record for record in records}


def differences(path: Path, other: Path) -> pd.DataFrame:
    """Two label maps of one subject, one row per structure: how far apart they are.

    voxels: that are this structure in one of them only; shape: Frobenius norm of the difference of S / tr S.
    """
    maps = [read_label_map(each, HEART).labels for each in (path, other)]
    labels = range(1, HEART.n_channels)
    one, two = (moments.measure_labels(m, [(k,) for k in labels], HEART_GRID.axes_mm()) for m in maps)
    masks = [[m == k for m in maps] for k in labels]
    shapes = [
        m.covariance_mm2 / np.trace(m.covariance_mm2, axis1=1, axis2=2)[:, None, None] for m in (one, two)
    ]
    columns = {
        "voxels": [np.sum(a ^ b) for a, b in masks],
        "dice": [2 * np.sum(a & b) / (a.sum() + b.sum()) for a, b in masks],
        "volume_percent": 100 * np.abs(two.volume_ml / one.volume_ml - 1),
        "centroid_mm": np.linalg.norm(two.centroid_mm - one.centroid_mm, axis=1),
        "shape": np.linalg.norm(shapes[1] - shapes[0], axis=(1, 2)),
    }
    return pd.DataFrame(columns, index=pd.Index(HEART.structures, name="structure")).round(4)
