"""The stress-free geometry whose inflation gives the image. Owned by the simulation stage.

In an inflation corners X are known and their deformed places x are not. Here x are the image's nodes and X
are unknown, along with midside displacements and pressures: inverse elastostatics (Govindjee & Mihalic,
Comput Methods Appl Mech Eng 136:47, 1996). The equations are the inflation's own, so that an inflation of
what is found gives the image. A Newton-Krylov method solves them, whose derivatives are differences of
residuals (Knoll & Keyes, J Comput Phys 193:357, 2004). Its preconditioner is the inflation's tangent with
the corners' sign changed, which would be exact if forces depended on x - X alone.

Fibres and sheets are those of the image, pulled back: at end-diastole they lie as the fibre rule says.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

from ..mesh.model import DIRECTIONS, BiventricularModel, Microstructure
from .elements import Solid
from .factors import Singular, blas_on_one_thread
from .newton import GROWTH, HALVINGS, LARGEST_UPDATE, OVER_LOAD, Diverged, Tangent
from .problem import Problem
from .settings import SimulationSettings

log = logging.getLogger(__name__)

ITERATIONS = 12
TRIAL = 4  # iterations after which balance must be nearer than after the first one
RESIDUAL = 1e-5  # of the load's norm, of the stated law; on the way
RESIDUAL_ON_THE_WAY = 1e-2
KRYLOV_AIM, KRYLOV_STEPS = 2e-2, 40
KEEP_FACTORS = 10  # Krylov steps up to which factors serve another iteration
DIFFERENCE = 1e-7  # of the body's diagonal, largest displacement in a difference of residuals
LEAST_VOLUME_RATIO = 0.05  # of an unloaded tetrahedron, or cavity, to the image's
LEAST_STEP = 0.01  # share of the load within which the largest that can be taken off is then known


@dataclass(frozen=True)
class Unloading:
    """How the search ended, at a share of the load.

    shift (N, 3): from each corner to its stress-free place (mm). A search that is not `complete` says why in
    `reason`; its shift unloads `share` of the load.
    """

    complete: bool
    shift: np.ndarray
    share: float
    iterations: int
    halvings: int
    factorisations: int
    reason: str = ""


def unload(problem: Problem, settings: SimulationSettings) -> Unloading:
    """The stress-free geometry of a body that is the problem's mesh at its full load.

    The load is taken off in one step; a step that fails is halved, `settings.max_halvings` times in a row,
    and not below LEAST_STEP once a part is taken off.
    """
    with blas_on_one_thread():
        return _search(problem, settings)


def stress_free(model: BiventricularModel, shift: np.ndarray) -> BiventricularModel:
    """The model with its corners at `shift` (N, 3) from where they were, fibres pulled back with them."""
    moved = replace(model, points_mm=model.points_mm + shift)
    if model.microstructure is None:
        return moved
    edges, new = (_edges(points, model.tets) for points in (model.points_mm, moved.points_mm))
    gradient = new @ np.linalg.inv(edges)
    weights = np.repeat(model.tet_volumes_mm3, 4)
    at_nodes = np.zeros((len(shift), 3, 3))
    np.add.at(at_nodes, model.tets.ravel(), weights[:, None, None] * np.repeat(gradient, 4, axis=0))
    micro, directions = model.microstructure, []
    for prefix, change in (("", gradient), ("node_", at_nodes)):
        old = np.stack([getattr(micro, prefix + name) for name in DIRECTIONS], axis=-1).astype(float)
        frames = _orthonormal(change @ old)
        frames[..., 2] *= np.sign(np.linalg.det(old))[:, None]
        directions += [frames[..., axis] for axis in range(3)]
    return replace(moved, microstructure=Microstructure(*directions))


def pulled_back(
    frames: np.ndarray, image: BiventricularModel, model: BiventricularModel, order: np.ndarray
) -> np.ndarray:
    """Directions (M, Q, 3, 3) within tets `order` of the image, as they lie in its stress-free model."""
    edges, new = (_edges(some.points_mm, image.tets[order]) for some in (image, model))
    return _orthonormal((new @ np.linalg.inv(edges))[:, None] @ frames)


class _Inverse:
    """The inverse problem at a share of the load. Unknowns are the inflation's, those of corners being
    shifts: the corner's displacement is minus its shift, since its deformed place is known."""

    def __init__(self, problem: Problem, share: float):
        self.problem, self.share, n = problem, share, problem.n_displacements
        corners = np.zeros((3, n // 3), bool)
        corners[:, : problem.mesh.nv] = True
        self.corners = np.zeros(len(problem.free), bool)
        self.corners[:n] = corners.ravel()
        self.sign = np.where(self.corners, -1.0, 1.0)

    def body(self, unknowns: np.ndarray) -> tuple[Problem, np.ndarray]:
        """The inflation from the stress-free geometry, and its state. Diverged where it has no volume."""
        shift = np.where(self.corners, unknowns, 0.0)[: self.problem.n_displacements]
        return _referred(self.problem, shift), self.sign * unknowns

    def residual(self, unknowns: np.ndarray) -> np.ndarray:
        body, state = self.body(unknowns)
        return body.residual(state, self.share)


def _search(problem: Problem, settings: SimulationSettings) -> Unloading:
    tangent = Tangent.of(problem)
    unknowns, share, step = np.zeros(len(problem.free)), 0.0, 1.0
    slope = np.zeros_like(unknowns)  # of the unknowns by the share, from the last two
    iterations = halvings = in_a_row = 0
    reason = ""
    laws = (*problem.approach, problem.law)
    while share < 1.0:
        target = min(1.0, share + step)
        new = unknowns + (target - share) * slope
        try:
            for law in laws:
                stage = _Inverse(replace(problem, law=law), target)
                new, used = _newton(stage, tangent, new, RESIDUAL if law is laws[-1] else RESIDUAL_ON_THE_WAY)
                iterations += used
        except Diverged as error:
            log.info("unloading, share %.4f: %s; the step is halved", target, error)
            reason, halvings, in_a_row, step = str(error), halvings + 1, in_a_row + 1, step / 2
            tangent.factorised = False
            if in_a_row > settings.max_halvings or (share > 0 and step < LEAST_STEP):
                break
            continue
        log.info("unloading, share %.4f: %d iterations so far", target, iterations)
        slope = (new - unknowns) / (target - share)
        unknowns, share, reason, in_a_row = new, target, "", 0
    shift = unknowns[: problem.n_displacements].reshape(3, -1)[:, : problem.mesh.nv].T.copy()
    return Unloading(not reason, shift, share, iterations, halvings, tangent.factorisations, reason)


def _newton(inverse: _Inverse, tangent: Tangent, unknowns: np.ndarray, aim: float) -> tuple[np.ndarray, int]:
    """Unknowns at balance and the iterations; Diverged."""
    problem, free = inverse.problem, inverse.problem.free
    diagonal, n = problem.diagonal_mm, problem.n_displacements
    load = inverse.share * np.linalg.norm(problem.load(np.zeros(len(free))))
    out = inverse.residual(unknowns)
    for iteration in range(1, ITERATIONS + 1):
        step = _update(inverse, tangent, unknowns, out)
        largest = np.abs(step[:n]).max() / diagonal
        if not np.isfinite(largest):
            raise Diverged("the tangent could not be solved")
        part = min(1.0, 2 * LARGEST_UPDATE / largest) if largest else 1.0
        bound = max(GROWTH * np.linalg.norm(out), OVER_LOAD * load)
        for _ in range(HALVINGS):
            new = unknowns + part * step
            try:
                found = inverse.residual(new)
                size = np.linalg.norm(found)
            except Diverged:
                size = np.inf
            if size <= bound:
                break
            part /= 2
        else:
            raise Diverged("the unloaded geometry folds")
        unknowns, out = new, found
        if iteration == 1:
            begun = size
        if iteration >= TRIAL and size > begun:
            raise Diverged(f"the residual has grown in {iteration} iterations")
        log.info("unloading: residual %.2e of the load, update %.2e", size / load, part * largest)
        if size <= aim * load and part == 1.0:
            return unknowns, iteration
    raise Diverged(f"no stress-free geometry within {ITERATIONS} iterations")


def _update(inverse: _Inverse, tangent: Tangent, unknowns: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Newton's update (ndof,)."""
    free, n = inverse.problem.free, inverse.problem.n_displacements
    size, used = int(free.sum()), 0

    def spread(values: np.ndarray) -> np.ndarray:
        all_of_them = np.zeros(len(free))
        all_of_them[free] = values
        return all_of_them

    def times(values: np.ndarray) -> np.ndarray:
        nonlocal used
        used += 1
        along = spread(values)
        h = DIFFERENCE * inverse.problem.diagonal_mm / max(np.abs(along[:n]).max(), 1e-30)
        return ((inverse.residual(unknowns + h * along) - out) / h)[free]

    def before(values: np.ndarray) -> np.ndarray:
        return (inverse.sign * tangent.precondition(spread(values)))[free]

    def operator(function) -> LinearOperator:
        return LinearOperator((size, size), matvec=function, dtype=float)

    if not tangent.factorised:
        try:
            tangent.assemble(*inverse.body(unknowns), inverse.share)
            tangent.factors.factorise(tangent.values)
        except Singular as error:
            raise Diverged(f"the tangent could not be factorised ({error})") from error
        tangent.factorised, tangent.factorisations = True, tangent.factorisations + 1
    found, _ = gmres(
        operator(times), -out[free], M=operator(before), rtol=KRYLOV_AIM, restart=KRYLOV_STEPS, maxiter=1
    )
    tangent.factorised = used <= KEEP_FACTORS
    return spread(found)


def _referred(problem: Problem, shift: np.ndarray) -> Problem:
    """The body with its stress-free corners at `shift` (n,) from the mesh's; displacements start there.

    Raises Diverged where a tetrahedron has no volume.
    """
    solid, surface = problem.solid, problem.surface
    along = solid.deformation(shift)
    ratio = np.linalg.det(along)
    if not ratio.min() > LEAST_VOLUME_RATIO:
        raise Diverged(f"the unloaded geometry folds: a tetrahedron has {ratio.min():.2g} of its volume")
    # straight edges: an element's axes move alike at all its points
    axes = _orthonormal(along[:, : solid.axes.shape[1]])
    turned = np.linalg.inv(along) @ axes
    slopes = turned.swapaxes(-1, -2) @ solid.slopes
    moved = Solid(solid.dofs, axes, slopes, solid.weights * ratio, solid.pressures)
    return replace(
        problem,
        solid=moved,
        surface=replace(surface, tangents=surface.moved(shift)),
        springs=[some.referred(shift) for some in problem.springs],
        valves=problem.valves and problem.valves.referred(shift),
    )


def _orthonormal(frames: np.ndarray) -> np.ndarray:
    """(..., 3, 3): the first column's direction, the second's across it, and their cross product."""
    fibre = frames[..., 0] / np.linalg.norm(frames[..., 0], axis=-1, keepdims=True)
    sheet = frames[..., 1] - (frames[..., 1] * fibre).sum(axis=-1, keepdims=True) * fibre
    sheet /= np.linalg.norm(sheet, axis=-1, keepdims=True)
    return np.stack([fibre, sheet, np.cross(fibre, sheet)], axis=-1)


def _edges(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """(M, 3, 3): edges from each tetrahedron's first corner as columns."""
    return (points[tets[:, 1:]] - points[tets[:, :1]]).swapaxes(1, 2)
