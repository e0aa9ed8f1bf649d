"""Paired comparison: who is beside whom, what differs within pairs, what is drawn, and its jobs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

import compare_pairs
from cardiocohort.anatomy.moments import MOMENT_COLUMNS
from cardiocohort.cohort import stage_tables
from cardiocohort.runtime import artifacts, tables
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation import pairs, pairs_figure
from cardiocohort.simulation import subject as stage
from workflow_runs import COLUMNS, job_counts, make_bundle, snakemake

RV_ML = {"whole": [150.0, 120.0, 180.0], "halved": [75.0, 61.0, 88.0]}
RV_MM = {"whole": [5.0, 4.0, 6.5], "halved": [3.5, 3.0, 4.0]}
VOLUME, SHOWN = "right_ventricle", "rv_mean_mm"


def write_arm(folder, arm, failed=()):
    """A batch a heart of an arm, as rule simulate_hearts writes them, and the arm's anatomies."""
    simulations = []
    for index, moved in enumerate(RV_MM[arm]):
        subject = f"{arm}-{index:05d}"
        table = folder / f"simulations/{arm}-{index:04d}.tsv"
        regional = table.with_suffix("") / subject / "displacement.tsv"
        regional.parent.mkdir(parents=True)
        rows = [(part, moved + shift, 2 * moved) for part, shift in (("lv", 1), ("rv", 0), ("septum", 0.5))]
        pd.DataFrame(rows, columns=["part", "mean_mm", "max_mm"]).to_csv(regional, sep="\t", index=False)
        listed = {
            "file": f"{subject}/displacement.tsv", "size": regional.stat().st_size,
            "sha256": artifacts.sha256(regional),
        }  # fmt: skip
        row = {"subject": subject, "verdict": "accepted", "reason": "", "detail": ""} | listed
        row |= dict(
            zip(pairs.CAVITIES, (100.0, 140.0, RV_ML[arm][index], 2 * RV_ML[arm][index]), strict=True)
        )
        row |= {f"regional_{name}": value for name, value in listed.items()}
        if subject in failed:  # without files, as of a heart that has no mesh
            ended = {"subject": subject, "verdict": "failed", "reason": "simulation did not converge"}
            row = stage.table_row(ended | artifacts.NO_FILE)
        tables.write_table(table, pd.DataFrame([row]), stage_tables.SIMULATIONS)
        simulations.append(table)
    rows = []
    for index, volume in enumerate(RV_ML[arm]):
        # another structure's volume beside it, which must not be taken
        for structure, ml in ((VOLUME, volume), ("aorta", 7.0)):
            row = dict.fromkeys(MOMENT_COLUMNS, 0.0) | {"volume_ml": ml, "plausibility": 1.0, "attempts": 1}
            row |= {"subject": f"{arm}-{index:05d}", "arm": arm, "structure": structure, "size": 1}
            rows.append(row | dict.fromkeys(("constrained", "status", "reason", "file", "sha256"), ""))
    anatomies = folder / f"anatomies/{arm}-0000.parquet"
    tables.write_table(anatomies, pd.DataFrame(rows), stage_tables.ANATOMIES)
    return simulations, [anatomies]


def table_of(folder, failed=()):
    found = {arm: pairs.hearts(*write_arm(folder, arm, failed), VOLUME) for arm in RV_ML}
    return pairs.pairs(found["whole"], found["halved"])


def test_every_sibling_is_beside_its_base(tmp_path):
    table = table_of(tmp_path)
    assert table["subject"].tolist() == [f"halved-0000{k}" for k in range(3)]
    assert table["base"].tolist() == [f"whole-0000{k}" for k in range(3)]
    assert set(table["verdict"]) == {"compared"}
    for prefix, arm in (("base_", "whole"), ("", "halved")):
        assert table[f"{prefix}volume_ml"].tolist() == RV_ML[arm]
        assert table[f"{prefix}{SHOWN}"].tolist() == RV_MM[arm]
        assert table[f"{prefix}lv_mean_mm"].tolist() == [mm + 1 for mm in RV_MM[arm]]
        assert table[f"{prefix}rv_loaded_ml"].tolist() == [2 * ml for ml in RV_ML[arm]]


@pytest.mark.parametrize("lost", ["whole-00001", "halved-00001"])
def test_a_pair_with_one_heart_is_left_out_and_says_which(tmp_path, lost):
    table = table_of(tmp_path, failed=[lost])
    assert table["verdict"].tolist() == ["compared", "left_out", "compared"]
    assert table.loc[1, "reason"] == f"{lost}: simulation did not converge"
    found = pairs.summary(table).set_index("quantity")
    assert set(found["pairs"]) == {2}
    assert found.loc[SHOWN, "base_mean"] == np.mean([5.0, 6.5])


