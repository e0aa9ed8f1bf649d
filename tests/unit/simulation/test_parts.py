"""Energies, tangents, loads and measures of the simulation, against closed forms."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ngsolve as ng
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import root

from cardiocohort.mechanics.settings import MATERIALS, HolzapfelOgden, Mechanics
from cardiocohort.mesh.model import FACETS, REGIONS
from cardiocohort.mesh.second_order import second_order
from cardiocohort.microstructure.fibres import FibreAngles, add_fibres, frames_within
from cardiocohort.runtime.errors import InputError, SubjectError
from cardiocohort.simulation import factors, kernels, materials, measures, subject
from cardiocohort.simulation.active import Contracting
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.elements import CHUNK, Sums, quadrature_points
from cardiocohort.simulation.factors import Mumps, NGSolve, Pardiso, Singular
from cardiocohort.simulation.mesh import directions, solver_mesh
from cardiocohort.simulation.newton import Tangent
from cardiocohort.simulation.problem import Spring, problem
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.subject import state_heart
from decks import block, isochoric_energy, stretches
from simulated import ELEMENTS, ventricle
from small_meshes import biventricle, truncated_ellipsoid, without_pinhole

ng.SetNumThreads(1)
STIFF_BASE = Mechanics(material="neo_hooke", base="robin")


def by_components(function, c, step):
    """Derivatives (6, ...) of a function of a symmetric tensor by its PAIRS, each counted once."""
    out = []
    for i, j in materials.PAIRS:
        change = np.zeros((3, 3))
        change[i, j] = change[j, i] = step if i == j else step / 2
        out.append((function(c + change) - function(c - change)) / (2 * step))
    return np.array(out)


@pytest.mark.parametrize("material", MATERIALS)
def test_stresses_and_stiffnesses_are_derivatives_of_the_papers_energies(material):
    mechanics = Mechanics(material=material)
    law = materials.law(mechanics)
    for c in stretches():

        def components(tensor):
            return np.array([tensor[pair] for pair in materials.PAIRS])[:, None]

        stress, stiffness = law(components(c))
        energy = by_components(lambda tensor: isochoric_energy(mechanics, tensor), c, 1e-5)
        assert np.allclose(stress[:, 0], 2 * energy, rtol=1e-6, atol=1e-6 * np.abs(stress).max())
        slopes = by_components(lambda tensor: law(components(tensor))[0][:, 0], c, 1e-6)
        assert np.allclose(stiffness[..., 0], 2 * slopes, rtol=1e-5, atol=1e-5 * np.abs(stiffness).max())


@given(
    st.just(0.0) | st.floats(1e-6, 0.1),
    st.floats(0, 1),
    st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=20),
)
def test_a_softened_switch_is_convex_and_near_to_the_law(width, share, places):
    x = np.sort(np.array(places))
    g, slope = materials.Switch(width, share)(x)
    exact, _ = materials.EXACT(x)
    assert (np.diff(slope) >= -1e-12).all()
    assert (slope >= share - 1e-12).all()
    assert (np.abs(g - exact) <= width / 8 + share * np.maximum(-x, width) + 1e-9).all()


# MKL is closed and not in the lock file; the continuous integration installs it (.ci/run)
MKL = any(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))
needs_mkl = pytest.mark.skipif(not MKL, reason="MKL is not installed; Pardiso is not tested")


@pytest.mark.parametrize("library", [Mumps, NGSolve, pytest.param(Pardiso, marks=needs_mkl)])
def test_factors_solve_indefinite_systems_again_and_again(library):
    """A stiff block with a constraint block, as of mixed elements; numbers change, the pattern stays."""
    rng = np.random.default_rng(2)
    n, m = 60, 20
    coupling = rng.normal(size=(n, m)) * (rng.random((n, m)) < 0.2)
    found = None
    for scale in (1.0, 7.0):
        stiff = scale * (sp.diags_array([4.0] * n) - sp.eye_array(n, k=1) - sp.eye_array(n, k=-1)).toarray()
        matrix = np.block([[stiff, coupling], [coupling.T, -1e-3 * np.eye(m)]])
        rows, columns = np.nonzero(np.triu(matrix))
        found = found or library(rows.astype(np.int32), columns.astype(np.int32), n + m)
        found.factorise(matrix[rows, columns])
        rights = rng.normal(size=(3, n + m))
        assert np.allclose(found.solve(rights) @ matrix, rights, atol=0.02)


@pytest.mark.parametrize("library", ["mumps", pytest.param("pardiso", marks=needs_mkl)])
def test_a_matrix_that_is_not_finite_has_no_factors(library):
    found = factors.factors(library, np.array([0, 1]), np.array([0, 1]), 2)
    with pytest.raises(Singular):
        found.solve(np.ones((1, 2)))
    with pytest.raises(Singular):
        found.factorise(np.array([1.0, np.nan]))


@needs_mkl
def test_single_precision_is_left_where_it_is_not_enough():
    """Two rows that differ in the seventh digit only."""
    found = Pardiso(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    alike, right = np.array([1.0, 1.0, 1.0 + 3e-7]), np.array([[1.0, 2.0]])
    answer = np.array([-1.0, 1.0]) / 3e-7 + [1.0, 0.0]
    found.factorise(alike)
    assert found.solve(right)[0] != pytest.approx(answer, rel=1e-3)
    assert found.sharpen()
    found.factorise(alike)
    assert found.solve(right)[0] == pytest.approx(answer, rel=1e-6)
    assert not found.sharpen()
    with pytest.raises(Singular):  # more than single precision holds
        Pardiso(np.array([0, 1]), np.array([0, 1]), 2).factorise(np.array([1.0, 1e60]))


THREADS_OF_MKL = """
import os, re, time
{before}
import numpy as np
from cardiocohort.simulation import factors

