"""Where compiled loops are kept: apart for each kind of processor, and where the user says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cardiocohort

CODE = """
import numpy as np
{before}
from cardiocohort.mesh import kernels
order, start = kernels.places(np.array([[0, 1, 2, 3], [4, 3, 2, 1]]), 5)
print(kernels.places._cache.cache_path)
assert order.tolist() == [0, 1, 7, 2, 6, 3, 5, 4] and start.tolist() == [0, 1, 3, 5, 7, 8]
"""
OTHER = """
from llvmlite import binding
binding.get_host_cpu_name = lambda: "another"
"""


def kept_at(before="", **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        env=inherited | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def package():
    return Path(cardiocohort.__file__).parent / "__pycache__"


def test_each_kind_of_processor_has_its_own_folder(package):
    own, other = kept_at(), kept_at(OTHER)
    assert own != other
    folders = [path.relative_to(package).parts[0] for path in (own, other)]
    assert all(folder.startswith("numba-") for folder in folders)
    shutil.rmtree(package / folders[1])


def test_a_folder_that_the_user_sets_counts(tmp_path):
    assert kept_at(NUMBA_CACHE_DIR=str(tmp_path)).is_relative_to(tmp_path)
    assert list(tmp_path.rglob("*.nbc"))
