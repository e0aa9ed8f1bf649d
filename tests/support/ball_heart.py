"""A heart of balls and tubes: volumes of its walls are known, and it takes seconds to mesh."""

import numpy as np

from cardiocohort.anatomy.label_map import LabelMap
from heart_anatomy import HEART

SHAPE = np.array([56, 44, 64])
CENTRES = {
    "left_ventricle": (-18.0, 0.0, -12.0),
    "right_ventricle": (20.0, 0.0, -12.0),
    "left_atrium": (-24.0, 0.0, 16.0),
    "right_atrium": (26.0, 0.0, 16.0),
}
RADIUS_MM, MUSCLE_MM = 15.0, 8.0
TUBES = {"aorta": -8.0, "pulmonary_artery": 8.0}  # x of their axes, upward, cut flat


def heart() -> LabelMap:
    """Four balls of blood, the left ventricle in muscle, and two upright tubes."""
    index = np.indices(SHAPE).reshape(3, -1).T.reshape(*SHAPE, 3)
    at = 2.0 * (index - (SHAPE - 1) / 2)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    distance = {name: np.linalg.norm(at - centre, axis=-1) for name, centre in CENTRES.items()}
    labels[distance["left_ventricle"] < RADIUS_MM + MUSCLE_MM] = HEART.label("myocardium")
    for name, x in TUBES.items():
        tube = (np.hypot(at[..., 0] - x, at[..., 1]) < 7) & (at[..., 2] > -4) & (at[..., 2] < 45)
        labels[tube] = HEART.label(name)
    for name in reversed(CENTRES):
        labels[distance[name] < RADIUS_MM] = HEART.label(name)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = at[0, 0, 0]
    return LabelMap(labels, affine)
