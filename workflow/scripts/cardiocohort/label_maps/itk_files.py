"""Reading label volumes from NRRD and MetaImage files, which may be damaged or hostile.

pynrrd parses a NRRD header, of which every field that is used has been checked. A MetaImage header is written
as one of NRRD before. The voxels are read here: no more bytes may be unpacked than the header promises.
ITK's own reader of MetaImage ends the process at a damaged header, so it is not used.
"""

import io
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import nrrd
import numpy as np

from ..anatomy.nifti import check_promise, check_size
from ..runtime.errors import InputError
from .text_headers import METAIMAGE_SUFFIXES, TextHeader, read_text_header

GZIP_OR_ZLIB = 47  # zlib's number for "whichever the data is", with the check of its sum
SPARE_BYTES = 2**20  # by which a packed volume may be longer than the unpacked one
MAX_LAYERS = 64
# signs that turn the axes of a space into right, anterior, superior
SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
TYPES = (
    r"(u|signed |unsigned )char|((un)?signed )?(short|short int)|ushort|((un)?signed )?int|uint"
    r"|((un)?signed )?long long( int)?|u?int(8|16|32|64)(_t)?|float|double"
)
NUMBER = r"[-+.\de]+"
VECTOR = rf"\({NUMBER},{NUMBER},{NUMBER}\)"
# field of NRRD -> pattern of the values that are read, in lower case, and what to do about any other
REQUIRED = {
    "type": (TYPES, "save as unsigned char"),
    "endian": ("little|big", "voxels of two bytes or more need it: little or big"),
    "encoding": ("raw|gzip|gz", "save as gzip or raw"),
    "dimension": ("3|4", "expected a volume (3), or layers of one (4)"),
    "sizes": (r"(\d{1,6}\s+)?\d{1,6}\s+\d{1,6}\s+\d{1,6}", "expected whole numbers of six digits at most"),
    "space": ("|".join(SPACES), f"it must say how the volume lies in the body: {', '.join(SPACES)}"),
    "space directions": (
        rf"(none\s+)?{VECTOR}\s+{VECTOR}\s+{VECTOR}", "expected three vectors of 3 finite numbers",
    ),
    "space origin": (VECTOR, "expected one point of 3 finite numbers"),
}  # fmt: skip
SKIPS = ("line skip", "lineskip", "byte skip", "byteskip")
# field of MetaImage, with its other names -> the same for values of MetaImage
THREE = rf"{NUMBER}\s+{NUMBER}\s+{NUMBER}"
METAIMAGE = {
    ("ndims",): ("3", "expected a volume of three dimensions"),
    ("elementtype",): ("met_(u?(char|short|int|long_long)|float|double)", "save as MET_UCHAR"),
    ("dimsize",): (r"\d{1,6}\s+\d{1,6}\s+\d{1,6}", "expected three whole numbers of six digits at most"),
    ("elementspacing", "elementsize"): (THREE, "expected three finite numbers, mm"),
    ("offset", "position", "origin"): (THREE, "expected three finite numbers, mm"),
    ("transformmatrix", "orientation", "rotation"): (
        rf"{THREE}\s+{THREE}\s+{THREE}", "expected nine finite numbers: how the volume lies in the body",
    ),
}  # fmt: skip
METAIMAGE_DEFAULTS = {
    ("binarydata",): ("true", "save the voxels as binary data"),
    ("compresseddata",): ("true|false", "expected True or False"),
    ("binarydatabyteordermsb", "elementbyteordermsb"): ("true|false", "expected True or False"),
    ("elementnumberofchannels",): ("1", "expected one value per voxel"),
    ("headersize",): ("0", "the data file must begin with the voxels"),
}


@dataclass(frozen=True)
class Segment:
    """A structure as 3D Slicer names it: the voxels that are `label` in layer `layer` of its file."""

    name: str
    layer: int
    label: int


@dataclass(frozen=True)
class Layers:
    """values (L, X, Y, Z) as stored, layers of one volume; affine (4, 4) voxel index -> mm in RAS+.

    `segments` of a .seg.nrrd file; none in other files.
    """

    values: np.ndarray
    affine: np.ndarray
    segments: tuple[Segment, ...] = ()


