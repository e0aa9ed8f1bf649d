"""A folder of label maps that replaces generation: who is in it. Owned by the generation stage.

Light on purpose (names only, no file is opened): the Snakefile calls it.
"""

import re
from pathlib import Path

from ..runtime.errors import InputError

SUFFIXES = (".nii.gz", ".nii")
CONVENTION_TABLES = ("positions.tsv", "layout.tsv", "numberings.tsv")  # of the folder `convention`
SUBJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def find_label_maps(folder: str | Path) -> dict[str, Path]:
    """Label maps directly in `folder` by subject, which is the file's name without its suffix; sorted.

    Other files are left alone. Raises InputError for an empty folder, two files of one subject and
    names that are not safe as file names.
    """
    folder = Path(folder)
    label_maps: dict[str, Path] = {}
    seen = set()  # names without case: some file systems do not tell `A` from `a`
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in SUFFIXES if path.name.endswith(s)), None)
        if suffix is None or path.name.startswith("."):
            continue
        subject = path.name.removesuffix(suffix)
        if not SUBJECT_NAME.fullmatch(subject):
            raise InputError(
                f"{path}: its name cannot name a subject; allowed before {' or '.join(SUFFIXES)}: 1 to 100 "
                "letters (a-z, A-Z), digits and . _ -, the first a letter or digit"
            )
        if subject.casefold() in seen:
            raise InputError(f"{path}: a second label map of subject {subject!r}; remove or rename one")
        seen.add(subject.casefold())
        label_maps[subject] = path
    if not label_maps:
        raise InputError(
            f"{folder}: no label maps here ({', '.join(SUFFIXES)}); the config names their folder"
        )
    return label_maps
