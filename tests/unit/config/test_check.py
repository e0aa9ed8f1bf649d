"""The config: schema and code agree, defaults are filled in, mistakes are told with key and remedy."""

from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cardiocohort import exporters
from cardiocohort.config import check
from cardiocohort.config.check import (
    SCHEMA,
    check_biventricular,
    check_body_surface,
    check_together,
    complete,
    locate,
)
from cardiocohort.config.typed_text import typed_text
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.meshing.settings import MeshSettings
from cardiocohort.microstructure.fibres import FibreAngles
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation.settings import SimulationSettings

REPOSITORY = Path(__file__).resolve().parents[3]


def keys(schema, path=()):
    """(dotted path, schema) of every key."""
    for name, part in schema.get("properties", {}).items():
        yield ".".join((*path, name)), part
        yield from keys(part, (*path, name))


@pytest.mark.parametrize(("key", "part"), list(keys(SCHEMA)))
def test_every_key_has_description_default_and_bounds(key, part):
    assert len(part["description"]) > 10
    assert "default" in part
    bounds = {
        "object": {"additionalProperties"},
        "array": {"items", "minItems"},
        "string": {"pattern", "minLength"},
        "number": {"maximum", "exclusiveMaximum"},
        "integer": {"maximum"},
        "boolean": {"type"},  # which is bound enough
    }
    kinds = part.get("type")
    if kinds is None:
        assert part["enum"]
    else:
        for kind in [kinds] if isinstance(kinds, str) else [k for k in kinds if k != "null"]:
            assert bounds[kind] & part.keys(), f"{key} has no bound"
            if kind in ("number", "integer"):
                assert {"minimum", "exclusiveMinimum"} & part.keys(), f"{key} has no lower bound"


def test_schema_is_one_and_its_defaults_satisfy_it():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    filled = complete({})
    jsonschema.validate(filled, SCHEMA)
    assert complete(filled) == filled


def test_the_shipped_config_states_defaults_only():
    shipped = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    assert complete(shipped) == complete({})


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("meshing", MeshSettings()),
        ("guidance", GuidanceSettings()),
        ("microstructure", FibreAngles()),
        ("mechanics", Mechanics()),
        ("simulation", SimulationSettings()),
    ],
)
def test_defaults_are_those_of_the_code(section, settings):
    assert complete({})[section] == asdict(settings)


def nested(key, value):
    """{"a": {"b": value}} for the key "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def value_of(config, key):
    for part in key.split("."):
        config = config[part]
    return config


def takes(part, kind):
    if "enum" in part:
        return kind == "integer" and all(type(value) is int for value in part["enum"])
    return kind in part.get("type", ())


INTEGERS = [(key, part["default"]) for key, part in keys(SCHEMA) if takes(part, "integer")]
INTEGERS += [(key, [7]) for key, part in keys(SCHEMA) if takes(part.get("items", {}), "integer")]
NUMBERS = [key for key, part in keys(SCHEMA) if takes(part, "number")]


@pytest.mark.parametrize(("key", "value"), INTEGERS)
def test_a_whole_number_is_an_integer_however_it_is_written(key, value):
    for spelling in (float, str, "{:e}".format, "{}.0".format):
        spelt = [spelling(n) for n in value] if isinstance(value, list) else spelling(value)
        found = value_of(complete(nested(key, spelt)), key)
        assert found == value
        assert {type(n) for n in (found if isinstance(found, list) else [found])} == {int}
    for broken, message in (
        (4.5, "4.5 is not"),
        (float("nan"), "nan is not"),
        (float("-inf"), "-inf is not"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            complete(nested(key, [broken] if isinstance(value, list) else broken))
        assert len(str(caught.value).splitlines()) == 2  # a heading, and one line per mistake


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "NaN", "-Infinity"])
def test_numbers_are_finite(key, value):
    with pytest.raises(InputError, match=f"'{key}': .* is not a finite number"):
        complete(nested(key, value))


def as_read(tmp_path, text):
    """A config file's values as YAML reads them, and as they were typed."""
    (tmp_path / "own.yaml").write_text(text)
    return yaml.safe_load(text), typed_text([tmp_path / "own.yaml"], [])


