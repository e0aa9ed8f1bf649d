"""Which cases a data set has, and where each structure is looked for. Owned by the segmentations stage.

Light on purpose (names only, no file is opened): the Snakefile calls it.
"""

import csv
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..cohort.table import MAP_SUFFIXES
from ..runtime.errors import InputError
from . import folder as label_map_folder
from .folder import SUBJECT_NAME
from .text_headers import NRRD_SUFFIXES, TWO_FILES, read_text_header

SUFFIXES = (*MAP_SUFFIXES, *TWO_FILES)
MESH_SUFFIXES = (".vtk", ".vtu", ".elem")
_SOURCE = re.compile(r"(?P<file>[^:\\]+)(?::(?P<named>.+))?")


def folder_of(case: Path) -> Path:
    """The folder of a case's files: its own, or the data set's where a case is one file (`find_cases`)."""
    return case.parent if case.parent.is_dir() and not case.is_dir() else case


@dataclass(frozen=True)
class Source:
    """A file of a case and the labels or segments in it that make up a structure.

    None named means that the file is the mask of one structure.
    """

    file: str  # relative to the case's folder; `{case}` stands for the case's name
    named: tuple[int | str, ...] = ()

    def path(self, case: Path) -> Path:
        return folder_of(case) / self.file.replace("{case}", case.name)

    def __str__(self) -> str:
        return self.file + (":" + "+".join(map(str, self.named)) if self.named else "")


def parse_source(text: str) -> Source:
    """`<file>` or `<file>:<label>[+<label>...]`, labels being numbers or, of NRRD files, segments' names.

    InputError for anything else.
    """
    match = _SOURCE.fullmatch(text)
    parts = match["file"].split("/") if match else [".."]
    named = match["named"].split("+") if match and match["named"] else []
    segment = r"|(?!\d+$)\S(.*\S)?" if parts[-1].lower().endswith(NRRD_SUFFIXES) else ""
    label = r"[1-9]\d{0,8}" + segment
    bad_file = ".." in parts or "" in parts or not parts[-1].lower().endswith(SUFFIXES)
    if bad_file or not all(re.fullmatch(label, name) for name in named):
        raise InputError(
            f"{text!r} is not a source; allowed: a file ({', '.join(SUFFIXES)}) below the case's folder, as "
            "'structure.nii.gz', some labels of it, as 'labels.nrrd:7' or 'labels.nrrd:7+8', or a segment, "
            "as 'scan.seg.nrrd:Segment'"
        )
    return Source(match["file"], tuple(int(name) if name.isdecimal() else name for name in named))


def optional_structures(rules: str | Path) -> frozenset[str]:
    """Structures that a scan may lack: those whose row of kind volume in a rules table has scope `present`.

    As `topology.Rules.optional`, but read lightly: the gate's own reader imports what a cluster job need not.
    """
    rows = csv.DictReader(Path(rules).read_text(encoding="utf-8").splitlines(), delimiter="\t")
    cells = [row["structure"] for row in rows if (row["kind"], row["scope"]) == ("volume", "present")]
    return frozenset(name.strip() for cell in cells for name in cell.split(","))


def parse_sources(
    table: dict[str, list[str]], structures: tuple[str, ...], optional: Collection[str] = ()
) -> dict[str, tuple[Source, ...]]:
    """The table of sources (config key `segmentations.sources`), in the order of `structures`.

    Raises InputError for a structure that the anatomy lacks, one without sources that is not `optional`, or a
    bad source.
    """
    key = "config key 'segmentations.sources'"
    unknown = [name for name in table if name not in structures]
    if unknown:
        raise InputError(
            f"{key}: {unknown[0]!r} is no structure of the anatomy; allowed: {', '.join(structures)}"
        )
    needed = [name for name in structures if name not in optional]
    lacking = [name for name in needed if not table.get(name)]
    if lacking:
        raise InputError(f"{key}: {lacking[0]!r} has no source; name a file for each of {', '.join(needed)}")
    parsed = {}
    for name in filter(table.get, structures):
        try:
            parsed[name] = tuple(parse_source(text) for text in table[name])
        except InputError as error:
            raise InputError(f"{key}, {name!r}: {error}") from None
    return parsed


