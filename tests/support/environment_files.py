"""What the environment files and the lock list, for tests; and names of packages in conda and on PyPI."""

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "envs").glob("*.yaml"))
# module or conda package -> name in the lock file
PYPI_NAMES = {
    "array_api_compat": "array-api-compat",
    "netgen": "netgen-mesher",
    "nrrd": "pynrrd",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "vtkmodules": "vtk",
    "yaml": "pyyaml",
    "PIL": "pillow",
}
# of conda's world, or of every environment; MKL, which the lock leaves to those who want it
CONDA_ONLY = {"python", "pip", "cuda-version", "mkl"}
VARIANTS = {"generation": "SAMPLING_ENV", "simulation": "SOLVER_ENV"}  # which the config chooses among


def pypi_name(name: str) -> str:
    return PYPI_NAMES.get(name, name).lower().replace("_", "-")


def lock() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {pypi_name(name): version for name, version in pairs}


def listed(file: Path) -> dict[str, str]:
    """Name as the file has it -> version, of all that an environment file lists."""
    entries = yaml.safe_load(file.read_text())["dependencies"]
    lines = [e for e in entries if isinstance(e, str)]
    lines += [line for e in entries if isinstance(e, dict) for line in e["pip"]]
    parts = [re.split("==?", line) for line in lines]
    return {part[0]: part[1] if len(part) > 1 else "" for part in parts}


def pinned(file: Path) -> dict[str, str]:
    """PyPI name -> version of all Python packages that an environment file lists."""
    return {pypi_name(name): version for name, version in listed(file).items() if name not in CONDA_ONLY}


def rules_of(file: Path) -> dict[str, Path]:
    """Rules that run in the environment, and the script of each."""
    named = VARIANTS.get(file.stem.partition("_")[0], f'"../../envs/{file.name}"')
    scripts = {}
    for rules in (REPOSITORY / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", rules.read_text(), flags=re.MULTILINE)[1:]:
            if re.search(rf"^ +{re.escape(named)}$", rule, re.MULTILINE):
                script = re.search(r'"\.\./scripts/(.+?)"', rule)[1]
                scripts[rule.split(":")[0]] = REPOSITORY / "workflow/scripts" / script
    return scripts
