"""Config files and `key=value` arguments as they were typed. Owned by no stage; light.

YAML 1.1 reads `2024_01` as a number, `no` as a truth value, `2024-01-01` as a date, `010` as 8, `1:30` as 90.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from ..runtime.errors import InputError
from ..runtime.text_files import read_text

MAX_BYTES = 2**20
PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*|(0|[1-9][0-9_]*)?\.[0-9_]*)([eE][-+]?[0-9]+)?")


def typed_text(files: Iterable[str | Path], arguments: Iterable[str]) -> dict:
    """The config of config files and of arguments `key=value`, with all values as text; later ones win.

    Raises InputError as `read_config` does. Arguments that are no YAML are left out.
    """
    merged: dict = {}
    for file in files:
        merged = _merged(merged, read_config(file))
    for argument in arguments:
        name, _, value = argument.partition("=")
        try:
            merged = _merged(merged, {name: yaml.load(value, yaml.BaseLoader)})
        except yaml.YAMLError:
            continue
    return merged


def read_config(path: str | Path) -> dict:
    """A config file (YAML, or JSON) with all values as text.

    Raises InputError with file and line for a file that cannot be read, and for a key that stands twice.
    """
    text = read_text(path, "config file", MAX_BYTES)
    try:
        found = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        found = _read_yaml(path, text)
    if not isinstance(found, dict):
        raise InputError(f"{path}: a config file holds keys and their values, such as `cohort: mine`")
    return found


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


def _read_yaml(path, text: str):
    try:
        node = yaml.compose(text, yaml.BaseLoader)
        if node is not None and "__use_yte__" not in text:  # whose conditions are keys that may be alike
            _refuse_twice(path, node, set())
        return yaml.constructor.BaseConstructor().construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tabs = "; indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
        raise InputError(f"{path}, line {mark.line + 1}: not YAML: {error.problem}{tabs}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{path}, line {line}: not YAML: {error.reason}") from None
    except RecursionError:
        raise InputError(f"{path}: not a config: its values are nested too deeply") from None


def _refuse_twice(path, node: yaml.Node, seen: set[int]) -> None:
    """InputError for a key that stands twice in a mapping: YAML would take the last one without a word."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    lines: dict[str, int] = {}
    for item in node.value:
        if isinstance(node, yaml.MappingNode):
            key, item = item
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                raise InputError(
                    f"{path}, line {line}: key {key.value!r} stands in line {lines[key.value]} too; keep one"
                )
        _refuse_twice(path, item, seen)


def _merged(old, new):
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}
