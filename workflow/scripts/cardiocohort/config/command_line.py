"""Snakemake's command line, checked before Snakemake reads it. Owned by no stage; for `workflow/run.py`.

Some options of Snakemake take all words that follow. A target among these words is meant as a target.
"""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

from ..runtime.errors import InputError
from .typed_text import read_config

FILES = ("--configfile", "--configfiles")
CONFIG = ("--config", "-C")
OTHER_PAIRS = ("--set-threads", "--set-resources", "--resources", "--res", "--default-resources")
CHOICES = {
    "--quiet": {"all", "host", "progress", "reason", "rules"},
    "--rerun-triggers": {"code", "input", "mtime", "params", "software-env"},
}
CHOICES["-q"] = CHOICES["--quiet"]
# options that take several words -> whether a word can be one of them
TAKEN: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(FILES, lambda word: Path(word).is_file()),
    **dict.fromkeys((*CONFIG, *OTHER_PAIRS), lambda word: "=" in word),
    **{option: words.__contains__ for option, words in CHOICES.items()},
}


def targets_of(snakefile: str | Path) -> list[str]:
    """The targets that the head of the Snakefile lists, one per line with its description."""
    head = Path(snakefile).read_text(encoding="utf-8")
    return re.findall(r"^#   ([a-z_]+) +\S", head, flags=re.MULTILINE)


def in_order(arguments: Iterable[str], targets: Iterable[str]) -> list[str]:
    """The arguments with those targets first that an option would take as its own words.

    Targets are the names `targets` and files in results/.
    """
    first, rest, option = [], [], None
    for word in arguments:
        if word.startswith("-"):
            option = word
        elif option in TAKEN and not TAKEN[option](word) and (word in targets or word.startswith("results/")):
            first.append(word)
            continue
        rest.append(word)
    return first + rest


def check(arguments: Iterable[str], targets: Iterable[str]) -> None:
    """InputError for a config file that cannot be read, and for a config entry that is not `key=value`."""
    option = None
    for word in arguments:
        if word.startswith("-"):
            option, _, word = word.partition("=")
            if not word:
                continue
            value, option = option, None
        else:
            value = option
        if value in FILES:
            _check_file(word, targets)
        elif value in CONFIG and not re.match(r"[A-Za-z_][\w-]*\w=", word):
            raise InputError(f"{value}: {word!r} is not key=value{_or_target(word, targets)}")


def _check_file(path: str, targets: Iterable[str]) -> None:
    if not Path(path).exists():
        raise InputError(
            f"--configfile: there is no file {path!r} in {Path.cwd()}{_or_target(path, targets)}"
        )
    read_config(path)


def _or_target(word: str, targets: Iterable[str]) -> str:
    near = get_close_matches(word, targets, n=1)
    return f"; did you mean the target {near[0]}?" if near else ""
