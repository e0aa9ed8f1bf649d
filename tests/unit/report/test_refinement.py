"""Refinement study: one config key, the same hearts at several edge lengths, one table and one figure."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

import summarise_refinement
from cardiocohort.cohort import stage_tables
from cardiocohort.config.check import check_refinement, with_edges
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.report.refinement import MESH_FIGURES, RESULTS, study
from cardiocohort.report.refinement_figure import by_number_of_tets
from cardiocohort.runtime import tables
from cardiocohort.runtime.errors import InputError
from workflow_runs import make_bundle, make_cohort_table, snakemake

MESHING = asdict(MeshSettings())
FILE = {"file": "", "size": None, "sha256": ""}


def test_lengths_of_regions_follow():
    own = MESHING | {"rv_edge_length_mm": 2.1}
    assert with_edges(own, 1.4) == own | {"edge_length_mm": 1.4, "rv_edge_length_mm": pytest.approx(1.05)}
    assert with_edges(MESHING, 1.4) == MESHING | {"edge_length_mm": 1.4}
    assert with_edges(own, 2.8) == own


def test_an_edge_length_that_the_wall_cannot_hold_is_named():
    settings = {"meshing": MESHING, "refinement": {"edge_lengths_mm": [3.4, 3.5]}}
    with pytest.raises(InputError, match=r"refinement\.edge_lengths_mm.*3\.5.*rv_wall_mm"):
        check_refinement(settings)
    settings["meshing"] = MESHING | {"rv_edge_length_mm": 2.0}
    check_refinement(settings)


def made(folder, edges=(3.4, 2.8, 2.0), simulated=True):
    """Batch tables as the rules write them: cavities near 100 and 120 mL; b-2 has no mesh at 2 mm."""
    paths = {"meshes": [], "simulations": []}
    for edge in edges:
        rows, results = [], []
        for k, subject in enumerate(("b-1", "a-1", "b-2")):
            fails = subject == "b-2" and edge == 2.0
            row = dict.fromkeys(MESH_FIGURES, np.nan if fails else 1.0)
            if not fails:
                row |= {
                    "n_tets": 1e6 / edge**3,
                    "lv_cavity_ml": 100 - edge**2,
                    "rv_cavity_ml": 120 - 2 * edge**2,
                }
            verdict = "rejected" if fails else "accepted"
            rows.append({"subject": subject, "verdict": verdict, "reason": "gate" if fails else ""} | row)
            result = dict.fromkeys(RESULTS, np.nan if fails else 100.0 + k)
            head = {
                "subject": subject,
                "verdict": "skipped" if fails else "accepted",
                "reason": "",
                "detail": "",
            }
            results.append(head | result | FILE)
        for stage, columns, frame in (
            ("meshes", stage_tables.MESHES, rows),
            ("simulations", stage_tables.SIMULATIONS, results),
        ):
            path = folder / f"{edge:g}mm" / stage / "x-0000.tsv"
            path.parent.mkdir(parents=True)
            tables.write_table(path, pd.DataFrame(frame), columns)
            paths[stage].append(path)
    return paths["meshes"], paths["simulations"] if simulated else []


def test_a_row_a_heart_and_edge_length(tmp_path):
    table = study(*made(tmp_path))
    assert table["subject"].tolist() == ["b-1"] * 3 + ["a-1"] * 3 + ["b-2"] * 3
    assert table["edge_length_mm"].tolist() == [3.4, 2.8, 2.0] * 3
    lost = table.iloc[-1]
    assert (lost["verdict"], lost["reason"], lost["simulation_verdict"]) == ("rejected", "gate", "skipped")
    assert table["simulation_lv_loaded_ml"].tolist()[:3] == [100.0] * 3
    assert table["lv_cavity_ml"].tolist()[:2] == pytest.approx([100 - 3.4**2, 100 - 2.8**2])


def test_without_simulations_there_are_no_results(tmp_path):
    table = study(*made(tmp_path, simulated=False))
    assert not [name for name in table if name.startswith("simulation")]


def test_the_figure_compares_the_same_hearts(tmp_path):
    """b-2, which has no mesh at 2 mm, is in no median; changes are from the finest mesh, which is at zero."""
    figure = by_number_of_tets(study(*made(tmp_path)))
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    x, y = lines["LV cavity"].get_data()
    assert x == pytest.approx([1e6 / edge**3 for edge in (3.4, 2.8, 2.0)])
    assert y == pytest.approx([100 * ((100 - e**2) / 96 - 1) for e in (3.4, 2.8, 2.0)])
    assert "LV cavity, inflated" in lines


def test_the_figure_says_when_no_heart_has_a_mesh_everywhere(tmp_path):
    table = study(*made(tmp_path))
    figure = by_number_of_tets(table[table["subject"] == "b-2"])
    assert not figure.axes
    assert "No heart" in figure.texts[0].get_text()


def test_an_inflation_that_did_not_end_is_in_no_median(tmp_path):
    table = study(*made(tmp_path))
    cut = (table["subject"] == "a-1") & (table["edge_length_mm"] == 2.0)
    table.loc[cut, "simulation_verdict"] = "failed"
    table.loc[cut, "simulation_lv_loaded_ml"] = 60.0  # at a part of the load
    (panel, *_) = by_number_of_tets(table).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert lines["LV cavity, inflated"].get_ydata() == pytest.approx([0.0] * 3)


def test_the_script_writes_both(tmp_path):
    from types import SimpleNamespace as Bag

    meshes, simulations = made(tmp_path)
    out = Bag(table=str(tmp_path / "study.tsv"), figure=str(tmp_path / "study.png"))
    summarise_refinement.main(Bag(input=Bag(meshes=meshes, simulations=simulations), output=out))
    assert len(pd.read_csv(out.table, sep="\t")) == 9
    assert (tmp_path / "study.png").stat().st_size > 10_000


def test_a_key_that_cannot_be_used_ends_in_one_message(tmp_path):
    make_bundle(tmp_path / "bundle")
    make_cohort_table(tmp_path / "trial.tsv", {"a": 2})
    config = ("--config", "bundle=bundle", "cohort_table=trial.tsv", "refinement={edge_lengths_mm: [4, 3]}")
    run = snakemake(tmp_path, "refinement_study", "--dry-run", "--cores", "1", *config)
    assert run.returncode != 0
    assert "'refinement.edge_lengths_mm'" in run.stdout
    assert "Traceback" not in run.stdout
