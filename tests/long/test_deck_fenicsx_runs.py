"""The FEniCSx deck in DOLFINx and fenicsx-pulse, against the solver of `simulate` on the same mesh."""

import csv
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

import fenicsx_environment
from cardiocohort import exporters
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh.model import Microstructure
from cardiocohort.simulation import land2015, measures
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.subject import state_heart
from decks import reading_lines
from simulated import ventricle
from small_meshes import biventricle, two_labels, without_pinhole

pytestmark = pytest.mark.long
MECHANICS = Mechanics(lv_pressure_kpa=1.0, load_steps=4)


@pytest.fixture(scope="module")
def heart():
    return without_pinhole(ventricle((2, 6, 10)))


@pytest.fixture(scope="module")
def deck(heart, tmp_path_factory):
    fenicsx_environment.need()
    folder = tmp_path_factory.mktemp("fenicsx")
    exporters.writer("fenicsx")(heart, folder, MECHANICS)
    return folder


def environment_has(distribution: str) -> tuple[str, str]:
    """A distribution of the environment, and its version there."""
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    return distribution, fenicsx_environment.run(["-c", code], Path.cwd()).stdout.strip()


@lru_cache(maxsize=1)
def solver() -> tuple[str, str]:
    """Both packages that solve, and their versions."""
    names = ("dolfinx-solver-real", "fenicsx-pulse")
    return "DOLFINx, fenicsx-pulse", ", ".join(environment_has(name)[1] for name in names)


def of_mesh(model) -> str:
    return f"ellipsoid, {len(model.tets):,} tetrahedra"


