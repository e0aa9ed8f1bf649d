"""The cohort table: its grammar, every error a user can make, batches, and the seed of a subject."""

import contextlib
import dataclasses
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy.labels import ATTRIBUTES
from cardiocohort.cohort.covariates import Distribution, parse_distribution
from cardiocohort.cohort.grammar import for_person
from cardiocohort.cohort.table import (
    COLUMNS,
    MAX_SUBJECTS,
    Arm,
    Edit,
    batches,
    parse_constraints,
    parse_edits,
    read_cohort,
    seed_sequence,
    subject_name,
)
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART

GOOD = {
    "arm": "healthy_women", "n": "4", "sex": "female", "condition": "healthy", "age": "40..65",
    "bsa": "1.72+-0.15", "seed": "", "constraints": "myocardium: size position shape", "edits": "",
}  # fmt: skip


def write(path: Path, *rows: dict, columns=COLUMNS) -> Path:
    lines = ["\t".join(columns), *("\t".join((GOOD | row).get(c, "") for c in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_one(tmp_path, **cells) -> Arm:
    (arm,) = read_cohort(write(tmp_path / "cohort.tsv", cells), HEART)
    return arm


def test_the_shipped_table_is_the_demo():
    arms = read_cohort(Path(__file__).resolve().parents[3] / "config" / "cohort.tsv", HEART)
    assert [(arm.name, arm.n) for arm in arms] == [("healthy_women", 4), ("dilated_cardiomyopathy", 4)]
    asked = {"myocardium", "left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "aorta"}
    for arm in arms:
        assert dict(arm.constraints) == dict.fromkeys(asked, ATTRIBUTES)


def test_a_full_row(tmp_path):
    arm = read_one(
        tmp_path, sex="60 % female", age="55", seed="7",
        constraints="aorta, right_ventricle+left_ventricle: shape size; left_atrium: all",
        edits="right_ventricle.volume: x0.5; left_ventricle.volume: 180 mL; aorta.centroid_x: +5 mm",
    )  # fmt: skip
    assert arm == Arm(
        "healthy_women", 4,
        {"sex": Distribution("shares", (("female", 0.6), ("male", 0.4))),
         "age_years": Distribution("fixed", (55.0,)), "bsa_m2": Distribution("normal", (1.72, 0.15)),
         "condition": Distribution("shares", (("healthy", 1.0),))}, 7,
        (("aorta", ("size", "shape")), ("left_ventricle+right_ventricle", ("size", "shape")),
         ("left_atrium", ATTRIBUTES)),
        (Edit("right_ventricle", "volume", "multiply", 0.5), Edit("left_ventricle", "volume", "set", 180.0),
         Edit("aorta", "centroid_x", "add", 5.0)),
    )  # fmt: skip


def test_empty_cells_mean_the_reference_population(tmp_path):
    arm = read_one(tmp_path, sex="any", condition="", age="", bsa="", constraints="")
    assert (arm.covariates, arm.seed) == ({}, None)
    assert arm.constraints == ()


def test_spreadsheet_quirks_are_harmless(tmp_path):
    """Byte-order mark, CRLF, blank and comment lines, quoted cells, trailing tabs, ± signs."""
    path = tmp_path / "cohort.tsv"
    cells = GOOD | {"constraints": '"myocardium, aorta: size"', "age": "61 ± 9"}
    header, row = "\t".join(COLUMNS), "\t".join(cells.values())
    text = f"# my trial\r\n\r\n{header}\t\r\n\r\n# controls\r\n{row}\t\r\n"
    path.write_bytes(text.encode("utf-8-sig"))
    (arm,) = read_cohort(path, HEART)
    assert [name for name, _ in arm.constraints] == ["myocardium", "aorta"]
    assert arm.covariates["age_years"] == Distribution("normal", (61.0, 9.0))


def test_quotes_hide_no_arm(tmp_path):
    """Those of comments are not read, and one that its row does not close would take in the rows below."""
    path = write(tmp_path / "cohort.tsv", {"arm": "first"}, {"arm": "second"}, {"arm": "third"})
    header, first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([header, '# note\t"6 mm', first, second, '# note\t7"', third, ""]))
    assert [arm.name for arm in read_cohort(path, HEART)] == ["first", "second", "third"]
    open_quote = first.replace("first\t", 'first\t"', 1)
    path.write_text("\n".join([header, open_quote, second, third, ""]))
    with pytest.raises(InputError, match="row 2: a cell begins with a quotation mark that this row does not"):
        read_cohort(path, HEART)


def test_dict_round_trip_is_plain_json_and_leaves_n_out(tmp_path):
    arm = read_one(tmp_path, edits="aorta.volume: x2", constraints="aorta+left_ventricle: size", seed="3")
    plain = arm.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert Arm.from_dict(plain) == dataclasses.replace(arm, n=None)
    assert dataclasses.replace(arm, n=400).to_dict() == plain


MATCHING = (*COLUMNS, "base", "matched")


def read_arms(tmp_path, *rows: dict) -> list[Arm]:
    return read_cohort(write(tmp_path / "cohort.tsv", *rows, columns=MATCHING), HEART)


@pytest.mark.parametrize("base", ["map.nii.gz", "first"])
def test_siblings_of_a_label_map_have_no_area(tmp_path, base):
    empty = {"sex": "", "condition": "", "age": "", "bsa": ""}
    first = {"arm": "first", "base": "map.nii.gz", "edits": "aorta.volume: x2"} | empty
    other = {"arm": "other", "base": base, "edits": "aorta.volume: 30 mL/m2"} | empty
    with pytest.raises(InputError, match=r"row 3, column 'edits': aorta.* map\.nii\.gz, .*; write mL"):
        read_arms(tmp_path, first, other)
    assert len(read_arms(tmp_path, {"arm": "first"}, other | {"base": "first"})) == 2


def test_a_matched_arm_has_the_covariates_that_it_does_not_give(tmp_path):
    cells = {
        "sex": "",
        "age": "",
        "bsa": "1.5..2",
        "condition": "dilated_cardiomyopathy",
        "matched": "control",
    }
    patients, control = read_arms(tmp_path, {"arm": "ph", "n": "3"} | cells, {"arm": "control", "n": "4"})
    assert patients.matched == control
    assert patients.covariates["age_years"] == control.covariates["age_years"]
    assert patients.covariates["bsa_m2"] == Distribution("uniform", (1.5, 2.0))
    assert patients.covariates["condition"].levels == ("dilated_cardiomyopathy",)
    plain = patients.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    back = Arm.from_dict(plain)
    assert (back.covariates, back.matched.covariates) == (patients.covariates, control.covariates)


@pytest.mark.parametrize(
    ("cells", "column", "allowed"),
    [
        ({"matched": "controls"}, "matched", "no arm that others can be matched to; allowed: control, free"),
        ({"matched": "ph"}, "matched", "allowed: control, free"),
        ({"matched": "siblings"}, "matched", "allowed: control, free"),
        ({"matched": "control", "n": "5"}, "n", "5 subjects matched to the 4 of 'control'"),
        (
            {"matched": "control", "base": "control", "edits": "aorta.volume: x2"}
            | dict.fromkeys(("sex", "age", "bsa", "condition"), ""),
            "matched",
            "siblings are who their base is",
        ),
    ],
)  # fmt: skip
def test_a_match_that_cannot_be(tmp_path, cells, column, allowed):
    empty = {"sex": "", "condition": "", "age": "", "bsa": ""}
    siblings = {"arm": "siblings", "base": "control", "edits": "aorta.volume: x2"} | empty
    rows = [{"arm": "control"}, {"arm": "free"}, siblings, {"arm": "ph"} | cells]
    with pytest.raises(InputError, match=rf"row 5, column '{column}'.*{allowed}"):
        read_arms(tmp_path, *rows)


ERRORS = [
    ({"arm": "../x"}, "arm", "letters"),
    ({"arm": "a-b"}, "arm", "letters"),
    ({"arm": "_a"}, "arm", "first"),
    ({"arm": "a" * 65}, "arm", "64"),
    ({"arm": ""}, "arm", "letters"),
    ({"arm": "herz_ä"}, "arm", "letters"),
    ({"n": "0"}, "n", "whole number"),
    ({"n": "-4"}, "n", "whole number"),
    ({"n": "2.5"}, "n", "whole number"),
    ({"n": "²"}, "n", "whole number"),
    ({"n": ""}, "n", "whole number"),
    ({"n": str(MAX_SUBJECTS + 1)}, "n", str(MAX_SUBJECTS)),
    ({"sex": "women"}, "sex", "female, male, any"),
    ({"sex": "120 % female"}, "sex", "female"),
    ({"condition": "a b"}, "condition", "letters"),
    ({"age": "sixty"}, "age", "mean+-sd"),
    ({"age": "-3"}, "age", "0 to 120"),
    ({"age": "70..40"}, "age", "lower value first"),
    ({"age": "50+-0"}, "age", "above 0"),
    ({"bsa": "172"}, "bsa", "0.2 to 4"),
    ({"bsa": "1,72"}, "bsa", "mean+-sd"),
    ({"seed": "-1"}, "seed", "whole number"),
    ({"seed": str(2**63)}, "seed", "2^63"),
    ({"constraints": "ventricle: size"}, "constraints", "left_ventricle"),
    ({"constraints": "aorta+aorta: size"}, "constraints", "twice"),
    ({"constraints": "aorta"}, "constraints", "size, position, shape"),
    ({"constraints": "aorta: colour"}, "constraints", "size, position, shape"),
    ({"constraints": "aorta: size; aorta: shape"}, "constraints", "twice"),
    ({"constraints": "aorta+left_atrium: size; left_atrium+aorta: shape"}, "constraints", "twice"),
    ({"edits": "left_ventricle.volume: -180 mL"}, "edits", "positive volume"),
    ({"edits": "left_ventricle.volume: = -180 mL"}, "edits", "positive volume"),
    ({"edits": "left_ventricle.volume: 0 mL"}, "edits", "positive volume"),
    ({"edits": "left_ventricle.volume: +20 mL"}, "edits", "positive volume"),
    ({"edits": "left_ventricle.volume: 180"}, "edits", "mL"),
    ({"edits": "left_ventricle.volume: 180 g"}, "edits", "for the myocardium a mass"),
    ({"edits": "left_ventricle.volume: +5 mL/m2"}, "edits", "positive volume"),
    ({"edits": "left_ventricle.volume: 1e9 mL"}, "edits", "10000 mL"),
    ({"edits": "left_ventricle.volume: x0"}, "edits", "positive factor"),
    ({"edits": "left_ventricle.volume: x-2"}, "edits", "positive factor"),
    ({"edits": "left_ventricle.volume: -100 %"}, "edits", "percent"),
    ({"edits": "ventricle.volume: x2"}, "edits", "left_ventricle"),
    ({"edits": "left_ventricle+aorta.volume: x2"}, "edits", "one structure"),
    ({"edits": "left_ventricle.mass: x2"}, "edits", "volume, centroid_x"),
    ({"edits": "left_ventricle: x2"}, "edits", "volume, centroid_x"),
    ({"edits": "aorta.centroid_x: 5 mm"}, "edits", "+5 mm"),
    ({"edits": "aorta.centroid_x: +5"}, "edits", "+5 mm"),
    ({"edits": "aorta.centroid_x: +1e999 mm"}, "edits", "1000 mm"),
    ({"edits": "aorta.volume: x2; aorta.volume: 50 mL"}, "edits", "twice"),
]


@pytest.mark.parametrize(("cells", "column", "allowed"), ERRORS, ids=[str(c) for c, _, _ in ERRORS])
def test_a_bad_cell_names_file_row_column_and_what_is_allowed(tmp_path, cells, column, allowed):
    path = write(tmp_path / "cohort.tsv", {"arm": "first"}, cells)
    with pytest.raises(InputError) as error:
        read_cohort(path, HEART)
    message = str(error.value)
    assert message.startswith(f"{path}, row 3, column {column!r}: ")
    assert allowed in message


def test_the_named_row_is_the_line_of_the_file(tmp_path):
    path = write(tmp_path / "cohort.tsv", {"arm": "first"})
    path.write_text(path.read_text() + "\n# note\n" + "\t".join((GOOD | {"n": "0"}).values()) + "\n")
    with pytest.raises(InputError, match="row 5, column 'n'"):
        read_cohort(path, HEART)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column(tmp_path, column):
    path = write(tmp_path / "cohort.tsv", {}, columns=[c for c in COLUMNS if c != column])
    with pytest.raises(InputError, match=f"row 1: column '{column}' is missing; the columns are arm, n"):
        read_cohort(path, HEART)


@pytest.mark.parametrize("second", ["healthy_women", "Healthy_Women"])
def test_duplicate_arms(tmp_path, second):
    path = write(tmp_path / "cohort.tsv", {}, {"arm": second})
    with pytest.raises(InputError, match=r"row 3, column 'arm'.*row 2"):
        read_cohort(path, HEART)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("\t".join(COLUMNS) + "\n", "no arms"),
        ("\t".join((*COLUMNS, "colour")) + "\n", "unknown column 'colour'; the columns are"),
        ("\t".join((*COLUMNS, "sex")) + "\n", "'sex' occurs twice"),
        ("\t".join(COLUMNS) + "\n" + "\t".join(GOOD.values()) + "\tmore\n", "row 2: more cells"),
        (",".join(COLUMNS) + "\n" + ",".join(GOOD.values()) + "\n", "separated by tabs"),
        ('\t'.join(COLUMNS) + '\na\t4\t"female\n', "row 2: a cell begins with a quotation mark"),
        ("\t".join(COLUMNS).encode() + b"\n\xff\xfe\n", "UTF-8"),
    ],
)  # fmt: skip
def test_a_table_that_is_none(tmp_path, content, message):
    path = tmp_path / "cohort.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_cohort(path, HEART)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cohort_table"):
        read_cohort(tmp_path / "none.tsv", HEART)


