"""Motion of walls against a closed form: an ellipsoidal ventricle that is stretched along its axes."""

import numpy as np
import pytest

import wall_motion
from small_meshes import biventricle


@pytest.mark.parametrize(("across", "along"), [(0.8, 0.9), (0.7, 1.05)])
def test_a_heart_that_is_scaled_moves_as_it_is_scaled(across, along):
    """Its axis shortens by what it is scaled along, its walls move inward by what they are scaled across."""
    model = biventricle()
    facets = {
        name: model.facets[model.facet_tag == wall_motion.FACETS[name]] for name in wall_motion.SURFACES
    }
    rim = np.unique(wall_motion.rim_edges(facets["lv_endo"]))
    middle, own = model.points_mm[rim].mean(axis=0), np.unique(facets["lv_endo"])
    apex = own[np.linalg.norm(model.points_mm[own] - middle, axis=1).argmax()]
    axis = model.points_mm[apex] - middle
    length = np.linalg.norm(axis)
    axis /= length
    away = model.points_mm - middle
    height = (away @ axis)[:, None] * axis
    # about the apex, so that the base moves alone
    end = model.points_mm[apex] + along * (height - length * axis) + across * (away - height)
    found = wall_motion.wall_motion(wall_motion.Heart(np.stack([model.points_mm, end]), facets))
    assert found["long_axis_mm"] == pytest.approx(length)
    assert found["long_axis_shortening"] == pytest.approx(1 - along)
    assert found["base_to_apex_mm"] == pytest.approx((1 - along) * length)
    assert found["apex_to_base_mm"] == pytest.approx(0, abs=1e-9)
    assert found["lv_ejection_fraction"] == pytest.approx(1 - across**2 * along)
    assert found["rv_ejection_fraction"] == pytest.approx(1 - across**2 * along)
    assert found["free_wall_inward"] == pytest.approx(1 - across)
    assert found["septum_inward"] == pytest.approx(1 - across)
