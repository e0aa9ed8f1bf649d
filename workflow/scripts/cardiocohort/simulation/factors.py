"""Factorisations of large sparse symmetric matrices by libraries. Owned by the simulation stage.

MUMPS is the one in CasADi's wheel, which has a C interface and no Python one of its own. A large matrix whose
blocks are compressed (Amestoy et al., ACM Trans Math Softw 45:2, 2019) needs half the time and two thirds of
the memory, and its factors are a good preconditioner. Pardiso is that of Intel's MKL, which is closed. Its
factors in single precision are exact to five digits, and two threads find them in half the time. NGSolve's
own factorisation comes with NGSolve.
"""

import ctypes
import importlib.util
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from ..runtime.errors import InputError
from .finite_elements import ng
from .settings import PARDISO

log = logging.getLogger(__name__)

COMPRESSION = 1e-3  # relative size of what the compressed factors leave out
ROOM_PERCENT = 5  # beyond MUMPS's estimate of its memory, for pivots that are delayed
# Unknowns from which memory counts more than time: contributions are compressed too, which saves a tenth of
# the memory and costs a quarter of a factorisation's time.
LARGE = 150_000
MUMPS_VERSION = b"5.8.2"  # whose structure is laid out as below
INTEL_THREADS = 0  # MKL's number for them
ANALYSE, FACTORISE, SOLVE, RELEASE = 11, 22, 33, -1  # Pardiso's phases
OUT_OF_MEMORY = -2  # Pardiso's number for it


class Singular(Exception):
    """The matrix could not be factorised."""


def blas_on_one_thread() -> threadpool_limits:
    """A context, since threads of a BLAS wait busily between its calls.

    They take the cores from the elements' threads, and save nothing in MUMPS, whose dense products are small.
    Likewise NGSolve's tasks, where there is nothing for them.
    """
    if all(_mkl_files().values()):
        mkl()  # whose threads are chosen at its first call, which may be the next one
    return threadpool_limits(1, user_api="blas")


class Factors(Protocol):
    """Factors of one sparsity pattern, whose numbers may change."""

    def factorise(self, values: np.ndarray) -> None:
        """Of the matrix with `values` (nnz,) in the pattern; Singular if it has no factors."""

    def sharpen(self) -> bool:
        """Make the factors of later factorisations more exact, if they can be."""

    def solve(self, rights: np.ndarray) -> np.ndarray:
        """(k, n) for right sides (k, n), by the last factors; Singular if there are none."""


def factors(
    library: str,
    rows: np.ndarray,
    columns: np.ndarray,
    n: int,
    threads: int = 1,
    blocks: np.ndarray | None = None,
) -> Factors:
    """Of `library`, one of LIBRARIES; where MUMPS is not installed NGSolve's.

    The matrices' upper triangle has entries at `rows`, `columns` (nnz,), row by row, all of the diagonal too.
    blocks: first unknown of each block of unknowns with the same neighbours, and n; MUMPS then finds the
    order of elimination of blocks, several times as fast. InputError where Pardiso is not installed.
    """
    if library == PARDISO:
        return Pardiso(rows, columns, n, threads)
    if mumps_library() is None:
        log.warning("CasADi, which has MUMPS, is not installed: NGSolve factorises, slower")
        return NGSolve(rows, columns, n)
    return Mumps(rows, columns, n, threads, blocks)


def mumps_library() -> Path | None:
    """CasADi's MUMPS where it is installed, without importing CasADi itself."""
    found = importlib.util.find_spec("casadi")
    if found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("libcoinmumps.so.*"))), None)


def check_library(library: str) -> None:
    """InputError where `library` is Pardiso and not installed."""
    if library == PARDISO:
        mkl()


@cache
def mkl() -> ctypes.CDLL:
    """MKL of this environment: where its wheel and its conda package have it."""
    found = _mkl_files()
    if not all(found.values()):
        raise InputError(
            f"simulation.solver: pardiso needs MKL, which is not in the environment {sys.prefix}. Install it "
            "(pip install mkl; conda install mkl), or take mumps"
        )
    # whose names hide Intel's: both together would crash
    gnu = hasattr(ctypes.CDLL(None), "GOMP_parallel")
    # found here, MKL does not look for it in folders of the system
    threads = ctypes.CDLL(str(found["libiomp5"][-1]), mode=ctypes.RTLD_GLOBAL)
    threads.kmp_set_blocktime(0)  # else they wait busily, and take the cores from the elements' threads
    library = ctypes.CDLL(str(found["libmkl_rt"][-1]), mode=ctypes.RTLD_GLOBAL)
    if not gnu:
        # else it takes GNU's where they are in the process for another package, and those do wait busily
        library.MKL_Set_Threading_Layer(ctypes.c_int(INTEL_THREADS))
    return library


def _mkl_files() -> dict[str, list[Path]]:
    folder = Path(sys.prefix) / "lib"
    return {name: sorted(folder.glob(f"{name}.so*")) for name in ("libiomp5", "libmkl_rt")}