n = 3000
with factors.blas_on_one_thread():
    found = factors.Pardiso(np.arange(n), np.arange(n), n, 2)
    found.factorise(np.full(n, 2.0))
    assert np.all(found.solve(np.ones((1, n))) == 0.5)
    spent = time.process_time()
    time.sleep(0.05)
    print("idle" if time.process_time() - spent < 0.002 else "busy")
print(*re.findall(r"mkl_(gnu|intel)_thread", open("/proc/self/maps").read())[:1])
"""


@needs_mkl
@pytest.mark.parametrize(
    ("before", "threads"),
    [("", "intel"), ("import threadpoolctl, ngsolve", "intel"), ("import torch", "gnu")],
)
def test_mkl_takes_threads_that_leave_the_cores_unless_gnus_are_in_the_way(before, threads):
    """GNU's wait busily after each solution. Intel's beside GNU's, whose names hide them, would crash."""
    command = [sys.executable, "-c", THREADS_OF_MKL.format(before=before)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    waiting, found = done.stdout.split()
    assert found == threads
    assert waiting == "idle" or threads == "gnu"


@needs_mkl
@pytest.mark.parametrize("threads", [1, 2])
def test_an_inflation_ends_alike_with_each_library(threads):
    model, ends = two_ventricles(), []
    for solver in ("mumps", "pardiso"):
        settings = replace(ELEMENTS, solver=solver, curve_points=2)
        stated, _, _ = state_heart(model, Mechanics(material="guccione"), settings, threads)
        assert inflate(stated, settings, lambda step: None).complete
        ends.append(measures.corner_displacements(stated))
    assert np.abs(ends[0] - ends[1]).max() < 1e-4


def test_pardiso_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    factors.mkl.cache_clear()
    with pytest.raises(InputError, match=r"simulation\.solver: pardiso needs MKL.*pip install mkl"):
        factors.check_library("pardiso")
    factors.check_library("mumps")
    factors.mkl.cache_clear()


@pytest.mark.parametrize(
    ("material", "base"), [*((material, "robin") for material in MATERIALS), ("guccione", "fixed")]
)
def test_the_tangent_is_the_derivative_of_the_residual(material, base):
    """With follower pressures on both sides, springs on the base or none moved, at a deformed state."""
    model = block((2, 3, 3), side=lambda normal: {(0, 0, -1): 2, (1, 0, 0): 3, (-1, 0, 0): 4}.get(normal, 1))
    mechanics = Mechanics(material=material, base=base, holzapfel_ogden=HolzapfelOgden(a_kpa=1.0))
    stated, _, _ = state_heart(model, mechanics, replace(ELEMENTS, pericardium_kpa_per_mm=0.3))
    rng = np.random.default_rng(0)
    state, along = (rng.normal(scale=0.02, size=len(stated.free)) for _ in range(2))
    along *= stated.free
    tangent = Tangent.of(stated)
    tangent.assemble(stated, state, 0.7)
    ahead, behind = (stated.residual(state + h * along, 0.7) for h in (1e-5, -1e-5))
    found = tangent.times(along)
    assert np.allclose(found, (ahead - behind) / 2e-5, atol=1e-5 * np.abs(found).max())


def test_loads_start_from_their_last_solutions():
    """What is solved already takes no solution by the factors; a load that turned round starts anew."""
    stated, _, _ = state_heart(ventricle((3, 7, 12)), Mechanics(material="neo_hooke"), ELEMENTS)
    tangent, state = replace(Tangent.of(stated), costly_pairs=True), np.zeros(len(stated.free))
    tangent.assemble(stated, state, 0.5)
    out, load = (1e-3 * displaced(stated, 1.0, seed) * stated.free for seed in (1, 2))
    solved, solve = [], tangent.factors.solve
    tangent.factors.solve = lambda rights: solved.append(len(rights)) or solve(rights)
    for rights, most in (
        ([out, load], 2), ([out, load], 1), ([load, load], 1), ([out, -load], 2), ([load], 1),
    ):  # fmt: skip
        solved.clear()
        found = tangent.solve(np.array(rights), 1e-3)
        assert max(solved) == most
        for right, solution in zip(rights, found, strict=True):
            assert np.linalg.norm(tangent.times(solution) - right) <= 1e-3 * np.linalg.norm(right)


LOADED = replace(ELEMENTS, valve_plane="loaded")


def two_ventricles():
    """Of few elements, with fibres."""
    model = biventricle(8, 12, wall=6.5, cavity=24.0, rv_wall=2.7, layers=(1, 2, 3))
    return add_fibres(model, FibreAngles())


def displaced(stated, scale_mm, seed=4):
    """A state (ndof,) of random displacements."""
    state = np.random.default_rng(seed).normal(scale=scale_mm, size=len(stated.free))
    state[stated.n_displacements :] = 0
    return state


def resultant(stated, forces):
    """(3,): work of the forces in a translation. Midside unknowns are differences from the corners' mean."""
    return forces[: stated.n_displacements].reshape(3, -1)[:, : stated.mesh.nv].sum(axis=1)


def test_the_load_on_the_valves_of_a_truncated_sphere_is_pressure_by_its_orifice():
    """The sphere is cut at 115 degrees from the apex, where its rim is a polygon of 24 corners."""
    sphere = truncated_ellipsoid((3, 14, 24), (20.0, 20.0), (28.0, 28.0), base_deg=115.0)
    model = without_pinhole(add_fibres(sphere, FibreAngles()))
    stated, _, _ = state_heart(model, replace(STIFF_BASE, lv_pressure_kpa=2.0), LOADED)
    orifice = 12 * np.sin(2 * np.pi / 24) * (20 * np.sin(np.radians(115))) ** 2
    still = np.zeros(len(stated.free))
    load = stated.valves.forces(still)
    assert resultant(stated, load) == pytest.approx([0, 0, 2.0 * orifice], abs=1e-9 * orifice)
    # spread evenly: the force of each part of the base is its share of the base's area
    base = np.unique(np.flatnonzero(load) % (stated.n_displacements // 3))
    corners = model.nodes_of("base")
    assert set(corners) == set(base[base < stated.mesh.nv])
    # the endocardium's own load is the opposite
    assert np.abs(resultant(stated, stated.load(still))).max() < 1e-9 * orifice


def test_pressures_of_cavities_with_loaded_valves_have_no_resultant():
    """At a deformed state of both ventricles, each pressure for itself; a translation does no work."""
    for pressures in ({"rv_pressure_kpa": 0.0}, {"lv_pressure_kpa": 0.0}):
        mechanics = replace(STIFF_BASE, **pressures)
        stated, _, _ = state_heart(two_ventricles(), mechanics, LOADED)
        state = displaced(stated, 0.5)
        load, free = stated.load(state), replace(stated, valves=None).load(state)
        assert np.abs(resultant(stated, free)).max() > 100
        assert np.abs(resultant(stated, load)).max() < 1e-9 * np.abs(free).sum()


def test_each_ventricles_valves_hang_on_the_base_around_its_cavity():
    """The free wall of the other ventricle carries nothing."""
    model = two_ventricles()
    stated, _, _ = state_heart(model, STIFF_BASE, LOADED)
    base = model.nodes_of("base")
    for share, other in zip(stated.valves.shares, ("rv", "lv"), strict=True):
        assert share[: stated.mesh.nv].sum() == pytest.approx(1)
        facets = model.facets[model.facet_tag == FACETS["base"]]
        behind = {tuple(sorted(f)): model.region[np.isin(model.tets, f).sum(axis=1) == 3][0] for f in facets}
        loaded = {n for f, region in behind.items() if region != REGIONS[other] for n in f}
        assert set(base[share[base] > 1e-12]) <= loaded
        assert set(np.flatnonzero(np.abs(share[: stated.mesh.nv]) > 1e-12)) <= loaded


def test_loaded_valves_have_the_residuals_tangent():
    stated, _, _ = state_heart(two_ventricles(), replace(STIFF_BASE, material="guccione"), LOADED)
    state = displaced(stated, 0.02)
    along = displaced(stated, 0.02, seed=5)
    tangent = Tangent.of(stated)
    tangent.assemble(stated, state, 0.7)
    ahead, behind = (stated.residual(state + h * along, 0.7) for h in (1e-5, -1e-5))
    found = tangent.times(along)
    assert np.allclose(found, (ahead - behind) / 2e-5, atol=1e-5 * np.abs(found).max())
    along[stated.n_displacements :] = 0
    size = stated.n_displacements
    ahead, behind = (stated.valves.forces(state + h * along) for h in (1e-5, -1e-5))
    found = (stated.valves.stiffness(state, 0.7) @ along)[:size]
    assert found == pytest.approx(-0.7 * (ahead - behind) / 2e-5, abs=1e-6 * np.abs(found).max())


def test_a_beat_that_was_begun_with_other_fibres_is_another():
    """Its checkpoint goes on for the same arrays alone."""
    model = ventricle((2, 6, 12))
    turned = add_fibres(replace(model, microstructure=None), FibreAngles(fibre_endo_deg=30.0))
    moved = replace(model, points_mm=model.points_mm + 1e-3)
    assert len({subject._digest_of(some) for some in (model, turned, moved)}) == 3
    assert subject._digest_of(model) == subject._digest_of(replace(model))


def test_threads_change_no_bit():
    stated, _, _ = state_heart(ventricle((4, 10, 14)), Mechanics(), ELEMENTS)
    assert len(stated.solid.dofs) > 2 * CHUNK
    state = np.random.default_rng(3).normal(scale=0.01, size=len(stated.free))
    pattern, both = stated.pattern(), replace(stated, threads=2)
    assert np.array_equal(stated.residual(state, 0.5), both.residual(state, 0.5))
    found = [some.tangent(pattern, state, 0.5, Sums(len(pattern.columns) + 1))[0] for some in (stated, both)]
    assert np.array_equal(*found)
    # arrays that stay have nothing of their last use
    kept = Sums(len(pattern.columns) + 1)
    for scale in (2.0, 1.0):
        again = both.tangent(pattern, scale * state, 0.5, kept)[0]
    kept.release()
    assert np.array_equal(again, found[0])


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(1, 7), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_a_product_of_blocks_is_that_of_the_whole_symmetric_matrix(sizes, seed):
    """Blocks of any size, coupled or not, in two parts."""
    rng, ends = np.random.default_rng(seed), np.concatenate([[0], np.cumsum(sizes)])
    coupled = np.triu(rng.random((len(sizes), len(sizes))) < 0.5) | np.eye(len(sizes), dtype=bool)
    there = np.triu(np.repeat(np.repeat(coupled, sizes, axis=0), sizes, axis=1))
    upper = sp.csr_array(np.where(there, rng.normal(size=there.shape), 0.0))
    x, found, middle = rng.normal(size=ends[-1]), np.zeros(ends[-1]), len(sizes) // 2
    for part in ((0, middle), (middle, len(sizes))):
        kernels.multiply(upper.data, upper.indices, upper.indptr, ends, *part, x, found)
    whole = upper.toarray() + np.triu(upper.toarray(), 1).T
    assert found == pytest.approx(whole @ x)


def test_kernels_compile_where_nothing_can_be_kept():
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import numpy as np
from cardiocohort.simulation import kernels
c, j = np.empty((6, 1)), np.empty(1)
kernels.strain(np.diag([1.0, 2.0, 3.0]).reshape(1, 1, 3, 3), c, j)
print(*c[:, 0], *j)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", "4.0", "9.0", "0.0", "0.0", "0.0", "6.0"]


def test_unknowns_of_a_node_stand_together():
    stated, _, _ = state_heart(block((2, 2, 2)), Mechanics(material="neo_hooke"), ELEMENTS)
    pattern, n_nodes = stated.pattern(), stated.n_displacements // 3
    assert sorted(pattern.order) == np.flatnonzero(stated.free).tolist()
    groups = [set(group % n_nodes) for group in np.split(pattern.order, pattern.blocks[1:-1])]
    assert all(len(group) == 1 for group in groups)
    assert len(set.union(*groups)) == len(groups)


def pressed(mechanics, pressure, bulk):
    """Stretches of a block pressed along its sheets, from the energy: Cauchy stress (0, -p, 0)."""

    def stress(logarithms):
        stretch = np.exp(logarithms)
        volume = stretch.prod()

        def energy(values):
            return isochoric_energy(mechanics, np.diag(np.exp(values - values.mean()) ** 2))

        # Kirchhoff stress is the derivative by the logarithms of the stretches
        steps = 1e-5 * np.eye(3)
        kirchhoff = np.array([energy(logarithms + h) - energy(logarithms - h) for h in steps]) / 2e-5
        return kirchhoff / volume + bulk * (volume - 1) + np.array([0, pressure, 0])

    found = root(stress, [0.01, -0.02, 0.01])
    assert np.abs(stress(found.x)).max() < 1e-5 * pressure
    return np.exp(found.x)


@pytest.mark.parametrize("material", MATERIALS)
def test_a_block_pressed_along_an_axis_strains_as_its_energy(material):
    """Any wrong sign or factor of load, energy or volume term shows; sheets in compression give way."""

    def side(normal):
        return {(0, 1, 0): 3, (0, -1, 0): 4, (0, 0, -1): 2}.get(normal, 1)

    p, model = 0.5, block((3, 3, 3), side=side)
    mechanics = Mechanics(material=material, holzapfel_ogden=HolzapfelOgden(a_kpa=1.0))
    mesh, order = solver_mesh(model)
    law, axes = materials.law(mechanics), directions(model, order)
    # two planes of symmetry; of the rigid motions only the one along the fibres is left, for the spring
    held = {"base": "z", "rv_endo": "y"}
    stated = problem(mesh, law, 40.0, {"lv_endo": p}, held, [Spring("epi", 1e-6)], axes)
    assert inflate(stated, SimulationSettings(), lambda step: None).complete
    moved = measures.corner_displacements(stated)
    for axis, stretch in enumerate(pressed(mechanics, p, 40.0)):
        places = model.points_mm[:, axis]
        ends = [places == value for value in (places.max(), 0)]
        found = 1 + (moved[ends[0], axis].mean() - moved[ends[1], axis].mean()) / places.max()
        assert found == pytest.approx(stretch, abs=2e-4)


def test_turning_fibres_pull_as_their_integral():
    """A slab whose fibres turn from 60 to -60 degrees pulls with the mean of cos^2, 1/2 + sin(2a) / 4a.

    It is one tetrahedron thick: with one direction each, the force is 18 % too large, with one per point of
    the customary quadrature 2 % too small.
    """
    model, tension, half = block((4, 4, 2)), 10.0, np.radians(60)
    mesh, _ = solver_mesh(model)
    length, width, thickness = np.ptp(model.points_mm, axis=0)

    def pull(places, order):
        angle = half - 2 * half * places[..., 2] / thickness
        fibre = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
        normal = np.broadcast_to([0.0, 0.0, 1.0], fibre.shape)
        axes = np.stack([fibre, np.cross(normal, fibre), normal], axis=-1)
        law = Contracting(lambda c: (np.zeros_like(c), np.zeros((6, *c.shape))), tension)
        stated = problem(mesh, law, 1e3, {"epi": 1e-9}, {}, axes=axes, quadrature=order)
        # a virtual stretch along x: its work is the force times the length
        along = stated.displacement
        along.Set(ng.CF((ng.x, 0, 0)))
        work = stated.residual(np.zeros(len(stated.free)), 0.0) @ stated.state.vec.FV().NumPy()
        return work / length

    points, more = (quadrature_points(mesh, order) for order in (2, 4))
    exact = tension * width * thickness * (0.5 + np.sin(2 * half) / (4 * half))
    assert pull(points, 2) == pytest.approx(exact, rel=0.03)
    assert pull(more, 4) == pytest.approx(exact, rel=2e-3)
    assert pull(points.mean(axis=1), 2) > 1.15 * exact


def test_measures_of_a_known_deformation():
    model = ventricle()
    stated, order, axes = state_heart(model, Mechanics(), ELEMENTS)
    assert measures.cavity_volume_ml(stated, model, "lv") == pytest.approx(model.cavity_volume_ml("lv"))
    matrix = np.array([[0.1, 0.2, 0.03], [0, -0.1, 0.05], [0.07, 0.02, 0.04]])
    linear = ng.CF(tuple(matrix.ravel()), dims=(3, 3)) * ng.CF((ng.x, ng.y, ng.z))
    stated.displacement.Set(linear)
    gradient = np.eye(3) + matrix
    expected = np.linalg.det(gradient) * model.cavity_volume_ml("lv")
    assert measures.cavity_volume_ml(stated, model, "lv") == pytest.approx(expected)
    found = measures.strains(stated, axes)
    strain = (gradient.T @ gradient - np.eye(3)) / 2
    micro = model.microstructure
    for name in measures.STRAINS:
        a, b = ({"f": micro.f0, "s": micro.s0, "n": micro.n0}[letter][order] for letter in name[2:])
        assert np.allclose(found[name], np.einsum("mi,ij,mj->m", a, strain, b))
    assert np.allclose(found["J"], np.linalg.det(gradient))
    stated.displacement.Set(linear + ng.CF((ng.x * ng.y * 1e-3, 0, ng.z**2 * 2e-3)))
    points, _, _ = second_order(model.points_mm, model.tets, model.facets)
    exact = points @ matrix.T
    exact[:, 0] += points[:, 0] * points[:, 1] * 1e-3
    exact[:, 2] += points[:, 2] ** 2 * 2e-3
    assert np.allclose(measures.ten_node_displacements(stated, model, order), exact)
    assert np.allclose(measures.corner_displacements(stated), exact[: len(model.points_mm)])


def test_a_law_with_fibres_needs_them():
    with pytest.raises(SubjectError, match="fibres"):
        state_heart(truncated_ellipsoid((3, 5, 8), apex_deg=3), Mechanics(), SimulationSettings())


def test_directions_within_tetrahedra_need_the_angles_of_a_rule():
    model = truncated_ellipsoid((3, 5, 8), apex_deg=3)
    ruled = add_fibres(model, FibreAngles(50, -40))
    stated, order, axes = state_heart(ruled, Mechanics(), SimulationSettings())
    within = stated.solid.axes
    assert within.shape[1] == 4
    assert np.allclose(within.swapaxes(2, 3) @ within, np.eye(3))
    middle = frames_within(ruled, FibreAngles(50, -40), np.full((1, 4), 0.25))[order, 0]
    assert np.allclose(np.abs((middle * axes).sum(axis=1)), 1, atol=1e-5)
    assert state_heart(ruled, Mechanics(), ELEMENTS)[0].solid.axes.shape[1] == 1
    with pytest.raises(SubjectError, match=r"without the angles .* 'simulation\.fibres' to elements"):
        state_heart(replace(ruled, provenance={}), Mechanics(), SimulationSettings())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"fibres": "nodes"}, ["simulation.fibres", "points"]),
        ({"batchsize": 2}, ["simulation.batchsize", "batch_size"]),
        ({"batch_size": 0}, ["simulation.batch_size", "at least 1"]),
        ({"max_steps": 1.5}, ["simulation.max_steps", "1.5"]),
        ({"pericardium_kpa_per_mm": -1}, ["simulation.pericardium_kpa_per_mm", "-1"]),
    ],
)
def test_settings_that_cannot_be_are_told(values, told):
    with pytest.raises(InputError) as caught:
        SimulationSettings.of(values)
    for part in told:
        assert part in str(caught.value)