def mesh_sources(file: str, structures: tuple[str, ...]) -> dict[str, tuple[Source, ...]]:
    """The one mesh of a case as the source of every structure (config key `segmentations.mesh.file`).

    InputError where the file is no mesh.
    """
    parts = file.split("/")
    if ".." in parts or "" in parts or ":" in file or not file.lower().endswith(MESH_SUFFIXES):
        raise InputError(
            f"config key 'segmentations.mesh.file': {file!r} is no mesh; allowed: a file "
            f"({', '.join(MESH_SUFFIXES)}) below the case's folder, as '{{case}}.vtk'"
        )
    return dict.fromkeys(structures, (Source(file),))


def sources_of(
    settings: dict, structures: tuple[str, ...], rules: str | Path
) -> dict[str, tuple[Source, ...]]:
    """The sources of the config section `segmentations`: its mesh if it names one, else the files."""
    if settings["mesh"]["file"]:
        return mesh_sources(settings["mesh"]["file"], structures)
    return parse_sources(settings["sources"], structures, optional_structures(rules))


def find_cases(folder: str | Path, sources: Iterable[tuple[Source, ...]] = ()) -> list[Path]:
    """The cases in `folder` as paths, sorted by name; hidden files and folders are left alone.

    A case is a folder directly in it. Where every source is one file named by its case, as '{case}.nii.gz:2',
    such a file directly in `folder` is a case too, of the path that a folder of its own would have.
    Raises InputError if there is none, or for names that cannot name a subject.
    """
    folder = Path(folder)
    cases: dict[str, Path] = {}
    files = {source.file for several in sources for source in several}
    suffix = files.pop().removeprefix("{case}") if len(files) == 1 else ""
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    for path in visible:
        if suffix in SUFFIXES + MESH_SUFFIXES and path.is_file() and path.name.endswith(suffix):
            path = path.with_name(path.name.removesuffix(suffix))
        elif not path.is_dir():
            continue
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
            f"{folder}: no case here; `segmentations.folder` names a folder that holds one folder per case. "
            + ignored(folder, [])
        )
    return list(cases.values())


def ignored(folder: str | Path, used: Iterable[str | Path]) -> str:
    """One sentence about volumes beside the cases' folders that are not `used`; empty if there are none."""
    used = {Path(path).name for path in used}
    names = sorted(
        p.name
        for p in Path(folder).iterdir()
        if p.is_file() and p.name.lower().endswith(SUFFIXES + MESH_SUFFIXES) and p.name not in used
    )
    if not names:
        return ""
    return (
        f"{folder}: not read: {label_map_folder.counted(names, 'file')}. A case is a folder of its own; move "
        "each file into the folder of its case"
    )


def source_files(case: Path, sources: dict[str, tuple[Source, ...]]) -> list[Path]:
    """The files of a case that its sources name and that are there, each once.

    With the files that hold the voxels of a header or the points of elements.
    """
    paths = dict.fromkeys(source.path(case) for several in sources.values() for source in several)
    there = [path for path in paths if path.is_file()]
    beside = [data for path in there if path.name.lower().endswith(TWO_FILES) for data in _data_file(path)]
    points = [path.with_suffix(".pts") for path in there if path.name.lower().endswith(".elem")]
    return [*there, *beside, *(path for path in points if path.is_file())]


def _data_file(path: Path) -> list[Path]:
    """The file of the voxels of a header; none if the header is bad, as the case's verdict will say."""
    with suppress(InputError):
        data_file = read_text_header(path).data_file
        return [data_file] if data_file and data_file.is_file() else []
    return []


def files_of_data_set(
    folder: str | Path | None, settings: dict, structures: tuple[str, ...], rules: str | Path
) -> list[str]:
    """Files of all cases in `folder` that a source names; `settings`: the config section `segmentations`,
    `rules`: the gate's table.

    Raises InputError where `folder` is null, and as `parse_sources` and `find_cases` do.
    """
    if folder is None:
        raise InputError(
            "config key 'segmentations.folder' is null; name the folder that holds one folder per case"
        )
    parsed = sources_of(settings, structures, rules)
    cases = find_cases(folder, parsed.values())
    parsed[""] = tuple(parse_source(text) for text in settings["whole_heart"])
    return [str(path) for case in cases for path in source_files(case, parsed)]
