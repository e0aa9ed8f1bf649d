"""Implicit conditioning: heat maps against their definition, and a denoiser that follows them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal

from cardiocohort.anatomy.labels import Grid
from cardiocohort.anatomy.moments import Moments, from_ellipsoid, measure, of_each
from cardiocohort.diffusion import conditioning
from cardiocohort.diffusion.bundle import load_prior, save_bundle
from cardiocohort.diffusion.networks import Autoencoder, Denoiser, NetworkSettings
from cardiocohort.generation.guidance import Constraint
from cardiocohort.generation.implicit import conditioned
from cardiocohort.prior import training
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART_GRID
from tiny_prior import ANATOMY, GRID, NETWORKS, write_tiny_bundle

CONDITIONED = NetworkSettings(**NETWORKS.to_dict() | {"condition_channels": 2})


def ellipsoids(*semi_axes, centre=(0.0, 0.0, 0.0)):
    found = [from_ellipsoid(np.array(centre), np.array(axes), np.eye(3)) for axes in semi_axes]
    return Moments(*(np.stack([getattr(m, k) for m in found]) for k in Moments.__dataclass_fields__))


# solid balls of 8 mm on, in cells of 16: narrower ones fall between the places that are looked at
@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(16, 30)] * 3),
    st.tuples(*[st.floats(-30, 30)] * 3),
    st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_a_map_sums_to_the_volume_and_has_the_centroid(axes, centre, turn):
    body = from_ellipsoid(np.array(centre), np.array(axes), Rotation.from_rotvec(turn).as_matrix())
    found = conditioning.heat_maps(body, HEART_GRID)
    assert found.shape == (12, 12, 12)
    cells = tuple(torch.as_tensor(axis) for axis in HEART_GRID.axes_mm(8))
    again = measure(found.double(), cells)
    assert float(again.volume_ml) == pytest.approx(float(body.volume_ml), rel=0.02)
    np.testing.assert_allclose(again.centroid_mm, body.centroid_mm, atol=0.5)


def test_a_map_is_the_mean_density_of_a_cell_times_the_volume():
    grid = Grid((16, 16, 16), 2.0)
    body = ellipsoids((9.0, 7.0, 8.0), centre=(1.0, -2.0, 3.0))
    found = conditioning.heat_maps(body, grid)[0]
    normal = multivariate_normal(body.centroid_mm[0], body.covariance_mm2[0])
    # the cell (1, 0, 1) spans 0..16, -16..0, 0..16 mm and is looked at in its octants' middles
    at = np.array([[x, y, z] for x in (4, 12) for y in (-12, -4) for z in (4, 12)], dtype=float)
    assert float(found[1, 0, 1]) == pytest.approx(1000 * body.volume_ml[0] * normal.pdf(at).mean(), rel=1e-5)


def test_structures_without_volume_have_an_empty_map():
    body = ellipsoids((9.0, 7.0, 8.0), (40.0, 40.0, 40.0))
    body.volume_ml[0], body.covariance_mm2[0] = 0.0, 0.0
    found = conditioning.heat_maps(body, GRID)
    assert torch.isfinite(found).all()
    assert not found[0].any()
    assert found[1].max() > 0.5


def test_any_number_of_structures_is_kept():
    kept = conditioning.draw_kept(np.random.default_rng(0), 4000, 3).sum(1).flatten()
    shares = torch.bincount(kept.long(), minlength=4) / 4000
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_a_start_from_an_unconditioned_denoiser_keeps_its_output(tmp_path):
    write_tiny_bundle(tmp_path / "bundle")
    plain = load_prior(tmp_path / "bundle", "cpu")
    begun = training.start_from(str(tmp_path / "bundle/bundle.json"), CONDITIONED)
    z, level = torch.randn(2, *plain.latent_shape), torch.tensor([0.1, 0.5])
    maps = torch.rand(2, 2, *plain.latent_shape[1:])
    torch.testing.assert_close(begun.denoiser(z, level, maps), plain.denoiser(z, level))
    assert training.start_from(str(tmp_path / "bundle/bundle.json"), NETWORKS).card == plain.card
    other = NetworkSettings(**NETWORKS.to_dict() | {"denoiser_depth": 2})
    with pytest.raises(InputError, match=r"prior\.networks"):
        training.start_from(str(tmp_path / "bundle/bundle.json"), other)


def constraint(body, label, n):
    wanted = of_each(lambda values: torch.tensor(values)[None].repeat(n, *[1] * np.ndim(values)), body)
    return Constraint("size", ((label,),), (wanted,), torch.ones(n), 1.0)


def test_the_denoiser_learns_to_follow_its_heat_maps(tmp_path):
    """Latents with a channel that is 1 where the first structure is large, else -1.

    The noise is the same, so that a network that ignored its heat maps would answer the same.
    """
    rng = np.random.default_rng(0)
    radii = rng.uniform(14, 30, (64, 2))
    bodies = [ellipsoids(*[(r, r, r) for r in pair]) for pair in radii]
    maps = torch.stack([conditioning.heat_maps(body, GRID) for body in bodies])
    sign = torch.from_numpy(np.where(radii[:, 0] > 22, 1.0, -1.0)).float()
    torch.manual_seed(0)
    latents = torch.randn(64, *CONDITIONED.latent_shape)
    latents[:, 0] = sign[:, None, None, None]
    fit = training.FitSettings(cycles=(300,), batch=16, learning_rate=3e-3, seed=1)
    network, _ = training.train_denoiser(Denoiser(CONDITIONED), latents, fit, tmp_path, "cpu", maps)
    card = {
        "name": "conditioned", "networks": CONDITIONED.to_dict(),
        "anatomy": {"structures": ANATOMY.structures, "centred_on": ANATOMY.centred_on},
        "grid": {"shape": GRID.shape, "spacing_mm": GRID.spacing_mm},
    }  # fmt: skip
    one = torch.ones(CONDITIONED.latent_channels, 1, 1, 1)
    save_bundle(tmp_path, card, Autoencoder(CONDITIONED), network, 0 * one, one)
    prior = load_prior(tmp_path, "cpu")
    noise, sigma = 5.0 * torch.randn(8, *prior.latent_shape), torch.full((8,), 5.0)
    wanted = [[constraint(ellipsoids((r,) * 3)[0], 1, 8)] for r in (28.0, 16.0)]
    large, small, unconditioned = (
        float(conditioned(prior, some)(noise, sigma)[:, 0].mean()) for some in (*wanted, [])
    )
    assert large > 0.4
    assert max(small, unconditioned) < large - 0.2


def test_constraints_that_it_cannot_take_are_an_error(tmp_path):
    write_tiny_bundle(tmp_path)
    body = ellipsoids((9.0, 9.0, 9.0))[0]
    with pytest.raises(InputError, match=r"prior\.conditioning: heat_maps"):
        conditioned(load_prior(tmp_path, "cpu"), [constraint(body, 1, 1)])
    torch.manual_seed(0)
    one = torch.ones(CONDITIONED.latent_channels, 1, 1, 1)
    card = load_prior(tmp_path, "cpu").card | {"networks": CONDITIONED.to_dict()}
    save_bundle(tmp_path, card, Autoencoder(CONDITIONED), Denoiser(CONDITIONED), 0 * one, one)
    union = Constraint("size", ((1, 2),), (constraint(body, 1, 1).wanted[0],), torch.ones(1), 1.0)
    with pytest.raises(InputError, match="size of wall\\+cavity"):
        conditioned(load_prior(tmp_path, "cpu"), [union])
