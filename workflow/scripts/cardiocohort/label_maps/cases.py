"""Which cases a data set has, and where each structure is looked for. Owned by the segmentations stage.

Light on purpose (names only, no file is opened): the Snakefile calls it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import InputError
from .folder import SUBJECT_NAME

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
_SOURCE = re.compile(r"(?P<file>[^:\\]+)(?::(?P<labels>[1-9][0-9]*(?:\+[1-9][0-9]*)*))?")


@dataclass(frozen=True)
class Source:
    """A file of a case and the labels in it that make up a structure; no labels means all that is not 0."""

    file: str  # relative to the case's folder; `{case}` stands for the case's name
    labels: tuple[int, ...] = ()

    def path(self, case: Path) -> Path:
        return case / self.file.replace("{case}", case.name)

    def __str__(self) -> str:
        return self.file + (":" + "+".join(map(str, self.labels)) if self.labels else "")


def parse_source(text: str) -> Source:
    """`<file>` or `<file>:<label>[+<label>...]`; InputError for anything else."""
    match = _SOURCE.fullmatch(text)
    parts = match["file"].split("/") if match else [".."]
    if ".." in parts or "" in parts or not parts[-1].endswith(SUFFIXES):
        raise InputError(
            f"{text!r} is not a source; allowed: a file ({', '.join(SUFFIXES)}) below the case's folder, as "
            "'aorta.nii.gz', or some labels of it, as 'labels.nrrd:7' or 'labels.nrrd:7+8'"
        )
    return Source(match["file"], tuple(int(label) for label in (match["labels"] or "").split("+") if label))


def parse_sources(table: dict[str, list[str]], structures: tuple[str, ...]) -> dict[str, tuple[Source, ...]]:
    """The table of sources (config key `segmentations.sources`), in the order of `structures`.

    Raises InputError for a structure that the anatomy lacks, one without sources, or a bad source.
    """
    key = "config key 'segmentations.sources'"
    unknown = [name for name in table if name not in structures]
    if unknown:
        raise InputError(
            f"{key}: {unknown[0]!r} is no structure of the anatomy; allowed: {', '.join(structures)}"
        )
    lacking = [name for name in structures if not table.get(name)]
    if lacking:
        raise InputError(
            f"{key}: {lacking[0]!r} has no source; name a file for each of {', '.join(structures)}"
        )
    parsed = {}
    for name in structures:
        try:
            parsed[name] = tuple(parse_source(text) for text in table[name])
        except InputError as error:
            raise InputError(f"{key}, {name!r}: {error}") from None
    return parsed


def find_cases(folder: str | Path) -> list[Path]:
    """The folders directly in `folder`, one per case, sorted by name; hidden ones are left alone.

    Raises InputError if there is none, or for names that cannot name a subject.
    """
    folder = Path(folder)
    cases: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if not SUBJECT_NAME.fullmatch(path.name):
            raise InputError(
                f"{path}: its name cannot name a case; allowed: 1 to 100 letters (a-z, A-Z), digits, . _ -, "
                "the first a letter or digit"
            )
        if path.name.casefold() in cases:
            raise InputError(f"{path}: a second case of this name but for upper and lower case; rename one")
        cases[path.name.casefold()] = path
    if not cases:
        raise InputError(
            f"{folder}: no case here; `segmentations.folder` names a folder that holds one folder a case"
        )
    return list(cases.values())


def source_files(case: Path, sources: dict[str, tuple[Source, ...]]) -> list[Path]:
    """The files of a case that its sources name and that are there, each once."""
    paths = dict.fromkeys(source.path(case) for several in sources.values() for source in several)
    return [path for path in paths if path.is_file()]


def files_of_data_set(folder: str | Path | None, settings: dict, structures: tuple[str, ...]) -> list[str]:
    """Files of all cases in `folder` that a source names; `settings`: the config section `segmentations`.

    Raises InputError where `folder` is null, and as `parse_sources` and `find_cases` do.
    """
    if folder is None:
        raise InputError(
            "config key 'segmentations.folder' is null; name the folder that holds one folder per case"
        )
    parsed = parse_sources(settings["sources"], structures)
    parsed[""] = tuple(parse_source(text) for text in settings["whole_heart"])
    return [str(path) for case in find_cases(folder) for path in source_files(case, parsed)]