@pytest.mark.parametrize("name", ["2024_01", "010", "0x1F", "12", "1e3", "yes", "No", "on", "0b11", "1_0"])
def test_a_name_is_what_was_typed(tmp_path, name):
    for text in (f"cohort: {name}\nprior:\n  name: {name}\n", f"{{cohort: {name}, prior: {{name: {name}}}}}"):
        found = complete(*as_read(tmp_path, text))
        assert found["cohort"] == found["prior"]["name"] == name
    assert complete({"cohort": 7}, typed_text([], ["batch_size=2", f"cohort={name}"]))["cohort"] == name


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({"outside_x": {}}, "key 'domains': 'outside_x' cannot be used .*does not begin with `outside_`"),
        ({"a": {"forms": "slab"}}, r"'domains\.a\.forms' is unknown; did you mean form"),
        ({"a": {"form": "cone"}}, r"'domains\.a\.form': 'cone' is not one of"),
        ({"a": {"axis": [0, 1]}}, r"'domains\.a\.axis': \[0, 1\] is too short"),
        ({"a": {"low": float("nan")}}, r"'domains\.a\.low': nan is not a finite number"),
        ({"a": {"radius": 0}}, r"'domains\.a\.radius': 0 is less than or equal"),
    ],
)
def test_domains_are_checked_key_by_key(domain, message):
    with pytest.raises(InputError, match=message):
        complete({"domains": domain})


def test_a_date_is_no_name_and_the_message_shows_it_as_typed(tmp_path):
    with pytest.raises(InputError, match=r"'cohort': '2024-01-02' cannot be used .*underscores"):
        complete(*as_read(tmp_path, "cohort: 2024-01-02"))


def test_a_number_without_its_text_is_to_be_quoted():
    with pytest.raises(InputError, match="'cohort': 202401 is not of type string; put it in quotes"):
        complete({"cohort": 202401})


@pytest.mark.parametrize("number", ["010", "1:30", "0x10", "0b11", "0_1"])
def test_a_number_that_yaml_reads_as_another_one_is_refused(tmp_path, number):
    for key in ("batch_size", "truncation", "guidance.steps"):
        section, _, name = key.rpartition(".")
        text = f"{section}: {{{name}: {number}}}" if section else f"{name}: {number}"
        with pytest.raises(InputError, match=f"'{key}': '{number}' .*plain decimal number"):
            complete(*as_read(tmp_path, text))


@given(st.integers(1, 10000))
def test_plain_numbers_are_read_as_they_are(batch_size):
    for spelling in (
        f"{batch_size}",
        f"+{batch_size}",
        f"{batch_size:_}",
        f"{batch_size}.0",
        f"{batch_size}e0",
    ):
        text = typed_text([], [f"batch_size={spelling}"])
        assert complete(yaml.safe_load(f"batch_size: {spelling}"), text)["batch_size"] == batch_size


def test_later_sources_of_text_count(tmp_path):
    (tmp_path / "a.yaml").write_text("cohort: 01\nprior: {name: 02, seed: 3}\n")
    (tmp_path / "b.yaml").write_text("prior: {name: 04}\n")
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    assert typed_text(files, []) == {"cohort": "01", "prior": {"name": "04", "seed": "3"}}
    assert typed_text(files, ["cohort=05", "x=[", "prior={seed: 6}"]) == {
        "cohort": "05",
        "prior": {"name": "04", "seed": "6"},
    }


