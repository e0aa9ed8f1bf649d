"""The equations of a passive inflation at finite strain. Owned by the simulation stage.

Unknowns are displacements of second order (mm) and a continuous pressure of first order (kPa): Taylor-Hood
elements, which do not lock where displacements alone would. The energy is

    W(J^(-2/3) C) + p (J - 1) - p^2 / (2 kappa)

whose pressure is kappa (J - 1), so that it stands for kappa / 2 (J - 1)^2, and for incompressibility where
kappa is infinite. Pressures follow the surface: the traction on a facet with outward normal N is
-lambda p cof(F) N, lambda being the share of the load.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import ngsolve as ng
import numpy as np

from .materials import Law

# four points a tetrahedron, as is customary with ten nodes: exact for the strains of a linear problem
QUADRATURE_ORDER = 2


@dataclass(frozen=True)
class Spring:
    """Springs on a boundary (kPa/mm), in all directions or along its undeformed normal alone."""

    boundary: str
    kpa_per_mm: float
    normal: bool = False


@dataclass(frozen=True)
class Problem:
    """`form` is the residual at the share `share` of the load, `load` its derivative by that share.

    state: displacement and pressure; free (ndof,): whether an unknown is not prescribed. `compressed`: share
    of their stiffness that shortened fibres keep, 0 but on the way to the first step (`continuation`); None
    in a material that has no such thing.
    """

    mesh: ng.Mesh
    state: ng.GridFunction
    form: ng.BilinearForm
    load: ng.BilinearForm
    share: ng.Parameter
    free: np.ndarray
    pressures_kpa: dict[str, float]
    compressed: ng.Parameter | None = None

    @property
    def displacement(self) -> ng.GridFunction:
        return self.state.components[0]

    @property
    def n_displacements(self) -> int:
        return self.displacement.space.ndof

    @property
    def diagonal_mm(self) -> float:
        """Of the undeformed body's box."""
        corners = np.array([vertex.point for vertex in self.mesh.vertices])
        return float(np.linalg.norm(np.ptp(corners, axis=0)))


def problem(
    mesh: ng.Mesh,
    law: Law,
    bulk_kpa: float,
    pressures_kpa: dict[str, float],
    fixed: dict[str, str],
    springs: Iterable[Spring] = (),
    compressed: ng.Parameter | None = None,
) -> Problem:
    """State an inflation at rest.

    pressures_kpa: full load by boundary; fixed: boundary -> axes that do not move there ("xyz", "x", ...);
    compressed: of `law`.
    """
    held = {f"dirichlet{axis}": "|".join(b for b, axes in fixed.items() if axis in axes) for axis in "xyz"}
    displacements = ng.VectorH1(mesh, order=2, **{key: names for key, names in held.items() if names})
    space = displacements * ng.H1(mesh, order=1)
    (u, p), (v, _) = space.TnT()
    gradient = ng.Id(3) + ng.Grad(u)
    volume = ng.Det(gradient)
    energy = law(volume ** (-2 / 3) * (gradient.trans * gradient)) + p * (volume - 1)
    if np.isfinite(bulk_kpa):
        energy = energy - p * p / (2 * bulk_kpa)
    rule = {ng.TET: ng.IntegrationRule(ng.TET, QUADRATURE_ORDER)}
    form = ng.BilinearForm(space)
    form += ng.Variation(energy.Compile() * ng.dx(intrules=rule))
    normal = ng.specialcf.normal(3)
    for spring in springs:
        pull = (u * normal) * (v * normal) if spring.normal else u * v
        form += spring.kpa_per_mm * pull * ng.ds(spring.boundary)
    # the area vector needs tangential derivatives only, which is what a boundary has
    area = ng.Cof(ng.Id(3) + ng.Grad(u).Trace()) * normal
    share, load = ng.Parameter(0.0), ng.BilinearForm(space)
    for boundary, kpa in pressures_kpa.items():
        form += (share * kpa * ng.InnerProduct(area, v.Trace())).Compile() * ng.ds(boundary)
        load += (kpa * ng.InnerProduct(area, v.Trace())).Compile() * ng.ds(boundary)
    free = np.array(list(space.FreeDofs()), dtype=bool)
    return Problem(mesh, ng.GridFunction(space), form, load, share, free, dict(pressures_kpa), compressed)