OWN = "left_ventricle, aorta: size; right_ventricle/left_ventricle: distance"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("default", OWN),
        (" default ; ", OWN),
        ("myocardium: shape; default", f"myocardium: shape; {OWN}"),
        ("default; myocardium: shape", f"{OWN}; myocardium: shape"),
    ],
)
def test_default_stands_for_the_constraints_of_the_anatomy(text, meant):
    assert parse_constraints(text, HEART, defaults=OWN) == parse_constraints(meant, HEART)


@pytest.mark.parametrize(
    ("text", "defaults", "said"),
    [
        ("default", "", "anatomy.json has no key 'constraints'"),
        ("default; aorta: shape", OWN, "'aorta' is constrained twice"),
        ("default; default", OWN, "'default' does not say what is constrained"),
        ("defaults", OWN, "'defaults' does not say what is constrained"),
    ],
)
def test_a_default_that_says_nothing_or_too_much_is_refused(tmp_path, text, defaults, said):
    path = write(tmp_path / "trial.tsv", {"constraints": text})
    with pytest.raises(InputError, match=rf"trial.tsv, row 2, column 'constraints': .*{said}"):
        read_cohort(path, HEART, defaults=defaults)


structures = st.sampled_from(HEART.structures)
unions = st.lists(structures, min_size=1, max_size=3, unique=True).map(tuple)
spaces = st.sampled_from(["", " ", "  "])
positive = st.floats(1e-3, 1e3).map(lambda x: round(x, 6))


