"""EDM schedule, preconditioning, loss and sampler against a problem with a known answer."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from cardiocohort.diffusion import edm
from cardiocohort.diffusion.sampler import sample


def gaussian_denoiser(z, sigma):
    """Exact clean estimate for data ~ N(0, 1): E[x | x + sigma n = z]."""
    return z / (1 + sigma.reshape(-1, *[1] * (z.ndim - 1)) ** 2)


def test_schedule_runs_from_largest_to_smallest_and_ends_at_zero():
    sigmas = edm.schedule(30, 0.02, 30.0)
    assert len(sigmas) == 31
    assert sigmas[0] == pytest.approx(30.0)
    assert sigmas[-2] == pytest.approx(0.02)
    assert sigmas[-1] == 0.0
    assert all(a > b for a, b in pairwise(sigmas))


def test_a_network_of_zeros_denoises_standard_normal_data():
    denoise = edm.precondition(lambda z, level: torch.zeros_like(z))
    z, sigma = torch.randn(3, 2, 4, 4, 4), torch.tensor([0.1, 1.0, 20.0])
    torch.testing.assert_close(denoise(z, sigma), gaussian_denoiser(z, sigma))


def test_the_untrained_loss_is_one_at_every_noise_level():
    """With F = 0 and unit-variance data the weighted error has expectation 1 (Karras et al., sec. 5)."""
    generator = torch.Generator().manual_seed(0)
    denoise = edm.precondition(lambda z, level: torch.zeros_like(z))
    clean = torch.randn(3, 40_000, generator=generator)
    noise = torch.randn(3, 40_000, generator=generator)
    loss = edm.loss(denoise, clean, torch.tensor([0.05, 1.0, 20.0]), noise)
    torch.testing.assert_close(loss, torch.ones(3), atol=0.03, rtol=0)


@pytest.mark.parametrize(("order", "expected"), [(1, 1.0), (2, 2.0)])
def test_order_of_convergence(order, expected):
    """Halving the step divides the error by 2^order: 1 for Euler, 2 for Heun."""
    top, end = 10.0, 0.5
    noise = torch.tensor([[1.0], [-0.4]], dtype=torch.float64)
    exact = noise * top * np.sqrt((1 + end**2) / (1 + top**2))

    def error(steps):
        sigmas = edm.schedule(steps, end, top)[:-1]
        return float((sample(gaussian_denoiser, noise, sigmas, order) - exact).abs().max())

    measured = np.log2(error(64) / error(128))
    assert measured == pytest.approx(expected, abs=0.15)


def test_samples_of_the_exact_denoiser_have_unit_variance():
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    out = sample(gaussian_denoiser, noise, edm.schedule(100, 0.002, 80.0), order=2)
    assert float(out.std()) == pytest.approx(1.0, abs=0.02)
