"""The tutorial's trial with its shipped prior; its statistics are recomputed in another way."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from scipy import stats
from statsmodels.stats.multitest import multipletests

from workflow_runs import REPOSITORY, snakemake

CONFIG = REPOSITORY / "config/experiments/pulmonary_hypertension.yaml"
PAIRS = 4  # of the tutorial; one batch per arm is faster than its two
ENDPOINTS = ("right_ventricle_volume_ml", "left_ventricle_volume_ml")
ARMS = ["control", "ph"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The target `trial` for the tutorial's table, with endpoints that need no simulation."""
    folder = tmp_path_factory.mktemp("trial")
    own = {"reference_arm": "control", "primary": {name: {} for name in ENDPOINTS}}
    config = yaml.safe_load(CONFIG.read_text()) | {"formats": ["vtu"], "endpoints": own}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(folder, *arguments())
    assert run.returncode == 0, run.stdout
    return folder


def arguments() -> list[str]:
    own = ["cohort=small", f"batch_size={PAIRS}"]
    return ["trial", "--cores", "1", "--configfile", "config.yaml", "--config", *own]


def read(project, name: str) -> pd.DataFrame:
    return pd.read_csv(project / "results/cohorts/small" / name, sep="\t")


def test_every_heart_that_was_requested_has_a_row(project):
    subjects = read(project, "subjects.tsv")
    assert subjects["arm"].value_counts().to_dict() == dict.fromkeys(ARMS, PAIRS)
    people = subjects.pivot_table(index="cluster", columns="arm", values=["age_years", "bsa_m2"])
    for name in ("age_years", "bsa_m2"):
        assert (people[name]["control"] == people[name]["ph"]).all(), "the arms are matched"
    assert subjects.loc[subjects["status"] != "accepted", "reason"].notna().all()


def test_the_contrasts_are_those_of_scipy_and_statsmodels(project):
    subjects = read(project, "subjects.tsv")
    accepted = subjects[subjects["status"] == "accepted"]
    table, expected = read(project, "trial/contrasts.tsv").set_index("endpoint"), []
    for name in ENDPOINTS:
        pairs = accepted.pivot_table(index="cluster", columns="arm", values=name)[ARMS].dropna()
        assert len(pairs) >= 2, subjects[["subject", "status", "reason"]].to_string()
        row, found = table.loc[name], stats.ttest_rel(pairs["ph"], pairs["control"])
        expected.append(found.pvalue)
        assert (row["arm"], row["reference"], row["design"]) == ("ph", "control", "paired")
        assert row["n_arm"] == row["n_reference"] == len(pairs)
        mean = (pairs["ph"] - pairs["control"]).mean()
        assert row["difference"] == pytest.approx(mean, rel=1e-3)
        limits = row[["difference_low", "difference_high"]].to_list()
        assert limits == pytest.approx([*found.confidence_interval()], rel=1e-3)
        assert row["ratio"] == pytest.approx(np.exp(np.log(pairs["ph"] / pairs["control"]).mean()), rel=1e-3)
    assert table.loc[[*ENDPOINTS], "p"].to_list() == pytest.approx(expected, rel=1e-3)
    holm = multipletests(expected, method="holm")[1]
    assert table.loc[[*ENDPOINTS], "p_holm"].to_list() == pytest.approx(holm, rel=1e-3)


def test_the_report_has_the_trial_and_its_figures(project):
    report = (project / "results/cohorts/small/report/cohort.html").read_text()
    assert "Trial" in report
    assert all(name in report for name in ENDPOINTS)
    for name in ("forest", "distributions", "power", "correlations"):
        with Image.open(project / f"results/cohorts/small/trial/{name}.png") as image:
            assert image.convert("L").getextrema() != (255, 255)


def test_a_second_run_makes_nothing(project):
    assert "Nothing to be done" in snakemake(project, *arguments()).stdout