def solved(folder, *arguments, processes=1) -> None:
    done = fenicsx_environment.run(["inflate.py", *arguments], folder, processes)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def curve(folder) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the load and LV volumes (mL)."""
    with open(folder / "pressure_volume.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("load_share", "lv_ml"))


def test_fibres_reach_cardiac_geometries_and_the_curve_is_that_of_simulate(heart, deck, deck_record):
    """By the README's own lines; default material to full load; on two processes; by pulse's command line."""
    lines = reading_lines((deck / "README.txt").read_text())
    assert len(lines) == 2
    reader = "\n".join([
        "from mpi4py import MPI  # before DOLFINx, whose library it loads",
        "import cardiac_geometries, io4dolfinx, numpy",
        "comm, folder = MPI.COMM_WORLD, '.'",
        *lines,
        "order = geometry.mesh.topology.original_cell_index.argsort()",
        "of = lambda name: getattr(geometry, name).x.array.reshape(-1, 3)[order]",
        "numpy.savez('read', **{name: of(name) for name in ('f0', 's0', 'n0')})",
    ])  # fmt: skip
    done = fenicsx_environment.run(["-c", reader], deck)
    assert done.returncode == 0, done.stderr[-3000:]
    read = np.load(deck / "read.npz")
    for name in ("f0", "s0", "n0"):
        deck_record.read(
            "fenicsx", *environment_has("cardiac-geometriesx"), deck=of_mesh(heart),
            quantity="fibres, sheets, normals", bound=1e-12,
            found=np.abs(read[name] - getattr(heart.microstructure, name)).max(),
        )  # fmt: skip

    solved(deck)
    shares, volumes = curve(deck)
    assert shares[0] == 0
    assert shares[-1] == 1
    # the deck has one direction per tetrahedron
    ours, settings = [], SimulationSettings(fibres="elements")
    stated, _, _ = state_heart(heart, MECHANICS, settings)
    ended = inflate(
        stated,
        settings,
        lambda step: ours.append((step.share, measures.cavity_volume_ml(stated, heart, "lv"))),
    )
    assert ended.complete
    at, ml = np.array(ours).T
    theirs = PchipInterpolator(shares, volumes)(at)
    of = {"deck": f"{of_mesh(heart)}, holzapfel_ogden, 1 kPa", "unit": "%"}
    deck_record.run(
        "fenicsx", *solver(), **of, quantity="pressure-volume curve, from simulate's", bound=1,
        found=100 * np.abs(theirs / ml - 1).max(),
    )  # fmt: skip
    deck_record.run(
        "fenicsx", *solver(), **of, quantity="change of volume, from simulate's", bound=1,
        found=100 * abs((theirs[-1] - theirs[0]) / (ml[-1] - ml[0]) - 1),
    )  # fmt: skip

    solved(deck, processes=2)
    again, on_two = curve(deck)
    assert np.allclose(again, shares)
    deck_record.run(
        "fenicsx", *solver(), **of, quantity="curve on two processes, from that on one", bound=1e-4,
        found=100 * np.abs(on_two / volumes - 1).max(),
    )  # fmt: skip

    # fully incompressible, and integrated at more points
    solved(deck, "pulse", "run", "inflation.toml")
    with open(deck / "output/loads.csv", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    found = 1e6 * float(last["volume_LV"])  # from m³
    deck_record.run(
        "fenicsx", *solver(), **of, quantity="full volume by pulse's command line, incompressible", bound=2,
        found=100 * abs(found / volumes[-1] - 1),
    )  # fmt: skip


def test_springs_of_the_pericardium_give_the_volume_of_simulate(heart, deck, tmp_path, deck_record):
    """Guccione, springs on base and epicardium; `deck` is there for the environment."""
    mechanics = Mechanics(material="guccione", base="robin", lv_pressure_kpa=1.0, load_steps=4)
    free = SimulationSettings(fibres="elements", curve_points=2)
    settings = replace(free, pericardium_kpa_per_mm=0.3)
    exporters.writer("fenicsx")(heart, tmp_path, mechanics, exporters.Deck(pericardium_kpa_per_mm=0.3))
    solved(tmp_path)
    shares, volumes = curve(tmp_path)
    assert shares[-1] == 1
    full = []
    for of in (settings, free):
        stated, _, _ = state_heart(heart, mechanics, of)
        assert inflate(stated, of, lambda step: None).complete
        full.append(measures.cavity_volume_ml(stated, heart, "lv"))
    rest = heart.cavity_volume_ml("lv")
    assert full[0] - rest < 0.9 * (full[1] - rest), "the springs hold the heart back"
    deck_record.run(
        "fenicsx", *solver(), deck=f"{of_mesh(heart)}, guccione, springs on base and epicardium", unit="%",
        quantity="change of volume, from simulate's", bound=1,
        found=100 * abs((volumes[-1] - volumes[0]) / (full[0] - rest) - 1),
    )  # fmt: skip


def test_contraction_and_beat_run_by_pulses_command_line(deck, tmp_path, deck_record):
    """The contraction to its end, and 20 ms of a beat, of filling; `deck` is there for the environment."""
    model = biventricle(7, 14, layers=(1, 2, 3))
    axes = []
    for places in (model.points_mm[model.tets].mean(axis=1), model.points_mm):
        radial = places * [1, 1, 0] / np.linalg.norm(places[:, :2], axis=1)[:, None]
        axial = np.tile([0.0, 0.0, 1.0], (len(places), 1))
        axes += [np.cross(axial, radial), radial, axial]
    model = without_pinhole(replace(model, microstructure=Microstructure(*axes)))
    exporters.writer("fenicsx")(model, tmp_path, Mechanics(load_steps=4))

    def volumes(file):
        """Of both cavities (mL) at the first and last time."""
        with open(tmp_path / file, encoding="utf-8") as table:
            first, *_, last = csv.DictReader(table)
        return [np.array([1e6 * float(row[f"volume_{v}"]) for v in ("LV", "RV")]) for row in (first, last)]

    rest = [model.cavity_volume_ml(v) for v in ("lv", "rv")]
    solved(tmp_path, "pulse", "run", "contraction.toml")
    first, last = volumes("output/loads.csv")
    of = {"unit": "%", "bound": 0.5}  # two lids over the RV's curved rim
    deck_record.run(
        "fenicsx", *solver(), **of, deck=f"both ventricles, {len(model.tets):,} tetrahedra, contraction.toml",
        quantity="volumes at rest, from the mesh's", found=100 * np.abs(first / rest - 1).max(),
    )  # fmt: skip
    assert last[0] < 0.98 * first[0]
    # with the mean taken out of its tension, `simulate` had cavities that were 5.4 % larger (the right one)
    mechanics = Mechanics(lv_pressure_kpa=15.0, rv_pressure_kpa=5.0)
    stated, _, _ = state_heart(model, mechanics, SimulationSettings(fibres="elements"))
    assert land2015.contract(stated, tension_kpa=60.0).complete
    ours = [measures.cavity_volume_ml(stated, model, v) for v in ("lv", "rv")]
    deck_record.run(
        "fenicsx", *solver(), deck=f"both ventricles, {len(model.tets):,} tetrahedra, contraction.toml",
        quantity="contracted volumes, from simulate's", unit="%", bound=4.5,
        found=100 * np.abs(ours / last - 1).max(),
    )  # fmt: skip
    short = ("--set", 'time.end_time="0.02 s"', "--set", 'output.checkpoint_every="0 s"')
    solved(tmp_path, "pulse", "run", "beat.toml", *short)
    first, last = volumes("beat/loads.csv")
    deck_record.run(
        "fenicsx", *solver(), **of, deck="the same, 20 ms of beat.toml",
        quantity="volumes at rest, from the mesh's", found=100 * np.abs(first / rest - 1).max(),
    )  # fmt: skip
    assert (1.01 * first < last).all()
    assert (last < 1.2 * first).all()


def test_dolfinx_reads_the_regions_and_interfaces_of_all_labels(deck, tmp_path, deck_record):
    """Volumes of regions and facets of interfaces; `deck` is there for the environment."""
    model = two_labels()
    exporters.label_writer("fenicsx")(model, tmp_path)
    code = """
import json, mpi4py.MPI as mpi, ufl
from dolfinx import fem, io
with io.XDMFFile(mpi.COMM_WORLD, "mesh.xdmf", "r") as file:
    mesh = file.read_mesh(name="Mesh")
    cells = file.read_meshtags(mesh, name="Cell tags")
    mesh.topology.create_connectivity(2, 3)
    facets = file.read_meshtags(mesh, name="Facet tags")
size = {}
for name, (tag, dimension) in json.load(open("markers.json")).items():
    if dimension == 3:
        dx = ufl.dx(domain=mesh, subdomain_data=cells)
        size[name] = fem.assemble_scalar(fem.form(fem.Constant(mesh, 1.0) * dx(tag)))
    else:
        size[name] = len(facets.find(tag))
json.dump(size, open("size.json", "w"))
"""
    done = fenicsx_environment.run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    size = json.loads((tmp_path / "size.json").read_text())
    for label in np.unique(model.region):
        deck_record.read(
            "fenicsx", *environment_has("dolfinx-solver-real"), deck="mesh of two labels", unit="%",
            quantity="volumes of regions", bound=1e-7,
            found=100 * abs(size.pop(model.name(label)) / model.volumes_mm3[label - 1] - 1),
        )  # fmt: skip
    assert size == {name: len(part) for name, part in model.interfaces().items()}
