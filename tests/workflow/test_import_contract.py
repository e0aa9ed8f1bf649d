"""The floors of the package: the contract in pyproject.toml holds, and a wrong import breaks it."""

import shutil
import subprocess
import sys
from pathlib import Path

from workflow_runs import REPOSITORY

LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def lint(folder: Path) -> subprocess.CompletedProcess:
    line = [sys.executable, "-c", LINT, "--no-cache"]
    env = {"PYTHONPATH": str(folder / "workflow/scripts"), "PATH": ""}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_contract_holds_and_breaks_when_seeded(tmp_path):
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    package = "workflow/scripts/cardiocohort"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=ignored)
    assert lint(tmp_path).returncode == 0
    module = tmp_path / package / "anatomy/moments.py"
    module.write_text(module.read_text() + "\nfrom ..report import manifest  # noqa\n")
    seeded = lint(tmp_path)
    assert seeded.returncode == 1
    assert "cardiocohort.anatomy.moments -> cardiocohort.report.manifest" in seeded.stdout
    (tmp_path / package / "loose_room.py").write_text("")
    assert "loose_room" in lint(tmp_path).stdout
