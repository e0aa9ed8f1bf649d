"""The heart frame and the scanner's coordinates: from one to the other. Owned by meshing; numpy only.

`world_from_heart` (4, 4) is a rigid motion in mm, x_scanner = R x_heart + t, both RAS+ as in NIfTI. Label
maps come into the heart frame by a translation, so that R is the unit matrix today.
"""

from dataclasses import fields, replace

import numpy as np

from ..runtime.errors import SubjectError
from .model import BiventricularModel, Microstructure

FRAMES = ("heart", "scanner")
CONVENTION = "x_scanner = world_from_heart x_heart; RAS+, mm"


def from_origin(origin_mm) -> np.ndarray | None:
    """`world_from_heart` of a heart frame whose origin lies at `origin_mm` (3,) of the scanner's coordinates.

    None where that is not known (NaN): the heart was not scanned.
    """
    if not np.isfinite(origin_mm).all():
        return None
    matrix = np.eye(4)
    matrix[:3, 3] = origin_mm
    return matrix


def in_frame(model: BiventricularModel, frame: str) -> BiventricularModel:
    """The model with points and directions in `frame`, one of FRAMES.

    SubjectError if the model does not know where its heart lay in the scanner.
    """
    if frame == model.frame:
        return model
    if model.world_from_heart is None:
        raise SubjectError(
            "no scanner coordinates",
            "the anatomies table has no origin for this heart (origin_x_mm, origin_y_mm, origin_z_mm); set "
            "meshing.frame: heart",
        )
    motion = model.world_from_heart if frame == "scanner" else np.linalg.inv(model.world_from_heart)
    turn, shift = motion[:3, :3], motion[:3, 3]
    micro = model.microstructure
    if micro is not None:
        turned = {f.name: getattr(micro, f.name) @ turn.T for f in fields(Microstructure)}
        micro = Microstructure(**turned)
    return replace(model, points_mm=model.points_mm @ turn.T + shift, microstructure=micro, frame=frame)
