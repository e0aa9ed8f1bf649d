"""Label maps coarser than the anatomy's grid, brought to its spacing. Owned by the generation stage.

On voxels of 3 mm a thin wall hangs together over edges and corners only, and what the gate and the mesher
take for thin or missing there is a matter of the voxels. So such a map is repaired where a dozen of its own
voxels are wrong, refined, and repaired again; every step is listed. What it truly lacks must not be hidden by
that: a map whose wall leaks far from the openings is left as it is, for the gate to refuse.
"""

import numpy as np
from scipy import ndimage

from .. import topology
from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy, Grid
from ..runtime.errors import InputError

MAX_VOXELS = 2**27  # a cube of one metre
TIE = 1e-4  # difference of shares
SAME = 1.001  # times the grid's spacing: rounding of a header
NEVER_HIDDEN = "leak"  # kind of rule that holds for the map as it is, or it stays so


def is_coarse(label_map: LabelMap, grid: Grid) -> bool:
    """Whether a voxel is longer than the grid's along some axis."""
    return max(label_map.spacing_mm) > SAME * grid.spacing_mm


def bring_to_spacing(
    label_map: LabelMap, anatomy: Anatomy, grid: Grid, rules: topology.Rules
) -> tuple[LabelMap, tuple[str, ...]]:
    """A coarse `label_map` with voxels no longer than the grid's, and one line for everything done.

    Repairs are those of `rules`, whose bounds, meant for the grid's voxels, grow with the volume of a voxel,
    so that a dozen voxels stay a dozen. A map that is not coarse, or leaks, is returned as it is.
    """
    if not is_coarse(label_map, grid):
        return label_map, ()
    leaks = topology.examine(
        label_map.labels, label_map.spacing_mm, anatomy, rules.of_kind(NEVER_HIDDEN)
    ).reasons
    if leaks:
        return label_map, tuple(f"left as it is: {reason}" for reason in leaks)
    larger = rules.for_coarse_maps(max(1.0, np.prod(label_map.spacing_mm) / grid.spacing_mm**3))
    repaired, first = topology.repair(label_map.labels, label_map.spacing_mm, anatomy, larger)
    fine = refine(LabelMap(repaired, label_map.affine), grid.spacing_mm)
    span = int(np.ceil(max(label_map.spacing_mm) / grid.spacing_mm))
    labels, second = topology.repair(fine.labels, fine.spacing_mm, anatomy, larger, span)
    old = " x ".join(f"{mm:g}" for mm in label_map.spacing_mm)
    new = " x ".join(f"{mm:g}" for mm in fine.spacing_mm)
    return LabelMap(labels, fine.affine), (*first, f"refined from {old} mm to {new} mm", *second)


def refine(label_map: LabelMap, spacing_mm: float) -> LabelMap:
    """`label_map` on voxels of at most `spacing_mm` along every axis, over the same field.

    Each label's indicator is interpolated linearly and the largest share wins, background being a label like
    others: outlines become slopes, volumes stay. A Gaussian before would round more, but opens walls of
    one voxel, and cavities of two templates then touch.
    """
    old, labels = np.array(label_map.spacing_mm), label_map.labels
    step = np.where(old > SAME * spacing_mm, spacing_mm, old)
    shape = np.ceil(labels.shape * old / step - 1e-6).astype(int)
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        field = " x ".join(f"{mm:.0f}" for mm in labels.shape * old)
        raise InputError(
            f"its field of {field} mm is too large for voxels of {spacing_mm:g} mm; crop it to the heart"
        )
    # the field grows by less than a voxel, alike on both sides
    overhang = (shape * step - labels.shape * old) / 2
    first = (step - old) / 2 - overhang  # from the centre of the first old voxel to that of the first new one
    best, total = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    refined = np.zeros(shape, np.uint8)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        # new voxels between the old ones on both sides of the structure, and no others: fields are large
        ends = [
            (np.array([s.start - 1, s.stop]) * o - f) / n
            for s, o, f, n in zip(box, old, first, step, strict=True)
        ]
        low = np.maximum(np.floor([e[0] for e in ends]).astype(int), 0)
        high = np.minimum(np.ceil([e[1] for e in ends]).astype(int) + 1, shape)
        share = ndimage.affine_transform(
            (labels == label).astype(np.float32),
            step / old,
            (first + low * step) / old,
            output_shape=tuple(high - low),
            order=1,
            mode="nearest",
        )
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        total[here] += share
        # many new voxels lie halfway between two labels: every other one of them goes to each
        odd = np.indices(share.shape, sparse=True)
        odd = (sum(odd) + sum(s.start for s in here)) % 2 == 1
        tied = (np.abs(share - best[here]) <= TIE) & (best[here] > 0)
        more = np.where(tied, odd, share > best[here])
        best[here][more], refined[here][more] = share[more], label
    refined[1 - total > best] = 0
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = label_map.affine[:3, 3] + first
    return LabelMap(refined, affine)
