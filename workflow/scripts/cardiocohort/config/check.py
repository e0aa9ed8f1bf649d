"""The config: checked against its keys, defaults filled in, paths found. Owned by no stage.

Light on purpose: the Snakefile imports it, and every cluster job parses the Snakefile again.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict
from difflib import get_close_matches
from math import isfinite
from pathlib import Path

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from ..anatomy.folder import OF_HEARTS
from ..anatomy.labels import Anatomy, Grid
from ..mechanics.decks import DeckSettings
from ..mechanics.settings import Mechanics
from ..meshing.chambers import CHAMBERS
from ..meshing.settings import LABEL_FORMATS, MeshSettings
from ..runtime.errors import InputError
from ..runtime.keys import KINDS, schema_of
from ..simulation.settings import SimulationSettings
from .sections import Config
from .typed_text import as_typed

SCHEMA = schema_of(Config, " ".join(Config.__doc__.split()))
FEWEST_HEARTS = 3  # of an atlas: two give one mode, and nothing to leave out
LARGEST = 2.0**53  # beyond it, a float is not a certain whole number
# JSON has no infinite numbers, and 4.0 is no Python int
VALIDATOR = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            ),
        }
    ),
)
# keys and values of earlier versions
RENAMED = {
    "guidance.fraction": "guidance.step_fraction",
    "guidance.sibling.fraction": "guidance.sibling.step_fraction",
    "guidance.trust": "guidance.trust_radius",
    "guidance.every": "guidance.guide_every",
    "evaluation.samples.fast": "evaluation.samples.polyak",
    "prior.anatomy": "anatomy, a folder such as resources/anatomies/heart (docs/howto.md)",
    "atlas.anatomy": "anatomy, a folder such as resources/anatomies/heart (docs/howto.md)",
    "segmentations.anatomy": "anatomy, a folder such as resources/anatomies/heart (docs/howto.md)",
    "segmentations.positions": "convention, a folder with positions.tsv (docs/own-data.md)",
    "bench": "a file bench.yaml (benchmarks/bench.yaml)",
}
RENAMED_VALUES = {("guidance.method", "fast"): "polyak"}


def complete(config: dict, text: dict | None = None) -> dict:
    """`config` with the defaults filled in, as plain dicts in the order of the keys.

    Text that stands where a key takes no text is read as JSON: Snakemake's `--config 'section={key: 1}'`
    gives numbers as text. Whole numbers are integers however they are written (4, 4.0, 4e0). `text` is the
    config as it was typed (`typed_text`): it counts where a key takes text and YAML has read something else.
    Raises InputError listing every key that is unknown (with the nearest allowed ones), renamed, of the wrong
    type, not finite or out of bounds.
    """
    config = _typed(config, SCHEMA, text or {})
    problems = list(_problems(config, SCHEMA))
    if problems:
        raise InputError("the config cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))
    return _filled(config, SCHEMA)


def exporters() -> list[str]:
    """Names of the solver formats, which are those of their modules; these are not imported."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "exporters").glob("[!_]*.py"))


def check_together(settings: dict, formats: list[str]) -> None:
    """Check keys that depend on each other, and `formats` against those known, before any work.

    Raises InputError naming the keys.
    """
    check_noise(settings["guidance"])
    meshing = MeshSettings.of(settings["meshing"])
    if meshing.frame == "scanner" and not settings["label_maps"]:
        raise InputError(
            "config key 'meshing.frame': 'scanner' needs hearts that were scanned (`label_maps`); generated "
            "hearts have the frame 'heart' only"
        )
    Mechanics.of(settings["mechanics"])
    SimulationSettings.of(settings["simulation"])
    _check_formats(settings["formats"], meshing.domain, formats)
    _check_decks(DeckSettings.of(settings["decks"]), meshing.domain, settings["simulation"]["valve_plane"])
    if settings["label_maps"] and settings["cohort"] == "demo":
        raise InputError(
            "config key 'cohort': 'demo' is the name of the generated cohort; give the cohort of "
            "`label_maps` another one, such as my_hearts"
        )
    _check_prior(settings["prior"])


