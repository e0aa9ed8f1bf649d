"""`snakemake evaluate`, whole, on a network with random weights: every table and figure is made, and kept."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from cardiocohort.anatomy.label_map import write_label_map
from cardiocohort.runtime import artifacts
from tiny_prior import GRID, write_anatomy, write_tiny_bundle
from workflow_runs import job_counts, make_cohort_table, snakemake

RULES = """rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason
pieces\tcomponents\tany\twall\t\t\t\t\t1\t1\tcount\tone piece
speck\tspeck\tany\twall\t\t\t\t\t\t0.2\tmL\tnoise
"""
N_MAPS, N = 26, 13
SETS = [["wall"], ["wall", "cavity"]]
ARMS = {
    "unguided",
    "polyak_1",
    "polyak_2",
    "polyak_2_x2",
    "extremes",
}
ARMS |= {f"{method}_{k}" for method in ("cohort", "implicit") for k in range(3)}
ARMS |= {f"polyak_1_{attribute}" for attribute in ("size", "position", "shape", "orientation")}


def heart(rng):
    """A turned ellipsoid with a wall, labels on GRID."""
    x, y, z = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    turn, centre = rng.uniform(-0.4, 0.4), rng.normal(0, 3, 3)
    x, y, z = x - centre[0], y - centre[1], z - centre[2]
    u, v = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    a, b, c = rng.uniform(18, 34, 3)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[(u / (a + 8)) ** 2 + (v / (b + 8)) ** 2 + (z / (c + 8)) ** 2 < 1] = 1
    labels[(u / a) ** 2 + (v / b) ** 2 + (z / c) ** 2 < 1] = 2
    return labels


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    write_tiny_bundle(folder / "bundle")
    write_tiny_bundle(folder / "conditioned", conditioned=True)
    (folder / "maps").mkdir()
    rng = np.random.default_rng(0)
    for i in range(N_MAPS):
        write_label_map(folder / f"maps/heart{i:02d}.nii.gz", heart(rng), GRID)
    write_anatomy(folder / "anatomy", RULES)
    make_cohort_table(folder / "trial.tsv", {"small": 4})
    table = (folder / "trial.tsv").read_text().replace("left_ventricle", "cavity").replace("healthy", "")
    (folder / "trial.tsv").write_text(table)
    evaluation = {
        "label_maps": "maps",
        "implicit": "conditioned",
        "constrained": SETS,
        "samples": {"unguided": N, "polyak": N, "dps": 0, "cohort": N, "implicit": N}
        | {"strengths": 4, "extremes": 1},
        "strengths": [2.0],
        "extremes": [-3.0, 3.0],
        "known": {"hearts": 10, "autoencoder_steps": 4, "denoiser_steps": 4, "points": 2},
        "resamples": 20,
    }
    config = {
        "bundle": "bundle",
        "cohort_table": "trial.tsv",
        "anatomy": "anatomy",
        "meshing": {"domain": "labels"},
        "convention": None,
        "device": "cpu",
    }
    config |= {"guidance": {"steps": 4}, "evaluation": evaluation}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(folder, "evaluate", "--cores", "2", "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    return folder


def read(folder, name):
    return pd.read_csv(folder / f"results/prior/tiny/evaluation/{name}.tsv", sep="\t")


def test_every_arm_is_sampled_from_the_same_targets_and_noise(evaluated):
    folder = evaluated / "results/prior/tiny/evaluation/samples"
    assert {path.stem for path in folder.glob("*.parquet")} == ARMS
    a, b = (pd.read_parquet(folder / f"{arm}.parquet") for arm in ("unguided", "polyak_2"))
    targets = [name for name in a if name.startswith("target_")]
    assert a["sample"].nunique() == N
    pd.testing.assert_frame_equal(a[targets], b[targets])
    assert (a["constrained"] == "").all()
    assert (b["constrained"] == "size,position,shape").all()
    assert (a["volume_ml"] != b["volume_ml"]).any()
    conditioned, plain = (pd.read_parquet(folder / f"implicit_{k}.parquet")["volume_ml"] for k in (2, 0))
    assert (conditioned != plain).any()
    for table in (a, b):
        assert all((folder / table["arm"].iloc[0] / file).is_file() for file in table["file"])


def test_realism_has_its_columns_and_real_hearts(evaluated):
    found = read(evaluated, "realism")
    assert list(found.columns[:9]) == [
        "method", "constrained_structures", "fd", "precision", "recall", "mmd", "coverage", "one_nna", "n",
    ]  # fmt: skip
    rows = found.set_index(["method", "constrained_structures"])
    methods = {("real", 0), ("unguided", 0), ("polyak", 1), ("polyak", 2)}
    assert set(rows.index) == methods | {(m, k) for m in ("cohort", "implicit") for k in range(3)}
    # random weights make nothing like a heart, and other ellipsoids are like ellipsoids
    samples = found[found["method"] != "real"]
    assert (samples["one_nna"] == 1).all()
    real = rows.loc[("real", 0)]
    assert real["one_nna"] < 0.9
    assert real["fd"] < 0.5 * samples["fd"].min()
    assert (found["fd_low"] <= found["fd"]).all()
    assert (found["fd"] <= found["fd_high"]).all()
    assert rows.loc[("unguided", 0), "fd_ratio"] == 1


def test_fidelity_coupling_topology_and_extremes(evaluated):
    fidelity = read(evaluated, "fidelity")
    assert list(fidelity.columns[:6]) == [
        "method", "constrained_structures", "attribute", "median_error", "p95_error", "unit",
    ]  # fmt: skip
    size = fidelity.query("arm == 'polyak_1_size' and structure == 'wall'").set_index("attribute")
    assert size["constrained"].to_dict() == {
        "size": True, "position": False, "shape": False, "orientation": False, "aspect": False,
    }  # fmt: skip
    assert (fidelity["low"] <= fidelity["median_error"]).all()
    coupling = read(evaluated, "coupling")
    assert set(coupling["constrained"]) == {"size", "position", "shape", "orientation"}
    assert not (coupling["x"] == coupling["y"]).any()
    topology = read(evaluated, "topology")
    whole = topology[topology["rule"] == "all rules"]
    assert set(whole["strength"]) == {1, 2}
    assert whole["share"].between(0, 1).all()
    assert len(read(evaluated, "known")) == 2 * 2**2
    extremes = read(evaluated, "extremes")
    assert sorted(extremes["deviations"]) == [-3, -3, 3, 3]


def test_the_page_shows_all_without_other_files(evaluated):
    folder = evaluated / "results/prior/tiny/evaluation"
    text = (folder / "evaluation.html").read_text()
    assert len(list((folder / "figures").glob("*.png"))) == text.count("data:image/png") == 8
    assert json.loads((evaluated / "bundle/bundle.json").read_text())["weights_sha256"][:16] in text
    assert "src=" not in text.replace('src="data:', "")


def test_more_samples_are_added_to_those_there_are(evaluated):
    """Nothing is to be done again; and with a sample more of one arm, the others of it stay."""
    run = snakemake(evaluated, "evaluate", "--dry-run", "--cores", "1", "--configfile", "config.yaml")
    assert job_counts(run.stdout) == {}
    folder = evaluated / "results/prior/tiny/evaluation/samples/unguided"
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}
    (folder / "sample-00003.nii.gz").unlink()
    (folder.parent / "unguided.parquet").unlink()
    target = "results/prior/tiny/evaluation/samples/unguided.parquet"
    run = snakemake(evaluated, target, "--cores", "1", "--configfile", "config.yaml")
    assert run.returncode == 0, run.stdout
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}
    assert {name for name in after if after[name] != before[name]} == {"sample-00003.nii.gz"}


def test_a_structure_that_the_anatomy_lacks_is_an_error(evaluated):
    config = yaml.safe_load((evaluated / "config.yaml").read_text())
    config["evaluation"]["constrained"] = [["wal"]]
    (evaluated / "wrong.yaml").write_text(yaml.safe_dump(config))
    target = "results/prior/tiny/evaluation/hearts.parquet"
    run = snakemake(evaluated, target, "--cores", "1", "--force", "--configfile", "wrong.yaml")
    assert run.returncode != 0
    assert "'evaluation.constrained'" in run.stdout
    assert "'wal'" in run.stdout


def test_whole_hearts_are_sampled_and_compared_with_other_ways(evaluated):
    """Two hearts, each sampled twice, beside their reconstructions and the nearest training hearts."""
    (evaluated / "pop/hearts").mkdir(parents=True)
    (evaluated / "unseen").mkdir()
    rows = []
    for i, path in enumerate(sorted((evaluated / "maps").glob("*.nii.gz"))[:6]):
        folder = evaluated / ("unseen" if i < 2 else "pop/hearts")
        shutil.copy(path, folder / path.name)
        listed = artifacts.listing(folder, path.name)
        rows.append({"subject": f"h{i}", "split": "train", "verdict": "accepted"} | listed)
    pd.DataFrame(rows[2:]).to_csv(evaluated / "pop/hearts.tsv", sep="\t", index=False)
    config = yaml.safe_load((evaluated / "config.yaml").read_text())
    whole = {"label_maps": "unseen", "seeds": 2, "attempts": 1, "training": "pop/hearts.tsv"}
    config["evaluation"]["whole_hearts"] = whole
    (evaluated / "whole.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(evaluated, "whole_hearts", "--cores", "1", "--configfile", "whole.yaml")
    assert run.returncode == 0, run.stdout
    folder = next(evaluated.glob("results/prior/*/evaluation/whole_hearts"))
    samples = pd.read_csv(folder / "samples.tsv", sep="\t")
    assert samples.groupby(["heart", "method"]).size().to_dict() == {
        (heart, method): n
        for heart in ("heart00", "heart01")
        for method, n in (("guided", 2), ("autoencoder", 1), ("nearest", 1))
    }
    nearest = samples[samples["method"] == "nearest"]
    assert (nearest["verdict"] == "accepted").all()
    # ellipsoids of one family: the nearest, grown to the same volumes, overlaps well
    assert nearest["dice.cavity"].min() > 0.75
    summary = pd.read_csv(folder / "summary.tsv", sep="\t").set_index(["heart", "method"])
    assert summary.loc[("all", "nearest"), "dice.cavity"] == pytest.approx(
        nearest["dice.cavity"].mean(), abs=1e-3
    )
    assert summary.loc[("all", "guided"), "n"] == 4


def test_whole_hearts_need_a_folder(evaluated):
    run = snakemake(evaluated, "whole_hearts", "--dry-run", "--configfile", "config.yaml")
    assert run.returncode != 0
    assert "'evaluation.whole_hearts.label_maps' is null" in run.stdout
    assert "Traceback" not in run.stdout


def test_variety_is_compared_with_that_of_real_hearts(evaluated):
    """The hearts of the bundle's own family: as many rows as structures and entries, and finite ratios."""
    config = yaml.safe_load((evaluated / "config.yaml").read_text())
    config["evaluation"]["real_hearts"] = "maps"
    (evaluated / "variety.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(evaluated, "variety", "--cores", "1", "--configfile", "variety.yaml")
    assert run.returncode == 0, run.stdout
    rows = pd.read_csv(next(evaluated.glob("results/prior/*/evaluation/variety.tsv")), sep="\t")
    assert rows.groupby("structure").size().eq(12).all()
    assert np.isfinite(rows["ratio"]).all()
    assert set(rows["n_real"]) == {len(list((evaluated / "maps").glob("*.nii.gz")))}


def test_variety_needs_a_folder(evaluated):
    run = snakemake(evaluated, "variety", "--dry-run", "--configfile", "config.yaml")
    assert run.returncode != 0
    assert "'evaluation.real_hearts' is null" in run.stdout
    assert "Traceback" not in run.stdout
