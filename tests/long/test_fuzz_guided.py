"""The readers again, attacked by atheris, where it is installed (see `fuzz_with_atheris`)."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = os.environ.get("CASES", "300")


# not in the lock (no wheels for many machines); .ci/run installs it and says loudly where it cannot
@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_readers_withstand_files_that_are_guided_by_their_code():
    line = [sys.executable, str(Path(__file__).parents[1] / "support/fuzz_with_atheris.py")]
    run = subprocess.run(
        line, env=os.environ | {"CASES": CASES}, capture_output=True, text=True, check=False, timeout=1800
    )
    assert run.returncode == 0, run.stdout
    assert "0 failed" in run.stdout