def test_the_difference_is_taken_within_pairs(tmp_path):
    found = pairs.summary(table_of(tmp_path)).set_index("quantity").loc[SHOWN]
    base, sibling = np.array(RV_MM["whole"]), np.array(RV_MM["halved"])
    paired = stats.ttest_rel(sibling, base).confidence_interval(0.95)
    assert found["difference_mean"] == pytest.approx((sibling - base).mean())
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((paired.low, paired.high))
    assert found["greater"] == 0


def test_of_one_pair_no_interval_is_told(tmp_path):
    lost = ["whole-00000", "whole-00001"]
    found = pairs.summary(table_of(tmp_path, failed=lost)).set_index("quantity").loc[SHOWN]
    assert found["difference_mean"] == pytest.approx(-2.5)
    assert np.isnan([found["difference_low"], found["difference_high"]]).all()


def test_pairs_of_one_heart_have_no_interval(tmp_path):
    found = pairs.summary(table_of(tmp_path), independent=False).set_index("quantity")
    assert found[["difference_low", "difference_high"]].isna().all(axis=None)
    assert found["difference_mean"].notna().all()


def test_a_changed_file_is_not_compared(tmp_path):
    simulations, anatomies = write_arm(tmp_path, "whole")
    (tmp_path / "simulations/whole-0001/whole-00001/displacement.tsv").write_text("part\n")
    with pytest.raises(InputError, match=r"displacement\.tsv"):
        pairs.hearts(simulations, anatomies, VOLUME)


def test_the_figure_joins_the_hearts_of_each_pair(tmp_path):
    table = table_of(tmp_path, failed=["halved-00002"])
    figure = pairs_figure.displacement_by_volume(table, VOLUME, "whole", "halved")
    panel = figure.axes[0]
    assert panel.get_title() == "RV free wall"
    lines = [line.get_xydata().tolist() for line in panel.lines]
    for k in range(2):
        assert [[RV_ML["whole"][k], RV_MM["whole"][k]], [RV_ML["halved"][k], RV_MM["halved"][k]]] in lines
    assert max(len(line) for line in lines) == 2
    for ax in figure.axes:
        shown = np.concatenate([line.get_xydata() for line in ax.lines])
        assert (shown >= [ax.get_xlim()[0], 0]).all()
        assert (shown <= [ax.get_xlim()[1], ax.get_ylim()[1]]).all()


def test_the_script_writes_tables_and_figure(tmp_path):
    names = ("simulations", "anatomies")
    given = {}
    for prefix, arm in (("base_", "whole"), ("", "halved")):
        found = write_arm(tmp_path, arm)
        given |= {prefix + name: list(map(str, paths)) for name, paths in zip(names, found, strict=True)}
    made = {name: str(tmp_path / f"{name}.out") for name in ("pairs", "summary", "figure")}
    params = SimpleNamespace(arm="halved", base="whole", structure=VOLUME, one_origin="")
    compare_pairs.main(
        SimpleNamespace(input=SimpleNamespace(**given), output=SimpleNamespace(**made), params=params)
    )
    table = pd.read_csv(made["pairs"], sep="\t")
    assert table["volume_ml"].tolist() == RV_ML["halved"]
    assert set(pd.read_csv(made["summary"], sep="\t")["quantity"]) == set(pairs.QUANTITIES)
    with Image.open(made["figure"]) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 5


DRY = ("--dry-run", "--quiet", "rules", "--cores", "1")


def write_trial(folder, rows):
    make_bundle(folder / "bundle")
    lines = [f"{COLUMNS}\tbase", *rows]
    (folder / "trial.tsv").write_text("\n".join(lines) + "\n")
    return ("--config", "bundle=bundle", "cohort_table=trial.tsv", "batch_size=2")


WHOLE = "whole\t3\tany\thealthy\t\t\t\tleft_ventricle: all\t\t"
HALVED = "halved\t2\t\t\t\t\t\t\tright_ventricle.volume: x0.5\twhole"


def test_jobs_of_a_paired_comparison(tmp_path):
    """All hearts of both arms are simulated, decks are not written."""
    config = write_trial(tmp_path, [WHOLE, HALVED])
    run = snakemake(tmp_path, "paired_comparison", *DRY, *config)
    assert run.returncode == 0, run.stdout
    counts = job_counts(run.stdout)
    assert counts["compare_pairs"] == 1
    assert counts["simulate_hearts"] == 5
    assert "write_inputs" not in counts


def test_without_siblings_there_is_nothing_to_compare(tmp_path):
    config = write_trial(tmp_path, [WHOLE])
    run = snakemake(tmp_path, "paired_comparison", *DRY, *config)
    assert run.returncode != 0
    assert "no arm has another arm as its base" in run.stdout
    assert "Traceback" not in run.stdout
    other = snakemake(tmp_path, "simulate", *DRY, *config)
    assert other.returncode == 0, other.stdout
