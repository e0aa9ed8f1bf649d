"""Fixtures that tests of several rooms share."""

import os

import pytest

# Test files run side by side, each on a core of its own. This is read when numerical libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: F401 - before NGSolve, see cardiocohort.simulation.finite_elements

PASSED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items):
    """Files with long tests begin first, then files that run Snakemake, some of which take minutes.

    What is left are files of seconds, so that no worker is left alone with a file of minutes in the end.
    """
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: (item.path not in long, item.path.parent.name != "workflow"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def deck_record(request):
    """Keeps how far a reader or solver of decks agrees; see tests/support/deck_records.py."""
    import deck_records

    recorder = deck_records.Recorder(request.node.nodeid.partition("[")[0])
    yield recorder
    table = deck_records.table()
    if table is not None and request.node.stash.get(PASSED, False):
        recorder.write(table)


@pytest.fixture
def changed():
    """`changed(path, edit)`: a file whose text is edited until the test ends; the edit must change it."""
    before = {}

    def change(path, edit):
        before[path] = path.read_text()
        path.write_text(edit(before[path]))
        assert path.read_text() != before[path]

    yield change
    for path, text in before.items():
        path.write_text(text)
