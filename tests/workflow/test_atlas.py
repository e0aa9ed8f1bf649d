"""`snakemake atlas`, whole: tubes of another anatomy to a shape model, resumed, and refused."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import yaml

from cardiocohort.anatomy.label_map import read_label_map, write_label_map
from cardiocohort.atlas import model
from cardiocohort.metrics.overlap import dice
from tubes import GRID, TUBE, tube, write_anatomy
from workflow_runs import job_counts, make_cohort_table, snakemake

RUN = ("--quiet", "rules", "--cores", "2")
ATLAS = {
    "name": "tubes",
    "label_maps": "maps",
    "samples": 4,
    "weights": {"wall": 1.5},
}
N = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Six tubes, one that lacks the block beside it, and one that is no tube."""
    folder = tmp_path_factory.mktemp("atlas")
    (folder / "maps").mkdir()
    rng = np.random.default_rng(0)
    for i in range(N):
        write_label_map(folder / f"maps/tube{i}.nii.gz", tube(rng), GRID)
    bare = tube(rng)
    bare[bare == 3] = 0
    write_label_map(folder / "maps/bare.nii.gz", bare, GRID)
    ring = np.zeros(GRID.shape, np.uint8)
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    r = np.hypot(np.hypot(x, z) - 30, y)
    ring[r < 9], ring[r < 5] = 2, 1
    ring[:4, 14:18, 14:18] = 3
    write_label_map(folder / "maps/ring.nii.gz", ring, GRID)
    write_anatomy(folder / "tube")
    make_cohort_table(folder / "trial.tsv", {"small": 4})
    (folder / "config").mkdir()
    write_config(folder)
    return folder


def write_config(folder, **changes):
    config = {"anatomy": "tube", "atlas": ATLAS | changes}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture(scope="module")
def made(project):
    run = snakemake(project, "atlas", *RUN)
    assert run.returncode == 0, run.stdout
    return project / "results/atlas/tubes"


def test_tubes_register_and_what_cannot_is_left_out_with_its_reason(made):
    hearts = pd.read_csv(made / "hearts.tsv", sep="\t", keep_default_na=False).set_index("subject")
    assert hearts.loc["bare", "use"] == ""
    assert "lacks spine" in hearts.loc["bare", "reason"]
    registered = pd.read_csv(made / "registrations.tsv", sep="\t").set_index("subject")
    assert "bare" not in registered.index
    assert registered.loc["ring", "verdict"] != "accepted"
    assert "mean Dice of the chambers" in registered.loc["ring", "reason"]
    tubes = registered.drop("ring")
    assert (tubes["verdict"] == "accepted").all()
    assert tubes[["dice_lumen", "dice_wall", "dice_spine"]].min().min() > 0.9
    assert tubes["least_jacobian"].min() > 0


def test_the_model_has_the_tubes_modes_and_its_examples_are_tubes(made):
    shape, card = model.load(made / "atlas.safetensors", TUBE, GRID)
    assert card["hearts"] == [f"tube{i}" for i in range(N)]
    assert len(shape.variances) == N - 1
    examples = pd.read_csv(made / "examples.tsv", sep="\t")
    assert (examples["kind"] == "sample").sum() == 8
    mean = read_label_map(made / "examples/mean.nii.gz", TUBE).labels
    assert dice(mean, shape.template, TUBE).min() > 0.9
    generalisation = pd.read_csv(made / "generalisation.tsv", sep="\t").groupby("modes")["distance_mm"].mean()
    assert generalisation.iloc[-1] < generalisation.iloc[0]


def test_the_page_shows_the_figures_and_who_is_missing(made):
    page = (made / "atlas.html").read_text()
    for words in ("Quality", "mode 1, −2 SD", "lacks spine", "no fold", "ring"):
        assert words in page, words
    assert page.count("<img") == 1 + 8 + 8 + 1 + 1  # mean, modes, samples, chart, the ring


def test_nothing_is_left_to_do(project, made):
    run = snakemake(project, "atlas", "--dry-run")
    assert job_counts(run.stdout).keys() <= {"atlas"} or "Nothing to be done" in run.stdout


def test_a_new_heart_is_registered_alone_in_the_first_round(project, made):
    """A folder with one tube more: hearts that were registered are kept."""
    before = {path.name: path.stat().st_mtime_ns for path in (made / "rough").glob("tube*.safetensors")}
    assert len(before) == N
    write_label_map(project / "maps/tube9.nii.gz", tube(np.random.default_rng(9)), GRID)
    run = snakemake(project, str(made.relative_to(project) / "template.nii.gz"), *RUN)
    assert run.returncode == 0, run.stdout
    hearts = pd.read_csv(made / "hearts.tsv", sep="\t", keep_default_na=False)
    after = {path.name: path.stat().st_mtime_ns for path in (made / "rough").glob("tube*.safetensors")}
    # another heart may lend its form to the template: then all are registered to that one
    if json.loads((made / "template.json").read_text())["heart"] in set(hearts["subject"]) - {"tube9"}:
        assert {name: after[name] for name in before} == before
    assert "tube9.safetensors" in after
    os.remove(project / "maps/tube9.nii.gz")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label_maps": None}, "'atlas.label_maps' is null"),
        ({"label_maps": "nowhere"}, "nowhere"),
        (
            {"leave_out": ["tube11"]},
            "'atlas.leave_out': no label map is called 'tube11'; did you mean 'tube1'?",
        ),
        ({"leave_out": [f"tube{i}" for i in range(6)]}, "an atlas needs 3 or more"),
        ({"cell_voxels": 3}, "'atlas.cell_voxels': the grid of 'anatomy' has 32 x 32 x 32 voxels"),
        ({"weights": {"aorta": 1.0}}, "'atlas.weights': the anatomy has no 'aorta'"),
    ],
)
def test_a_wrong_atlas_is_refused_before_any_job(project, changes, says):
    write_config(project, **changes)
    try:
        run = snakemake(project, "atlas", "--dry-run", *RUN)
    finally:
        write_config(project)
    assert run.returncode != 0
    assert says in run.stdout.replace("\n", " ")
    assert "Traceback" not in run.stdout
