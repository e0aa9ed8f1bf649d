"""Universal ventricular coordinates by name and range, from Cobiveco's. Owned by the inputs stage.

UVC: Bayer et al., Med Image Anal 45:83 (2018). z: 0 apex, 1 base. rho: 0 endocardium, 1 epicardium; the
septum belongs to the left ventricle, from 0 on its left to 1 on its right side. phi: in the left ventricle 0
in the middle of the septum, pi/2 at the anterior and -pi/2 at the posterior junction, pi in the middle of the
free wall; in the right one 0 in the middle of the free wall. ven: -1 left, 1 right.

The values come from the coordinates that the mesh has, not from the solutions that define UVC: z is another
function of height, and rho jumps by up to 1/2 where the septum meets the free walls.
"""

import numpy as np

from ..mesh.model import REGIONS, BiventricularModel

LEFT, RIGHT = -1, 1


def uvc(model: BiventricularModel) -> dict[str, np.ndarray]:
    """z, rho, phi and ven on nodes (N,); the model must have coordinates."""
    fields = model.coordinates
    septal, left = (_nodes_of(model, *names) for names in (("septum",), ("lv", "septum")))
    inwards = fields.node_transmural
    half = np.where(fields.node_transventricular == 0, -inwards, inwards) / 2
    return {
        "z": fields.node_apicobasal,
        "rho": np.where(septal, 0.5 + half, 1 - inwards),
        "phi": angle(fields.node_rotational, left),
        "ven": np.where(left, LEFT, RIGHT),
    }


def angle(rotational: np.ndarray, left: np.ndarray) -> np.ndarray:
    """phi in (-pi, pi] of Cobiveco's rotational coordinate (N,), in the left ventricle or not."""
    septal = rotational > 2 / 3
    of_septum = np.pi / 2 - 3 * np.pi * (rotational - 2 / 3)
    of_free_wall = 1.5 * np.pi * (1 - rotational)
    phi = np.where(septal, of_septum, np.where(left, of_free_wall, 1.5 * np.pi * rotational - np.pi / 2))
    return np.where(phi > np.pi, phi - 2 * np.pi, phi)


def _nodes_of(model: BiventricularModel, *regions: str) -> np.ndarray:
    """Whether each node (N,) belongs to a tetrahedron of these regions."""
    inside = np.zeros(len(model.points_mm), dtype=bool)
    inside[model.tets[np.isin(model.region, [REGIONS[name] for name in regions])]] = True
    return inside
