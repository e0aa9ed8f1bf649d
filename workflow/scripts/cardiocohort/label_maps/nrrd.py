"""Reading label volumes from NRRD files, which nibabel does not read. Owned by the segmentations stage.

Source: the definition of the format, teem.sourceforge.net/nrrd/format.html. Read here is what label
volumes come in: three dimensions, data in the same file, raw or gzip, an oriented space. All else
is refused by name.
"""

import gzip
import re
import zlib
from pathlib import Path

import numpy as np

from ..anatomy.nifti import MAX_VOXELS, check_promise, check_size
from ..runtime.errors import InputError

TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "float32": ("float",),
    "float64": ("double",),
}
# signs that turn the axes of a space into right, anterior, superior
SPACES = {
    ("right-anterior-superior", "ras"): (1, 1, 1),
    ("left-anterior-superior", "las"): (-1, 1, 1),
    ("left-posterior-superior", "lps"): (-1, -1, 1),
}
MAX_HEADER_BYTES = 4 * 1024**2


def read_nrrd(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) as stored and the affine (4, 4) from voxel index to mm in RAS+.

    Raises InputError naming the file and the field of its header that is missing or not read here.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            header = _header(path, handle)
            dtype, shape = _layout(path, header)
            check_size(path, shape, dtype)
            affine = _affine(path, header)
            wanted = int(np.prod(shape)) * dtype.itemsize
            encoding = header.get("encoding", "").lower()
            if encoding in ("gzip", "gz"):
                check_promise(path, wanted, packed=True)
                with gzip.GzipFile(fileobj=handle) as unpacked:
                    data = unpacked.read(wanted + 1)
            elif encoding == "raw":
                check_promise(path, wanted, packed=False)
                data = handle.read(wanted + 1)
            else:
                raise InputError(
                    f"{path}: NRRD field 'encoding': {encoding!r} is not read; save as gzip or raw"
                )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a readable NRRD file, truncated or corrupt ({error})") from error
    if len(data) != wanted:
        raise InputError(
            f"{path}: its header tells of {wanted} bytes of data, the file holds "
            f"{'more' if len(data) > wanted else len(data)}; it is truncated or corrupt"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F"), affine


def _header(path: Path, handle) -> dict[str, str]:
    """Fields by lower-case name; key/value pairs and comments are left out."""
    text = handle.readline(64)
    if not re.fullmatch(rb"NRRD000[1-5]\r?\n", text):
        raise InputError(f"{path}: not a NRRD file (it does not begin with NRRD0001 to NRRD0005)")
    fields, size = {}, 0
    while line := handle.readline(MAX_HEADER_BYTES):
        size += len(line)
        line = line.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            return fields
        if size > MAX_HEADER_BYTES:
            break
        if not line.startswith("#") and re.match(r"[^:=]+: ", line):
            name, value = line.split(": ", 1)
            fields[name.strip().lower()] = value.strip()
    raise InputError(f"{path}: its NRRD header has no end (an empty line)")


def _layout(path: Path, header: dict[str, str]) -> tuple[np.dtype, tuple[int, ...]]:
    kind = next((kind for kind, names in TYPES.items() if header.get("type", "").lower() in names), None)
    if kind is None:
        raise InputError(
            f"{path}: NRRD field 'type': {header.get('type')!r} is not read; save as unsigned char"
        )
    for name in ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"):
        if header.get(name, "0") != "0":
            raise InputError(f"{path}: NRRD field {name!r} is not read; save header and data in one file")
    if header.get("dimension") != "3":
        raise InputError(
            f"{path}: NRRD field 'dimension': {header.get('dimension')!r}; label volumes have 3 (segments "
            "that overlap come in layers of a fourth: save them as one layer, or as one file each)"
        )
    shape = _numbers(path, header, "sizes", header.get("sizes", "").split(), 3)
    if min(shape) < 2 or any(n != int(n) for n in shape) or np.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"{path}: NRRD field 'sizes': {header['sizes']!r}; allowed: three whole numbers of 2 or more, "
            f"{MAX_VOXELS} voxels at most"
        )
    endian = {"little": "<", "big": ">"}.get(header.get("endian", "").lower(), "|")
    dtype = np.dtype(kind)
    if dtype.itemsize > 1 and endian == "|":
        raise InputError(f"{path}: NRRD field 'endian' is missing; voxels of {kind} need it (little or big)")
    return dtype.newbyteorder(endian), tuple(int(n) for n in shape)


def _affine(path: Path, header: dict[str, str]) -> np.ndarray:
    space = header.get("space", "").lower()
    signs = next((signs for names, signs in SPACES.items() if space in names), None)
    if signs is None:
        raise InputError(
            f"{path}: NRRD field 'space': {header.get('space')!r} does not say how the volume lies in the "
            f"body; allowed: {', '.join(names[0] for names in SPACES)}"
        )
    vectors = re.findall(r"\(([^()]*)\)", header.get("space directions", ""))
    origin = re.findall(r"\(([^()]*)\)", header.get("space origin", ""))
    if len(vectors) != 3 or len(origin) != 1:
        raise InputError(
            f"{path}: NRRD fields 'space directions' and 'space origin': expected three vectors and one point"
        )
    affine = np.eye(4)
    for i, vector in enumerate(vectors):
        affine[:3, i] = _numbers(path, header, "space directions", vector.split(","), 3)
    affine[:3, 3] = _numbers(path, header, "space origin", origin[0].split(","), 3)
    return np.diag([*signs, 1.0]) @ affine


def _numbers(path: Path, header: dict[str, str], name: str, words: list[str], n: int) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != n or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: NRRD field {name!r}: {header.get(name)!r}; expected {n} finite numbers each"
        )
    return numbers
