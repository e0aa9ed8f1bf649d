"""A disk that is full, cannot be written, or has damaged what lies on it: reported, repaired, continued."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import tiny_cohort
from cardiocohort.runtime import artifacts
from workflow_runs import REPOSITORY, TEMPLATES, environment, label_map_project, snakemake

TARGET = "results/cohorts/mine/topology/mine-0000.tsv"
QUIET = ("--quiet", "rules", "--cores", "1")

# ---- every writer, where a file may have no more than some kilobytes

WRITERS = """
import errno, json, os, resource, shutil, sys
sys.dont_write_bytecode = True  # Python would take the part that fits for whole ever after
from pathlib import Path
import numpy as np, pandas as pd
from small_meshes import box
from cardiocohort import exporters
from cardiocohort.anatomy import label_map
from cardiocohort.anatomy.labels import Grid
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh import storage
from cardiocohort.runtime import artifacts, tables

def no_link(*_):
    raise OSError(errno.EXDEV, "the results lie on another disk")

os.link = no_link  # a link to a file that is there needs no room
folder, model = Path(sys.argv[1]), box((13, 13, 13))
labels = np.random.default_rng(0).integers(0, 255, (96, 96, 96)).astype(np.uint8)
frame = pd.DataFrame({"subject": [f"{i:064x}" for i in np.random.default_rng(0).integers(0, 2**60, 9000)]})
columns = {"subject": "str"}

def deck(name):
    return lambda path: exporters.write_deck(path, (name, *listed, Mechanics(), exporters.Deck()))

WRITERS = {
    "label map": lambda path: label_map.write_label_map(path, labels, Grid((96, 96, 96), 2.0)),
    "volume.vtu": lambda path: storage.write_volume(path, model),
    "surface.vtp": lambda path: storage.write_surface(path, model),
    "table.parquet": lambda path: tables.write_table(path, frame, columns),
    "table.tsv": lambda path: tables.write_table(path, frame, columns),
    "text": lambda path: artifacts.write_text(path, "x" * 200_000),
}
WRITERS |= {f"subject/{name}/README.txt": deck(name) for name in exporters.available()}
whole = folder / "whole"
storage.write_volume(whole / "x.vtu", model)
storage.write_surface(whole / "x.vtp", model)
listed = [(str(p), p.stat().st_size, artifacts.sha256(p)) for p in (whole / "x.vtu", whole / "x.vtp")]
for limit in (resource.RLIM_INFINITY, 20_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    outcomes = {}
    for name, write in WRITERS.items():
        path = folder / str(limit) / "batch" / name
        try:
            write(path)
            outcomes[name] = "written"
        except OSError as error:
            outcomes[name] = f"OSError {error.errno}"
        except Exception as error:
            outcomes[name] = repr(error)
        outcomes[name] = [outcomes[name], path.exists()]
    print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def attempts(tmp_path_factory):
    """What became of each file, and whether it exists, without and with a limit to a file's size."""
    places = os.pathsep.join([str(REPOSITORY / "workflow/scripts"), str(REPOSITORY / "tests/support")])
    run = subprocess.run(
        [sys.executable, "-c", WRITERS, str(tmp_path_factory.mktemp("full"))],
        text=True, capture_output=True, env=environment() | {"PYTHONPATH": places}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def test_with_room_all_are_written(attempts):
    assert set(map(tuple, attempts[0].values())) == {("written", True)}


def test_on_a_full_disk_every_writer_fails_and_leaves_no_file(attempts):
    """Were one to say nothing, half a file would be taken for whole."""
    wrong = {name: outcome for name, outcome in attempts[1].items() if outcome[0] == "written" or outcome[1]}
    assert not wrong


# ---- whole runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results of the target TARGET on a good disk."""
    project = label_map_project(tmp_path_factory.mktemp("whole"))
    run = snakemake(project, TARGET, *QUIET)
    assert run.returncode == 0, run.stdout
    return tiny_cohort.results(project)


@contextmanager
def small_disk(place: Path, size: str):
    """A file system of `size` at `place`; the test is skipped where none can be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full or read-only disk; mounting one needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def again(place: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(place)], check=True)


def test_a_full_disk_is_reported_and_the_run_goes_on_where_it_was(tmp_path, whole):
    project = label_map_project(tmp_path)
    with small_disk(project / "results", "64k"):  # some of the four label maps
        run = snakemake(project, TARGET, *QUIET)
        assert run.returncode != 0
        assert "No space left on device; what is finished is kept" in run.stdout
        assert "Traceback" not in run.stdout
        batch = project / "results/cohorts/mine/anatomies/mine-0000"
        kept = {
            p: p.stat().st_mtime_ns for p in batch.glob("[!.]*.nii.gz") if artifacts.sidecar_path(p).exists()
        }
        assert 0 < len(kept) < len(TEMPLATES)
        assert tiny_cohort.results(project, only_whole=True).items() <= whole.items()
        again(project / "results", "size=50m")
        run = snakemake(project, TARGET, *QUIET, "--rerun-incomplete")
        assert run.returncode == 0, run.stdout
        assert tiny_cohort.results(project) == whole
        assert {p: p.stat().st_mtime_ns for p in kept} == kept, "a finished subject was made again"


def test_a_read_only_disk_is_reported(tmp_path, whole):
    project = label_map_project(tmp_path)
    with small_disk(project / "results", "50m"):
        first = "results/cohorts/mine/anatomies/mine-0000.parquet"
        assert snakemake(project, first, *QUIET).returncode == 0
        again(project / "results", "ro")
        run = snakemake(project, TARGET, *QUIET)
        assert run.returncode != 0
        assert "Read-only file system" in run.stdout
        assert "cardiocohort" not in run.stdout.partition("Traceback")[2], run.stdout
        again(project / "results", "rw")
        assert snakemake(project, TARGET, *QUIET, "--rerun-incomplete").returncode == 0
        assert tiny_cohort.results(project) == whole
