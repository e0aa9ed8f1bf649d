"""Anatomies from their cohort table to meshes of their labels: a toy prior of the smallest, shipped ones."""

import importlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional as F

from cardiocohort.anatomy import moments
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.labels import Grid
from cardiocohort.cohort.stage_tables import mesh_files
from cardiocohort.diffusion import bundle
from cardiocohort.diffusion.networks import Autoencoder, Denoiser, to_blocks, to_occupancy
from cardiocohort.mesh.storage import read_model
from cardiocohort.metrics.agreement import agreement, errors_by_subject
from cardiocohort.runtime.artifacts import check_file
from cardiocohort.runtime.mock_snakemake import mock_snakemake
from tiny_prior import NETWORKS
from workflow_runs import REPOSITORY

AORTA = REPOSITORY / "resources/anatomies/aorta"
SUBJECTS = 4
# Subjects of four that have a mesh: 39, 30 and 26 of 40 pass at the first attempt; some targets never do
LEAST = {"aorta": 3, "knee": 2, "spine": 1}
# The largest of 24 subjects of docs/validation/anatomies.md: 13.7 % and 5.7 mm; processors round differently
MOST = {"volume_error_median_percent": 20.0, "centroid_error_median_mm": 7.0}
STEPS = 200  # until the decoder's labels are those of the template
ARM, BATCH = "wide", "wide-0000"
HEADER = "arm\tn\tsex\tcondition\tage\tbsa\tseed\tconstraints\tedits"


def block_aorta():
    """Labels of an aorta made of cells of two voxels, so that the decoder has no mixed cells to refine."""
    cells = np.zeros((16, 16, 16), np.uint8)
    cells[7:9, 10:12, 6:11] = 1
    cells[7:9, 4:12, 11:13] = 2
    cells[7:9, 4:6, 3:11] = 3
    return cells.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def decoder_of(labels, settings):
    """An autoencoder that decodes every small latent to one label map; places it knows by its padding."""
    torch.manual_seed(0)
    network = Autoencoder(settings)
    target = to_occupancy(to_blocks(torch.from_numpy(labels)[None]), settings.channels)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(STEPS):
        logits = network.decode(0.1 * torch.randn(1, *settings.latent_shape))
        optimiser.zero_grad()
        (-(target * F.log_softmax(logits, 1)).sum() / 100).backward()
        optimiser.step()
    return network


def write_bundle(folder: Path, labels, anatomy, grid) -> None:
    settings = replace(
        NETWORKS, channels=anatomy.n_channels, cells=grid.shape[0] // 2, fine_width=16, coarse_width=32
    )
    groups = [(k,) for k in range(1, anatomy.n_channels)]
    measured = moments.measure_labels(labels, groups, grid.axes_mm())
    middle = tuple(anatomy.label(name) for name in anatomy.centred_on)
    origin = moments.measure_labels(labels, [middle], grid.axes_mm()).centroid_mm[0]
    rng, rows = np.random.default_rng(0), []
    for i in range(60):  # as many as the model of thirty numbers takes
        size = np.exp(rng.normal(0.0, 0.1) / 3)
        for k, name in enumerate(anatomy.structures):
            stretch = size * (np.eye(3) + rng.normal(0.0, 0.03, (3, 3)))
            own = moments.Moments(
                measured.volume_ml[k] * np.linalg.det(stretch),
                measured.centroid_mm[k] - origin + rng.normal(0.0, 0.5, 3),
                stretch @ measured.covariance_mm2[k] @ stretch.T,
            )
            columns = {c: float(value) for c, value in moments.to_columns(own).items()}
            rows.append({"subject": f"r{i:02d}", "structure": name, **columns})
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "reference_moments.parquet", index=False)
    spread = {"log_volume": 0.2, "centroid_mm": 5.0, "shape": 0.03}
    card = {
        "name": "toy",
        "anatomy": {"structures": anatomy.structures, "centred_on": anatomy.centred_on},
        "grid": {"shape": grid.shape, "spacing_mm": grid.spacing_mm},
        "networks": settings.to_dict(),
        "moment_spread": dict.fromkeys(anatomy.structures, spread),
    }
    scale = torch.full((settings.latent_channels, 1, 1, 1), 0.02)
    networks = decoder_of(labels, settings), Denoiser(settings)
    bundle.save_bundle(folder, card, *networks, torch.zeros_like(scale), scale)


