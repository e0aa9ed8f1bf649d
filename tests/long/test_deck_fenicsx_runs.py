"""The FEniCSx deck in DOLFINx and fenicsx-pulse, against the solver of `simulate` on the same mesh."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

import fenicsx_environment
from cardiocohort import exporters
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh.model import Microstructure
from cardiocohort.simulation import measures
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.subject import state_heart
from simulated import ventricle
from small_meshes import biventricle, two_labels, without_pinhole

pytestmark = pytest.mark.long
MECHANICS = Mechanics(lv_pressure_kpa=1.0, load_steps=4)


@pytest.fixture(scope="module")
def heart():
    return without_pinhole(ventricle((2, 6, 10)))


@pytest.fixture(scope="module")
def deck(heart, tmp_path_factory):
    try:
        fenicsx_environment.environment()
    except RuntimeError as error:
        pytest.skip(f"THE FENICSX DECK IS NOT RUN: {error}")
    folder = tmp_path_factory.mktemp("fenicsx")
    exporters.writer("fenicsx")(heart, folder, MECHANICS)
    return folder


def solved(folder, *arguments, processes=1) -> None:
    done = fenicsx_environment.run(["inflate.py", *arguments], folder, processes)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def curve(folder) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the load and LV volumes (mL)."""
    with open(folder / "pressure_volume.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("load_share", "lv_ml"))


def test_fibres_reach_cardiac_geometries_and_the_curve_is_that_of_simulate(heart, deck):
    """Default material to full load; on two processes the same; and by fenicsx-pulse's command line."""
    reader = (
        "import h5py, mpi4py.MPI, numpy, inflate, cardiac_geometries as c; inflate.read_fibres_with_h5py();"
        "g = c.geometry.Geometry.from_folder(mpi4py.MPI.COMM_WORLD, '.');"
        "i = g.mesh.topology.original_cell_index;"
        "of = lambda n: getattr(g, n).x.array.reshape(-1, 3)[i.argsort()];"
        "numpy.savez('read', **{n: of(n) for n in ('f0', 's0', 'n0')})"
    )
    done = fenicsx_environment.run(["-c", reader], deck)
    assert done.returncode == 0, done.stderr[-3000:]
    read = np.load(deck / "read.npz")
    for name in ("f0", "s0", "n0"):
        assert np.allclose(read[name], getattr(heart.microstructure, name), atol=1e-12)

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
    assert np.allclose(theirs, ml, rtol=0.01), np.abs(theirs / ml - 1).max()
    assert theirs[-1] - theirs[0] == pytest.approx(ml[-1] - ml[0], rel=0.01)
    print(
        f"\nLV {ml[0]:.3f} -> {ml[-1]:.3f}, FEniCSx {theirs[0]:.3f} -> {theirs[-1]:.3f} mL;",
        np.abs(theirs / ml - 1).max(),
    )

    solved(deck, processes=2)
    again, on_two = curve(deck)
    assert np.allclose(again, shares)
    assert np.allclose(on_two, volumes, rtol=1e-6)

    # fully incompressible, and integrated at more points
    solved(deck, "pulse", "run", "inflation.toml")
    with open(deck / "output/loads.csv", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    assert 1e6 * float(last["volume_LV"]) == pytest.approx(volumes[-1], rel=0.02)  # from m³


def test_contraction_and_beat_run_by_pulses_command_line(deck, tmp_path):
    """The contraction to its end, and 20 ms of a beat, of filling; `deck` is there for the environment."""
    model = biventricle(9, 20, layers=(1, 2, 3))
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
    assert np.allclose(first, rest, rtol=0.005)  # two lids over the RV's curved rim
    print("\ncontraction", first, last)
    assert last[0] < 0.98 * first[0]
    short = ("--set", 'time.end_time="0.02 s"', "--set", 'output.checkpoint_every="0 s"')
    solved(tmp_path, "pulse", "run", "beat.toml", *short)
    first, last = volumes("beat/loads.csv")
    assert np.allclose(first, rest, rtol=0.005)
    print("beat", first, last)
    assert (1.01 * first < last).all()
    assert (last < 1.2 * first).all()


def test_dolfinx_reads_the_regions_and_interfaces_of_all_labels(deck, tmp_path):
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
        assert size.pop(model.name(label)) == pytest.approx(model.volumes_mm3[label - 1], rel=1e-9)
    assert size == {name: len(part) for name, part in model.interfaces().items()}
