"""Config keys as fields of frozen dataclasses: each key is written once. Owned by no stage; light.

A stage's settings are a dataclass whose fields are made by `key`, with default, description and bounds. It
gives the JSON Schema that checks a config, the reference page, and the check of settings made in Python.
"""

import types
from dataclasses import MISSING, Field, field, fields, is_dataclass
from typing import Any, get_args

from .errors import InputError

KINDS = {float: "number", int: "integer", str: "string", bool: "boolean", list: "array", dict: "object"}
BOUNDS = {  # of JSON Schema: test, and its words
    "minimum": (lambda value, bound: value >= bound, "at least {}"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "above {}"),
    "maximum": (lambda value, bound: value <= bound, "at most {}"),
    "multipleOf": (lambda value, bound: value % bound == 0, "a multiple of {}"),
    "enum": (lambda value, bound: value in bound, "one of {}"),
}


def key(default: Any, description: str, **schema) -> Any:
    """A field of a settings dataclass.

    `schema` has the key's bounds in the words of JSON Schema (minimum, exclusiveMinimum, maximum, enum,
    pattern, items, ...). The unit is in the key's name (`_mm`, `_kpa`) or its description.
    """
    metadata = {"description": description, "schema": schema}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def section(settings: type, description: str = "") -> Any:
    """A field that holds the settings of a section; its description is the dataclass's unless given."""
    return field(default_factory=settings, metadata={"description": description, "section": settings})


def schema_of(settings: type, description: str) -> dict:
    """The JSON Schema (draft 2020-12) of a settings dataclass: an object without further keys."""
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "default": {},
        "properties": {f.name: _schema_of_field(f) for f in fields(settings)},
    }


def check(settings: Any, where: str) -> None:
    """InputError for the first field of settings made in Python that breaks its key's type or bounds."""
    for f in fields(settings):
        value, about = getattr(settings, f.name), _schema_of_field(f)
        if is_dataclass(value):
            check(value, f"{where}.{f.name}")
        elif not (value is None and "null" in about.get("type", ())):
            _check_value(f"{where}.{f.name}", value, about)


def from_section(settings: type, values: dict, where: str) -> Any:
    """Settings from a config section, whose subsections are dicts; keys may be missing.

    Raises InputError naming a key that does not exist.
    """
    known = {f.name: f for f in fields(settings)}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise InputError(f"{where}.{unknown[0]}: no such setting; allowed: {', '.join(known)}")
    parts = {name: f.metadata.get("section") for name, f in known.items()}
    return settings(
        **{
            name: from_section(parts[name], value, f"{where}.{name}") if parts[name] else value
            for name, value in values.items()
        }
    )


def _schema_of_field(f: Field) -> dict:
    if part := f.metadata.get("section"):
        return schema_of(part, f.metadata["description"])
    schema = f.metadata["schema"]
    kinds = [KINDS[kind] if kind is not types.NoneType else "null" for kind in get_args(f.type) or (f.type,)]
    default = f.default if f.default is not MISSING else f.default_factory()
    about = {} if "enum" in schema else {"type": kinds if len(kinds) > 1 else kinds[0]}
    return {"description": f.metadata["description"], **about, **schema, "default": default}


def _check_value(where: str, value: Any, about: dict) -> None:
    kinds = about.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if {"number", "integer"} & set(kinds) and not (is_number and abs(value) < float("inf")):
        raise InputError(f"{where}: {value!r} is not a number")
    if "integer" in kinds and not isinstance(value, int):
        raise InputError(f"{where}: {value!r} is not a whole number")
    for name, (holds, words) in BOUNDS.items():
        bound = about.get(name)
        if bound is not None and not holds(value, bound):
            said = ", ".join(map(str, bound)) if name == "enum" else f"{bound:g}"
            raise InputError(f"{where}: {value!r} is not {words.format(said)}")
