"""The table of what was read and run of each deck: rows have tests, figures are within their bounds."""

import ast
import re
from datetime import date
from functools import lru_cache
from pathlib import Path

import pytest

import deck_records
from cardiocohort import exporters
from cardiocohort.exporters import _checks
from deck_records import Recorder

ROOT = deck_records.REPOSITORY
ROWS = _checks.records()
FIGURE = {"deck": "a block", "quantity": "nodes", "unit": "mm", "bound": 1.0}


@lru_cache
def recording_tests(path: Path) -> set[str]:
    """Names of a file's tests that take the fixture."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if "deck_record" in {argument.arg for argument in f.args.args}}


def headings(path: Path) -> set[str]:
    """Anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w]+", "-", heading.lower()) for heading in found}


@pytest.mark.parametrize("source", sorted({row.source for row in ROWS}))
def test_every_row_has_its_test_or_section(source):
    if source.startswith(_checks.DOCUMENTS):
        page, _, anchor = source.partition("#")
        assert anchor in headings(ROOT / page)
    else:
        file, _, name = source.partition("::")
        assert name in recording_tests(ROOT / file), "run the tests with DECK_RECORDS, see deck_records.py"


def test_every_recording_test_has_a_row():
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    tests = {
        f"{path.relative_to(ROOT).as_posix()}::{name}" for path in files for name in recording_tests(path)
    }
    assert tests == {row.source for row in ROWS if not row.by_hand}


def test_figures_have_programs_dates_and_bounds():
    for row in ROWS:
        assert row.done in (_checks.READ, _checks.RUN)
        assert row.program
        assert row.version or row.program == "reader after the manual"
        assert date.fromisoformat(row.date) <= date.today()
        assert row.by_hand or float(row.found) <= float(row.bound)
    keys = [(row.format, row.done, row.program, row.deck, row.quantity, row.source) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", exporters.available())
def test_each_format_is_read_and_says_so(name):
    own = [row for row in ROWS if row.format == name]
    assert _checks.READ in {row.done for row in own}
    readme, shown = _checks.checked(name), "\n".join(_checks.table())
    runs = [row for row in own if row.done == _checks.RUN]
    for row in runs:
        assert row.who in readme
        assert row.difference in readme
    assert ("Not run" in readme) == (f"| `{name}` |  | not run |" in shown) == (not runs)


@pytest.mark.parametrize("name", _checks.CHECKS)
def test_each_inflation_has_a_measured_time(name):
    """For a mesh or heart that is named."""
    (time,) = re.findall(r"^Time of a run: (.+)", _checks.checked(name), re.MULTILINE)
    assert re.match(r"[\d,]+ (to \d+ |CPU )?s for (the heart|[\d,]+ (ten-node )?tetrahedra)", time)


def test_the_versions_that_ran_are_the_pinned_ones():
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "envs/fenicsx.txt").read_text(), re.MULTILINE))
    stated = {row.version for row in ROWS if row.program == "DOLFINx, fenicsx-pulse"}
    assert stated == {f"{pins['dolfinx-solver-real']}, {pins['fenicsx-pulse']}"}
    (reader,) = {row.version for row in ROWS if row.program == "cardiac-geometriesx"}
    assert reader == pins["cardiac-geometriesx"]


def test_a_difference_beyond_its_bound_fails():
    with pytest.raises(AssertionError, match=r"nodes: 1\.5 mm, at most 1 is allowed"):
        Recorder("a::b").read("vtu", "meshio", "5", found=1.5, **FIGURE)
    with pytest.raises(AssertionError):
        Recorder("a::b").read("vtu", "meshio", "5", found=float("nan"), **FIGURE)


def test_a_tests_rows_replace_its_old_ones(tmp_path, monkeypatch):
    """The largest difference of all calls and parameters; other tests' rows keep figure and date."""
    table = tmp_path / "decks.tsv"

    def written(source, *found, **other):
        recorder = Recorder(source)
        for value in found:
            recorder.run("calculix", "CalculiX", "2", found=value, **FIGURE | other)
        recorder.write(table)

    monkeypatch.setattr(deck_records, "_FOUND", {})
    written("a::kept", 0.1)
    written("a::again", 0.25, 0.125, quantity="old")
    deck_records._FOUND.clear()  # another process
    written("a::again", 0.5)
    written("a::again", 0.25, 0.75)  # of another parameter
    found = {row.source: row for row in _checks.read(table)}
    assert len(_checks.read(table)) == 2
    assert found["a::kept"].found == "0.1"
    assert (found["a::again"].found, found["a::again"].quantity) == ("0.75", "nodes")
    assert found["a::again"].date == date.today().isoformat()