def check_noise(guidance: dict) -> None:
    """InputError where noise levels of the section `guidance`, with its defaults, are in no order."""
    starts = {"sigma_max": guidance["sigma_max"]}
    starts |= {f"{part}.sigma": guidance[part]["sigma"] for part in ("sibling", "restart")}
    for name, sigma in starts.items():
        if guidance["sigma_min"] >= sigma:
            raise InputError(
                f"config key 'guidance.sigma_min': {guidance['sigma_min']} must be less than {name}, {sigma}"
            )
    if guidance["sigma_from"] < guidance["sigma_to"]:
        raise InputError(
            f"config key 'guidance.sigma_from': {guidance['sigma_from']} is less than sigma_to, "
            f"{guidance['sigma_to']}, so that guidance would act at no noise level; noise falls from "
            "sigma_from to sigma_to"
        )


def _check_formats(chosen: list[str], domain: str, biventricular: list[str]) -> None:
    allowed = biventricular if domain == "biventricular" else LABEL_FORMATS
    for name in chosen:
        if name in allowed:
            continue
        lacks = f" needs cavities and fibres everywhere, which meshing.domain: {domain} lacks"
        raise InputError(
            f"config key 'formats': {name!r}{lacks if name in biventricular else ' is not known'}; allowed: "
            f"{', '.join(allowed)}"
        )


def _check_decks(decks: DeckSettings, domain: str, valve_plane: str) -> None:
    if decks.follow == "simulations" and valve_plane == "loaded":
        raise InputError(
            "config key 'decks.follow': decks of 'simulations' cannot have the load of "
            "simulation.valve_plane: loaded, which no format has; set decks.follow: meshes, "
            "or simulation.valve_plane: free"
        )
    if decks.follow == "simulations" and domain != "biventricular":
        raise InputError(
            f"config key 'decks.follow': 'simulations' needs meshing.domain: biventricular, not {domain!r}, "
            "whose meshes are not simulated; set decks.follow: meshes"
        )


def check_biventricular(settings: dict, target: str) -> None:
    """InputError if `target` needs the ventricles' mesh and another domain is set."""
    domain = settings["meshing"]["domain"]
    if domain != "biventricular":
        raise InputError(
            f"config key 'meshing.domain': target {target} needs cavities and fibres of both ventricles, "
            f"which {domain!r} does not have; set biventricular"
        )


def check_body_surface(settings: dict) -> None:
    """InputError if circulations are to be scaled by the surface of bodies that are not known."""
    area = settings["simulation"]["cycle"]["reference_bsa_m2"]
    if area and settings["label_maps"]:
        raise InputError(
            f"config key 'simulation.cycle.reference_bsa_m2': {area:g} m2 is set, and label maps of your own "
            "('label_maps') have no body surface to compare with it; set 0, so that all subjects have the "
            "same circulation"
        )


def check_hearts_only(settings: dict, structures: Collection[str]) -> None:
    """InputError where an anatomy with these structures is no heart and gets what is made for hearts only."""
    domain = settings["meshing"]["domain"]
    if domain == "four_chamber" and (missing := sorted(CHAMBERS - set(structures))):
        raise InputError(
            f"config key 'meshing.domain': 'four_chamber' needs {', '.join(missing)}, which the anatomy "
            f"{settings['anatomy']!r} lacks. Set meshing: {{domain: labels}}"
        )
    lacking = [name for name in OF_HEARTS if name not in structures]
    if lacking and domain == "biventricular":
        raise InputError(
            "config key 'meshing.domain': 'biventricular' is of hearts only, as fibres and segments are; the "
            f"anatomy {settings['anatomy']!r} has no {lacking[0]}. Set meshing: {{domain: labels}}"
        )


