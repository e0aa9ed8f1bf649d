"""Training: cells and their voxels, resuming from a kill, determinism, a loss that falls."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from tiny_prior import NETWORKS

from cardiocohort.prior import training
from cardiocohort.prior.networks import Autoencoder, Denoiser, Detail, from_blocks, to_blocks, to_occupancy


@pytest.fixture(scope="module")
def blocks():
    """Forty maps of a shell around a ball of varying size and place, as blocks of voxels."""
    rng = np.random.default_rng(0)
    axis = np.arange(32) - 15.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    maps = []
    for _ in range(40):
        centre, radius = rng.uniform(-3, 3, 3), rng.uniform(5, 9)
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        maps.append(np.where(distance < radius, 2, np.where(distance < radius + 3, 1, 0)))
    return to_blocks(torch.from_numpy(np.stack(maps).astype(np.uint8)))


def fit(steps, **more):
    return training.FitSettings(**({"cycles": (steps,), "batch": 4, "learning_rate": 2e-3, "seed": 5} | more))


def make(kind):
    torch.manual_seed(0)
    return kind(NETWORKS)


def test_occupancies_are_the_pooled_one_hot_and_blocks_keep_every_voxel():
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 8, 8, 8)).astype(np.uint8))
    one_hot = torch.nn.functional.one_hot(labels.long(), 3).permute(0, 4, 1, 2, 3).float()
    pooled = torch.nn.functional.avg_pool3d(one_hot, 2)
    torch.testing.assert_close(to_occupancy(to_blocks(labels), 3), pooled, rtol=0, atol=1e-6)
    torch.testing.assert_close(from_blocks(to_blocks(labels)), labels, rtol=0, atol=0)


def test_refined_voxels_start_as_the_trilinear_upsampling():
    """Before training the residual is zero; trilinear by scipy, whose grid mode clamps at the border too."""
    logits = torch.randn(2, 3, 6, 6, 6)
    detail = Detail(8, 4, 3)
    cells = torch.where(torch.ones(2, 6, 6, 6, dtype=torch.bool))
    found = detail(torch.randn(2, 8, 3, 3, 3), logits, cells)  # (432, 8, 3)
    blocks = found.reshape(2, 6, 6, 6, 8, 3).permute(5, 0, 4, 1, 2, 3)
    for channel, block in enumerate(blocks):
        fine = from_blocks(block).detach().numpy()
        for one, logit in zip(fine, logits[:, channel].numpy(), strict=True):
            wanted = zoom(logit, 2, order=1, mode="nearest", grid_mode=True)
            np.testing.assert_allclose(one, wanted, atol=1e-5)


def test_a_cell_is_refined_the_same_alone_and_among_others():
    detail = Detail(8, 4, 3)
    torch.nn.init.normal_(detail.out.weight)
    features, logits = torch.randn(1, 8, 3, 3, 3), torch.randn(1, 3, 6, 6, 6)
    cells = torch.where(torch.ones(1, 6, 6, 6, dtype=torch.bool))
    some = [5, 77, 215]
    torch.testing.assert_close(
        detail(features, logits, cells)[some], detail(features, logits, [c[some] for c in cells])
    )


def test_voxels_that_cells_do_not_resolve_are_learnt(tmp_path):
    """A wall of one voxel, half a cell: upsampled cells cannot place it in its half."""
    labels = np.full((4, 32, 32, 32), 2, dtype=np.uint8)
    labels[:, 14] = 1
    thin = to_blocks(torch.from_numpy(labels))
    network, _ = training.train_autoencoder(
        make(Autoencoder), thin, 3, fit(60, learning_rate=1e-2), tmp_path, "cpu"
    )
    with torch.no_grad():
        mean, _ = network.encode(to_occupancy(thin, 3))
        again = network.labels(mean).numpy()
    overlap = 2 * ((again == 1) & (labels == 1)).sum() / ((again == 1).sum() + (labels == 1).sum())
    assert overlap > 0.9


def test_loss_falls(blocks, tmp_path):
    _, losses = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(60), tmp_path, "cpu")
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_killed_run_goes_on_to_the_undisturbed_result(blocks, tmp_path, monkeypatch, stop_after):
    steps = 7
    whole, losses = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(steps), tmp_path / "a", "cpu"
    )

    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0)
    calls, save = [], training._save

    def killing_save(*args):
        save(*args)
        calls.append(1)
        if len(calls) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save", killing_save)
    with pytest.raises(KeyboardInterrupt):
        training.train_autoencoder(make(Autoencoder), blocks, 3, fit(steps), tmp_path / "b", "cpu")
    monkeypatch.setattr(training, "_save", save)
    resumed, again = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(steps), tmp_path / "b", "cpu"
    )
    assert again == losses
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_settings_is_not_taken(blocks, tmp_path):
    training.train_autoencoder(make(Autoencoder), blocks, 3, fit(2), tmp_path, "cpu")
    _, losses = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(3, seed=6), tmp_path, "cpu")
    assert len(losses) == 3


def test_a_broken_checkpoint_is_not_taken(blocks, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    _, losses = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(2), tmp_path, "cpu")
    assert len(losses) == 2


def test_denoiser_learns_latents_better_than_their_mean(tmp_path):
    """The untrained EDM loss of standardised latents is 1 (their mean as estimate); training beats it.

    Latents are mixtures of two fixed patterns. The lower level has 2^3 cells, where bfloat16 fails.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(2, 4, 4, 4, 4, generator=generator)
    latents = torch.einsum("np,pcxyz->ncxyz", torch.randn(64, 2, generator=generator), patterns)
    mean, spread = training.standardise(latents)
    scaled = (latents - mean) / spread
    np.testing.assert_allclose(scaled.transpose(0, 1).flatten(1).std(1), 1.0, rtol=1e-4)
    _, losses = training.train_denoiser(make(Denoiser), [scaled], fit(150, batch=8), tmp_path, "cpu")
    assert np.mean(losses[-30:]) < 0.8


def test_each_cycle_draws_from_its_own_latents(tmp_path):
    pools = [SpiedLatents(torch.randn(6, 4, 4, 4, 4)), SpiedLatents(torch.randn(1, 4, 4, 4, 4))]
    training.train_denoiser(make(Denoiser), pools, fit(0, cycles=(2, 3)), tmp_path, "cpu")
    assert [pool.draws for pool in pools] == [2, 3]


def test_a_finished_run_trained_on_is_the_run_of_both_cycles(blocks, tmp_path):
    both, losses = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(0, cycles=(2, 3)), tmp_path / "a", "cpu"
    )
    training.train_autoencoder(make(Autoencoder), blocks, 3, fit(2), tmp_path / "b", "cpu")
    on, again = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(0, cycles=(2, 3)), tmp_path / "b", "cpu"
    )
    assert again == losses
    for a, b in zip(both.parameters(), on.parameters(), strict=True):
        assert torch.equal(a, b)


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
