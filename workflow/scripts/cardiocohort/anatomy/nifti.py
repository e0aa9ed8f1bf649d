"""Reading NIfTI files from users, which may be damaged or hostile. Owned by no stage.

The header is checked before anything is allocated. It must describe a volume of numbers, of a sane size,
that the file can hold. Extensions, other formats that nibabel would recognise, and data behind the volume
stay unread. Label maps and users' scans are read with it.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from ..runtime.errors import InputError

MAX_VOXELS = 2**29  # 512 x 512 slices of 2048; a whole body at 1 mm has 2^28
MAX_BYTES = 2**30  # of a volume's values: those slices in two bytes a voxel
MAX_OFFSET = 2**20  # bytes of header and extensions
DEFLATE_RATIO = 1032  # zlib's limit: a byte of a gzip file becomes no more bytes than this
HEADERS = {348: nib.nifti1.Nifti1PairHeader, 540: nib.nifti2.Nifti2PairHeader}
MAGIC = (b"n+1", b"n+2")  # header and data in one file


@dataclass(frozen=True)
class Nifti:
    """values (any shape) as stored or, where the header scales them, float64; affine (4, 4) index -> mm."""

    values: np.ndarray
    affine: np.ndarray
    oriented: bool  # whether the header says how the volume lies in the body
    unit: str


def read_nifti(path: str | Path) -> Nifti:
    """Read a NIfTI-1 or -2 file (.nii or .nii.gz); InputError naming the file for all that is none."""
    path = Path(path)
    try:
        with _opened(path) as handle:
            header = _header(path, handle)
            dtype, shape = header.get_data_dtype(), tuple(int(n) for n in header.get_data_shape())
            check_size(path, shape, dtype)
            offset = int(header["vox_offset"])
            if not header.sizeof_hdr <= offset <= MAX_OFFSET:
                raise InputError(f"{path}: corrupt: its header places the volume at byte {offset}")
            n_bytes = int(np.prod(shape)) * dtype.itemsize
            check_promise(path, offset + n_bytes, path.name.lower().endswith(".gz"))
            handle.seek(offset)
            data = read_to_the_end(handle, n_bytes)
            slope, intercept = header.get_slope_inter()
            affine = np.asarray(header.get_best_affine(), dtype=float)
            oriented = bool(int(header["sform_code"]) or int(header["qform_code"]))
            unit = header.get_xyzt_units()[0]
    except InputError:
        raise
    except (
        OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error, nib.spatialimages.HeaderDataError,
        MemoryError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: not a readable NIfTI file, truncated or corrupt ({error})") from error
    if len(data) != n_bytes:
        raise InputError(
            f"{path}: truncated or corrupt: its header tells of {n_bytes} bytes of data, it has {len(data)}"
        )
    values = np.frombuffer(data, dtype).reshape(shape, order="F")
    if (slope, intercept) not in ((None, None), (1.0, 0.0)):
        values = values * float(slope) + float(intercept)
    return Nifti(values, affine, oriented, unit)


def check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """InputError unless an array of this shape and type is a volume of numbers, and not too large a one."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: voxels of type {dtype}; expected whole numbers")
    # in Python's integers, which do not overflow
    voxels = 1
    for n in shape:
        voxels *= int(n)
    if len(shape) < 3 or min(shape[:3]) < 2 or any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{path}: a volume of labels has three dimensions of 2 or more voxels, this file {shape}"
        )
    if voxels > MAX_VOXELS or voxels * dtype.itemsize > MAX_BYTES:
        raise InputError(
            f"{path}: {shape} voxels of {dtype} are too many; allowed: {MAX_VOXELS} voxels and {MAX_BYTES} "
            "bytes; crop the volume, or save it as uint8"
        )


def check_promise(path: Path, n_bytes: int, packed: bool) -> None:
    """InputError if the file cannot hold the bytes that its header promises, before they are allocated."""
    held = path.stat().st_size * (DEFLATE_RATIO if packed else 1)
    if held < n_bytes:
        raise InputError(
            f"{path}: truncated or corrupt: its header tells of {n_bytes} bytes, the file can hold {held}"
        )


def read_to_the_end(handle, n_bytes: int) -> bytes:
    """`n_bytes` from here, or as many as there are; gzip compares its checksum when read beyond them."""
    data = handle.read(n_bytes)
    handle.read(MAX_OFFSET)
    return data


def _opened(path: Path):
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")


def _header(path: Path, handle):
    block = handle.read(min(HEADERS))
    sizes = [int.from_bytes(block[:4], order, signed=True) for order in ("little", "big")]
    kind = next((HEADERS[size] for size in sizes if size in HEADERS), None)
    if kind is None:
        raise InputError(f"{path}: not a NIfTI file (its header has no known length), truncated or corrupt")
    block += handle.read(kind.sizeof_hdr - len(block))
    if len(block) != kind.sizeof_hdr:
        raise InputError(f"{path}: not a readable NIfTI file, truncated or corrupt (its header is cut off)")
    if not any(magic in (block[4:7], block[344:347]) for magic in MAGIC):
        raise InputError(f"{path}: not a NIfTI file of one piece (.nii or .nii.gz), or corrupt")
    return kind(block)