def of_default_table(settings: dict) -> str:
    """What to add to an error of the cohort table where it is that of another anatomy, which nobody chose."""
    own = [SCHEMA["properties"][key]["default"] != settings[key] for key in ("cohort_table", "anatomy")]
    if own != [False, True]:
        return ""
    return (
        f". {settings['cohort_table']} is the default of the config key 'cohort_table', and of hearts; name "
        "a table of this anatomy"
    )


def _check_prior(prior: dict) -> None:
    if not prior["warm_start"] and not (prior["autoencoder"]["cycles"] and prior["denoiser"]["cycles"]):
        raise InputError(
            "config key 'prior': 'cycles' is empty for the autoencoder or the denoiser, which keeps the "
            "network of 'warm_start'; name a bundle there, or at least one cycle"
        )


def with_edges(meshing: dict, edge_length_mm: float) -> dict:
    """The section `meshing` with another `edge_length_mm`; edge lengths of regions change in proportion."""
    return asdict(MeshSettings.of(meshing).with_edges(edge_length_mm))


def check_refinement(settings: dict) -> None:
    """What target `refinement_study` needs: InputError for an edge length that the RV's wall cannot hold."""
    for mm in settings["refinement"]["edge_lengths_mm"]:
        try:
            with_edges(settings["meshing"], mm)
        except InputError as error:
            raise InputError(f"config key 'refinement.edge_lengths_mm': with {mm:g}, {error}") from None


def locate(path: str, key: str, workdir: str | Path, root: str | Path, kind: str | None = None) -> Path:
    """Where the file or folder that config key `key` names is: in `workdir`, else in `root`.

    Returns a path relative to `workdir` as given if it is there, else an absolute one. Raises InputError
    naming both places, for a file where a folder is wanted (`kind` "folder") or the other way round
    ("file"), or for characters that Snakemake does not take for themselves.
    """
    places = [(Path(workdir) / path, Path(path)), (Path(root) / path, Path(root) / path)]
    found = next((given for place, given in places if place.exists()), None)
    if found is None:
        looked_for = " and ".join(dict.fromkeys(str(place) for place, _ in places))
        raise InputError(f"config key {key!r}: {path!r} does not exist; looked for {looked_for}")
    if kind and (Path(workdir) / found).is_dir() != (kind == "folder"):
        what = "file" if kind == "folder" else "folder"
        raise InputError(f"config key {key!r}: {str(found)!r} is a {what}; it must name a {kind}")
    if odd := [c for c in str(found) if c in "{}<>" or not c.isprintable()]:
        raise InputError(
            f"config key {key!r}: {str(found)!r} has {odd[0]!r}, which means something else in a workflow's "
            "paths; rename the file or folder, without { } < > and control characters"
        )
    return found