@given(
    clauses=st.lists(
        st.tuples(unions, st.sets(st.sampled_from(ATTRIBUTES), min_size=1)),
        max_size=5, unique_by=lambda clause: frozenset(clause[0]),
    ),
    space=spaces, comma=st.sampled_from([" ", ", ", ","]), end=st.sampled_from(["", ";", " ; "]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_constraints_written_any_way_mean_the_same(clauses, space, comma, end):
    text = (
        ";".join(f"{space}{'+'.join(names)}{space}: {comma.join(sorted(a))}{space}" for names, a in clauses)
        + end
    )
    parsed = parse_constraints(text, HEART)
    assert [set(name.split("+")) for name, _ in parsed] == [set(names) for names, _ in clauses]
    assert [set(attributes) for _, attributes in parsed] == [attributes for _, attributes in clauses]
    written_again = "; ".join(f"{name}: {' '.join(attributes)}" for name, attributes in parsed)
    assert parse_constraints(written_again, HEART) == parsed


@given(low=st.floats(0.0, 119.0), width=st.floats(0.01, 120.0), space=spaces)
@settings(max_examples=150, deadline=None)
def test_distributions_read_back_the_numbers_that_were_written(low, width, space):
    high = min(low + width, 120.0)
    assert parse_distribution(f"{space}{low!r}", 0.0, 120.0) == Distribution("fixed", (low,))
    assert parse_distribution(f"{low!r}{space}+-{space}{width!r}", 0.0, 120.0).parameters == (low, width)
    assert parse_distribution(f"{low!r}{space}..{space}{high!r}", 0.0, 120.0) == Distribution(
        "uniform", (low, high)
    )


@given(
    structure=structures,
    value=positive,
    sign=st.sampled_from("+-"),
    axis=st.sampled_from("xyz"),
    space=spaces,
)
@settings(max_examples=150, deadline=None)
def test_edits_read_back_what_was_written(structure, value, sign, axis, space):
    def one(operation, quantity="volume"):
        (edit,) = parse_edits(f"{space}{structure}.{quantity}{space}:{space}{operation}{space}", HEART)
        assert (edit.structure, edit.quantity) == (structure, quantity)
        return edit.operation, edit.value

    assert one(f"x{value!r}") == ("multiply", value)
    assert one(f"{value!r} mL") == one(f"= {value!r} mL") == ("set", value)
    assert one(f"+{value!r} %") == ("multiply", 1.0 + value / 100.0)
    assert one(f"{sign}{value!r} mm", f"centroid_{axis}") == ("add", float(f"{sign}{value!r}"))
    assert one(f"= {sign}{value!r} mm", f"centroid_{axis}") == ("set", float(f"{sign}{value!r}"))


@given(text=st.text(alphabet='abc left_ventricle.volumexsiz:;,+-=%.0123456789 mLm"\t', max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_or_refused_plainly(text):
    for parse in (
        lambda t: parse_constraints(t, HEART), lambda t: parse_edits(t, HEART),
        lambda t: parse_distribution(t, 0.0, 120.0),
    ):  # fmt: skip
        with contextlib.suppress(InputError):  # any other error fails the test
            parse(text)


@given(n=st.integers(1, 500), more=st.integers(0, 100), size=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_batches_cover_subjects_once_and_growth_keeps_numbers(n, more, size):
    arm = Arm("a", n, {}, None, (), ())
    parts = batches(arm, size)
    assert [i for part in parts for i in range(part.first, part.last + 1)] == list(range(n))
    assert max(part.last - part.first + 1 for part in parts) <= size
    grown = batches(dataclasses.replace(arm, n=n + more), size)
    full = n // size
    assert grown[:full] == parts[:full]
    assert [b.name for b in grown[: len(parts)]] == [b.name for b in parts]


def test_a_hundred_thousand_subjects_are_cheap_to_batch():
    arm = Arm("a", 100_000, {}, None, (), ())
    start = time.process_time()
    parts = batches(arm, 50)
    assert time.process_time() - start < 0.5
    assert (parts[0].name, parts[-1].name, parts[-1].last) == ("a-0000", "a-1999", 99_999)
    assert subject_name("a", 99_999) == "a-99999"


def test_seed_sequences_differ_in_all_that_identifies_a_draw():
    keys = [
        (seed, arm, index, stream, attempt)
        for seed in (0, 1) for arm in ("a", "b", "a0") for index in (0, 1, 10)
        for stream in ("population", "generation") for attempt in (0, 1)
    ]  # fmt: skip
    states = {tuple(seed_sequence(*key).generate_state(4)) for key in keys}
    assert len(states) == len(keys)
    again = seed_sequence(1, "a", 10, "generation", 1).generate_state(4)
    np.testing.assert_array_equal(again, seed_sequence(1, "a", 10, "generation", 1).generate_state(4))


def test_the_examples_of_the_documentation_are_read():
    text = (Path(__file__).resolve().parents[3] / "docs" / "cohort-table.md").read_text(encoding="utf-8")
    edits = re.findall(r"`(\w+\.\w+: [^`]+)`", text)
    assert len(edits) >= 5
    for edit in edits:
        assert len(parse_edits(edit, HEART)) == 1
    (constraints,) = re.findall(r"^ {4}(\w.*: size.*)$", text, flags=re.MULTILINE)
    assert dict(parse_constraints(constraints, HEART))["left_ventricle+right_ventricle"] == ("size",)
    for column in COLUMNS:
        assert f"| `{column}` |" in text


def test_masses_and_volumes_per_area():
    def volume(text):
        (edit,) = parse_edits(f"myocardium.volume: {text}", HEART)
        return edit

    assert volume("105 g").value == pytest.approx(100.0)
    assert volume("70 g/m2").operation == "set_per_m2"
    (edit,) = for_person((volume("52.5 g/m2"),), 1.8)
    assert (edit.operation, edit.value) == ("set", pytest.approx(90.0))
    assert for_person((volume("90 mL"),), math.nan) == (volume("90 mL"),)
    with pytest.raises(InputError, match=r"myocardium\.volume is per m2 of body-surface area, which is not"):
        for_person((volume("50 mL/m2"),), math.nan)
