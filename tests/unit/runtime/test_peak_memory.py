"""Peak memory is that of the program that asks, whoever started it."""

import subprocess
import sys

import numpy as np

from workflow_runs import REPOSITORY

CHILD = """
from cardiocohort.runtime.peak_memory import peak_mb
before = peak_mb()
held = bytearray(b"x" * 50_000_000)
print(before, peak_mb())
"""


def test_a_child_does_not_count_its_parents_memory():
    held = np.ones(40_000_000)  # 320 MB
    run = subprocess.run(
        [sys.executable, "-c", CHILD],
        text=True, capture_output=True, check=True,
        env={"PYTHONPATH": str(REPOSITORY / "workflow/scripts")},
    )  # fmt: skip
    before, after = map(float, run.stdout.split())
    assert before < 100 < held.nbytes / 1e6
    assert 50 <= after - before < 150
