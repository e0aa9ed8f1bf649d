"""Settings of the passive inflation, and ten-node tetrahedra."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh.second_order import second_order
from cardiocohort.runtime.errors import InputError
from small_meshes import box


def test_settings_survive_the_way_through_plain_values():
    mechanics = Mechanics(material="guccione", lv_pressure_kpa=2.5, base="robin")
    assert Mechanics.of(asdict(mechanics)) == mechanics
    assert Mechanics.of({"neo_hooke": {"mu_kpa": 3.0}}).neo_hooke.mu_kpa == 3.0


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"material": "hookean"}, ["mechanics.material", "'hookean'", "neo_hooke"]),
        ({"base": "free"}, ["mechanics.base", "fixed, robin"]),
        ({"element_order": 3}, ["mechanics.element_order", "1, 2"]),
        ({"pressure": 1}, ["mechanics.pressure", "lv_pressure_kpa"]),
        ({"guccione": {"bf": 1}}, ["mechanics.guccione.bf", "b_fs"]),
        ({"holzapfel_ogden": {"b_s": 0.0}}, ["mechanics.holzapfel_ogden.b_s", "above 0"]),
        ({"neo_hooke": {"mu_kpa": -1}}, ["mechanics.neo_hooke.mu_kpa", "-1"]),
        ({"bulk_modulus_kpa": float("nan")}, ["mechanics.bulk_modulus_kpa", "nan"]),
        ({"load_steps": 2.5}, ["mechanics.load_steps", "2.5"]),
        ({"rv_pressure_kpa": "0.5"}, ["mechanics.rv_pressure_kpa", "'0.5'"]),
    ],
)
def test_an_impossible_value_is_named_with_its_key(values, parts):
    with pytest.raises(InputError) as caught:
        Mechanics.of(values)
    for part in parts:
        assert part in str(caught.value)


def test_no_pressure_at_all_is_refused():
    with pytest.raises(InputError, match=r"lv_pressure_kpa, mechanics.rv_pressure_kpa: both are 0"):
        Mechanics.of({"lv_pressure_kpa": 0, "rv_pressure_kpa": 0.0})


def test_zero_pressures_and_stresses_are_allowed():
    assert Mechanics.of({"lv_pressure_kpa": 0, "holzapfel_ogden": {"a_fs_kpa": 0}}).lv_pressure_kpa == 0


# degree 2, barycentric coordinates (Keast 1986): four points of the same weight
GAUSS = np.full((4, 4), 0.1381966011250105) + np.eye(4) * (0.5854101966249685 - 0.1381966011250105)


def ten_node_volumes(points, tets):
    """Volumes of quadratic tetrahedra by their own shape functions, numbered as VTK does."""
    edges = [(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)]
    barycentric = np.vstack([-np.ones(3), np.eye(3)])
    volume = np.zeros(len(tets))
    for weights in GAUSS:
        corner = [(4 * weights[i] - 1) * barycentric[i] for i in range(4)]
        middle = [4 * (weights[i] * barycentric[j] + weights[j] * barycentric[i]) for i, j in edges]
        jacobian = np.einsum("mnx,ny->mxy", points[tets], np.array(corner + middle))
        volume += np.linalg.det(jacobian) / 24
    return volume


@settings(max_examples=15, deadline=None)
@given(st.builds(box, st.tuples(*[st.integers(2, 4)] * 3), st.floats(0.5, 20), st.integers(0, 2**32 - 1)))
def test_ten_nodes_hold_the_same_mesh(model):
    points, tets, facets = second_order(model.points_mm, model.tets, model.facets)
    assert np.array_equal(points[: len(model.points_mm)], model.points_mm)
    assert np.array_equal(tets[:, :4], model.tets)
    assert np.allclose(ten_node_volumes(points, tets), model.tet_volumes_mm3)
    # each edge has one node, shared by all that touch it
    edges = {frozenset(e) for t in model.tets.tolist() for e in zip(t, t[1:] + t[:1], strict=True)}
    edges |= {frozenset((t[0], t[2])) for t in model.tets.tolist()}
    edges |= {frozenset((t[1], t[3])) for t in model.tets.tolist()}
    assert len(points) == len(model.points_mm) + len(edges)
    assert len(np.unique(tets)) == len(points)
    for k, (i, j) in enumerate([(0, 1), (1, 2), (2, 0)]):
        middle = (points[facets[:, i]] + points[facets[:, j]]) / 2
        assert np.allclose(points[facets[:, 3 + k]], middle)