def _pardiso_error(number: int) -> str:
    return f"Pardiso error {number}" + (", not enough memory" if number == OUT_OF_MEMORY else "")


class Pardiso:
    """Pardiso, LDL^T with Bunch and Kaufman's pivots within blocks, in single precision until sharpened."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, n: int, threads: int = 1):
        self._mkl, self._n, self._threads = mkl(), n, threads
        starts = np.searchsorted(rows, np.arange(n + 1))
        self._pattern = [np.ascontiguousarray(part, dtype=np.int32) for part in (starts, columns)]
        self._handle = np.zeros(64, dtype=np.int64)
        self._options = options = np.zeros(64, dtype=np.int32)
        options[0] = 1  # those below, not MKL's defaults
        options[1] = 3 if threads > 1 else 2  # METIS
        options[9] = 8  # pivots below 1e-8 of the norm are raised to it
        options[20] = 1  # Bunch and Kaufman
        options[23] = int(threads > 1)  # factorisation of two levels, which is for threads
        options[27] = 1  # single precision
        options[34] = 1  # counted from 0
        self._values: np.ndarray | None = None

    def factorise(self, values: np.ndarray) -> None:
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite
            given = np.ascontiguousarray(values, dtype=self._type)
        if not np.isfinite(given).all():
            raise Singular("the matrix is not finite")
        first, self._values = self._values is None, given
        if first and (error := self._call(ANALYSE)):
            self._release()
            raise Singular(f"{_pardiso_error(error)} in the analysis")
        if error := self._call(FACTORISE):
            raise Singular(_pardiso_error(error))

    def sharpen(self) -> bool:
        if self._options[27] == 0:
            return False
        self._release()
        self._options[27] = 0
        return True

    def solve(self, rights: np.ndarray) -> np.ndarray:
        if self._values is None:
            raise Singular("there are no factors")
        given = np.array(rights, dtype=self._type, order="C")
        found = np.empty_like(given)
        if error := self._call(SOLVE, given, found):
            raise Singular(_pardiso_error(error))
        return found.astype(float)

    @property
    def _type(self) -> type:
        return np.float32 if self._options[27] else np.float64

    def _call(self, phase: int, *vectors: np.ndarray) -> int:
        one, many, error = ctypes.c_int(1), ctypes.c_int(len(vectors[0]) if vectors else 1), ctypes.c_int(0)
        kind, size, quiet = ctypes.c_int(-2), ctypes.c_int(self._n), ctypes.c_int(0)
        by = ctypes.byref
        arrays = [part.ctypes.data_as(ctypes.c_void_p) for part in (self._values, *self._pattern)]
        options, handle = (part.ctypes.data_as(ctypes.c_void_p) for part in (self._options, self._handle))
        pairs = [vector.ctypes.data_as(ctypes.c_void_p) for vector in vectors] or [None, None]
        before = self._mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(self._threads))
        self._mkl.pardiso(
            handle, by(one), by(one), by(kind), by(ctypes.c_int(phase)), by(size), *arrays, None, by(many),
            options, by(quiet), *pairs, by(error),
        )  # fmt: skip
        self._mkl.MKL_Set_Num_Threads_Local(ctypes.c_int(before))
        return error.value

    def _release(self) -> None:
        if self._values is not None:
            self._call(RELEASE)
        self._values = None

    def __del__(self):
        # an interpreter that ends has no ctypes left, and frees the memory anyway
        if hasattr(self, "_values") and not sys.is_finalizing():
            self._release()


class NGSolve:
    """NGSolve's sparse LDL^T."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, n: int):
        self._rows, self._columns, self._n = rows.tolist(), columns.tolist(), n
        self._inverse = None

    def factorise(self, values: np.ndarray) -> None:
        self._inverse = None  # the old one's memory is free before the new one takes its own
        matrix = ng.la.SparseMatrixd.CreateFromCOO(
            self._columns, self._rows, ng.Vector(values), self._n, self._n
        )
        try:
            with ng.TaskManager():
                self._inverse = matrix.Inverse(inverse="sparsecholesky")
        except ng.NgException as error:
            raise Singular(str(error)) from error

    def sharpen(self) -> bool:
        return False

    def solve(self, rights: np.ndarray) -> np.ndarray:
        given, into, found = ng.BaseVector(self._n), ng.BaseVector(self._n), np.empty_like(rights)
        for row, right in enumerate(rights):
            given.FV().NumPy()[:] = right
            into.data = self._inverse * given
            found[row] = into.FV().NumPy()
        return found


