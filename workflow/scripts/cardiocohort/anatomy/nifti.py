"""Reading NIfTI files from users, which may be damaged or hostile. Owned by no stage.

The header is checked before anything is allocated. It must describe a volume of numbers, of a sane size,
that the file can hold. Extensions, other formats that nibabel would recognise, and data behind the volume
stay unread. Label maps and users' scans are read with it.

A header says up to three times how large voxels are (sform, qform, pixdim) and up to twice how they lie in
the body. Readers differ in which of them they take. So a header that contradicts itself is refused, unless
the user says which form is right.
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
AGREE = "agree"  # sform and qform must not contradict each other
FORMS = ("sform", "qform")
SIZE_TOLERANCE = 0.01  # of a voxel's length
ANGLE_TOLERANCE = 1.0  # degrees between the directions of an axis
SHIFT_TOLERANCE = 0.5  # voxels between the places of the first voxel


@dataclass(frozen=True)
class Nifti:
    """values (any shape) as stored or, where the header scales them, float64; affine (4, 4) index -> mm.

    `remarks`: what the header says otherwise, where the user trusts one of its forms.
    """

    values: np.ndarray
    affine: np.ndarray
    remarks: tuple[str, ...] = ()


def read_nifti(path: str | Path, geometry: str = AGREE) -> Nifti:
    """Read a NIfTI-1 or -2 file (.nii or .nii.gz), whose geometry is in mm.

    `geometry`: AGREE, or the one of FORMS that is trusted. Raises InputError naming the file for all that is
    no NIfTI file of numbers, and for a header that contradicts itself or gives no geometry.
    """
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
            affine, remarks = _geometry(path, header, geometry)
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
    return Nifti(values, affine, remarks)


def _geometry(path: Path, header, trusted: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The affine (4, 4), voxel index -> mm, and what contradicts it where one form is trusted."""
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise InputError(f"{path}: its header is in {unit}, expected mm")
    pixdim = np.abs(header["pixdim"][1:4].astype(float))
    forms = {
        name: getattr(header, f"get_{name}")().astype(float)
        for name in FORMS
        if int(header[f"{name}_code"]) > 0 or name == trusted
    }
    if not forms:
        raise InputError(
            f"{path}: its header does not say how the volume lies in the body (sform and qform codes are 0); "
            "export it again with its orientation, or set config key 'nifti_geometry' to the form, sform or "
            "qform, that is right although its code is 0"
        )
    affine = forms.get(trusted, next(iter(forms.values())))
    if not (np.isfinite(affine).all() and _lengths(affine).all()):
        return affine, ()  # no geometry to compare with; readers refuse it
    others = {name: form for name, form in forms.items() if form is not affine}
    differing = [name for name, form in others.items() if not _alike(affine, form)]
    if not np.allclose(_lengths(affine), pixdim, rtol=SIZE_TOLERANCE):
        differing.append("pixdim")
    if not differing:
        return affine, ()
    shown = [f"{name} {_described(form)}" for name, form in forms.items()] + [f"pixdim {_size(pixdim)}"]
    if trusted == AGREE:
        raise InputError(
            f"{path}: its header contradicts itself: {'; '.join(shown)}; set config key 'nifti_geometry' to "
            "the form that is right, sform or qform, or correct the header"
        )
    return affine, (f"header contradicts itself, {trusted} is trusted: {'; '.join(shown)}",)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two affines give the voxels the same size, directions and place, within the tolerances."""
    a, b = one[:3, :3], other[:3, :3]
    sizes, other_sizes = _lengths(one), _lengths(other)
    with np.errstate(all="ignore"):  # damaged headers: NaN is not alike
        cosines = (a * b).sum(axis=0) / (sizes * other_sizes)
        shift = np.linalg.norm(one[:3, 3] - other[:3, 3]) / sizes.min()
    return bool(
        np.allclose(sizes, other_sizes, rtol=SIZE_TOLERANCE)
        and (cosines > np.cos(np.radians(ANGLE_TOLERANCE))).all()
        and shift < SHIFT_TOLERANCE
    )


def _lengths(affine: np.ndarray) -> np.ndarray:
    """Length (3,) of a voxel along its axes, mm."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def _described(affine: np.ndarray) -> str:
    """Voxel size, directions of the axes and place of the first voxel, for a message."""
    try:
        axes = "".join(code or "?" for code in nib.aff2axcodes(affine))
    except (ValueError, np.linalg.LinAlgError):
        axes = "???"
    first = ", ".join(f"{mm:g}" for mm in affine[:3, 3])
    return f"{_size(_lengths(affine))}, axes {axes}, first voxel at ({first})"


def _size(lengths: np.ndarray) -> str:
    return " x ".join(f"{mm:.4g}" for mm in lengths) + " mm"


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
