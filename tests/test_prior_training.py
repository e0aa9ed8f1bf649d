"""Training: occupancies, resuming from a kill, determinism, a loss that falls."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_prior import NETWORKS

from cardiocohort.prior import training
from cardiocohort.prior.networks import Autoencoder, Denoiser, pool


@pytest.fixture(scope="module")
def counts():
    """Forty maps of a shell around a ball of varying size and place, as occupancy counts."""
    rng = np.random.default_rng(0)
    axis = np.arange(32) - 15.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    maps = []
    for _ in range(40):
        centre, radius = rng.uniform(-3, 3, 3), rng.uniform(5, 9)
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        maps.append(np.where(distance < radius, 2, np.where(distance < radius + 3, 1, 0)))
    return np.stack([training.count_cells(m, 3) for m in maps])


def fit(steps, **more):
    return training.FitSettings(**({"cycles": (steps,), "batch": 4, "learning_rate": 2e-3, "seed": 5} | more))


def make(kind):
    torch.manual_seed(0)
    return kind(NETWORKS)


def test_cell_counts_are_the_pooled_one_hot():
    labels = np.random.default_rng(0).integers(0, 3, (8, 8, 8))
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), 3).permute(3, 0, 1, 2)[None].float()
    occupancy = training.as_occupancy(training.count_cells(labels, 3)[None])
    torch.testing.assert_close(occupancy, pool(one_hot), rtol=0, atol=1e-6)


def test_loss_falls(counts, tmp_path):
    _, losses = training.train_autoencoder(make(Autoencoder), counts, fit(60), tmp_path, "cpu")
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_killed_run_goes_on_to_the_undisturbed_result(counts, tmp_path, monkeypatch, stop_after):
    steps = 7
    whole, losses = training.train_autoencoder(make(Autoencoder), counts, fit(steps), tmp_path / "a", "cpu")

    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0)
    calls, save = [], training._save

    def killing_save(*args):
        save(*args)
        calls.append(1)
        if len(calls) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", killing_save)
    with pytest.raises(KeyboardInterrupt):
        training.train_autoencoder(make(Autoencoder), counts, fit(steps), tmp_path / "b", "cpu")
    monkeypatch.setattr(training, "_save", save)
    resumed, again = training.train_autoencoder(make(Autoencoder), counts, fit(steps), tmp_path / "b", "cpu")
    assert again == losses
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_settings_is_not_taken(counts, tmp_path):
    training.train_autoencoder(make(Autoencoder), counts, fit(2), tmp_path, "cpu")
    _, losses = training.train_autoencoder(make(Autoencoder), counts, fit(3, seed=6), tmp_path, "cpu")
    assert len(losses) == 3


def test_a_broken_checkpoint_is_not_taken(counts, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    _, losses = training.train_autoencoder(make(Autoencoder), counts, fit(2), tmp_path, "cpu")
    assert len(losses) == 2


def test_denoiser_learns_latents_better_than_their_mean(tmp_path):
    """The untrained EDM loss of standardised latents is 1 (their mean as estimate); training beats it.

    Latents are mixtures of two fixed patterns. The lower level has 4^3 cells: at 2^3 the bfloat16
    convolution of the CPU build gives gradients that are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(2, 4, 8, 8, 8, generator=generator)
    latents = torch.einsum("np,pcxyz->ncxyz", torch.randn(64, 2, generator=generator), patterns)
    mean, spread = training.standardise(latents)
    scaled = (latents - mean) / spread
    np.testing.assert_allclose(scaled.transpose(0, 1).flatten(1).std(1), 1.0, rtol=1e-4)
    network = make(lambda settings: Denoiser(replace(settings, cells=32)))
    _, losses = training.train_denoiser(network, scaled, fit(150, batch=8), tmp_path, "cpu")
    assert np.mean(losses[-30:]) < 0.8


def test_the_last_cycle_sees_only_the_focus(tmp_path):
    """With a focus of one latent the last cycle draws nothing else."""
    latents = torch.randn(6, 4, 8, 8, 8)
    spied = SpiedLatents(latents[:1])
    network = make(lambda settings: Denoiser(replace(settings, cells=32)))
    training.train_denoiser(network, latents, fit(0, cycles=(2, 3)), tmp_path, "cpu", spied)
    assert spied.draws == 3


class SpiedLatents:
    """Latents that count how often a batch was taken from them."""

    def __init__(self, latents):
        self.latents, self.draws = latents, 0

    def __len__(self):
        return len(self.latents)

    def __getitem__(self, index):
        self.draws += 1
        return self.latents[index]


def test_learning_rate_warms_up_falls_and_restarts():
    s = fit(0, cycles=(100, 200))
    rates = [s.rate(step) for step in range(s.steps)]
    assert s.steps == 300
    assert rates[0] == pytest.approx(2e-3 / 20, rel=0.01)
    assert max(rates[:100]) == pytest.approx(2e-3, rel=0.15)
    assert rates[99] == pytest.approx(2e-5, rel=0.1)
    assert rates[100] < rates[119] > rates[299]