class Mumps:
    """MUMPS, LDL^T with pivoting; the order of elimination is found once."""

    def __init__(
        self,
        rows: np.ndarray,
        columns: np.ndarray,
        n: int,
        threads: int = 1,
        blocks: np.ndarray | None = None,
    ):
        self._library = ctypes.CDLL(str(mumps_library()))
        self._pattern = [np.ascontiguousarray(part + 1, dtype=np.int32) for part in (rows, columns)]
        self._data = data = _Structure(sym=2, par=1, comm_fortran=-987654)
        self._call(-1)
        if data.version_number != MUMPS_VERSION:
            version = data.version_number.decode(errors="replace")
            raise ImportError(
                f"CasADi has MUMPS {version}, not {MUMPS_VERSION.decode()}; install casadi 3.8.2"
            )
        data.icntl[0:4] = [-1, -1, -1, 0]  # no output
        data.icntl[6] = 5  # METIS
        data.icntl[34], data.cntl[6] = 2, COMPRESSION
        data.icntl[13], data.icntl[36] = ROOM_PERCENT, int(n > LARGE)
        data.icntl[15] = threads
        data.n, data.nnz = n, len(rows)
        data.irn, data.jcn = (part.ctypes.data for part in self._pattern)
        if blocks is not None:
            self._blocks = np.ascontiguousarray(blocks + 1, dtype=np.int32)
            data.icntl[14], data.nblk, data.blkptr = 1, len(blocks) - 1, self._blocks.ctypes.data
        if self._call(1) < 0:
            raise Singular(f"MUMPS error {data.infog[0]} in the analysis")

    def factorise(self, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise Singular("the matrix is not finite")
        given = np.ascontiguousarray(values, dtype=float)
        self._data.a = given.ctypes.data
        while self._call(2) in (-8, -9):  # more delayed pivots than the estimate had room for
            self._data.icntl[13] *= 2
        if self._data.infog[0] < 0:
            raise Singular(f"MUMPS error {self._data.infog[0]}")

    def sharpen(self) -> bool:
        if self._data.cntl[6] == 0:
            return False
        self._data.cntl[6] = 0.0 if self._data.cntl[6] < COMPRESSION else COMPRESSION**2
        return True

    def solve(self, rights: np.ndarray) -> np.ndarray:
        found = np.array(rights, dtype=float, order="C")
        self._data.rhs, (self._data.nrhs, self._data.lrhs) = found.ctypes.data, found.shape
        if self._call(3) < 0:
            raise Singular(f"MUMPS error {self._data.infog[0]}")
        return found

    def _call(self, job: int) -> int:
        self._data.job = job
        self._library.dmumps_c(ctypes.byref(self._data))
        return self._data.infog[0]

    def __del__(self):
        if hasattr(self, "_data") and not sys.is_finalizing():
            self._call(-2)


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


_INT, _LONG, _REAL, _POINTER, _CHAR = (
    ctypes.c_int, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p, ctypes.c_char,
)  # fmt: skip


class _Structure(ctypes.Structure):
    """DMUMPS_STRUC_C of MUMPS_VERSION (dmumps_c.h, which CasADi's wheel has)."""

    _fields_ = (
        *_fields(_INT, "sym par job comm_fortran"),
        *_fields(_INT * 60, "icntl"),
        *_fields(_INT * 500, "keep"),
        *_fields(_REAL * 15, "cntl"),
        *_fields(_REAL * 230, "dkeep"),
        *_fields(_LONG * 150, "keep8"),
        *_fields(_INT, "n nblk nz_alloc nz"),
        *_fields(_LONG, "nnz"),
        *_fields(_POINTER, "irn jcn a"),
        *_fields(_INT, "nz_loc"),
        *_fields(_LONG, "nnz_loc"),
        *_fields(_POINTER, "irn_loc jcn_loc a_loc"),
        *_fields(_INT, "nelt"),
        *_fields(_POINTER, "eltptr eltvar a_elt blkptr blkvar perm_in sym_perm uns_perm colsca rowsca"),
        *_fields(_INT, "colsca_from_mumps rowsca_from_mumps"),
        *_fields(_POINTER, "colsca_loc rowsca_loc rowind colind pivots"),
        *_fields(_POINTER, "rhs redrhs rhs_sparse sol_loc rhs_loc rhsintr"),
        *_fields(_POINTER, "irhs_sparse irhs_ptr isol_loc irhs_loc glob2loc_rhs glob2loc_sol"),
        *_fields(_INT, "nrhs lrhs lredrhs nz_rhs lsol_loc nloc_rhs lrhs_loc nsol_loc"),
        *_fields(_INT, "schur_mloc schur_nloc schur_lld mblock nblock nprow npcol ld_rhsintr"),
        *_fields(_INT * 80, "info infog"),
        *_fields(_REAL * 40, "rinfo rinfog"),
        *_fields(_INT, "deficiency"),
        *_fields(_POINTER, "pivnul_list mapping singular_values"),
        *_fields(_INT, "size_schur"),
        *_fields(_POINTER, "listvar_schur schur wk_user"),
        *_fields(_CHAR * 32, "version_number"),
        *_fields(_CHAR * 1024, "ooc_tmpdir"),
        *_fields(_CHAR * 256, "ooc_prefix"),
        *_fields(_CHAR * 1024, "write_problem"),
        *_fields(_INT, "lwk_user"),
        *_fields(_CHAR * 1024, "save_dir"),
        *_fields(_CHAR * 256, "save_prefix"),
        *_fields(_INT * 40, "metis_options"),
    )
