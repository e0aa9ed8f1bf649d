"""Problems 1 and 2 of the cardiac mechanics benchmark, solved as hearts are. Owned by the simulation stage.

Land et al., Verification of cardiac mechanics software: benchmark problems and solutions for testing active
and passive material behaviour, Proc R Soc A 471:20150641 (2015). Both are for an incompressible material.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from netgen import csg

from ..mechanics.settings import Guccione
from . import materials
from .continuation import Run, inflate
from .finite_elements import ng
from .measures import corner_displacements
from .problem import Problem, problem
from .settings import SimulationSettings

BULK_KPA = 1e6  # J departs from 1 by a hundred-thousandth at most
# Where elements of problem 2 are halved, once each: below a height, then around the endocardial apex.
APEX_BELOW_MM, APEX_RADII_MM = -15.0, (2.5, 1.2)
APEX_MM = (0.0, 0.0, -17.0)


@dataclass(frozen=True)
class Case:
    """A problem of the benchmark: its number, how to state it at a mesh size, and the points looked at.

    points: quantity -> undeformed corner (mm) of the mesh whose deformed z (mm) it is. edge_mm: of a mesh on
    which it is solved well.
    """

    number: int
    state: Callable[[float], Problem]
    points: dict[str, tuple[float, float, float]]
    edge_mm: float


def beam(edge_mm: float) -> Problem:
    """Problem 1: a beam with fibres along it, held at one end, bent by pressure from below."""
    geometry = csg.CSGeometry()
    sides = {
        "held": ((0, 0, 0), (-1, 0, 0)), "loaded": ((0, 0, 0), (0, 0, -1)), "x": ((10, 1, 1), (1, 0, 0)),
        "y": ((10, 1, 1), (0, 1, 0)), "z": ((10, 1, 1), (0, 0, 1)), "front": ((0, 0, 0), (0, -1, 0)),
    }  # fmt: skip
    geometry.Add(_between(sides))
    mesh = ng.Mesh(geometry.GenerateMesh(maxh=edge_mm))
    return _problem(mesh, Guccione(c_kpa=2.0, b_f=8.0, b_t=2.0, b_fs=4.0), {"loaded": 0.004}, {"held": "xyz"})


def ventricle(edge_mm: float) -> Problem:
    """Problem 2: a truncated ellipsoid, inflated with its base held. A quarter of it, by symmetry."""
    walls = [
        csg.Ellipsoid(csg.Pnt(0, 0, 0), csg.Vec(r, 0, 0), csg.Vec(0, r, 0), csg.Vec(0, 0, z)).bc(name)
        for name, r, z in (("epi", 10, 20), ("endo", 7, 17))
    ]
    sides = {
        "base": ((0, 0, 5), (0, 0, 1)), "x": ((0, 0, 0), (-1, 0, 0)), "y": ((0, 0, 0), (0, -1, 0)),
    }  # fmt: skip
    geometry = csg.CSGeometry()
    geometry.Add((walls[0] - walls[1]) * _between(sides))
    mesh = ng.Mesh(geometry.GenerateMesh(maxh=edge_mm))
    # the apex strains most by far; uniform meshes need some ten times the unknowns
    _halve(mesh, lambda points: points[:, 2].min() < APEX_BELOW_MM)
    for radius in APEX_RADII_MM:
        _halve(mesh, lambda points, r=radius: np.linalg.norm(points - APEX_MM, axis=1).min() < r)
    mesh.Curve(2)
    # the mesher turns the facets of a surface that was cut out the other way: at the apex they must look up
    up = ng.Integrate(ng.specialcf.normal(3)[2], mesh, definedon=mesh.Boundaries("endo"))
    held = {"base": "xyz", "x": "x", "y": "y"}
    inflating = {"endo": 10.0 * np.sign(up)}
    return _problem(mesh, Guccione(c_kpa=10.0, b_f=1.0, b_t=1.0, b_fs=1.0), inflating, held)


CASES = (
    Case(1, beam, {"beam_tip_z": (10.0, 0.0, 1.0)}, 0.35),
    Case(2, ventricle, {"apex_endo_z": APEX_MM, "apex_epi_z": (0.0, 0.0, -20.0)}, 1.0),
)


def solve(case: Case, edge_mm: float) -> tuple[dict[str, float], int, Run]:
    """Deformed z (mm) by quantity, number of unknowns, and how the run ended."""
    stated = case.state(edge_mm)
    run = inflate(stated, SimulationSettings(curve_points=2), lambda step: None)
    corners = np.array([vertex.point for vertex in stated.mesh.vertices])
    moved = corners + corner_displacements(stated)
    heights = {
        name: float(moved[np.linalg.norm(corners - point, axis=1).argmin(), 2])
        for name, point in case.points.items()
    }
    return heights, int(stated.free.sum()), run


def compare(case: Case, published: pd.DataFrame) -> list[dict]:
    """One row per quantity: solved value beside the lowest and highest of the published ones (mm).

    published: columns problem, quantity, value_mm.
    """
    heights, unknowns, run = solve(case, case.edge_mm)
    rows = []
    for name, value in heights.items():
        known = published.query("problem == @case.number and quantity == @name")["value_mm"]
        low, high = float(known.min()), float(known.max())
        row = {"problem": case.number, "quantity": name, "value_mm": round(value, 4)}
        row |= {"published_low_mm": low, "published_high_mm": high}
        row |= {"inside": bool(run.complete and low <= value <= high), "unknowns": unknowns}
        rows.append(row | {"load_share": run.share, "steps": run.steps})
    return rows


def _halve(mesh: ng.Mesh, chosen: Callable[[np.ndarray], bool]) -> None:
    """Bisect the tetrahedra whose corners (4, 3) are `chosen`."""
    for element in mesh.Elements(ng.VOL):
        corners = np.array([mesh[vertex].point for vertex in element.vertices])
        mesh.SetRefinementFlag(element, bool(chosen(corners)))
    mesh.Refine()


def _between(sides: dict) -> csg.Solid:
    solid = None
    for name, (point, normal) in sides.items():
        plane = csg.Plane(csg.Pnt(*point), csg.Vec(*normal)).bc(name)
        solid = plane if solid is None else solid * plane
    return solid


def _problem(mesh: ng.Mesh, settings: Guccione, pressures: dict, held: dict) -> Problem:
    return problem(mesh, partial(materials.guccione, settings), BULK_KPA, pressures, held)
