"""CalculiX deck: read with meshio and by the manual's rules, and run by CalculiX against closed solutions."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import meshio
import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import root
from scipy.spatial.transform import Rotation

from cardiocohort.exporters import Deck, writer
from cardiocohort.mechanics.settings import Mechanics, NeoHooke
from cardiocohort.mesh.model import FACETS, REGIONS
from cardiocohort.mesh.second_order import second_order
from deck_records import calculix, installed
from decks import RANDOM, block, export, inflations, many, models
from small_meshes import truncated_ellipsoid

# CalculiX manual, "Ten-node tetrahedral element": corners of each face, from 1
FACES = {1: (1, 2, 3), 2: (1, 4, 2), 3: (2, 4, 3), 4: (3, 4, 1)}

runs_ccx = pytest.mark.skipif(
    shutil.which("ccx") is None,
    reason="CalculiX (ccx, Debian's calculix-ccx) is not installed: THE DECK IS NOT RUN",
)


def cards(path: Path):
    """(keyword, parameters, data lines) of each card; comments left out, files included."""
    found = []
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("**"):
            continue
        if line.startswith("*"):
            keyword, *parts = (part.strip() for part in line[1:].split(","))
            parameters = dict((*part.split("="), "")[:2] for part in parts)
            if keyword == "INCLUDE":
                found += cards(path.parent / parameters["INPUT"])
            else:
                found.append((keyword, parameters, []))
        else:
            found[-1][2].append([part.strip() for part in line.split(",")])
    return found


def ids(rows):
    return [int(part) for row in rows for part in row if part]


@many
@given(model=models, mechanics=inflations)
def test_meshio_reads_the_mesh_back(model, mechanics, tmp_path_factory, deck_record):
    folder = export("calculix", model, mechanics, tmp_path_factory)
    points, tets, _ = model.points_mm, model.tets, None
    if mechanics.element_order == 2:
        points, tets, _ = second_order(model.points_mm, model.tets, model.facets)
    mesh = meshio.read(folder / "heart_mesh.inp", file_format="abaqus")
    deck_record.read(
        "calculix", *installed("meshio"), deck=RANDOM, quantity="nodes", unit="mm",
        found=np.abs(mesh.points - points).max(), bound=1e-7,
    )  # fmt: skip
    assert {b.type for b in mesh.cells} == {"tetra" if mechanics.element_order == 1 else "tetra10"}
    # meshio keeps the order of the file: region after region
    order = np.concatenate([np.flatnonzero(model.region == tag) for tag in REGIONS.values()])
    assert np.array_equal(np.concatenate([b.data for b in mesh.cells]), tets[order])
    counts = [(model.region == tag).sum() for tag in REGIONS.values()]
    assert [len(b.data) for b in mesh.cells] == [n for n in counts if n]


@many
@given(model=models, mechanics=inflations)
def test_tags_loads_and_fibres_by_the_rules_of_the_manual(model, mechanics, tmp_path_factory, deck_record):
    deck = cards(export("calculix", model, mechanics, tmp_path_factory) / "heart.inp")
    elements, region, sets = {}, {}, {}
    for keyword, parameters, rows in deck:
        if keyword == "ELEMENT" and parameters["TYPE"] in ("C3D4", "C3D10"):
            for row in rows:
                elements[int(row[0])] = [int(n) for n in row[1:]]
                region[int(row[0])] = REGIONS[parameters["ELSET"].lower()]
        elif keyword in ("ELSET", "NSET") and parameters[keyword] != "MUSCLE":
            sets[keyword, parameters[keyword]] = ids(rows)
    assert [region[i] for i in sorted(region)] == model.region.tolist()
    surfaces = {p["NAME"]: rows for keyword, p, rows in deck if keyword == "SURFACE"}
    (loads,) = [rows for keyword, _, rows in deck if keyword == "DLOAD"]
    kpa = {"LV_ENDO": mechanics.lv_pressure_kpa, "RV_ENDO": mechanics.rv_pressure_kpa}
    for name, tag in FACETS.items():
        expected = model.facets[model.facet_tag == tag] + 1
        faces = [
            [elements[i][n - 1] for n in FACES[int(number[1])]]
            for set_name, number in surfaces.get(f"{name.upper()}_SURFACE", [])
            for i in sets["ELSET", set_name]
        ]
        assert sorted(map(sorted, faces)) == sorted(map(sorted, expected.tolist()))
        pushed = [
            [elements[i][n - 1] for n in FACES[int(face[1])]]
            for set_name, face, _ in loads
            if set_name.startswith(f"{name.upper()}_S")
            for i in sets["ELSET", set_name]
        ]
        assert len(pushed) == (len(expected) if name.upper() in kpa else 0)
        assert sorted(map(sorted, pushed)) in ([], sorted(map(sorted, expected.tolist())))
        if len(expected):
            corners = [n for n in sets["NSET", name.upper()] if n <= len(model.points_mm)]
            assert corners == np.unique(expected).tolist()
    for set_name, _, value in loads:
        assert float(value) == pytest.approx(kpa[set_name[:7]] / 1000)
    (distribution,) = [rows for keyword, _, rows in deck if keyword == "DISTRIBUTION"]
    axes = np.array(distribution[1:], dtype=float)
    assert axes[:, 0].tolist() == list(range(1, len(model.tets) + 1))
    assert np.allclose(axes[:, 1:4], model.microstructure.f0, atol=1e-7)
    assert np.allclose(axes[:, 4:], model.microstructure.s0, atol=1e-7)
    micro = np.hstack([model.microstructure.f0, model.microstructure.s0])
    deck_record.read(
        "calculix", "reader after the manual", "2.20", deck=RANDOM, quantity="fibres and sheets",
        found=np.abs(axes[:, 1:] - micro).max(), bound=1e-7,
    )  # fmt: skip


def test_every_number_with_an_exponent_has_a_decimal_point(tmp_path):
    """CalculiX 2.20 takes a spring's 4e-06 for no data, and reads 4.e-06."""
    mechanics = Mechanics(base="robin", base_stiffness_kpa_per_mm=1e-3, lv_pressure_kpa=0.01)
    writer("calculix")(block(), tmp_path, mechanics, Deck(pericardium_kpa_per_mm=1e-3))
    written = "".join(file.read_text() for file in tmp_path.glob("*.inp"))
    assert "e-06" in written
    assert not re.findall(r"(?<![\d.])-?\d+e[-+]\d+", written)


