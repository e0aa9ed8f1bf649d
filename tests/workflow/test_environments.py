"""Environment files: versions are the lock file's, and each stage's file has all that its scripts import."""

import re
import sys
from importlib import metadata

import pytest
import yaml

from cardiocohort.runtime.code_digest import third_party
from environment_files import CONDA_ONLY, FILES, REPOSITORY, listed, lock, pinned, pypi_name, rules_of


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
    rules = rules_of(file)
    assert rules, "no rule uses this environment"
    imported = {name for script in rules.values() for name in third_party(script)}
    needed = {pypi_name(name) for name in imported - set(sys.stdlib_module_names)}
    assert needed <= pinned(file).keys(), "missing"
    casadi = {"casadi"} if "ngsolve" in needed else set()
    assert casadi <= pinned(file).keys(), "missing"
    # pandas finds pyarrow by itself; vtk is what pyvista draws with; of casadi one shared library is used
    assert pinned(file).keys() <= needed | {"pyarrow", "vtk"} | casadi, "not imported"


def test_the_gpu_variant_differs_in_pytorch_alone():
    cpu, gpu = (listed(REPOSITORY / f"envs/{name}.yaml") for name in ("generation", "generation_gpu"))
    assert cpu.items() - gpu.items() == {("pytorch-cpu", lock()["torch"])}
    assert gpu.keys() - cpu.keys() == {"pytorch-gpu", "cuda-version"}
    assert gpu["pytorch-gpu"] == cpu["pytorch-cpu"]


def test_the_mkl_variant_has_mkl_beside_the_rest():
    plain, mkl = (listed(REPOSITORY / f"envs/{name}.yaml") for name in ("simulation", "simulation_mkl"))
    assert plain.items() <= mkl.items()
    assert mkl.keys() - plain.keys() == {"mkl"}
    assert f"mkl=={mkl['mkl']};" in (REPOSITORY / ".ci/run").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_version_is_exact(file):
    versions = {name: version for name, version in listed(file).items() if name != "pip"}
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in versions.values()), versions
    assert versions.keys() - pinned(file).keys() >= {"python"}
    assert {pypi_name(n) for n in versions.keys() - CONDA_ONLY} == pinned(file).keys()


def licences() -> dict[str, str]:
    """Package -> licence, from the tables of docs/licences.md."""
    text = (REPOSITORY / "docs/licences.md").read_text()
    rows = re.findall(r"^\| ([\w.-]+) \| (.+?) \|", text, re.MULTILINE)
    return {pypi_name(name): licence for name, licence in rows if name != "package"}


def test_no_dependency_slips_in_without_its_licence():
    assert lock().keys() - licences().keys() == set(), "add them to docs/licences.md"
    assert licences().keys() - lock().keys() == set(), "they are no longer used"


def test_licences_that_ask_for_something_stand_apart():
    mind, permissive = (REPOSITORY / "docs/licences.md").read_text().split("## Permissive")
    assert not re.search("GPL|MPL|CDDL|EPL|propriet", permissive, re.IGNORECASE)
    assert "AGPL" in re.search(r"^\| tetgen \|.*$", mind, re.MULTILINE)[0]
    families = r"MIT|BSD|Apache|PSF|HPND|Zlib|public domain"
    for name, licence in licences().items():
        assert re.search(families + "|GPL|MPL", licence, re.IGNORECASE), name


@pytest.mark.parametrize("name", sorted(lock()))
def test_the_licence_is_that_of_the_installed_package(name):
    """A package that declares copyleft itself is not listed as permissive."""
    try:
        stated = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed here")
    own = " ".join([stated.get("License-Expression") or "", *stated.get_all("Classifier", [])])
    for word, mark in (("GPL", "GPL"), ("GNU", "GPL"), ("MPL", "MPL"), ("Mozilla", "MPL")):
        if word in own:
            assert mark in licences()[name]


def test_the_apptainer_definition_is_in_step():
    text = (REPOSITORY / "envs/apptainer.def").read_text()
    image = re.search(r"^From: python:(\d+\.\d+)-slim", text, re.MULTILINE)[1]
    assert {listed(file)["python"] for file in FILES} == {image}
    copied = dict(re.findall(r"^    (\S+) (/opt/cardiocohort/\S+)$", text, re.MULTILINE))
    needed = ("requirements.lock", "pyproject.toml", "README.md", "workflow", "config", "envs", "resources")
    assert copied == {name: f"/opt/cardiocohort/{name}" for name in needed}
    assert all((REPOSITORY / name).exists() for name in copied)
    # the lock alone says what is installed
    assert re.findall(r"pip install (.*)", text) == [
        "--no-cache-dir -r /opt/cardiocohort/requirements.lock",
        "--no-deps --no-build-isolation --editable /opt/cardiocohort",
    ]
    run = re.search(r"%runscript\n +exec python3 /opt/cardiocohort/(\S+)", text)[1]
    assert (REPOSITORY / run).is_file()
    tested = set(re.search(r'python3 -c "import (.*)"', text)[1].split(", "))
    assert {pypi_name(name) for name in tested - {"cardiocohort"}} <= lock().keys()


def test_the_dockerfile_makes_the_image_of_the_apptainer_definition():
    definition = (REPOSITORY / "envs/apptainer.def").read_text()
    dockerfile = (REPOSITORY / "envs/Dockerfile").read_text().replace(" \\\n &&", "\nRUN")
    found = dict(re.findall(r"^([A-Z]+) (.*)$", dockerfile, re.MULTILINE))
    assert found["FROM"] == re.search(r"^From: (.*)$", definition, re.MULTILINE)[1]
    copied = re.findall(r"^COPY (\S+) (\S+)$", dockerfile, re.MULTILINE)
    assert copied == re.findall(r"^    (\S+) (/opt/cardiocohort/\S+)$", definition, re.MULTILINE)
    steps = re.findall(r"^RUN (.*)$", dockerfile, re.MULTILINE)
    post = re.search(r"%post\n(.*?)\n\n", definition, re.DOTALL)[1]
    post += re.search(r"%test(\n.*)", definition)[1]
    assert steps == [line.strip() for line in post.splitlines() if not line.strip().startswith("#")]
    assert found["ENTRYPOINT"] == '["python3", "/opt/cardiocohort/workflow/run.py"]'
    variables = re.findall(r"export (\S+)", definition)
    assert variables == found["ENV"].split()[: len(variables)]
