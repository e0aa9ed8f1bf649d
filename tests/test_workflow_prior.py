"""`snakemake prior`, whole: another anatomy from a folder of label maps to a bundle that samples."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from workflow_runs import make_cohort_table, snakemake

from cardiocohort.anatomy import Anatomy, Grid
from cardiocohort.bundle_card import FORMAT
from cardiocohort.labelmap import write_label_map
from cardiocohort.moments import measure_labels
from cardiocohort.prior import card
from cardiocohort.prior.bundle import load_prior

TUBE = Anatomy(("lumen", "wall", "spine"), ("lumen", "wall"))
GRID = Grid((32, 32, 32), 3.0)
RULES = """rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason
components\tcomponents\tany\tlumen,wall,spine\t\t\t\t\t1\t1\tcount\tone piece
apart\tcontact\tany\tlumen\tspine\t\t\t\t\t0\tmm2\tthe wall parts them
speck\tspeck\tany\tlumen,wall,spine\t\t\t\t\t\t0.2\tmL\tnoise
"""
N = 24


def tube(rng):
    """A bent tube of random width with a wall of two voxels, beside a block: labels on GRID."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    bend, radius = rng.uniform(-0.15, 0.15), rng.uniform(10, 14)
    r = np.hypot(x - bend * z, y)
    labels = np.where(r < radius, 1, np.where(r < radius + 6, 2, 0))
    labels[(abs(x) < 12) & (y < -24) & (y > -24 - rng.uniform(9, 15))] = 3
    labels[abs(z) > rng.uniform(30, 38)] = 0
    return labels.astype(np.uint8)


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
    (folder / "rules.tsv").write_text(RULES)
    anatomy = {"structures": TUBE.structures, "centred_on": TUBE.centred_on}
    grid = {"shape": GRID.shape, "spacing_mm": GRID.spacing_mm}
    (folder / "tube.json").write_text(json.dumps({"format": FORMAT, "anatomy": anatomy, "grid": grid}))
    make_cohort_table(folder / "trial.tsv", {"small": 4})
    fit = {"cycles": [300], "batch": 4, "learning_rate": 0.005}
    prior = {
        "name": "tube",
        "anatomy": "tube.json",
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
    config = {"cohort_table": "trial.tsv", "topology_rules": "rules.tsv", "device": "cpu", "prior": prior}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(folder, "prior", "--cores", "2", "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    return folder


def test_a_map_that_the_gate_refuses_is_not_trained_on(trained):
    hearts = pd.read_csv(trained / "results/prior/tube/population/hearts.tsv", sep="\t", index_col="subject")
    assert hearts.loc["torn", "verdict"] == "failed"
    assert "components" in hearts.loc["torn", "reason"]
    assert (hearts.drop("torn")["verdict"] == "accepted").all()
    accepted = hearts[hearts["verdict"] == "accepted"]
    assert accepted["split"].eq("held_out").sum() == 2


def test_the_bundle_holds_the_anatomy_and_reconstructs_what_it_has_not_seen(trained):
    prior = load_prior(trained / "results/prior/tube/bundle", "cpu")
    assert (prior.anatomy, prior.grid) == (TUBE, GRID)
    new = tube(np.random.default_rng(99))
    again = card.reconstruct(prior.autoencoder, new, TUBE.n_channels)
    assert card.dice(new, again, TUBE).min() > 0.85


def test_samples_are_tubes(trained):
    prior = load_prior(trained / "results/prior/tube/bundle", "cpu")
    for labels in card.unguided(prior, 3, seed=1):
        volume = measure_labels(labels, [(1,), (2,), (3,)], GRID.axes_mm()).volume_ml
        assert (volume > 2).all()


def test_the_card_states_what_was_measured(trained):
    folder = trained / "results/prior/tube/card"
    figures = json.loads((folder / "card.json").read_text())
    assert figures["held_out_hearts"] == 2
    assert set(figures["reconstruction_dice_held_out"]) == set(TUBE.structures)
    assert min(figures["reconstruction_dice_held_out"].values()) > 0.8
    assert "maps" in (folder / "CARD.md").read_text()