def _typed(value, schema: dict, text=None):
    """`value` with text and whole numbers read as what `schema` asks for; as it is where that cannot be."""
    if isinstance(value, dict):
        parts, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        texts = text if isinstance(text, dict) else {}
        return {key: _typed(part, parts.get(key, others), texts.get(key)) for key, part in value.items()}
    if isinstance(value, list):
        texts = text if isinstance(text, list) and len(text) == len(value) else [None] * len(value)
        return [_typed(part, schema.get("items", {}), one) for part, one in zip(value, texts, strict=True)]
    kinds = _kinds(schema)
    value = as_typed(value, text, kinds)
    if value == "null" and "null" in kinds:
        return None
    if isinstance(value, str) and "string" not in kinds:
        value = _read(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < LARGEST
    return int(value) if whole and "integer" in kinds else value


def _kinds(schema: dict) -> list[str]:
    """The types that a key takes, of JSON Schema."""
    kinds = schema.get("type") or {KINDS.get(type(value), "null") for value in schema.get("enum", [""])}
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _read(text: str):
    """A number, truth value, list or mapping in JSON; other text as it is."""
    try:
        read = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(read, str) else read


def _problems(config: dict, schema: dict) -> Iterator[str]:
    errors = sorted(VALIDATOR(schema).iter_errors(config), key=lambda e: [str(p) for p in e.path])
    mistyped = [error.path for error in errors if error.validator == "type"]
    for error in errors:
        if error.path in mistyped and error.validator != "type":
            continue  # bounds say nothing about a value of another type
        if error.validator == "additionalProperties":
            for key in error.instance.keys() - error.schema["properties"].keys():
                yield _unknown_key(key, error)
        elif new := RENAMED_VALUES.get((_dotted(error.path), str(error.instance))):
            yield f"key {_dotted(error.path)!r}: {error.instance!r} is now called {new!r}"
        else:
            yield f"key {_dotted(error.path)!r}: {_bound(error)} ({error.schema['description']})"


def _unknown_key(key: str, error: ValidationError) -> str:
    if new := RENAMED.get(_dotted([*error.path, key])):
        return f"key {_dotted([*error.path, key])!r} is now {new}"
    known = list(error.schema["properties"])
    nearest = get_close_matches(str(key), known, n=3, cutoff=0.5)
    allowed = f"did you mean {' or '.join(nearest)}?" if nearest else f"allowed here: {', '.join(known)}"
    return f"key {_dotted([*error.path, key])!r} is unknown; {allowed}"


def _bound(error: ValidationError) -> str:
    # jsonschema's own sentences name value and bound, but not what an alternative type would be
    if error.validator == "type":
        value, kinds = error.instance, _kinds({"type": error.validator_value})
        if value is None:
            return f"it is empty (null), not of type {' or '.join(kinds)}; leave it out for its default"
        if isinstance(value, float) and {"integer", "number"} & set(kinds):
            return f"{value} is not a {'finite' if not isfinite(value) else 'whole'} number"
        if isinstance(value, str) and re.match("[-+]?[0-9]", value):
            return f"{value!r} is not of type {' or '.join(kinds)}; write a plain decimal number"
        quotes = "" if isinstance(value, str | dict | list) or "string" not in kinds else "; put it in quotes"
        return f"{value!r} is not of type {' or '.join(kinds)}{quotes}"
    if error.validator == "pattern":  # the description says what is allowed in words
        return f"{error.instance!r} cannot be used"
    return error.message


def _dotted(path) -> str:
    return ".".join(str(part) for part in path)


def _filled(value, schema: dict):
    if "properties" not in schema:
        return value
    return {
        key: _filled(value[key] if key in value else part["default"], part)
        for key, part in schema["properties"].items()
    }


def check_atlas(atlas: dict, hearts: dict[str, str], anatomy: Anatomy, grid: Grid) -> None:
    """Check the section `atlas` against the hearts of its folder (path by name) and the anatomy, before any
    work.

    Raises InputError naming the key.
    """
    if not atlas["label_maps"]:
        raise InputError(
            "config key 'atlas.label_maps' is null: name a folder with one label map per heart "
            "(docs/atlas.md)"
        )
    for field in ("leave_out", "cut_vessels"):
        for name in atlas[field]:
            if name not in hearts:
                near = get_close_matches(name, hearts, 1)
                hint = (
                    f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(list(hearts)[:8])}"
                )
                raise InputError(f"config key 'atlas.{field}': no label map is called {name!r}{hint}")
    used = len(hearts) - len(set(atlas["leave_out"]))
    if used < FEWEST_HEARTS:
        raise InputError(
            f"config key 'atlas.label_maps': {used} hearts are left of {len(hearts)}; an atlas needs "
            f"{FEWEST_HEARTS} or more"
        )
    cell = atlas["cell_voxels"]
    if any(n % 2 or n % cell for n in grid.shape):
        raise InputError(
            f"config key 'atlas.cell_voxels': the grid of 'anatomy' has "
            f"{' x '.join(map(str, grid.shape))} voxels, which cells of 2 (registration) and of {cell} "
            "voxels (modes) must divide"
        )
    for name in atlas["weights"]:
        try:
            anatomy.label(name)
        except InputError as error:
            raise InputError(f"config key 'atlas.weights': {error}") from None
