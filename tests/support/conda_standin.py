"""A stand-in for `conda`: it answers Snakemake's calls and builds an isolated environment from a file.

The environment is a real virtual environment. It has what the file lists, in the listed versions, and what
these packages need by their own metadata, linked from the environment that runs the tests. A version that
differs, or a package that is not there, is an error, as in conda. A run with `--sdm conda` shows that each
file is complete and that its versions are the tested ones. It does not show that conda-forge has these names
and versions, or that its builds behave like PyPI's.
"""

import json
import os
import sys
import venv
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from environment_files import listed, pypi_name

CONDA = """#!/bin/sh
exec "{python}" "{standin}" "{base}" "$@"
"""
ACTIVATE = 'export CONDA_PREFIX="$1"; export PATH="$1/bin:$PATH"\n'
# every interpreter of the environment notes what it runs
NOTE_USE = """import sys
with open(sys.prefix + "/used.log", "a") as log:
    log.write(" ".join(sys.orig_argv) + "\\n")
"""


def install(base: Path) -> Path:
    """Write `bin/conda` and `bin/activate` under `base`; returns the folder to put in front of PATH."""
    folder = base / "bin"
    folder.mkdir(parents=True)
    (folder / "activate").write_text(ACTIVATE)
    (folder / "conda").write_text(CONDA.format(python=sys.executable, standin=__file__, base=base))
    (folder / "conda").chmod(0o755)
    return folder


def site_packages(prefix: Path) -> Path:
    return next(prefix.glob("lib/python3*/site-packages"))


def build(file: Path, prefix: Path) -> None:
    """Build the environment of `file` at `prefix`; ValueError naming what cannot be had."""
    content = yaml.safe_load(file.read_text())
    if set(content) != {"channels", "dependencies"} or content["channels"] != ["conda-forge", "nodefaults"]:
        raise ValueError(f"{file}: wants the channels conda-forge and nodefaults, and dependencies")
    versions = {
        name: version for name, version in listed(file).items() if name not in ("pip", "cuda-version")
    }
    here = ".".join(map(str, sys.version_info[:2]))
    if versions.pop("python", None) != here:
        raise ValueError(f"{file}: only python={here} is here")
    roots = {pypi_name(name): version for name, version in versions.items()}
    distributions = {name: _installed(name) for name in roots}
    for name, version in roots.items():
        installed = Version(distributions[name].version).public  # PyTorch's CPU builds are 2.13.0+cpu
        if installed != version:
            raise ValueError(f"{file}: {name}={version} is not available, {name}={installed} is")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(prefix)
    target = site_packages(prefix)
    for distribution in _with_needs(distributions).values():
        link(distribution, target)
    (target / "sitecustomize.py").write_text(NOTE_USE)


def _installed(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ValueError(f"{name}: no such package here") from None


def _with_needs(roots: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """`roots` and all that they need, by name."""
    distributions, waiting = dict(roots), [(name, "") for name in roots]
    for name, extra in waiting:  # grows on the way
        needs = map(Requirement, distributions[name].requires or ())
        for need in needs:
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                key = pypi_name(need.name)
                distributions.setdefault(key, _installed(need.name))
                waiting += {(key, more) for more in ("", *need.extras)}.difference(waiting)
    return distributions


def link(distribution: metadata.Distribution, target: Path) -> None:
    """Link what a distribution has in site-packages, and its shared libraries in lib/, into `target`."""
    for file in distribution.files or ():
        entry = file if file.parts[0] == ".." else Path(file.parts[0])
        source, place = Path(distribution.locate_file(entry)), Path(os.path.normpath(target / entry))
        if target.parents[1] in place.parents and source.exists() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)


ANSWERS = {
    ("--version",): "conda 24.11.3",
    ("config", "--get", "channel_priority", "--json"): '{"get": {"channel_priority": "strict"}}',
}


def main(base: str, *arguments: str) -> None:
    if arguments == ("info", "--json"):
        print(json.dumps({"conda_prefix": base, "platform": "linux-64"}))
    elif arguments in ANSWERS:
        print(ANSWERS[arguments])
    elif arguments[:2] == ("env", "create"):
        file, prefix = (Path(arguments[arguments.index(name) + 1]) for name in ("--file", "--prefix"))
        build(file, prefix)
    elif arguments[:2] != ("clean", "-y"):  # nothing was downloaded
        raise ValueError(f"this stand-in does not know `conda {' '.join(arguments)}`")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"conda stand-in: {error}")
