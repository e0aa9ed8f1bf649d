"""Every column of the tables that people read is named in the pages, in full."""

import re

import pytest

from cardiocohort import exporters
from cardiocohort.meshing.chambers import ADDED, VALVES, WALL_FIGURES
from cardiocohort.report import manifest
from cardiocohort.trial import baseline, contrasts, correlations, missing, power
from workflow_runs import REPOSITORY

MANIFEST = (*manifest.COLUMNS, *manifest.MESH_FIGURES, manifest.CAUSES, manifest.ARM_SETTINGS)
TABLES = {
    "manifest.tsv": ("results.md", "manifest.tsv", MANIFEST),
    "baseline.tsv": ("trial.md", "Files of `trial/`", baseline.COLUMNS),
    "contrasts.tsv": ("trial.md", "Files of `trial/`", contrasts.COLUMNS),
    "power.tsv": ("trial.md", "Files of `trial/`", power.CURVE),
    "sample_sizes.tsv": ("trial.md", "Files of `trial/`", power.SIZES),
    "missing.tsv": ("trial.md", "Files of `trial/`", missing.COLUMNS),
    "correlations.tsv": ("trial.md", "Files of `trial/`", correlations.COLUMNS),
}


def section(page: str, heading: str) -> str:
    """The text below a heading of the second level."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def named(text: str) -> set[str]:
    """The code spans in the cells of the tables: what a table of columns names."""
    return set(re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\|.*$", text, re.MULTILINE))))


@pytest.mark.parametrize("table", TABLES)
def test_each_column_of_a_table_is_named(table):
    page, heading, columns = TABLES[table]
    assert sorted(set(columns) - named(section(page, heading))) == []


def test_the_columns_of_a_mesh_with_walls_are_named():
    """By their patterns, with the names of the valves."""
    known = named(section("results.md", "Tables of the stages"))
    walls, valves = "|".join(f"{name}_wall" for name in ADDED), "|".join(VALVES)
    patterns = {
        re.sub(walls, "<wall>", re.sub(rf"({valves})(?=_valve)", "<valve>", column))
        for column in WALL_FIGURES
    }
    assert patterns == {"<wall>_mm", "<wall>_ml", "<valve>_valve_mm2", "blood_carved_ml"}
    assert patterns | set(VALVES) <= known


def test_each_format_has_its_folder():
    assert {f"{name}/" for name in exporters.available()} <= named(
        section("results.md", "Tables of the stages")
    )
