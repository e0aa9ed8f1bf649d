"""Environment files: versions are the lock file's, and each stage's file has all that its scripts import."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from cardiocohort.code_digest import third_party

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "envs").glob("*.yaml"))
# module or conda package -> name in the lock file
PYPI_NAMES = {
    "array_api_compat": "array-api-compat",
    "pytorch": "torch",
    "skfem": "scikit-fem",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "vtkmodules": "vtk",
    "yaml": "pyyaml",
    "PIL": "pillow",
}


def pypi_name(name: str) -> str:
    return PYPI_NAMES.get(name, name).lower().replace("_", "-")


def lock() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {pypi_name(name): version for name, version in pairs}


def pinned(file: Path) -> dict[str, str]:
    """PyPI name -> version of all that an environment file lists."""
    entries = yaml.safe_load(file.read_text())["dependencies"]
    lines = [e for e in entries if isinstance(e, str)]
    lines = [line for line in lines if line not in ("pip",) and not line.startswith("python=")]
    lines += [line for e in entries if isinstance(e, dict) for line in e["pip"]]
    return {pypi_name(name): version for name, version in (re.split("==?", line) for line in lines)}


def scripts_of(file: Path) -> list[Path]:
    """Scripts of all rules that run in the environment."""
    found = []
    for rules in (REPOSITORY / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", rules.read_text(), flags=re.MULTILINE)[1:]:
            if f'"../../envs/{file.name}"' in rule:
                found.append(REPOSITORY / "workflow/scripts" / re.search(r'"\.\./scripts/(.+?)"', rule)[1])
    return found


def test_the_lock_pins_all_that_is_asked_for():
    wanted = (REPOSITORY / "requirements.in").read_text().splitlines()
    pairs = [line.split("==") for line in wanted if line and not line.startswith("#")]
    assert len(pairs) > 20
    assert {pypi_name(n): v for n, v in pairs}.items() <= lock().items()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_versions_agree_with_the_lock(file):
    content = yaml.safe_load(file.read_text())
    assert content["channels"] == ["conda-forge", "nodefaults"]
    assert pinned(file).items() <= lock().items()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_an_environment_has_what_its_scripts_import_and_no_more(file):
    scripts = scripts_of(file)
    assert scripts, "no rule uses this environment"
    imported = {name for script in scripts for name in third_party(script)}
    needed = {pypi_name(name) for name in imported - set(sys.stdlib_module_names)}
    assert needed <= pinned(file).keys(), "missing"
    # pandas finds pyarrow by itself; vtk is what pyvista draws with
    assert pinned(file).keys() <= needed | {"pyarrow", "vtk"}, "not imported"