def run(folder: Path, n_nodes: int) -> np.ndarray:
    """Displacements (N, 3) at the end of the last step."""
    done = subprocess.run(
        ["ccx", "heart"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "*ERROR" not in done.stdout, done.stdout[-2000:]
    assert done.returncode == 0
    last = (folder / "heart.sta").read_text().splitlines()[-1].split()
    assert float(last[5]) == pytest.approx(1.0), "the full load was not reached"
    rows = [line.split() for line in (folder / "heart.dat").read_text().splitlines()]
    rows = [row for row in rows if len(row) == 4 and row[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, n_nodes + 1))
    return np.array([row[1:] for row in rows], dtype=float)


@runs_ccx
@pytest.mark.parametrize("order", [1, 2])
def test_pressure_all_around_moves_a_block_into_its_springs(order, tmp_path_factory, deck_record):
    """Equal pressure p on all faces but the base: the block shrinks alike and sinks p / k into the springs.

    Any facet with a wrong face number, element or sign breaks the uniform state.
    """
    model = block(side=lambda normal: 2 if normal == (0, 0, -1) else 3)
    p, bulk, k = 4.0, 50.0, 2.0
    mechanics = Mechanics(
        base="robin", base_stiffness_kpa_per_mm=k, bulk_modulus_kpa=bulk, neo_hooke=NeoHooke(20.0),
        lv_pressure_kpa=p, load_steps=2, element_order=order,
    )  # fmt: skip
    points, _, _ = second_order(model.points_mm, model.tets, model.facets)
    points = points if order == 2 else model.points_mm
    moved = run(export("calculix", model, mechanics, tmp_path_factory), len(points))
    stretch = np.cbrt(1 - p / bulk)
    base = points[:, 2] == 0
    # springs act per undeformed area, pressure on the shrunk one; they resist the shrinking itself a little
    sunk = -p / k * stretch**2
    deck_record.run(
        "calculix", *calculix(), deck="block, neo_hooke, pressed into springs (base: robin)", unit="%",
        quantity="displacement of the base, p/k", found=100 * abs(moved[base, 2].mean() / sunk - 1), bound=2,
    )  # fmt: skip
    top = points[:, 2] == points[:, 2].max()
    height = points[:, 2].max()
    assert moved[top, 2].mean() - moved[base, 2].mean() == pytest.approx(height * (stretch - 1), rel=0.15)


@runs_ccx
def test_a_block_pressed_along_an_axis_strains_as_its_energy(tmp_path_factory, deck_record):
    """Pressure on two opposite faces: Cauchy stress (-p, 0, 0) of the neo-Hookean energy with its U(J)."""

    def side(normal):
        return {(1, 0, 0): 3, (-1, 0, 0): 4, (0, 0, -1): 2}.get(normal, 1)

    p, mu, bulk = 3.0, 5.0, 40.0
    mechanics = Mechanics(
        base="robin", base_stiffness_kpa_per_mm=1e-5, bulk_modulus_kpa=bulk, neo_hooke=NeoHooke(mu),
        lv_pressure_kpa=p, rv_pressure_kpa=p, load_steps=3,
    )  # fmt: skip
    model = block((3, 3, 3), side=side)
    points, _, _ = second_order(model.points_mm, model.tets, model.facets)
    moved = run(export("calculix", model, mechanics, tmp_path_factory), len(points))

    def stress(stretch):
        squares = np.array([stretch[0], stretch[1], stretch[1]]) ** 2
        volume = np.sqrt(squares.prod())
        cauchy = mu * volume ** (-5 / 3) * (squares - squares.mean()) + bulk * (volume - 1)
        return cauchy[:2] + np.array([p, 0])

    along, across = root(stress, [0.9, 1.05]).x
    for axis, stretch in ((0, along), (1, across), (2, across)):
        length = points[:, axis].max()
        ends = [points[:, axis] == side for side in (length, 0)]
        found = 1 + (moved[ends[0], axis].mean() - moved[ends[1], axis].mean()) / length
        deck_record.run(
            "calculix", *calculix(), deck="block, neo_hooke, pressed from two sides", unit="%", bound=0.02,
            quantity="stretch, from the energy", found=100 * abs(found - stretch),
        )  # fmt: skip


@runs_ccx
@pytest.mark.parametrize("order", [1, 2])
def test_springs_of_the_epicardium_act_along_its_normal_alone(order, tmp_path, deck_record):
    """A block turned out of the axes, pressed into a face with springs, sinks by p / k and not across.

    Two faces have springs: nodes of the edge between them have facets of different normals.
    """
    turn = Rotation.from_rotvec([0.4, -0.9, 0.3]).as_matrix()
    model = block(side=lambda normal: {(0, 0, 1): 3, (0, 0, -1): 1, (-1, 0, 0): 1}.get(normal, 2))
    model = replace(model, points_mm=model.points_mm @ turn.T)
    p, k, across = 2.0, 4.0, 1e-3
    mechanics = Mechanics(
        base="robin", base_stiffness_kpa_per_mm=across, bulk_modulus_kpa=1e4, neo_hooke=NeoHooke(1e3),
        lv_pressure_kpa=p, load_steps=1, element_order=order,
    )  # fmt: skip
    writer("calculix")(model, tmp_path, mechanics, Deck(pericardium_kpa_per_mm=k))
    points, _, _ = second_order(model.points_mm, model.tets, model.facets)
    points = points if order == 2 else model.points_mm
    moved = run(tmp_path, len(points)) @ turn  # in the block's axes
    face = np.isclose(points @ turn, 0, atol=1e-9)
    sunk = moved[face[:, 2], 2].mean()
    deck_record.run(
        "calculix", *calculix(), deck="turned block, neo_hooke, pressed into springs of the epicardium",
        quantity="displacement of the face, p/k", unit="%", bound=2, found=100 * abs(sunk / (-p / k) - 1),
    )  # fmt: skip
    assert np.abs(moved[face[:, 0], 0].mean()) < 0.02 * p / k


@runs_ccx
def test_a_fixed_base_stays_and_the_cavity_grows(tmp_path_factory):
    model = truncated_ellipsoid(shape=(3, 9, 16), apex_deg=3)
    mechanics = Mechanics(lv_pressure_kpa=1.0, load_steps=4, element_order=1, bulk_modulus_kpa=50.0)
    moved = run(export("calculix", model, mechanics, tmp_path_factory), len(model.points_mm))
    assert np.abs(moved[model.nodes_of("base")]).max() == 0
    inflated = type(model)(model.points_mm + moved, model.tets, model.region, model.facets, model.facet_tag)
    assert 1.02 < inflated.cavity_volume_ml("lv") / model.cavity_volume_ml("lv") < 2
    assert (inflated.tet_volumes_mm3 > 0).all()