def test_numbers_that_came_as_text_are_numbers_again():
    """What Snakemake makes of --config 'guidance={steps: 20, ...}' and the like."""
    text = {
        "guidance": {"steps": "20", "sigma_min": "1e-2", "method": "dps", "dps": {"weight": "2.5"}},
        "prior": {
            "templates": {"a.nii.gz": "0.5"},
            "denoiser": {"cycles": ["10", "5"]},
            "warm_start": "null",
        },
    }
    found = complete(text)
    assert (found["guidance"]["steps"], found["guidance"]["sigma_min"]) == (20, 0.01)
    assert (found["guidance"]["method"], found["guidance"]["dps"]["weight"]) == ("dps", 2.5)
    assert found["prior"]["templates"] == {"a.nii.gz": 0.5}
    assert found["prior"]["denoiser"]["cycles"] == [10, 5]
    assert found["prior"]["warm_start"] is None
    assert complete({"cohort": "12"})["cohort"] == "12"
    with pytest.raises(InputError, match="'twenty' is not of type integer"):
        complete({"guidance": {"steps": "twenty"}})


@given(st.integers(1, 10000), st.floats(1.0, 15.0))
def test_given_values_stay_and_the_rest_is_default(batch_size, wall):
    filled = complete({"batch_size": batch_size, "meshing": {"rv_wall_mm": wall}})
    default = complete({})
    assert filled["batch_size"] == batch_size
    assert filled["meshing"] == default["meshing"] | {"rv_wall_mm": wall}
    assert {k: v for k, v in filled.items() if k not in ("batch_size", "meshing")} == {
        k: v for k, v in default.items() if k not in ("batch_size", "meshing")
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"batchsize": 3}, ["'batchsize'", "batch_size"]),
        ({"meshing": {"edge_lenght_mm": 2}}, ["'meshing.edge_lenght_mm'", "edge_length_mm"]),
        ({"qqqq": 1}, ["'qqqq'", "allowed here", "cohort_table", "formats"]),
        ({"batch_size": 0}, ["'batch_size'", "0", "minimum of 1", "Subjects in a job"]),
        ({"batch_size": "many"}, ["'batch_size'", "'many'", "integer"]),
        ({"batch_size": True}, ["'batch_size'", "integer"]),
        ({"truncation": 1}, ["'truncation'", "1"]),
        ({"device": "gpu"}, ["'device'", "'gpu'", "auto", "cpu", "cuda"]),
        ({"formats": []}, ["'formats'"]),
        ({"formats": ["vtu", "../x"]}, ["'formats.1'", "'../x'"]),
        ({"formats": ["vtu", "vtu"]}, ["'formats'"]),
        ({"cohort": "../x"}, ["'cohort'", "'../x'", "underscores"]),
        ({"cohort": "a-b"}, ["'cohort'"]),
        ({"meshing": None}, ["'meshing'", "object"]),
        ({"mechanics": {"material": "hookean"}}, ["'mechanics.material'", "guccione", "neo_hooke"]),
        ({"mechanics": {"guccione": {"b_f": 0}}}, ["'mechanics.guccione.b_f'", "0"]),
        ({"mechanics": {"lv_pressure": 1}}, ["'mechanics.lv_pressure'", "lv_pressure_kpa"]),
        ({"label_maps": 3}, ["'label_maps'", "string or null"]),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(config, told):
    with pytest.raises(InputError) as caught:
        complete(config)
    for part in told:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"guidance": {"sigma_min": 3, "sigma_max": 3}}, ["'guidance.sigma_min'", "sigma_max"]),
        ({"guidance": {"sigma_from": 0.01, "sigma_to": 5}}, ["'guidance.sigma_from'", "at no noise level"]),
        (
            {"guidance": {"sigma_min": 1, "sibling": {"sigma": 1}}},
            ["'guidance.sigma_min'", "sibling.sigma, 1"],
        ),
        ({"guidance": {"restart": {"sigma": 0.01}}}, ["'guidance.sigma_min'", "restart.sigma, 0.01"]),
        ({"meshing": {"edge_length_mm": 3.5}}, ["'meshing.edge_length_mm'", "rv_wall_mm", "3.5"]),
        ({"meshing": {"rv_edge_length_mm": 4}}, ["'meshing.rv_edge_length_mm'", "rv_wall_mm", "3.5"]),
        ({"formats": ["vtu", "stl"]}, ["'formats'", "'stl'", "opencarp, vtu"]),
        ({"label_maps": "maps"}, ["'cohort'", "demo"]),
        (
            {"mechanics": {"lv_pressure_kpa": 0, "rv_pressure_kpa": 0}},
            ["lv_pressure_kpa", "rv_pressure_kpa", "above 0"],
        ),
        ({"meshing": {"frame": "scanner"}}, ["'meshing.frame'", "label_maps"]),
    ],
)
def test_keys_that_do_not_go_together(config, told):
    check_together(complete({}), ["opencarp", "vtu"])
    with pytest.raises(InputError) as caught:
        check_together(complete(config), ["opencarp", "vtu"])
    for part in told:
        assert part in str(caught.value)