def test_the_smallest_anatomy_goes_from_its_table_to_meshes(tmp_path, monkeypatch):
    anatomy, _ = read_anatomy(AORTA / "anatomy.json")
    grid = Grid((32, 32, 32), 6.0)
    write_bundle(tmp_path / "bundle", block_aorta(), anatomy, grid)
    constraints = f"{', '.join(anatomy.structures)}: size position"
    (tmp_path / "trial.tsv").write_text(f"{HEADER}\n{ARM}\t2\tany\t\t\t\t\t{constraints}\t\n")
    (tmp_path / "config").mkdir()
    config = {
        "cohort": "toy", "cohort_table": "trial.tsv", "anatomy": str(AORTA), "bundle": "bundle",
        "device": "cpu",
        "guidance": {"steps": 6, "max_miss": 1000.0}, "meshing": {"domain": "labels", "edge_length_mm": 6},
    }  # fmt: skip
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    results = run(tmp_path, monkeypatch, "toy", BATCH)
    assert_meshed(results, BATCH, anatomy, 2)
    shutil.rmtree(results)


@pytest.mark.long
@pytest.mark.parametrize("prior", LEAST)
def test_a_shipped_prior_goes_from_its_experiment_to_meshes(prior, tmp_path, monkeypatch):
    """Settings are those of config/experiments; the first four subjects of its first arm."""
    config = yaml.safe_load((REPOSITORY / f"config/experiments/{prior}.yaml").read_text())
    assert config["bundle"] == f"resources/priors/{prior}"
    anatomy, _ = read_anatomy(REPOSITORY / config["anatomy"] / "anatomy.json")
    header, first, *_ = (REPOSITORY / config["cohort_table"]).read_text().splitlines()
    name, _, rest = first.split("\t", 2)
    (tmp_path / "trial.tsv").write_text(f"{header}\n{name}\t{SUBJECTS}\t{rest}\n")
    (tmp_path / "config").mkdir()
    own = {"cohort_table": "trial.tsv", "device": "cpu"}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config | own))
    results = run(tmp_path, monkeypatch, config["cohort"], f"{name}-0000")
    accepted = assert_meshed(results, f"{name}-0000", anatomy, LEAST[prior])
    targets = pd.read_parquet(results / f"targets/{name}-0000.parquet")
    made = pd.read_parquet(results / f"anatomies/{name}-0000.parquet")
    errors = errors_by_subject(agreement(targets, made)).loc[accepted]
    assert (errors["volume_error_median_percent"] < MOST["volume_error_median_percent"]).all()
    assert (errors["centroid_error_median_mm"] < MOST["centroid_error_median_mm"]).all()


def run(folder: Path, monkeypatch, cohort: str, batch: str) -> Path:
    """Run the stages from targets to meshes with the config of a working directory; the cohort's folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow/scripts"))
    for rule in ("draw_targets", "generate_anatomies", "check_topology", "build_meshes"):
        importlib.import_module(rule).main(mock_snakemake(rule, workdir=folder, batch=batch))
        sys.modules.pop(rule)
    return folder / f"results/cohorts/{cohort}"


def assert_meshed(results: Path, batch: str, anatomy, least: int) -> list[str]:
    """The accepted subjects, at least so many: each has a mesh with the volumes of its label map."""
    verdicts = pd.read_csv(results / f"topology/{batch}.tsv", sep="\t").set_index("subject")
    accepted = verdicts.index[verdicts["verdict"] == "accepted"].tolist()
    assert len(accepted) >= least, verdicts["reasons"].tolist()
    assert verdicts.drop(accepted)["reasons"].notna().all()
    made = pd.read_csv(results / f"meshes/{batch}.tsv", sep="\t").set_index("subject").loc[accepted]
    assert (made["verdict"] == "accepted").all(), made["reason"].tolist()
    written = pd.read_parquet(results / f"anatomies/{batch}.parquet").set_index(["subject", "structure"])
    for subject, row in made.iterrows():
        files = mesh_files(row, results / f"meshes/{batch}")
        model = read_model(*(check_file(*file) for file in files))
        assert model.structures == anatomy.structures
        corners = model.points_mm[model.tets]
        volumes = abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / 6000
        for k, name in enumerate(anatomy.structures, start=1):
            wanted = written.loc[(subject, name), "volume_ml"]
            assert abs(volumes[model.region == k].sum() / wanted - 1) < 0.15, "few voxels wide"
    return accepted
