"""The config: checked against its JSON Schema, defaults filled in, paths found. Owned by no stage.

Light on purpose: the Snakefile imports it, and every cluster job parses the Snakefile again.
"""

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

    Raises InputError listing every key that is unknown (with the nearest allowed ones), of the wrong
    type or out of bounds.
    """
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
    if meshing["edge_length_mm"] >= meshing["rv_wall_mm"]:
        raise InputError(
            f"config key 'meshing.edge_length_mm': {meshing['edge_length_mm']} must be less than rv_wall_mm, "
            f"{meshing['rv_wall_mm']}, so that the wall holds its tetrahedra"
        )
    unknown = [name for name in settings["formats"] if name not in formats]
    if unknown:
        raise InputError(f"config key 'formats': {unknown[0]!r} is not known; allowed: {', '.join(formats)}")
    if settings["label_maps"] and settings["cohort"] == "demo":
        raise InputError(
            "config key 'cohort': 'demo' is the name of the generated cohort; give the cohort of "
            "`label_maps` another one, such as my_hearts"
        )


def locate(path: str, key: str, workdir: str | Path, root: str | Path) -> Path:
    """Where the file or folder that config key `key` names is: in `workdir`, else in `root`.

    Returns a path relative to `workdir` as given if it is there, else an absolute one. Raises
    InputError naming both places.
    """
    if (Path(workdir) / path).exists():
        return Path(path)
    if (Path(root) / path).exists():
        return Path(root) / path
    places = dict.fromkeys([str(Path(workdir) / path), str(Path(root) / path)])
    raise InputError(f"config key {key!r}: {path!r} does not exist; looked for {' and '.join(places)}")


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
