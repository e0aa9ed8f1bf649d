"""What the tests of solver decks share: small models, settings, and the energies that decks must describe."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cardiocohort import exporters
from cardiocohort.mechanics.settings import BASES, MATERIALS, Mechanics
from small_meshes import box

models = st.builds(box, st.tuples(*[st.integers(2, 4)] * 3), st.floats(0.5, 20), st.integers(0, 2**32 - 1))
inflations = st.builds(
    Mechanics,
    material=st.sampled_from(MATERIALS),
    base=st.sampled_from(BASES),
    element_order=st.sampled_from([1, 2]),
    load_steps=st.integers(1, 40),
    lv_pressure_kpa=st.floats(0.1, 5),
    rv_pressure_kpa=st.floats(0.1, 5),
)
RANDOM = "random small meshes"  # in a table of figures
many = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def export(name, model, mechanics, tmp_path_factory) -> Path:
    """The folder of a deck."""
    folder = tmp_path_factory.mktemp(name)
    exporters.writer(name)(model, folder, mechanics)
    return folder


def reading_lines(readme: str) -> list[str]:
    """The lines of Python by which the README of a FEniCSx deck reads its folder: those that are indented."""
    return re.findall(r"^  (\S.*)$", readme, re.MULTILINE)


def block(shape=(4, 4, 4), spacing=2.0, side=lambda normal: 1):
    """A block with plane faces, its directions along x, y, z; facet tags by `side` of the outward normal."""
    model = box(shape, spacing)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3) * spacing
    corners = grid[model.facets]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.round(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(int)
    tags = np.array([side(tuple(normal)) for normal in normals.tolist()])
    axes = [np.tile(np.eye(3)[i], (n, 1)) for n in (len(model.tets), len(grid)) for i in range(3)]
    micro = type(model.microstructure)(*axes)
    return replace(model, points_mm=grid, facet_tag=tags, microstructure=micro)


def stretches(n=20, seed=0):
    """Right Cauchy-Green tensors (n, 3, 3) with determinant 1, moderately far from rest."""
    rng = np.random.default_rng(seed)
    gradients = np.eye(3) + rng.uniform(-0.15, 0.15, (n, 3, 3))
    gradients /= np.cbrt(np.linalg.det(gradients))[:, None, None]
    return np.einsum("nki,nkj->nij", gradients, gradients)


def isochoric_energy(mechanics: Mechanics, c: np.ndarray, shear_term: bool = True) -> float:
    """Energy (kPa) of the law, as in the papers, at C with det C = 1 in the axes fibre, sheet, normal."""
    if mechanics.material == "holzapfel_ogden":
        law = mechanics.holzapfel_ogden
        energy = law.a_kpa / (2 * law.b) * np.expm1(law.b * (np.trace(c) - 3))
        for i, a, b in ((0, law.a_f_kpa, law.b_f), (1, law.a_s_kpa, law.b_s)):
            energy += a / (2 * b) * np.expm1(b * max(c[i, i] - 1, 0) ** 2)
        shear = law.a_fs_kpa / (2 * law.b_fs) * np.expm1(law.b_fs * c[0, 1] ** 2)
        return energy + (shear if shear_term else 0)
    if mechanics.material == "guccione":
        law, e = mechanics.guccione, (c - np.eye(3)) / 2
        q = law.b_f * e[0, 0] ** 2 + law.b_t * (e[1, 1] ** 2 + e[2, 2] ** 2 + 2 * e[1, 2] ** 2)
        return law.c_kpa / 2 * np.expm1(q + 2 * law.b_fs * (e[0, 1] ** 2 + e[0, 2] ** 2))
    return mechanics.neo_hooke.mu_kpa / 2 * (np.trace(c) - 3)


def svmultiphysics_curve(path: Path, is_ramp: bool):
    """Value by time of a file of temporal values, by the rules of FourierInterpolation.cpp.

    A ramp is the line from the first point to the last, held beyond. Other curves are periodic: the same
    line, and a Fourier series of what differs from it, of as many terms as the file says.
    """
    head, *rows = path.read_text().splitlines()
    points, terms = map(int, head.split())
    assert points == len(rows) >= 2
    assert terms >= 1, "0 coefficients are refused"
    times, values = np.array([list(map(float, row.split())) for row in rows]).T
    assert (np.diff(times) > 0).all(), "times must increase"
    start, period, rise = times[0], np.ptp(times), values[-1] - values[0]
    if is_ramp:
        assert (points, terms, times[0], values[0]) == (2, 1, 0, 0)
        return lambda time: values[0] + rise * min(time - start, period) / period
    fine = start + period * np.arange(20000) / 20000
    rest = np.interp(fine, times, values) - values[0] - rise * (fine - start) / period
    series = np.fft.rfft(rest)[:terms] / len(fine)
    waves = 2j * np.pi * np.arange(terms) / period

    def value(time: float) -> float:
        within = (time - start) % period
        weights = np.where(np.arange(terms) == 0, 1, 2)
        both = (weights * series * np.exp(waves * within)).sum().real
        return values[0] + rise * within / period + both

    return value
