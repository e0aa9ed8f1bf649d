"""The command line of `make run`: targets anywhere, and one line for what Snakemake would not explain."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.cli import get_argument_parser

from cardiocohort.config import command_line
from cardiocohort.config.typed_text import read_config
from cardiocohort.runtime.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[3]
TARGETS = command_line.targets_of(REPOSITORY / "workflow/Snakefile")
GREEDY = {
    name: action.choices
    for action in get_argument_parser()._actions
    for name in action.option_strings
    if action.nargs in ("+", "*")
}


def test_the_targets_are_those_of_the_snakefile():
    assert {"all", "simulate", "label_maps", "prior", "verify_solver"} <= set(TARGETS)


def test_the_options_are_those_of_snakemake():
    assert set(command_line.TAKEN) <= set(GREEDY)
    for option, words in command_line.CHOICES.items():
        assert words == set(GREEDY[option])


def as_snakemake_reads(arguments):
    """Targets, config entries and config files as Snakemake's own parser finds them."""
    found = get_argument_parser().parse_args(arguments)
    return sorted(found.targets), found.config, [str(path) for path in found.configfile or []]


OPTIONS = st.permutations(
    [("--config", "a1=1", "b1=2"), ("--configfile", "pyproject.toml"), ("--cores", "all"), ("-q", "rules")]
)


# `-q all` is a choice of that option
@settings(max_examples=30, deadline=None)
@given(OPTIONS, st.lists(st.sampled_from([*TARGETS[1:], "results/a.tsv"]), max_size=3), st.data())
def test_targets_may_stand_anywhere(options, targets, data):
    words = [word for option in options for word in option]
    starts = [0, *(i for i, word in enumerate(words) if not word.startswith("-") and i != words.index("all"))]
    at = data.draw(st.sampled_from(starts))
    arguments = words[: at + 1] + targets + words[at + 1 :] if at else targets + words
    found = as_snakemake_reads(command_line.in_order(arguments, TARGETS))
    assert found == (sorted(targets), ["a1=1", "b1=2"], ["pyproject.toml"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--forcerun", "simulate"],  # a rule is a value of this option
        ["--config", "cohort=simulate"],
        ["--config=cohort=x", "simulate"],
        ["simulate", "--config", "cohort=x"],
        ["--cores", "all", "results/x.tsv", "-n"],
    ],
)
def test_what_is_in_order_stays(arguments):
    assert command_line.in_order(arguments, TARGETS) == arguments


def test_a_config_file_with_the_name_of_a_target_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--configfile", "prior", "verify"]
    assert command_line.in_order(arguments, TARGETS) == ["prior", "verify", "--configfile"]
    Path("prior").write_text("cohort: mine\n")
    assert command_line.in_order(arguments, TARGETS) == ["verify", "--configfile", "prior"]
    command_line.check(["verify", "--configfile", "prior"], TARGETS)


BAD = {
    "no file": (None, "there is no file 'own.yaml'"),
    "a slip": ("cohort: x\n  a: b\n", r"own\.yaml, line 2: not YAML: mapping values are not allowed here"),
    "a tab": ("a:\n\tb: 1\n", r"own\.yaml, line 2: not YAML: .*indent with spaces"),
    "open quotes": ("a: 1\nb: 'x\n", r"own\.yaml, line 3: not YAML: .*end of stream"),
    "a control character": ("a: 1\nb: \x01\n", r"own\.yaml, line 2: not YAML: special characters"),
    "two documents": ("a: 1\n---\nb: 2\n", r"own\.yaml, line 2: not YAML: but found another document"),
    "no such anchor": ("a: *x\n", r"own\.yaml, line 1: not YAML: found undefined alias"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", r"own\.yaml, line 3: key 'a' stands in line 1 too"),
    "a key twice inside": ("s:\n  a: 1\n  a: 3\n", r"own\.yaml, line 3: key 'a' stands in line 2 too"),
    "a list": ("- a\n", r"own\.yaml: a config file holds keys"),
    "nothing": ("", r"own\.yaml: a config file holds keys"),
    "a JSON list": ("[1]", r"own\.yaml: a config file holds keys"),
    "itself": ("a: &y [*y]\n", r"own\.yaml, line 1: not YAML: found unconstructable recursive node"),
    "too deep": ("[" * 1200, r"own\.yaml.*not"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_bad_config_file_is_one_line_with_its_place(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("own.yaml").write_text(text)
    for arguments in (["--configfile", "own.yaml"], ["--configfile=own.yaml"], ["--configfiles", "own.yaml"]):
        with pytest.raises(InputError, match=message) as caught:
            command_line.check(arguments, TARGETS)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["--config", "-C"])
def test_a_config_entry_is_a_key_with_a_value(option):
    command_line.check([option, "cohort=x", "prior={name: y}", "--cores", "2"], TARGETS)
    with pytest.raises(InputError, match="'simulat' is not key=value; did you mean the target simulate"):
        command_line.check([option, "cohort=x", "simulat"], TARGETS)
    with pytest.raises(InputError, match=r"'=x' is not key=value$"):
        command_line.check([option, "=x"], TARGETS)


def test_aliases_json_and_templates_are_read(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("a: &x {k: 01}\nb: *x\n")
    assert read_config(path) == {"a": {"k": "01"}, "b": {"k": "01"}}
    path.write_text(json.dumps({"cohort": "x", "seed": 3, "prior": {"n": 1e3}}, indent="\t"))
    assert read_config(path) == {"cohort": "x", "seed": "3", "prior": {"n": "1000.0"}}
    path.write_text("__use_yte__: true\n?if True:\n  a: 1\n?if True:\n  b: 2\n")
    assert set(read_config(path)) == {"__use_yte__", "?if True"}


@pytest.mark.parametrize("words", [["run", "simulate"], ["simulate", "run"], ["simulate"]])
def test_make_hands_targets_on(words):
    line = ["make", "--dry-run", *words, "ARGS=--config cohort=x"]
    told = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    runs = [text for text in told.splitlines() if "workflow/run.py" in text]
    assert [text.split("--rerun-incomplete")[1].split() for text in runs] == [
        ["simulate", "--config", "cohort=x"]
    ]


def test_the_wrapper_ends_with_one_line(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("cohort: x\ncohort: y\n")
    line = [sys.executable, str(REPOSITORY / "workflow/run.py"), "--cores", "1", "--directory", str(tmp_path)]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert (
        run.stderr
        == f"Error: {tmp_path}/config/config.yaml, line 2: key 'cohort' stands in line 1 too; keep one\n"
    )
