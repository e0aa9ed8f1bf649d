"""Reading label volumes from NRRD files: pynrrd parses, behind a check of what the header promises.

pynrrd sets no bound on what it unpacks, so the values are read here: no more bytes than the header promises.
Format: teem.sourceforge.net/nrrd/format.html.
"""

import gzip
import io
import math
import re
import zlib
from pathlib import Path

import nrrd
import numpy as np

from ..anatomy.nifti import check_promise, check_size
from ..runtime.errors import InputError

MAX_HEADER_BYTES = 4 * 1024**2
# signs that turn the axes of a space into right, anterior, superior
SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
TYPES = (
    r"(u|signed |unsigned )char|((un)?signed )?(short|short int)|ushort|((un)?signed )?int|uint"
    r"|u?int(8|16|32)(_t)?|float|double"
)
VECTOR = r"\([-+.\de]+,[-+.\de]+,[-+.\de]+\)"
# field -> pattern of the values that are read, in lower case, and what to do about any other
REQUIRED = {
    "type": (TYPES, "save as unsigned char"),
    "endian": ("little|big", "voxels of two bytes or more need it: little or big"),
    "encoding": ("raw|gzip|gz", "save as gzip or raw"),
    "dimension": ("3", "save segments that overlap (layers of a fourth) as one layer, or as one file each"),
    "sizes": (r"\d{1,6}\s+\d{1,6}\s+\d{1,6}", "expected three whole numbers of six digits at most"),
    "space": ("|".join(SPACES), f"it must say how the volume lies in the body: {', '.join(SPACES)}"),
    "space directions": (rf"{VECTOR}\s+{VECTOR}\s+{VECTOR}", "expected three vectors of 3 finite numbers"),
    "space origin": (VECTOR, "expected one point of 3 finite numbers"),
}
DETACHED = ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip")


def read_nrrd(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) as stored and the affine (4, 4) from voxel index to mm in RAS+.

    Raises InputError naming the file and the field of its header that is missing or cannot be read.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            header = nrrd.read_header(_checked_lines(path, handle))
            # pynrrd knows the names of the types: the type is that of one voxel
            voxel = header | {"sizes": np.ones(3, int), "encoding": "raw"}
            dtype = nrrd.read_data(voxel, io.BytesIO(bytes(8))).dtype
            shape = tuple(header["sizes"].tolist())
            check_size(path, shape, dtype)
            n_bytes, packed = math.prod(shape) * dtype.itemsize, header["encoding"] != "raw"
            check_promise(path, n_bytes, packed)
            data = (gzip.GzipFile(fileobj=handle) if packed else handle).read(n_bytes + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: not a readable NRRD file, truncated or corrupt ({error})") from error
    if len(data) != n_bytes:
        size = "more" if len(data) > n_bytes else len(data)
        raise InputError(
            f"{path}: truncated or corrupt: its header promises {n_bytes} bytes, the file holds {size}"
        )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
    affine = np.diag([*SPACES[header["space"]], 1.0]) @ affine
    return np.frombuffer(data, dtype).reshape(shape, order="F"), affine


def _checked_lines(path: Path, handle) -> list[str]:
    """The required fields as lines of a header; `handle` stands at the data afterwards."""
    block = handle.read(MAX_HEADER_BYTES)
    if not re.match(rb"NRRD000[1-5]\r?\n", block):
        raise InputError(f"{path}: not a NRRD file (it does not begin with NRRD0001 to NRRD0005)")
    end = re.search(rb"\n\r?\n", block)
    if end is None:
        raise InputError(f"{path}: its NRRD header has no end (an empty line)")
    handle.seek(end.end())
    text = block[: end.start()].decode("utf-8", "replace").lower()
    fields = {name.strip(): value.strip() for name, value in re.findall(r"(?m)^([^#:=\n]+): (.*)", text)}
    if re.search("char|int8", fields.get("type", "")):
        fields["endian"] = "little"  # of single bytes, whatever the header says
    for name, (pattern, advice) in (REQUIRED | dict.fromkeys(DETACHED, ("0", "save one file"))).items():
        value = re.sub(r"(?<=[(,])\s+|\s+(?=[,)])", "", fields.get(name, "0" if name in DETACHED else ""))
        if not re.fullmatch(pattern, value):
            raise InputError(f"{path}: NRRD field {name!r}: {value!r} cannot be read; {advice}")
        fields[name] = value
    return ["NRRD0005", *(f"{name}: {fields[name]}" for name in REQUIRED)]
