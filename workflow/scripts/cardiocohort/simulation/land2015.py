"""The three problems of the cardiac mechanics benchmark, solved as hearts are. Owned by the simulation stage.

Land et al., Verification of cardiac mechanics software: benchmark problems and solutions for testing active
and passive material behaviour, Proc R Soc A 471:20150641 (2015). All are for an incompressible material.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from netgen import csg

from ..mechanics.settings import Guccione
from . import elements, materials
from .active import Contracting
from .continuation import Run, inflate
from .factors import blas_on_one_thread
from .finite_elements import ng
from .measures import corner_displacements
from .newton import LOOSE, TIGHT, Diverged, Tangent, equilibrium
from .problem import Problem, problem
from .settings import SimulationSettings

log = logging.getLogger(__name__)

Chosen = Callable[[np.ndarray], bool]  # by the corners (4, 3) of an element

BULK_KPA = 1e6  # J departs from 1 by a hundred-thousandth at most
# Radius and length of the ellipsoids of problems 2 and 3, and the height of their base
ENDO_MM, EPI_MM, BASE_MM = (7.0, 17.0), (10.0, 20.0), 5.0
APEX_MM, EPI_APEX_MM = (0.0, 0.0, -ENDO_MM[1]), (0.0, 0.0, -EPI_MM[1])
# Where elements of problem 2 are halved, once each: below a height, then around the endocardial apex.
APEX_BELOW_MM, APEX_RADII_MM = -15.0, (2.5, 1.2)
# Those of problem 3, which has four times the volume: around the endocardial apex alone.
TURNING_RADII_MM = (4.0, 2.0)
# Fibres of problem 3 turn by 180 degrees across the wall. The customary points are too few for them: with one
# direction at each, the cavity is 14 % larger.
TURNING_ORDER = 4
FIRST_SHARE, LEAST_SHARE = 1 / 32, 1e-4  # steps of pressure and tension together
EASY, ITERATIONS = 5, 12  # Newton iterations after which a step is doubled, or halved


@dataclass(frozen=True)
class Case:
    """A problem of the benchmark: its number, how to state it at a mesh size, and the points looked at.

    points: quantity -> undeformed corner (mm) of the mesh whose deformed z (mm) it is. edge_mm: of a mesh on
    which it is solved well. tension_kpa: of the fibres, which rises with the pressure.
    """

    number: int
    state: Callable[[float], Problem]
    points: dict[str, tuple[float, float, float]]
    edge_mm: float
    tension_kpa: float = 0.0


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
    geometry = csg.CSGeometry()
    geometry.Add(_quarter(_wall(), -1, -1))
    below = [lambda points: points[:, 2].min() < APEX_BELOW_MM]
    mesh = _curved(geometry, edge_mm, below + _near_apex(APEX_RADII_MM))
    held = {"base": "xyz", "x": "x", "y": "y"}
    law = Guccione(c_kpa=10.0, b_f=1.0, b_t=1.0, b_fs=1.0)
    return _problem(mesh, law, {"endo": 10.0 * _inwards(mesh)}, held)


def contracting_ventricle(edge_mm: float) -> Problem:
    """Problem 3 without its tension: the whole ellipsoid, since turning fibres have no plane of symmetry.

    It is made of quarters, so that both apices are corners of the mesh.
    """
    geometry, wall = csg.CSGeometry(), _wall()
    for x in (-1, 1):
        for y in (-1, 1):
            geometry.Add(_quarter(wall, x, y))
    mesh = _curved(geometry, edge_mm, _near_apex(TURNING_RADII_MM))
    axes = turning_fibres(elements.quadrature_points(mesh, TURNING_ORDER))
    law = Guccione(c_kpa=2.0, b_f=8.0, b_t=2.0, b_fs=4.0)
    return _problem(
        mesh, law, {"endo": 15.0 * _inwards(mesh)}, {"base": "xyz"}, axes=axes, quadrature=TURNING_ORDER
    )


def turning_fibres(places: np.ndarray) -> np.ndarray:
    """(..., 3, 3): fibre, sheet and normal of problem 3 as columns at places (..., 3) in the wall, in mm.

    Fibres are at 90 degrees to the circumference on the endocardium and at -90 on the epicardium, linearly in
    the depth t of the ellipsoid of radius 7 + 3t and length 17 + 3t on which a place lies.
    """
    radius, height = np.linalg.norm(places[..., :2], axis=-1), places[..., 2]
    short, long = (np.array(pair) for pair in zip(ENDO_MM, EPI_MM, strict=True))
    low, high = np.full(radius.shape, -0.1), np.full(radius.shape, 1.1)  # curved elements bulge a little
    for _ in range(50):
        depth = (low + high) / 2
        a, b = (pair[0] + depth * (pair[1] - pair[0]) for pair in (short, long))
        outside = (radius / a) ** 2 + (height / b) ** 2 > 1
        low, high = np.where(outside, depth, low), np.where(outside, high, depth)
    outwards = places * [1.0, 1.0, 0.0] / radius[..., None]
    upwards = np.array([0.0, 0.0, 1.0])
    around = np.cross(upwards, outwards)
    along = (-a * height / b)[..., None] * outwards + (b * radius / a)[..., None] * upwards
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    angle = np.pi * (0.5 - depth)[..., None]
    fibre = np.sin(angle) * along + np.cos(angle) * around
    sheet = np.cross(along, around)
    return np.stack([fibre, sheet, np.cross(fibre, sheet)], axis=-1)


APICES = {"apex_endo_z": APEX_MM, "apex_epi_z": EPI_APEX_MM}
CASES = (
    Case(1, beam, {"beam_tip_z": (10.0, 0.0, 1.0)}, 0.35),
    Case(2, ventricle, APICES, 1.0),
    Case(3, contracting_ventricle, APICES, 1.5, 60.0),
)


def solve(case: Case, edge_mm: float) -> tuple[dict[str, float], int, Run]:
    """Deformed z (mm) by quantity, number of unknowns, and how the run ended."""
    stated = case.state(edge_mm)
    if case.tension_kpa:
        run = contract(stated, case.tension_kpa)
    else:
        run = inflate(stated, SimulationSettings(curve_points=2), lambda step: None)
    corners = np.array([vertex.point for vertex in stated.mesh.vertices])
    moved = corners + corner_displacements(stated)
    heights = {
        name: float(moved[np.linalg.norm(corners - point, axis=1).argmin(), 2])
        for name, point in case.points.items()
    }
    return heights, int(stated.free.sum()), run


def contract(stated: Problem, tension_kpa: float) -> Run:
    """Raise pressure and tension together, from rest to the full load; the state is left in stated.state.

    Pressure alone would inflate the soft muscle far, and tension alone would fold it: together they nearly
    balance each other all the way.
    """
    vector, halvings, steps, reason = stated.state.vec.FV().NumPy(), 0, 0, ""
    with blas_on_one_thread():
        tangent, found, step = Tangent.of(stated), [(0.0, vector.copy())], FIRST_SHARE
        while found[-1][0] < 1.0 and step >= LEAST_SHARE:
            share = min(1.0, found[-1][0] + step)
            body = replace(stated, law=Contracting(stated.law, share * tension_kpa))
            guess, accuracy = _onwards(found, share), TIGHT if share == 1.0 else LOOSE
            try:
                state, _, used = equilibrium(body, tangent, guess, share, ITERATIONS, accuracy)
            except Diverged as error:
                log.info("share %.4f: %s; the step is halved", share, error)
                reason, halvings, step, tangent.factorised = str(error), halvings + 1, step / 2, False
                continue
            log.info("share %.4f of pressure and tension in %d iterations", share, used)
            found, steps = [found[-1], (share, state)], steps + 1
            step *= 2 if used <= EASY else 1
    share, vector[:] = found[-1]
    complete = share == 1.0
    return Run(complete, share, steps, halvings, tangent.factorisations, "" if complete else reason)


def _onwards(found: list[tuple[float, np.ndarray]], share: float) -> np.ndarray:
    """State (ndof,) at a share on the line through the last two."""
    (last, state), (before, other) = found[-1], found[0]
    return state if last == before else state + (share - last) / (last - before) * (state - other)


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


def _halve(mesh: ng.Mesh, chosen: Chosen) -> None:
    """Bisect the tetrahedra whose corners (4, 3) are `chosen`."""
    for element in mesh.Elements(ng.VOL):
        corners = np.array([mesh[vertex].point for vertex in element.vertices])
        mesh.SetRefinementFlag(element, bool(chosen(corners)))
    mesh.Refine()


def _wall() -> csg.Solid:
    """Between the ellipsoids of problems 2 and 3."""
    epi, endo = (
        csg.Ellipsoid(csg.Pnt(0, 0, 0), csg.Vec(r, 0, 0), csg.Vec(0, r, 0), csg.Vec(0, 0, z)).bc(name)
        for name, (r, z) in (("epi", EPI_MM), ("endo", ENDO_MM))
    )
    return epi - endo


def _quarter(wall: csg.Solid, x: int, y: int) -> csg.Solid:
    """Of the wall below the base, on the other side of the planes with normals x and y (1 or -1)."""
    sides = {"base": ((0, 0, BASE_MM), (0, 0, 1)), "x": ((0, 0, 0), (x, 0, 0)), "y": ((0, 0, 0), (0, y, 0))}
    return wall * _between(sides)


def _curved(geometry: csg.CSGeometry, edge_mm: float, chosen: list[Chosen]) -> ng.Mesh:
    """With curved surfaces, and the `chosen` elements halved, one choice after the other.

    The apex strains most by far: uniform meshes need some ten times the unknowns.
    """
    mesh = ng.Mesh(geometry.GenerateMesh(maxh=edge_mm))
    for some in chosen:
        _halve(mesh, some)
    mesh.Curve(2)
    return mesh


def _near_apex(radii_mm: tuple[float, ...]) -> list[Chosen]:
    return [
        lambda points, r=radius: np.linalg.norm(points - APEX_MM, axis=1).min() < r for radius in radii_mm
    ]


def _inwards(mesh: ng.Mesh) -> float:
    """Sign of a pressure in the cavity: the mesher turns the facets of a surface that was cut out the other
    way. At the apex they must look up."""
    return float(np.sign(ng.Integrate(ng.specialcf.normal(3)[2], mesh, definedon=mesh.Boundaries("endo"))))


def _between(sides: dict) -> csg.Solid:
    solid = None
    for name, (point, normal) in sides.items():
        plane = csg.Plane(csg.Pnt(*point), csg.Vec(*normal)).bc(name)
        solid = plane if solid is None else solid * plane
    return solid


def _problem(mesh: ng.Mesh, settings: Guccione, pressures: dict, held: dict, **more) -> Problem:
    return problem(mesh, partial(materials.guccione, settings), BULK_KPA, pressures, held, **more)
