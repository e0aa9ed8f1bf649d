"""Training: cells and their voxels, resuming from a kill, determinism, a loss that falls."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import zoom

from cardiocohort.anatomy.bundle_metadata import FORMAT
from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.diffusion.networks import (
    Autoencoder,
    Denoiser,
    Detail,
    from_blocks,
    to_blocks,
    to_occupancy,
)
from cardiocohort.metrics import overlap
from cardiocohort.prior import checkpoints, distributed, figures, model_card, train_jobs, training
from cardiocohort.runtime import artifacts
from cardiocohort.runtime.errors import InputError
from tiny_prior import ANATOMY, GRID, NETWORKS


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


def test_the_nearest_heart_has_the_largest_mean_dice():
    rng = np.random.default_rng(2)
    maps = [rng.integers(0, ANATOMY.n_channels, (12, 12, 12)).astype(np.uint8) for _ in range(9)]
    maps[1][maps[1] == 1] = 0  # a structure that is not there counts as no overlap
    hearts, training_hearts = maps[:4], [*maps[4:], maps[2]]
    thin = [m[::2, ::2, ::2] for m in maps]
    pairs = [[overlap.dice(a, b, ANATOMY).mean() for b in [*thin[4:], thin[2]]] for a in thin[:4]]
    found = model_card.nearest_dice(hearts, training_hearts, ANATOMY)
    np.testing.assert_allclose(found, np.max(pairs, axis=1), rtol=1e-6)
    assert found[2] == pytest.approx(1.0)


def fit(steps, **more):
    return training.FitSettings(**({"cycles": (steps,), "batch": 4, "learning_rate": 2e-3, "seed": 5} | more))


def make(kind):
    torch.manual_seed(0)
    return kind(NETWORKS)


def test_occupancies_are_pooled_one_hot_and_blocks_keep_voxels():
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


def test_validation_on_held_out_hearts_leaves_the_run_unchanged(blocks, tmp_path, monkeypatch):
    """Weights and losses are those of a run that holds none out; the held-out loss falls as training goes."""
    monkeypatch.setattr(training, "VALIDATE_EVERY", 20)
    plain, without = training.train_autoencoder(
        make(Autoencoder), blocks[4:], 3, fit(40), tmp_path / "a", "cpu"
    )
    seen = []
    watched, history = training.train_autoencoder(
        make(Autoencoder), blocks[4:], 3, fit(40), tmp_path / "b", "cpu", blocks[:4],
        lambda network, so_far: seen.append((network, dict(so_far.validation))),
    )  # fmt: skip
    assert without.validation == {}
    assert history.losses == without.losses
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)
    assert history.validation[40] < 0.9 * history.validation[20]
    assert [so_far for _, so_far in seen] == [{20: history.validation[20]}, history.validation]
    assert all(network is watched for network, _ in seen)


def test_a_denoiser_is_validated_on_held_out_latents(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "VALIDATE_EVERY", 100)
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(2, 4, 4, 4, 4, generator=generator)
    latents = torch.einsum("np,pcxyz->ncxyz", torch.randn(72, 2, generator=generator), patterns)
    strange = torch.randn(8, 4, 4, 4, 4, generator=generator)
    alike, unlike = (
        training.train_denoiser(
            make(Denoiser),
            latents[8:],
            fit(200, batch=8),
            tmp_path / name,
            "cpu",
            held_out=(held_out, None),
        )[1].validation
        for name, held_out in (("alike", latents[:8]), ("unlike", strange))
    )
    assert alike[200] < alike[100]
    assert alike[200] < unlike[200]


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_killed_run_goes_on_to_the_undisturbed_result(blocks, tmp_path, monkeypatch, stop_after):
    steps, held_out = 7, blocks[:2]
    monkeypatch.setattr(training, "VALIDATE_EVERY", 3)
    whole, history = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(steps), tmp_path / "a", "cpu", held_out
    )
    assert list(history.validation) == [3, 6, 7]

    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0)
    calls, save = [], checkpoints.save

    def killing_save(*args):
        save(*args)
        calls.append(1)
        if len(calls) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", killing_save)
    with pytest.raises(KeyboardInterrupt):
        training.train_autoencoder(make(Autoencoder), blocks, 3, fit(steps), tmp_path / "b", "cpu", held_out)
    monkeypatch.setattr(checkpoints, "save", save)
    resumed, again = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(steps), tmp_path / "b", "cpu", held_out
    )
    assert again == history
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("other", [{"seed": 6}, {"start": "0f"}])
def test_a_checkpoint_of_other_settings_is_not_taken(blocks, tmp_path, other):
    training.train_autoencoder(make(Autoencoder), blocks, 3, fit(2), tmp_path, "cpu")
    _, history = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(3, **other), tmp_path, "cpu")
    assert len(history.losses) == 3


def test_a_checkpoint_of_other_hearts_or_another_network_is_not_taken(blocks, tmp_path, caplog):
    """A run that has ended already is no excuse: its weights would pass as those of the new hearts."""
    training.train_autoencoder(make(Autoencoder), blocks, 3, fit(3), tmp_path / "a", "cpu")
    anew, fresh = (
        training.train_autoencoder(make(Autoencoder), blocks[1:], 3, fit(3), tmp_path / folder, "cpu")
        for folder in "ab"
    )
    assert anew[1].losses == fresh[1].losses
    for a, b in zip(anew[0].parameters(), fresh[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert "of other hearts or another network" in caplog.text
    wider = Autoencoder(replace(NETWORKS, fine_width=2 * NETWORKS.fine_width))
    _, history = training.train_autoencoder(wider, blocks[1:], 3, fit(3), tmp_path / "a", "cpu")
    assert len(history.losses) == 3


def test_a_broken_checkpoint_is_not_taken(blocks, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    _, history = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(2), tmp_path, "cpu")
    assert len(history.losses) == 2


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
    _, history = training.train_denoiser(make(Denoiser), scaled, fit(150, batch=8), tmp_path, "cpu")
    assert np.mean(history.losses[-30:]) < 0.8


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


def test_time_that_is_up_ends_a_run_and_more_time_trains_it_on(blocks, tmp_path):
    whole, losses = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(4), tmp_path / "a", "cpu")
    _, few = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(4, max_minutes=1e-6), tmp_path / "b", "cpu"
    )
    assert len(few.losses) == 1
    _, none = training.train_autoencoder(
        make(Autoencoder), blocks, 3, fit(4, max_minutes=1e-6), tmp_path / "b", "cpu"
    )
    assert none == few
    on, again = training.train_autoencoder(make(Autoencoder), blocks, 3, fit(4), tmp_path / "b", "cpu")
    assert again == losses
    for a, b in zip(whole.parameters(), on.parameters(), strict=True):
        assert torch.equal(a, b)


def test_learning_rate_warms_up_falls_and_restarts():
    s = fit(0, cycles=(100, 200))
    rates = [s.rate(step) for step in range(s.steps)]
    assert s.steps == 300
    assert rates[0] == pytest.approx(2e-3 / 20, rel=0.01)
    assert max(rates[:100]) == pytest.approx(2e-3, rel=0.15)
    assert rates[99] == pytest.approx(2e-5, rel=0.1)
    assert rates[100] < rates[119] > rates[299]


# several processes


def heart_files(folder, blocks):
    """The table of a population whose hearts are the maps of `blocks`; job items that name it."""
    (folder / "hearts").mkdir()
    rows = []
    for i, labels in enumerate(from_blocks(blocks).numpy()):
        path = folder / f"hearts/{i:02d}.nii.gz"
        write_label_map(path, labels, GRID)
        listed = {"file": path.name, "size": path.stat().st_size, "sha256": artifacts.sha256(path)}
        rows.append(
            {
                "subject": path.name[:2],
                "origin": "ab"[i % 2],
                "split": "held_out" if i % 6 == 5 else "train",
                "verdict": "accepted",
                "reason": "",
                **listed,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "hearts.tsv", sep="\t", index=False)
    anatomy = {"structures": ANATOMY.structures, "centred_on": ANATOMY.centred_on}
    grid = {"shape": GRID.shape, "spacing_mm": GRID.spacing_mm}
    (folder / "tiny.json").write_text(json.dumps({"format": FORMAT, "anatomy": anatomy, "grid": grid}))
    return {"anatomy": str(folder / "tiny.json"), "hearts": str(folder / "hearts.tsv"), "start": None}


def outputs(folder, reconstructs=False):
    folder.mkdir(parents=True, exist_ok=True)
    names = {"weights": "weights.safetensors", "losses": "losses.tsv", "figure": "losses.png"}
    names |= {"reconstructions": "reconstructions.png"} if reconstructs else {}
    return {name: str(folder / file) for name, file in names.items()}


def assert_same_run(one, other, kind):
    """Losses agree, and weights do as far as they have moved from their common start."""
    losses = [pd.read_csv(out["losses"], sep="\t")["loss"] for out in (one, other)]
    np.testing.assert_allclose(*losses, rtol=5e-3)
    torch.manual_seed(one["fit"]["seed"])
    start = kind(NETWORKS).state_dict()
    weights = [load_file(out["weights"]) for out in (one, other)]
    vectors = [torch.cat([some[name].float().flatten() for name in start]) for some in (start, *weights)]
    moved, apart = (vectors[1] - vectors[0]).norm(), (vectors[2] - vectors[1]).norm()
    assert apart < 0.1 * moved, (apart, moved)


def test_two_processes_train_as_one_and_take_up_each_others_run(blocks, tmp_path):
    job = heart_files(tmp_path, blocks[:12]) | {"networks": NETWORKS.to_dict(), "device": "cpu"}
    fit_of = {"batch": 4, "learning_rate": 2e-2, "seed": 5}
    made = {}
    for n in (1, 2):
        first = job | {"leave_out": [], "fit": fit_of | {"cycles": [4]}}
        first |= outputs(tmp_path / f"auto{n}", reconstructs=True)
        distributed.launch(n, n, str(tmp_path / "log"), train_jobs.fit_autoencoder, first)
        made[n] = first
    assert_same_run(made[1], made[2], Autoencoder)
    assert "step 4/4" in (tmp_path / "log").read_text()

    second = job | {"autoencoder": made[1]["weights"], "moments": None}
    for name, n, cycles in (("whole", 1, [3, 3]), ("on", 1, [3]), ("on", 2, [3, 3])):
        made[name] = second | {"fit": fit_of | {"cycles": cycles}}
        made[name] |= outputs(tmp_path / name)
        distributed.launch(n, n, None, train_jobs.fit_denoiser, made[name])
    assert_same_run(made["whole"], made["on"], Denoiser)


def test_a_fit_draws_held_out_hearts_and_reconstructions(blocks, tmp_path, monkeypatch):
    drawn = {}
    write = figures.write_reconstructions
    monkeypatch.setattr(
        figures, "write_reconstructions", lambda pairs, *rest: drawn.update(pairs) or write(pairs, *rest)
    )
    job = heart_files(tmp_path, blocks[:24]) | {"networks": NETWORKS.to_dict(), "device": "cpu"}
    job |= {"leave_out": [], "fit": {"batch": 4, "learning_rate": 5e-3, "seed": 5, "cycles": [120]}}
    job |= outputs(tmp_path / "out", reconstructs=True)
    train_jobs.fit_autoencoder(**job)
    assert [int(name) for name in drawn] == [5, 11, 17, 23], "those that the table holds out"
    for i, (labels, again) in zip((5, 11, 17, 23), drawn.values(), strict=True):
        np.testing.assert_array_equal(labels, from_blocks(blocks[i : i + 1])[0].numpy())
        assert overlap.dice(labels, again, ANATOMY).min() > 0.6
    with Image.open(job["reconstructions"]) as picture:
        assert picture.width > 2 * picture.height * 4 / 3 / 1.2  # eight columns of three slices
    losses = pd.read_csv(job["losses"], sep="\t")
    assert losses.loc[losses["held_out"].notna(), "step"].tolist() == [100, 120]
    assert losses["loss"].tail(5).mean() < 0.6 * losses["loss"].head(5).mean()


def test_no_heart_held_out_is_said(blocks, tmp_path):
    job = heart_files(tmp_path, blocks[:4]) | {
        "networks": NETWORKS.to_dict(),
        "device": "cpu",
        "leave_out": [],
    }
    job |= {
        "fit": {"cycles": [2], "batch": 2, "learning_rate": 1e-3, "seed": 5},
        **outputs(tmp_path / "o", True),
    }
    with pytest.raises(InputError, match=r"no heart with split 'held_out'.*'prior\.held_out_share'"):
        train_jobs.fit_autoencoder(**job)


def test_latents_of_the_same_hearts_are_encoded_once(blocks, tmp_path, monkeypatch):
    job = heart_files(tmp_path, blocks[:6]) | {"networks": NETWORKS.to_dict(), "device": "cpu"}
    job["autoencoder"] = str(tmp_path / "a.safetensors")
    training.save_network(tmp_path / "a.safetensors", make(Autoencoder))
    calls, encode = [], training.encode_all
    monkeypatch.setattr(training, "encode_all", lambda *given: calls.append(1) or encode(*given))
    job |= outputs(tmp_path / "denoiser")
    for count in (1, 1):
        train_jobs.cache_latents(**job)
        assert len(calls) == count
    kept = tmp_path / "denoiser/latents.safetensors"
    kept.write_bytes(kept.read_bytes()[:-100])
    train_jobs.cache_latents(**job)
    assert len(calls) == 2
    torch.manual_seed(1)
    training.save_network(tmp_path / "a.safetensors", Autoencoder(NETWORKS))
    train_jobs.cache_latents(**job)
    assert len(calls) == 3


def test_what_processes_cannot_share_is_said(blocks, tmp_path):
    job = heart_files(tmp_path, blocks[:6]) | {"networks": NETWORKS.to_dict(), "leave_out": []}
    job |= {
        "fit": {"cycles": [2], "batch": 3, "learning_rate": 1e-3, "seed": 5},
        **outputs(tmp_path / "out", True),
    }
    with pytest.raises(InputError, match="'batch' is 3, which cannot be divided among 2"):
        distributed.launch(2, 2, None, train_jobs.fit_autoencoder, job | {"device": "cpu"})
    seen = torch.cuda.device_count()
    with pytest.raises(InputError, match=f"is {seen + 2}, but PyTorch sees {seen} GPUs"):
        distributed.launch(seen + 2, 2, None, train_jobs.fit_autoencoder, job | {"device": "cuda"})
