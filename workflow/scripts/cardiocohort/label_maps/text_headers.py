"""The text headers of NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd). Owned by the segmentations stage.

Light on purpose: the Snakefile asks it for the second file of a volume.
Formats: teem.sourceforge.net/nrrd/format.html, itk.org/Wiki/MetaIO/Documentation.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import InputError

NRRD_SUFFIXES = (".nrrd", ".nhdr")
METAIMAGE_SUFFIXES = (".mha", ".mhd")
TWO_FILES = (".nhdr", ".mhd")  # suffixes of headers whose voxels may lie in another file
MAX_HEADER_BYTES = 4 * 1024**2
_METAIMAGE_END = re.compile(rb"(?im)^[ \t]*ElementDataFile[ \t]*=[^\n]*(?:\n|\Z)")


@dataclass(frozen=True)
class TextHeader:
    """`fields` by name in lower case, `notes` the free `key:=value` pairs of NRRD likewise.

    The voxels begin at byte `offset` of the file, or lie in `data_file`.
    """

    fields: dict[str, str]
    notes: dict[str, str]
    offset: int
    data_file: Path | None


def has_text_header(path: Path) -> bool:
    return path.name.lower().endswith(NRRD_SUFFIXES + METAIMAGE_SUFFIXES)


def read_text_header(path: Path) -> TextHeader:
    """InputError naming the file if it has no such header, or keeps its voxels outside of its folder."""
    try:
        with open(path, "rb") as handle:
            block = handle.read(MAX_HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({error.strerror})") from error
    fields, notes, offset = (_nrrd if path.name.lower().endswith(NRRD_SUFFIXES) else _metaimage)(path, block)
    named = [fields[name] for name in ("data file", "datafile", "elementdatafile") if name in fields]
    if not named or named[0].upper() == "LOCAL":
        return TextHeader(fields, notes, offset, None)
    beside = re.fullmatch(r"[^/\\%\0]+", named[0]) and named[0] not in (".", "..", "LIST")
    if not (beside and path.name.lower().endswith(TWO_FILES)):
        raise InputError(
            f"{path}: its voxels are in {named[0]!r}; allowed: in the same file (.nrrd, .mha), or in a file "
            f"beside a header whose name ends in {' or '.join(TWO_FILES)}"
        )
    return TextHeader(fields, notes, 0, path.parent / named[0])


def _nrrd(path: Path, block: bytes) -> tuple[dict, dict, int]:
    if not re.match(rb"NRRD000[1-5]\r?\n", block):
        raise InputError(f"{path}: not a NRRD file (it does not begin with NRRD0001 to NRRD0005)")
    end = re.search(rb"\n\r?\n|\Z" if path.name.lower().endswith(".nhdr") else rb"\n\r?\n", block)
    if end is None:
        raise InputError(f"{path}: its NRRD header has no end (an empty line)")
    lines = re.findall(r"(?m)^([^#:=\n]+):([ =])(.*)", _text(block[: end.start()]))
    fields, notes = {}, {}
    for name, sign, value in lines:
        (fields if sign == " " else notes)[name.strip().lower()] = value.strip()
    return fields, notes, end.end()


def _metaimage(path: Path, block: bytes) -> tuple[dict, dict, int]:
    end = _METAIMAGE_END.search(block)
    if end is None:
        raise InputError(f"{path}: not a MetaImage file (its header has no line 'ElementDataFile = ...')")
    lines = re.findall(r"(?m)^([^=\n]+)=(.*)", _text(block[: end.end()]))
    return {name.strip().lower(): value.strip() for name, value in lines}, {}, end.end()


def _text(header: bytes) -> str:
    return header.decode("utf-8", "replace").replace("\r", "")
