"""Where sampling starts: the noisy latents of a population, as a bundle describes them."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cardiocohort.diffusion import bundle, edm, first_level
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.diffusion.first_level import LatentGaussian
from cardiocohort.diffusion.sampler import sample
from cardiocohort.runtime.artifacts import sha256
from cardiocohort.runtime.errors import InputError
from tiny_prior import write_tiny_bundle

SHAPE = (2, 3, 3, 3)


def population(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents of two modes about a mean: mean, modes, and n latents."""
    rng = torch.Generator().manual_seed(seed)
    mean = torch.randn(SHAPE, generator=rng) * 5
    directions = torch.linalg.qr(torch.randn(54, 2, generator=rng)).Q.T
    modes = (directions * torch.tensor([[9.0], [4.0]])).reshape(2, *SHAPE)
    weights = torch.randn(n, 2, generator=rng)
    return mean, modes, mean + torch.einsum("nk,kabcd->nabcd", weights, modes)


def test_the_fit_finds_mean_and_modes():
    mean, modes, latents = population(4000)
    found = first_level.fit(latents[:2000])
    assert found.modes.shape == (2, *SHAPE)
    assert (found.mean - mean).abs().max() < 0.5
    assert found.modes.flatten(1).norm(dim=1) == pytest.approx([9.0, 4.0], rel=0.05)
    along = (found.modes.flatten(1) @ modes.flatten(1).T).abs() / torch.tensor([81.0, 16.0])
    assert along.diagonal() == pytest.approx([1.0, 1.0], rel=0.1)
    # of more latents every second one counts
    assert torch.equal(first_level.fit(latents).mean, latents[::2].mean(0))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_latents_have_few_modes(n):
    found = first_level.fit(torch.randn(n, *SHAPE))
    assert found.modes.shape == (n - 1, *SHAPE)
    noise = torch.randn(3, *SHAPE)
    assert torch.isfinite(found.start(noise, 30.0)).all()


@pytest.mark.parametrize("sigma", [0.5, 3.0, 30.0])
def test_the_start_is_distributed_as_noisy_latents(sigma):
    mean, modes, _ = population(1)
    started = sigma * LatentGaussian(mean, modes).start(torch.randn(20_000, *SHAPE), sigma)
    covariance = torch.cov(started.flatten(1).T)
    expected = modes.flatten(1).T @ modes.flatten(1) + sigma**2 * torch.eye(54)
    # the error of a covariance of n samples in d dimensions is about 2 sqrt(d / n) of it
    assert torch.linalg.matrix_norm(covariance - expected, 2) < 0.12 * torch.linalg.matrix_norm(expected, 2)
    assert (started.mean(0) - mean).norm() < 0.1 * (81 + 54 * sigma**2) ** 0.5


def test_samples_of_a_known_denoiser_have_the_populations_moments():
    """The exact denoiser of a Gaussian: with its start mean and spread come back, from noise alone not."""
    mean, modes, _ = population(1)
    mean, gaussian = 6 * mean, LatentGaussian(6 * mean, modes)
    flat, centre = modes.flatten(1), mean.flatten()
    covariance = flat.T @ flat

    def denoise(z, sigma):
        gain = covariance @ torch.linalg.inv(covariance + sigma[0] ** 2 * torch.eye(54))
        return (centre + (z.flatten(1) - centre) @ gain.T).reshape(z.shape)

    sigmas = edm.schedule(60, 0.02, 3.0)
    noise = torch.randn(4000, *SHAPE)
    directions = flat / flat.norm(dim=1, keepdim=True)

    def moments(start):
        along = (sample(denoise, start, sigmas).flatten(1) - centre) @ directions.T
        return along.mean(0), along.std(0)

    centre_found, sd = moments(gaussian.start(noise, sigmas[0]))
    assert centre_found.abs().max() < 0.5
    assert sd == pytest.approx([9.0, 4.0], rel=0.05)
    centre_found, sd = moments(noise)
    assert sd[0] < 4.5  # the noise is narrower than the population at this level
    assert centre_found.abs().max() > 3


@pytest.fixture
def with_population(tmp_path):
    """A tiny bundle that describes its latents, and what it describes."""
    prior = load_prior(write_tiny_bundle(tmp_path / "plain"), "cpu")
    gaussian = first_level.fit(torch.randn(6, *prior.latent_shape))
    folder = tmp_path / "bundle"
    folder.mkdir()
    card = {k: v for k, v in prior.card.items() if k not in ("format", "weights_sha256")}
    bundle.save_bundle(folder, card, prior.autoencoder, prior.denoiser, prior.mean, prior.spread, gaussian)
    return folder, gaussian, prior


def test_a_bundle_keeps_the_description_of_its_latents(with_population):
    folder, gaussian, plain = with_population
    prior = load_prior(folder, "cpu")
    noise = torch.randn(2, *prior.latent_shape)
    torch.testing.assert_close(prior.start(noise, 30.0), gaussian.start(noise, 30.0), atol=1e-3, rtol=0)
    assert torch.equal(plain.start(noise, 30.0), noise)
    assert torch.equal(replace(prior, population=None).start(noise, 30.0), noise)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population.modes": None}, r"'population\.modes' is missing"),
        ({"population.mean": None}, r"'population\.mean' is missing"),
        ({"population.mean": torch.zeros(3)}, r"'population\.mean' is missing or not of shape"),
        ({"population.modes": torch.zeros(2, 3)}, r"'population\.modes' is missing or not of shape"),
        ({"population.modes": "zero"}, "a mode of length 0"),
    ],
)
def test_a_description_that_is_not_whole_is_an_error(with_population, change, message):
    folder, gaussian, _ = with_population
    tensors = load_file(folder / "weights.safetensors")
    for name, value in change.items():
        tensors = {key: tensor for key, tensor in tensors.items() if key != name}
        if value is not None:
            tensors[name] = torch.zeros_like(gaussian.modes) if isinstance(value, str) else value
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "weights.safetensors")
    card = json.loads((folder / "bundle.json").read_text())
    card["weights_sha256"] = sha256(folder / "weights.safetensors")
    (folder / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=message):
        load_prior(folder, "cpu")


def test_the_start_does_not_depend_on_the_others_of_a_batch():
    mean, modes, _ = population(1)
    gaussian, noise = LatentGaussian(mean, modes), torch.randn(4, *SHAPE)
    alone = torch.cat([gaussian.start(noise[i : i + 1], 30.0) for i in range(4)])
    assert torch.equal(gaussian.start(noise, 30.0), alone)
