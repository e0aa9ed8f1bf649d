"""The config: checked against its JSON Schema, defaults filled in, paths found. Owned by no stage.

Light on purpose: the Snakefile imports it, and every cluster job parses the Snakefile again.
"""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .errors import InputError


def read_schema(path: str | Path) -> dict:
    """The JSON Schema (draft 2020-12, written as YAML) at `path`."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def complete(config: dict, schema: dict) -> dict:
    """`config` with the schema's defaults filled in, as plain dicts in the schema's order.

    Text that stands where the schema has no text is read as JSON: Snakemake's `--config 'section={key: 1}'`
    gives numbers as text. Raises InputError listing every key that is unknown (with the nearest allowed
    ones), of the wrong type or out of bounds.
    """
    config = _typed(config, schema)
    problems = list(_problems(config, schema))
    if problems:
        raise InputError("the config cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))
    return _filled(config, schema)


def check_together(settings: dict, formats: list[str]) -> None:
    """What one key alone cannot tell, before any work: keys that depend on each other, known `formats`.

    Raises InputError naming the keys.
    """
    guidance, meshing = settings["guidance"], settings["meshing"]
    if guidance["sigma_min"] >= guidance["sigma_max"]:
        raise InputError(
            f"config key 'guidance.sigma_min': {guidance['sigma_min']} must be less than sigma_max, "
            f"{guidance['sigma_max']}"
        )
    finest = "edge_length_mm" if meshing["rv_edge_length_mm"] is None else "rv_edge_length_mm"
    thinnest = thinnest_rv_wall(meshing)
    if meshing[finest] >= meshing[thinnest]:
        raise InputError(
            f"config key 'meshing.{finest}': {meshing[finest]} must be less than {thinnest}, "
            f"{meshing[thinnest]}, so that the wall holds its tetrahedra"
        )
    unknown = [name for name in settings["formats"] if name not in formats]
    if unknown:
        raise InputError(f"config key 'formats': {unknown[0]!r} is not known; allowed: {', '.join(formats)}")
    if settings["label_maps"] and settings["cohort"] == "demo":
        raise InputError(
            "config key 'cohort': 'demo' is the name of the generated cohort; give the cohort of "
            "`label_maps` another one, such as my_hearts"
        )


def thinnest_rv_wall(meshing: dict) -> str:
    """The key of the section `meshing` that has the thinnest right ventricular wall."""
    keys = ("rv_wall_mm", "rv_wall_basal_mm", "rv_wall_apical_mm")
    return min((key for key in keys if meshing[key] is not None), key=meshing.get)


def with_edges(meshing: dict, edge_length_mm: float) -> dict:
    """The section `meshing` with another `edge_length_mm`; lengths that regions have of their own follow."""
    factor = edge_length_mm / meshing["edge_length_mm"]
    regional = {
        key: factor * meshing[key]
        for key in ("septum_edge_length_mm", "rv_edge_length_mm")
        if meshing[key] is not None
    }
    return meshing | regional | {"edge_length_mm": edge_length_mm}


def check_refinement(settings: dict) -> None:
    """What target `refinement_study` needs: InputError for an edge length that the RV's wall cannot hold."""
    meshing = settings["meshing"]
    thinnest = thinnest_rv_wall(meshing)
    for mm in settings["refinement"]["edge_lengths_mm"]:
        refined = with_edges(meshing, mm)
        finest = refined["rv_edge_length_mm"] or refined["edge_length_mm"]
        if finest >= meshing[thinnest]:
            raise InputError(
                f"config key 'refinement.edge_lengths_mm': with {mm:g} the edges in the right ventricle are "
                f"{finest:g} mm; they must be less than meshing.{thinnest}, {meshing[thinnest]}"
            )


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


def _typed(value, schema: dict):
    """`value` with text read as what `schema` asks for there; as it is where that is not possible."""
    if isinstance(value, dict):
        parts, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        return {key: _typed(part, parts.get(key, others)) for key, part in value.items()}
    if isinstance(value, list):
        return [_typed(part, schema.get("items", {})) for part in value]
    kinds = schema.get("type", "string")
    if value == "null" and "null" in kinds:
        return None
    if not isinstance(value, str) or "string" in kinds:
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return value if isinstance(read, str) else read


def _problems(config: dict, schema: dict) -> Iterator[str]:
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda e: [str(p) for p in e.path])
    for error in errors:
        if error.validator == "additionalProperties":
            for key in error.instance.keys() - error.schema["properties"].keys():
                yield _unknown_key(key, error)
        else:
            yield f"key {_dotted(error.path)!r}: {_bound(error)} ({error.schema['description']})"


def _unknown_key(key: str, error: ValidationError) -> str:
    known = list(error.schema["properties"])
    nearest = get_close_matches(str(key), known, n=3, cutoff=0.5)
    allowed = f"did you mean {' or '.join(nearest)}?" if nearest else f"allowed here: {', '.join(known)}"
    return f"key {_dotted([*error.path, key])!r} is unknown; {allowed}"


def _bound(error: ValidationError) -> str:
    # jsonschema's own sentences name value and bound, but not what an alternative type would be
    if error.validator == "type":
        kinds = error.validator_value
        return (
            f"{error.instance!r} is not of type {' or '.join([kinds] if isinstance(kinds, str) else kinds)}"
        )
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
