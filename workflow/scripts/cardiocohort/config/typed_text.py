"""What users typed, where YAML or Snakemake reads it as something else. Owned by no stage; light.

YAML 1.1 reads `2024_01` as a number, `no` as a truth value, `2024-01-01` as a date, `010` as 8, `1:30` as 90.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*|(0|[1-9][0-9_]*)?\.[0-9_]*)([eE][-+]?[0-9]+)?")


def typed_text(files: Iterable[str | Path], arguments: Iterable[str]) -> dict:
    """The config of config files and of arguments `key=value`, later ones first, with all values as text.

    Files and arguments that are no YAML are left out: whoever reads their values says so.
    """
    merged: dict = {}
    texts = [Path(file).read_text(encoding="utf-8") for file in files]
    for argument in arguments:
        name, _, value = argument.partition("=")
        texts.append(f"{name}: {value}")
    for text in texts:
        try:
            merged = _merged(merged, yaml.load(text, yaml.BaseLoader))
        except yaml.YAMLError:
            continue
    return merged


def as_typed(value, text, kinds: list[str]):
    """`value` of a key that takes `kinds` (of JSON Schema), or `text`, as it was typed, where that is meant.

    Text is meant by a key that takes text, and where the same digits mean another number elsewhere.
    """
    if isinstance(value, str) or value is None or not isinstance(text, str):
        return value
    if "string" in kinds:
        return text
    numeric = isinstance(value, int | float) and {"integer", "number"} & set(kinds)
    misread = numeric and re.match(r"[-+]?[0-9.]", text) and not PLAIN_NUMBER.fullmatch(text)
    return text if misread else value


def _merged(old, new):
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}
