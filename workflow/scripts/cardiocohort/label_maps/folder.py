"""A folder of label maps that replaces generation: who is in it. Owned by the generation stage.

Light on purpose (names only, no file is opened): the Snakefile calls it.
"""

import re
from pathlib import Path

from ..cohort.table import MAP_SUFFIXES
from ..runtime.errors import InputError

CONVENTION_TABLES = ("positions.tsv", "layout.tsv", "numberings.tsv")  # of the folder `convention`
SUBJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
OWN_FILES = ("cases.tsv", "covariates.tsv", "pictures")  # beside the maps that the target `label_maps` makes
SHOWN_NAMES = 3  # of the files that are not read


def subject_of(path: str | Path) -> str:
    """The subject of a label map file: its name without the suffix."""
    return Path(path).name[: -len(_suffix(Path(path)))]


def find_label_maps(folder: str | Path) -> dict[str, Path]:
    """Label maps directly in `folder` by subject, which is the file's name without its suffix; sorted.

    Other files are left alone (`ignored`). Raises InputError for an empty folder, two files of one subject
    and names that are not safe as file names.
    """
    folder = Path(folder)
    label_maps: dict[str, Path] = {}
    seen = set()  # names without case: some file systems do not distinguish `A` from `a`
    for path in sorted(folder.iterdir()):
        if _suffix(path) is None or path.is_dir():
            continue
        subject = subject_of(path)
        if not SUBJECT_NAME.fullmatch(subject):
            raise InputError(
                f"{path}: its name cannot name a subject; allowed before {', '.join(MAP_SUFFIXES)}: 1 to 100 "
                "letters (a-z, A-Z), digits and . _ -, the first a letter or digit"
            )
        if subject.casefold() in seen:
            raise InputError(f"{path}: a second label map of subject {subject!r}; remove or rename one")
        seen.add(subject.casefold())
        label_maps[subject] = path
    if not label_maps:
        raise InputError(
            f"{folder}: no label maps here ({', '.join(MAP_SUFFIXES)}); the config names their folder. "
            + ignored(folder)
        )
    return label_maps


def ignored(folder: str | Path) -> str:
    """One sentence about what is not read in a folder of label maps, hidden files apart; empty if all is."""
    others = [path for path in sorted(Path(folder).iterdir()) if path.is_dir() or _suffix(path) is None]
    visible = [path for path in others if not (path.name.startswith(".") or path.name in OWN_FILES)]
    folders = [path.name for path in visible if path.is_dir()]
    files = [path.name for path in visible if not path.is_dir()]
    if not visible:
        return ""
    kinds = [counted(files, "file"), counted(folders, "folder")]
    return (
        f"{folder}: not read: {' and '.join(kind for kind in kinds if kind)}. Label maps are files of "
        f"{', '.join(MAP_SUFFIXES)} directly in the folder; convert or move what should be read"
    )


def _suffix(path: Path) -> str | None:
    """The suffix that makes a file a label map; a hidden file is none."""
    name = path.name.lower()
    return next((s for s in MAP_SUFFIXES if name.endswith(s) and not name.startswith(".")), None)


def counted(names: list[str], kind: str) -> str:
    """How many there are, and the names of the first; empty if there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    return f"{len(names)} {kind}{'s' if len(names) > 1 else ''} ({shown})"
