"""What a user reads while a batch is made: the same on the terminal and in the log file."""

import importlib.util
import logging
import re
import time
import warnings

import pytest

from cardiocohort.runtime import artifacts, batch_runner, outcomes, progress, script
from cardiocohort.runtime.errors import SubjectError
from workflow_runs import REPOSITORY


class LibraryDeprecationWarning(Warning):
    """As libraries define it: derived from Warning."""


def write_and_chatter(path, payload):
    """Work that fails for a payload below zero, beside a library's lines and warnings."""
    logging.getLogger("numba.core").info("Compiling finished.")
    warnings.warn("will be another one", LibraryDeprecationWarning, stacklevel=1)
    warnings.warn("divided by zero", RuntimeWarning, stacklevel=1)
    logging.getLogger("cardiocohort.meshing").info("smoothing for %s", path.name)
    if payload[0] < 0:
        raise SubjectError("no wall")
    artifacts.write_text(path, "made")
    return {"verdict": "accepted", "reason": ""}


def decks(subjects: dict[str, int]) -> list[batch_runner.Task]:
    names = [(subject, number, suffix) for subject, number in subjects.items() for suffix in ("vtu", "inp")]
    return [batch_runner.Task(s, f"{s}.{suffix}", f"{n}", (n,)) for s, n, suffix in names]


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Path of a log file; the logging that the test begins is taken back after it."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(script, "_started", None)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    level = logging.root.level
    yield tmp_path / "rule.log"
    for handler in logging.root.handlers:
        handler.close()
    logging.root.setLevel(level)


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("threads", [1, 2])
def test_terminal_and_log_file_have_one_line_per_subject(tmp_path, logs, capfd, threads):
    script.start_logging(str(logs), rule="write_inputs")
    tasks = decks({"a": 1, "b": -1, "c": 1})
    batch_runner.run_batch(tmp_path / "arm-0000", tasks, write_and_chatter, threads)
    lines = logs.read_text().splitlines()
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(lines)
    assert all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING) write_inputs: ", line) for line in lines
    )
    texts = [line.split(": ", 1)[1] for line in lines]
    assert texts[0] == "arm-0000: 3 subjects to make"
    ended = [text for text in texts if re.match(r"\w: \w+ in \d\.\d s \(\d of 3 subjects", text)]
    assert [re.search(r"\d of", text)[0] for text in ended] == ["1 of", "2 of", "3 of"]
    assert sorted(text[:11] for text in ended) == ["a: accepted", "b: failed i", "c: accepted"]
    assert sum(text.count("no wall") for text in texts) == 1
    table = "the batch's table"
    assert (
        texts[-1] == f"arm-0000: 1 of 3 subjects failed or rejected: b; the reasons are in {logs} and {table}"
    )
    assert not any("Compiling" in text or "another" in text for text in texts)
    assert any(text.startswith("RuntimeWarning: divided by zero (") for text in texts)
    assert sum(text.startswith("smoothing for ") for text in texts) == 6


def test_reused_subjects_count_as_subjects(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    batch_runner.run_batch(tmp_path / "arm-0000", decks({"a": 0}), sleep)
    caplog.clear()
    batch_runner.run_batch(tmp_path / "arm-0000", decks({"a": 0, "b": 0}), sleep)
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("cardiocohort.run")]
    assert texts[0] == "arm-0000: 1 subject to make, 1 already finished"
    assert re.fullmatch(r"b: accepted in \d\.\d s \(2 of 2 subjects\)", texts[1])


def sleep(path, payload):
    time.sleep(payload[0])
    artifacts.write_text(path, "made")
    return {"verdict": "accepted", "reason": ""}


def test_a_long_step_gives_signs_of_life_that_become_rarer(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_S", 0.1)
    caplog.set_level(logging.INFO)
    batch_runner.run_batch(tmp_path / "batch", [batch_runner.Task("a", "a.txt", "", (1.0,))], sleep)
    signs = [r.getMessage() for r in caplog.records if r.getMessage() == "working on a (0 of 1 subject)"]
    assert 1 <= len(signs) <= 3  # after 0.1, 0.3 and 0.7 s


def test_time_left_is_that_of_the_processes_side_by_side(caplog):
    caplog.set_level(logging.INFO)
    report = progress.Progress("batch", ["a", "b", "c", "d"], 0, workers=2)
    left = ["about 90 s left", "about 60 s left", "about 60 s left", "4 of 4 subjects)"]
    for subject, expected in zip("abcd", left, strict=True):
        report.finished(subject, {"verdict": "accepted", "reason": ""}, 60.0)
        assert expected in caplog.messages[-1]


def test_durations_are_as_exact_as_needed():
    found = [progress.duration(s) for s in (0.04, 9.96, 119.4, 119.6, 3600, 7200, 9000)]
    assert found == ["0.0 s", "10 s", "119 s", "2 min", "60 min", "2.0 h", "2.5 h"]


def test_many_names_are_counted():
    assert progress.named([str(i) for i in range(12)]).endswith("8, 9 and 2 more")


def test_what_is_the_same_in_reason_and_detail_stands_once():
    assert outcomes.Ending(outcomes.Outcome.FAILED, "no wall", "no wall").text == "no wall"


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        (["simulate", "--cores", "1"], ["--quiet", "host", "reason"]),
        (["--quiet=rules"], []),
        (["-n"], []),
        (["--quiet", "all"], []),
    ],
)
def test_a_run_says_no_reasons_unless_the_call_says_how_much(arguments, added):
    spec = importlib.util.spec_from_file_location("run", REPOSITORY / "workflow/run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    assert run.verbosity(arguments) == added