def test_pytorch_keeps_its_own_blas(tmp_path):
    """Whatever is imported first: with NGSolve's, its batched products crash."""
    code = """
import sys
import cardiocohort.simulation.factors
assert "torch" not in sys.modules  # only its library, for time and memory
import torch
torch.einsum("kxi,kij->kxj", torch.ones(4, 99, 3).double(), torch.eye(3).double().expand(4, 3, 3))
"""
    environment = os.environ | {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": str(tmp_path / "bound")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    lines = [line for part in tmp_path.iterdir() for line in part.read_text().splitlines()]
    bound = [line for line in lines if re.search(r"libtorch_cpu\S+ \[0\] to .*symbol `dgemm_'", line)]
    assert bound
    assert not [line for line in bound if "openblas" in line]


def test_a_system_without_the_fortran_runtime_is_told_so(tmp_path):
    """As in a slim image: NGSolve's wheel ends with the name of another library."""
    (tmp_path / "ngsolve.py").write_text("raise ImportError('libopenblas.so.0: cannot open shared object')")
    (tmp_path / "ngsolve_openblas.py").write_text(
        "import pathlib\n\ndef get_libraries():\n    return [pathlib.Path('/none/libgfortran.so.5.0.0')]\n"
    )
    code = "import cardiocohort.simulation.finite_elements"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    message = run.stderr.splitlines()[-1]
    assert "InputError: NGSolve, which simulates, cannot be loaded" in message
    assert "/none/libgfortran.so.5.0.0" in message
    assert "apt-get install libgfortran5" in message
