"""A stand-in for `conda`: answers what Snakemake asks, builds an isolated environment from an unchanged file.

The environment is a real virtual environment without the packages of the machine: what the file lists, in
the listed versions, and what these need by their own metadata, each file linked from the environment that
runs the tests. A version that differs, or a package that is not there, is an error as conda's would be. So
a run with `--sdm conda` shows that every file is complete and its versions are the tested ones; it does not
show that conda-forge has these names and versions, or that its builds behave like PyPI's.
"""

import argparse
import json
import os
import re
import shutil
import sys
import venv
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from environment_files import CONDA_ONLY, pypi_name

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
    wanted = {}
    for entry in content["dependencies"]:
        specs = [entry] if isinstance(entry, str) else [spec.replace("==", "=") for spec in entry["pip"]]
        for spec in specs:
            name, _, version = spec.partition("=")
            if name not in ("pip", "cuda-version"):
                wanted[name] = re.fullmatch(r"[\w.]+", version).group()
    here = ".".join(map(str, sys.version_info[:2]))
    if wanted.pop("python", None) != here:
        raise ValueError(f"{file}: only python={here} is here")
    roots = {pypi_name(name): version for name, version in wanted.items() if name not in CONDA_ONLY}
    distributions = {name: _installed(name) for name in roots}
    for name, version in roots.items():
        found = Version(distributions[name].version).public  # PyTorch's CPU builds are 2.13.0+cpu
        if found != version:
            raise ValueError(f"{file}: {name}={version} is not available, {name}={found} is")
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
    found, seen, waiting = dict(roots), set(), [(name, "") for name in roots]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in found[name].requires or ():
            need = Requirement(text)
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            own = pypi_name(need.name)
            found.setdefault(own, _installed(need.name))
            waiting += [(own, more) for more in ("", *need.extras)]
    return found


def link(distribution: metadata.Distribution, target: Path) -> None:
    """Link a distribution's files, and their compiled forms, into the site-packages folder `target`."""
    for file in distribution.files or ():
        source, place = Path(distribution.locate_file(file)), Path(os.path.normpath(target / file))
        if target.parents[1] not in place.parents or "__pycache__" in file.parts:
            continue  # no programs, but shared libraries in lib/; compiled files follow their source
        place.parent.mkdir(parents=True, exist_ok=True)
        _link(source, place)
        if source.suffix == ".py":
            name = f"__pycache__/{source.stem}.{sys.implementation.cache_tag}.pyc"
            if (source.parent / name).exists():
                (place.parent / "__pycache__").mkdir(exist_ok=True)
                _link(source.parent / name, place.parent / name)


def _link(source: Path, place: Path) -> None:
    if place.exists() or not source.exists():
        return
    try:
        os.link(source, place)
    except OSError:  # another file system
        shutil.copy2(source, place)


def main(base: str, *arguments: str) -> None:
    if arguments == ("--version",):
        print("conda 24.11.3")
    elif arguments == ("info", "--json"):
        print(json.dumps({"conda_prefix": base, "platform": "linux-64"}))
    elif arguments == ("config", "--get", "channel_priority", "--json"):
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif arguments[:2] == ("clean", "-y"):
        pass  # nothing was downloaded
    elif arguments[:2] == ("env", "create"):
        parser = argparse.ArgumentParser()
        parser.add_argument("--quiet", action="store_true")
        parser.add_argument("--no-default-packages", action="store_true")
        parser.add_argument("--file", type=Path, required=True)
        parser.add_argument("--prefix", type=Path, required=True)
        asked = parser.parse_args(arguments[2:])
        build(asked.file, asked.prefix)
    else:
        raise ValueError(f"this stand-in does not know `conda {' '.join(arguments)}`")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"conda stand-in: {error}")