def read_layers(path: str | Path) -> Layers:
    """Read a NRRD or MetaImage file.

    Raises InputError naming the file and the field of its header that is missing or cannot be read.
    """
    path = Path(path)
    head = read_text_header(path)
    fields = _as_nrrd(path, head.fields) if path.name.lower().endswith(METAIMAGE_SUFFIXES) else head.fields
    try:
        header = nrrd.read_header(_checked_lines(path, fields))
        # pynrrd knows the names of the types: the type is that of one voxel
        voxel = header | {"sizes": np.ones(3, int), "encoding": "raw", "dimension": 3}
        dtype = nrrd.read_data(voxel, io.BytesIO(bytes(8))).dtype
        *layers, x, y, z = header["sizes"].tolist()
        n = math.prod(layers)
        if len(layers) + 3 != header["dimension"] or not 1 <= n <= MAX_LAYERS:
            raise InputError(
                f"{path}: {n} layers; allowed: 1 to {MAX_LAYERS}, and as many sizes as dimensions"
            )
        check_size(path, (x, y, z * n), dtype)
        data = _read_voxels(path, head, math.prod((n, x, y, z)) * dtype.itemsize, header["encoding"] != "raw")
    except (OSError, EOFError, zlib.error, ValueError, MemoryError) as error:
        raise InputError(f"{path}: not a readable volume, truncated or corrupt ({error})") from error
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"][-3:].T, header["space origin"]
    affine[:3] *= np.array(SPACES[header["space"]])[:, None]
    values = np.frombuffer(data, dtype).reshape((n, x, y, z), order="F")
    return Layers(values, affine, _segments(path, head.notes, n))


def _read_voxels(path: Path, head: TextHeader, n_bytes: int, packed: bool) -> bytes:
    source = head.data_file or path
    check_promise(source, n_bytes, packed)
    with open(source, "rb") as handle:
        handle.seek(head.offset)
        data = handle.read(n_bytes + (SPARE_BYTES if packed else 1))
    if packed:
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        data = stream.decompress(data, n_bytes + 1)
        if len(data) == n_bytes and not stream.eof:
            raise EOFError("the packed data has no end")
    if len(data) != n_bytes:
        size = "more" if len(data) > n_bytes else len(data)
        raise InputError(
            f"{path}: truncated or corrupt: its header promises {n_bytes} bytes, the file holds {size}"
        )
    return data


def _checked_lines(path: Path, fields: dict[str, str]) -> list[str]:
    """The required fields of NRRD as lines of a header."""
    fields = {name: value.lower() for name, value in fields.items()}
    if re.search("char|int8", fields.get("type", "")):
        fields["endian"] = "little"  # of single bytes, whatever the header says
    for name, (pattern, advice) in (REQUIRED | dict.fromkeys(SKIPS, ("0", "save one file"))).items():
        value = re.sub(r"(?<=[(,])\s+|\s+(?=[,)])", "", fields.get(name, "0" if name in SKIPS else ""))
        if not re.fullmatch(pattern, value):
            raise InputError(f"{path}: NRRD field {name!r}: {value!r} cannot be read; {advice}")
        fields[name] = value
    return ["NRRD0005", *(f"{name}: {fields[name]}" for name in REQUIRED)]


def _as_nrrd(path: Path, fields: dict[str, str]) -> dict[str, str]:
    """The fields of a MetaImage header as those of NRRD; its space is LPS, as in all of ITK."""
    found = []
    for names, (pattern, advice) in (METAIMAGE | METAIMAGE_DEFAULTS).items():
        default = pattern.rpartition("|")[2] if names in METAIMAGE_DEFAULTS else ""
        value = next((fields[name].lower() for name in names if name in fields), default)
        if not re.fullmatch(pattern, value):
            raise InputError(f"{path}: MetaImage field {names[0]!r}: {value!r} cannot be read; {advice}")
        found.append(value)
    _, kind, size, spacing, origin, matrix, _, packed, big, *_ = found
    try:
        lengths = np.array(spacing.split(), float)
        axes = np.array(matrix.split(), float).reshape(3, 3) * lengths[:, None]
    except ValueError as error:
        raise InputError(f"{path}: its spacing or matrix has a value that is no number ({error})") from None
    if not (lengths > 0).all():
        raise InputError(
            f"{path}: MetaImage field 'elementspacing': {spacing!r}; expected lengths above 0, mm"
        )
    kind = kind.removeprefix("met_").replace("_", " ")
    return {
        "type": {"char": "signed char", "ulong long": "unsigned long long"}.get(kind, kind),
        "endian": "big" if big == "true" else "little",
        "encoding": "gzip" if packed == "true" else "raw",
        "dimension": "3",
        "sizes": size,
        "space": "lps",
        "space directions": " ".join("({!r},{!r},{!r})".format(*axis) for axis in axes.tolist()),
        "space origin": "({},{},{})".format(*origin.split()),
    }


def _segments(path: Path, notes: dict[str, str], n_layers: int) -> tuple[Segment, ...]:
    """The segments that 3D Slicer notes; before its version 4.11 each is a layer."""
    segments = []
    for key, name in notes.items():
        match = re.fullmatch(r"segment(\d{1,4})_name", key)
        if not match:
            continue
        k = int(match[1])
        layer = notes.get(f"segment{k}_layer", str(k if n_layers > 1 else 0))
        label = notes.get(f"segment{k}_labelvalue", "1")
        if not (layer.isdecimal() and int(layer) < n_layers and re.fullmatch(r"\d{1,9}", label)):
            raise InputError(
                f"{path}: segment {name!r} has layer {layer!r} and label {label!r}, which it lacks"
            )
        segments.append(Segment(name, int(layer), int(label)))
    return tuple(segments)
