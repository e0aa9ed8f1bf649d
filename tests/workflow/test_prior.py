"""`snakemake prior`, whole: another anatomy from a folder of label maps to a bundle that samples."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.anatomy.moments import measure_labels
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.metrics import overlap
from cardiocohort.prior import model_card
from tubes import GRID, TUBE, tube, write_anatomy
from workflow_runs import REPOSITORY, make_cohort_table, planned_resources, snakemake

N = 24
# networks of small tensors: two threads would wait for each other, more so where tests run side by side
ONE_THREAD = ("--set-threads", "train_autoencoder=1", "train_denoiser=1", "measure_prior=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder after `snakemake prior`, a map with a torn tube among those to train on."""
    folder = tmp_path_factory.mktemp("prior")
    (folder / "maps").mkdir()
    rng = np.random.default_rng(0)
    for i in range(N):
        write_label_map(folder / f"maps/tube{i:02d}.nii.gz", tube(rng), GRID)
    torn = tube(rng)
    torn[:, :, 14:18] = 0
    write_label_map(folder / "maps/torn.nii.gz", torn, GRID)
    write_anatomy(folder / "tube")
    make_cohort_table(folder / "trial.tsv", {"small": 4})
    fit = {"cycles": [300], "batch": 4, "learning_rate": 0.005}
    prior = {
        "name": "tube",
        "label_maps": "maps",
        "held_out_share": 0.1,
        "card_samples": 4,
        "networks": {
            "latent_channels": 4,
            "fine_width": 8,
            "coarse_width": 16,
            "detail_width": 8,
            "denoiser_width": 16,
            "denoiser_depth": 1,
        },
        "autoencoder": fit,
        "denoiser": fit | {"cycles": [200], "batch": 8},
    }
    config = {
        "cohort_table": "trial.tsv",
        "anatomy": "tube",
        "device": "cpu",
        "prior": prior,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    on = {"name": "on", "warm_start": "results/prior/tube/bundle", "autoencoder": fit | {"cycles": []}}
    on |= {"denoiser": fit | {"cycles": [5], "learning_rate": 1e-4}, "card_samples": 2}
    (folder / "on.yaml").write_text(yaml.safe_dump(config | {"prior": prior | on}))
    run = snakemake(folder, "prior", "--cores", "2", *ONE_THREAD, "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    return folder


def test_a_map_that_the_gate_refuses_is_not_trained_on(trained):
    hearts = pd.read_csv(trained / "results/prior/tube/population/hearts.tsv", sep="\t", index_col="subject")
    assert hearts.loc["torn", "verdict"] == "rejected"
    assert np.isnan(hearts.loc["torn", "split"])
    assert "components" in hearts.loc["torn", "reason"]
    assert (hearts.drop("torn")["verdict"] == "accepted").all()
    accepted = hearts[hearts["verdict"] == "accepted"]
    assert accepted["split"].eq("held_out").sum() == 2


def test_the_bundle_reconstructs_hearts_that_it_has_not_seen(trained):
    prior = load_prior(trained / "results/prior/tube/bundle", "cpu")
    assert (prior.anatomy, prior.grid) == (TUBE, GRID)
    new = tube(np.random.default_rng(99))
    again = model_card.reconstruct(prior.autoencoder, new, TUBE.n_channels)
    assert overlap.dice(new, again, TUBE).min() > 0.85


def test_training_shows_what_it_made_of_held_out_maps(trained):
    folder = trained / "results/prior/tube"
    for network in ("autoencoder", "denoiser"):
        losses = pd.read_csv(folder / network / "losses.tsv", sep="\t")
        seen = losses.dropna()
        assert seen["step"].tolist() == list(range(100, len(losses) + 1, 100))
        assert seen["held_out"].iloc[-1] < seen["held_out"].iloc[0]
        assert (folder / network / "losses.png").stat().st_size > 5000
    assert (folder / "autoencoder/reconstructions.png").stat().st_size > 5000


def test_samples_are_tubes(trained):
    prior = load_prior(trained / "results/prior/tube/bundle", "cpu")
    for labels in model_card.unguided(prior, 3, seed=1):
        volume = measure_labels(labels, [(1,), (2,), (3,)], GRID.axes_mm()).volume_ml
        assert (volume > 2).all()


def test_the_card_states_what_was_measured(trained):
    folder = trained / "results/prior/tube/card"
    figures = json.loads((folder / "card.json").read_text())
    assert figures["held_out_hearts"] == 2
    assert set(figures["reconstruction_dice_held_out"]) == set(TUBE.structures)
    assert min(figures["reconstruction_dice_held_out"].values()) > 0.8
    assert "maps" in (folder / "CARD.md").read_text()


def test_a_prior_is_trained_on_from_its_bundle(trained):
    """The autoencoder is kept to the bit, the denoiser has moved by a few small steps, in its own units."""
    run = snakemake(trained, "prior", "--cores", "1", "--configfile", "on.yaml")
    assert run.returncode == 0, run.stdout
    folder = trained / "results/prior/on"
    before, after = (
        load_prior(trained / "results/prior/tube/bundle", "cpu"),
        load_prior(folder / "bundle", "cpu"),
    )
    for a, b in zip(before.autoencoder.parameters(), after.autoencoder.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(before.spread, after.spread)
    old, new = (torch.cat([w.flatten() for w in prior.denoiser.parameters()]) for prior in (before, after))
    assert 0 < float((new - old).norm()) < 0.05 * float(old.norm())
    training = after.card["training"]
    assert training["steps"] == {"autoencoder": 0, "denoiser": 5}
    assert training["warm_start"]["weights_sha256"] == before.card["weights_sha256"]
    assert before.card["weights_sha256"] in (folder / "card/CARD.md").read_text()


def test_no_cycles_and_nothing_to_start_from_is_an_error(trained):
    config = yaml.safe_load((trained / "on.yaml").read_text())
    config["prior"]["warm_start"] = None
    (trained / "none.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(trained, "prior", "--dry-run", "--configfile", "none.yaml")
    assert run.returncode != 0
    assert "'warm_start'" in run.stdout


def test_the_paper_config_requests_one_gpu_per_process(tmp_path):
    config = yaml.safe_load((REPOSITORY / "config/prior_paper.yaml").read_text())
    config["prior"]["processes"] = 4
    (tmp_path / "four.yaml").write_text(yaml.safe_dump(config))
    missing = snakemake(tmp_path, "prior", "--dry-run", "--cores", "8", "--configfile", "four.yaml")
    assert "config key 'prior.label_maps': 'results/label_maps/mine' does not exist" in missing.stdout
    maps = tmp_path / config["prior"]["label_maps"]
    maps.mkdir(parents=True)
    (maps / "p1.nii.gz").touch()
    (tmp_path / config["prior"]["covariates"]).write_text("subject\tsex\np1\tfemale\n")
    requests = planned_resources(tmp_path, "prior", "--cores", "8", "--configfile", "four.yaml")
    assert "train_autoencoder_left_out" not in requests, "its templates are nobody's own hearts"
    for rule in ("train_autoencoder", "train_denoiser"):
        assert (requests[rule]["gpu"], requests[rule]["threads"]) == ("4", "8")
    assert requests["make_reference_population"].get("gpu", "0") == "0"
