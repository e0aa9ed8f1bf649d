"""`--sdm conda` for real: each rule in an environment of its own, built by tests/conda_standin.py.

A run alone proves little: Snakemake appends its own packages to a script's path. So each environment imports,
isolated (`python -I`), all that its scripts import. With any one package taken away, something fails.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import conda_standin
import tiny_cohort
from cardiocohort.runtime.code_digest import third_party
from environment_files import FILES, REPOSITORY, pinned, pypi_name, rules_of
from workflow_runs import command, environment, snakemake

# what shows that a package is there, where it is not an import of its own name
PARQUET = "import io, pandas; pandas.DataFrame({'a': [1]}).to_parquet(io.BytesIO())"
PROOFS = {"pyarrow": PARQUET, "vtk": "import pyvista; pyvista.Sphere().n_points", "casadi": "import casadi"}
PYTHON = f"python={sys.version_info.major}.{sys.version_info.minor}"
pytestmark = pytest.mark.skipif(
    PYTHON not in (REPOSITORY / "envs/generation.yaml").read_text(),
    reason=f"the environments are not for {PYTHON}: what --sdm conda does is NOT TESTED",
)


def proofs(file: Path) -> dict[str, str]:
    """Package -> statement that fails without it, of all packages that the file lists."""
    modules = {name for script in rules_of(file).values() for name in third_party(script)}
    own = {pypi_name(name): f"import {name}" for name in modules - set(sys.stdlib_module_names)}
    return {name: own.get(name) or PROOFS[name] for name in pinned(file)}


def run_isolated(prefix: Path, statements) -> subprocess.CompletedProcess:
    return subprocess.run(
        [prefix / "bin/python", "-I", "-c", "\n".join(statements)],
        capture_output=True, text=True, check=False, cwd=prefix,
    )  # fmt: skip


# the two of generation differ in the build of PyTorch alone, which the stand-in cannot know; those of
# simulation in MKL, which has a test of its own
DIFFERENT = {frozenset(pinned(file).items()): file for file in reversed(FILES)}.values()


@pytest.fixture(scope="module", params=DIFFERENT, ids=lambda path: path.stem)
def built(request, tmp_path_factory):
    """An environment file and the environment made of it."""
    prefix = tmp_path_factory.mktemp("environment") / "prefix"
    conda_standin.build(request.param, prefix)
    return request.param, prefix


def test_an_environment_has_all_that_its_scripts_need(built):
    file, prefix = built
    scripts = REPOSITORY / "workflow/scripts"
    whole = [f"import sys; sys.path.insert(0, {str(scripts)!r})", *proofs(file).values()]
    whole += [f"import {script.stem}" for script in rules_of(file).values()]
    run = run_isolated(prefix, whole)
    assert run.returncode == 0, run.stderr
    foreign = run_isolated(prefix, ["import snakemake"])
    assert "No module named 'snakemake'" in foreign.stderr, "the environment is not isolated"


def test_the_variant_with_mkl_has_pardiso(tmp_path):
    try:
        metadata.version("mkl")
    except metadata.PackageNotFoundError:
        pytest.skip("MKL is not installed; its environment is NOT TESTED")
    conda_standin.build(REPOSITORY / "envs/simulation_mkl.yaml", tmp_path / "prefix")
    whole = [
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'workflow/scripts')!r})",
        "from cardiocohort.simulation.factors import check_library, mkl",
        "check_library('pardiso')",
        "assert mkl()._name.startswith(sys.prefix)",
    ]
    run = run_isolated(tmp_path / "prefix", whole)
    assert run.returncode == 0, run.stderr


@pytest.mark.long
def test_no_package_of_an_environment_can_be_taken_away(built, tmp_path):
    """With all of them no statement fails: so says the test above, of the same environment."""
    file, prefix = built
    packages = conda_standin.site_packages(prefix)
    whole = set(packages.iterdir())
    for name, statement in proofs(file).items():
        taken = take_away(name, packages, tmp_path / name)
        run = run_isolated(prefix, [statement])
        assert run.returncode != 0, f"{file.name}: nothing fails without {name}"
        assert "Error" in run.stderr
        for place in taken:
            shutil.move(tmp_path / name / place.name, place)
        assert whole <= set(packages.iterdir())


def take_away(name: str, packages: Path, folder: Path) -> list[Path]:
    """Move the top-level files and folders of a distribution out of the environment; where they were."""
    folder.mkdir()
    files = conda_standin.metadata.distribution(name).files or ()
    tops = {file.parts[0] for file in files} - {"..", "__pycache__"}
    taken = [packages / top for top in sorted(tops) if (packages / top).exists()]
    assert taken, name
    for place in taken:
        shutil.move(place, folder / place.name)
    return taken


@pytest.mark.long
def test_every_rule_runs_in_its_own_environment(tmp_path):
    path = f"{conda_standin.install(tmp_path / 'conda')}{os.pathsep}{os.environ['PATH']}"
    conda = ("--sdm", "conda", "--conda-prefix", str(tmp_path / "environments"), "--cores", "2")
    for make in (tiny_cohort.make_project, tiny_cohort.make_heart_project):
        folders = [tmp_path / f"{make.__name__}_{name}" for name in ("plain", "conda")]
        for folder in folders:
            folder.mkdir()
            make(folder)
        plain = snakemake(folders[0], "--cores", "2")
        assert plain.returncode == 0, plain.stdout
        run = subprocess.run(
            command(folders[1], *conda), env=environment() | {"PATH": path}, cwd=folders[1],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout
        found = [tiny_cohort.results(folder) for folder in folders]
        assert found[0] == found[1]
    used = {
        p.read_text(): (p.with_suffix("") / "used.log") for p in (tmp_path / "environments").glob("*.yaml")
    }
    for file in FILES:
        for rule, script in rules_of(file).items():
            if rule in RULES and file.stem not in ("generation_gpu", "simulation_mkl"):
                assert f".{script.name}" in used[file.read_text()].read_text(), rule


# of the two cohorts: one generated, one of label maps
RULES = {
    "draw_targets", "generate_anatomies", "import_anatomies", "check_topology", "build_meshes",
    "write_inputs", "write_config", "write_manifest", "write_subjects", "write_provenance", "write_report",
}  # fmt: skip