def test_decks_that_follow_simulations_refuse_a_load_that_no_format_has():
    config = {"decks": {"follow": "simulations"}, "simulation": {"valve_plane": "loaded"}}
    with pytest.raises(InputError, match=r"'decks.follow': decks of 'simulations' cannot have .* loaded"):
        check_together(complete(config), ["opencarp", "vtu"])
    check_together(complete({"simulation": {"valve_plane": "loaded"}}), ["opencarp", "vtu"])


def test_circulations_by_body_surface_refuse_label_maps_which_have_none():
    config = {"simulation": {"cycle": {"reference_bsa_m2": 1.7}}}
    check_body_surface(complete(config))
    with pytest.raises(InputError, match=r"reference_bsa_m2': 1.7 m2 is set, and label maps .*; set 0"):
        check_body_surface(complete(config | {"label_maps": "maps"}))


@pytest.mark.parametrize("target", ["simulate", "paired_comparison", "refinement_study"])
def test_targets_that_need_cavities_refuse_meshes_of_all_labels(target):
    check_biventricular(complete({}), target)
    with pytest.raises(InputError, match=rf"'meshing.domain': target {target} needs cavities"):
        check_biventricular(complete({"meshing": {"domain": "labels"}}), target)


def test_edges_of_meshes_of_all_labels_may_be_longer_than_a_wall_that_they_lack():
    MeshSettings(domain="labels", edge_length_mm=5.0)


def test_an_exporter_is_registered_under_the_name_of_its_module():
    """The config's formats are checked by the names of the modules, without importing them."""
    assert check.exporters() == list(exporters.available())


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InputError) as caught:
        complete({"batch_size": 0, "sed": 1, "guidance": {"step": 3, "sigma_min": -1}})
    for key in ("'batch_size'", "'sed'", "'guidance.step'", "'guidance.sigma_min'"):
        assert key in str(caught.value)


def test_paths_are_found_in_the_working_directory_first(tmp_path):
    workdir, root = tmp_path / "work", tmp_path / "root"
    for folder in (workdir, root):
        folder.mkdir()
    (root / "a.tsv").touch()
    assert locate("a.tsv", "cohort_table", workdir, root) == root / "a.tsv"
    (workdir / "a.tsv").touch()
    assert locate("a.tsv", "cohort_table", workdir, root) == Path("a.tsv")
    assert locate("a.tsv", "cohort_table", root, root) == Path("a.tsv")
    with pytest.raises(InputError) as caught:
        locate("b.tsv", "cohort_table", workdir, root)
    for part in ("'cohort_table'", str(workdir / "b.tsv"), str(root / "b.tsv")):
        assert part in str(caught.value)


@pytest.mark.parametrize(("config", "key"), [({"meshing": None}, "meshing"), ({"seed": None}, "seed")])
def test_an_empty_section_or_key_is_named(config, key):
    with pytest.raises(InputError, match=rf"'{key}': it is empty \(null\), not of type "):
        complete(config)
