"""Maps coarser than the grid: refined without moving anything, mended within bounds, not made whole by it."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cardiocohort.anatomy.label_map import LabelMap, read_label_map
from cardiocohort.anatomy.moments import measure_labels
from cardiocohort.label_maps.coarse_maps import bring_to_spacing, is_coarse, refine
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import examine, load_rules
from heart_anatomy import HEART, HEART_GRID
from resampled import resample

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
TEMPLATES = sorted((RESOURCES / "templates").glob("*.nii.gz"))
RULES = load_rules(RESOURCES / "anatomies/heart/topology.tsv", HEART)
EVERY_TEMPLATE = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])


@cache
def template(path):
    return read_label_map(path, HEART)


def brought(label_map):
    return bring_to_spacing(label_map, HEART, HEART_GRID, RULES)


def reasons(label_map):
    rules = RULES.for_scans(set(np.unique(label_map.labels)))
    return examine(label_map.labels, label_map.spacing_mm, HEART, rules).reasons


def ellipsoid(spacing_mm):
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip((30, 28, 26), spacing_mm, strict=True)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return LabelMap((np.sum((x / [24, 18, 21]) ** 2, axis=-1) < 1).astype(np.uint8), affine)


@pytest.mark.parametrize("spacing_mm", [(3.0, 3.0, 3.0), (5.0, 5.0, 5.0), (1.5, 1.5, 4.0)], ids=str)
def test_refining_moves_and_grows_nothing(spacing_mm):
    coarse = ellipsoid(spacing_mm)
    fine = refine(coarse, 2.0)
    assert fine.spacing_mm == tuple(min(s, 2.0) for s in spacing_mm)
    before, after = (measure_labels(m.labels, [(1,)], m.axes_mm) for m in (coarse, fine))
    assert after.volume_ml[0] == pytest.approx(before.volume_ml[0], rel=0.004 * max(spacing_mm))
    np.testing.assert_allclose(after.centroid_mm, before.centroid_mm, atol=0.1)
    # linear interpolation blurs by a triangle, of variance h^2 / 6
    blur = max(spacing_mm) ** 2 / 6
    np.testing.assert_allclose(after.covariance_mm2, before.covariance_mm2, rtol=0, atol=blur)
    for n, s, m, t in zip(fine.labels.shape, fine.spacing_mm, coarse.labels.shape, spacing_mm, strict=True):
        assert 0 <= n * s - m * t < s  # the field, and no voxel more


def test_structures_meet_without_a_crack():
    """Two halves of a block stay face to face, and what was nowhere background is not after it."""
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:6, 2:10, 2:10], labels[6:10, 2:10, 2:10] = 1, 2
    fine = refine(LabelMap(labels, np.diag([3.0, 3.0, 3.0, 1.0])), 2.0).labels
    inside = ndimage.binary_fill_holes(fine > 0)
    np.testing.assert_array_equal(inside, fine > 0)
    found = ndimage.find_objects((fine > 0).astype(np.uint8))[0]
    assert (fine[found] > 0).all()


def test_a_field_beyond_memory_is_refused():
    huge = LabelMap(np.ones((300, 300, 300), np.uint8), np.diag([20.0, 20.0, 20.0, 1.0]))
    with pytest.raises(InputError, match=r"6000 x 6000 x 6000 mm is too large"):
        refine(huge, 2.0)


@EVERY_TEMPLATE
@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_maps_as_fine_as_the_grid_are_left_alone(path, spacing_mm):
    own = template(path) if spacing_mm == 2.0 else resample(template(path), spacing_mm)
    out, changes = brought(own)
    assert not is_coarse(own, HEART_GRID)
    assert out is own
    assert changes == ()
    assert reasons(out) == ()


@EVERY_TEMPLATE
@pytest.mark.parametrize("how", ["nearest", "smooth"])
@pytest.mark.parametrize(
    "shift",
    [0.0, 1 / 6, *(pytest.param(s, marks=pytest.mark.long) for s in (1 / 3, 0.5, 0.7, 0.9))],
    ids="{:.2f}".format,
)
def test_templates_on_3_mm_voxels_pass_after_bounded_repairs(path, how, shift):
    """Wherever the grid lies: at the field's corner, on the first voxel, anywhere."""
    coarse = resample(template(path), 3.0, shift, how)
    out, changes = brought(coarse)
    assert reasons(out) == (), changes
    assert out.spacing_mm == (2.0, 2.0, 2.0)
    assert "refined from 3 x 3 x 3 mm to 2 x 2 x 2 mm" in changes
    told = sum(float(line.split("(")[1].split()[0]) for line in changes if " mL)" in line)
    assert told < 1.0
    groups = [(HEART.label(name),) for name in HEART.centred_on]
    was, is_now = (measure_labels(m.labels, groups, m.axes_mm) for m in (coarse, out))
    np.testing.assert_allclose(is_now.volume_ml, was.volume_ml, rtol=0.02)
    np.testing.assert_allclose(is_now.centroid_mm, was.centroid_mm, atol=0.5)


VEINS = ("superior_vena_cava", "inferior_vena_cava", "pulmonary_vein")


@EVERY_TEMPLATE
@pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("missing", [VEINS[2:], VEINS], ids=["pulmonary veins", "all veins"])
def test_veins_may_be_missing(path, spacing_mm, missing):
    """In a scan; of a generated heart they are asked for."""
    own = resample(template(path), spacing_mm)
    gone = np.isin(own.labels, [HEART.label(name) for name in missing])
    out, _ = brought(LabelMap(np.where(gone, 0, own.labels).astype(np.uint8), own.affine))
    assert reasons(out) == ()
    of_generated = examine(out.labels, out.spacing_mm, HEART, RULES).reasons
    assert {f"volume.{name}" for name in missing} <= {reason.split(":")[0] for reason in of_generated}


def test_a_vein_that_is_there_is_held_to_its_rules():
    own = template(TEMPLATES[1])
    labels = own.labels.copy()
    vein = np.argwhere(labels == HEART.label("pulmonary_vein"))
    labels[tuple(vein[40:].T)] = 0
    found = reasons(LabelMap(labels, own.affine))
    assert any(reason.startswith("volume.pulmonary_vein") for reason in found)


# --- what a coarse map lacks is not made up ---


def pierced(coarse, wide, filling):
    """The wall pierced where it is farthest from the valves, by a straight hole from cavity to cavity."""
    labels = coarse.labels
    left, right, wall = (
        labels == HEART.label(s) for s in ("left_ventricle", "right_ventricle", "myocardium")
    )
    valves = np.isin(labels, [HEART.label(s) for s in ("aorta", "left_atrium", "pulmonary_artery")])
    away = ndimage.distance_transform_edt(~valves)
    to_right, nearest = ndimage.distance_transform_edt(~right, return_indices=True)
    inner = left & ndimage.binary_dilation(wall) & (to_right < 8)
    place = np.argwhere(inner)[np.argmax(away[inner])]
    end = nearest[(slice(None), *place)]
    line = np.unique(np.rint(place + np.linspace(0, 1, 80)[:, None] * (end - place)).astype(int), axis=0)
    hole = np.zeros(labels.shape, bool)
    hole[tuple(line.T)] = True
    # the line's voxels meet over edges: a hole that blood goes through has faces in common
    hole = ndimage.binary_dilation(hole, iterations=wide) & wall
    out = labels.copy()
    out[hole] = 0 if filling == "background" else HEART.label(filling)
    return LabelMap(out, coarse.affine)


@EVERY_TEMPLATE
@pytest.mark.parametrize("how", ["nearest", "smooth"])
@pytest.mark.parametrize("wide", [1, 2])
@pytest.mark.parametrize("filling", ["left_ventricle", "right_ventricle", "background"])
def test_a_septum_pierced_on_3_mm_voxels_is_rejected(path, how, wide, filling):
    """Neither the repairs nor the refining close it: the map stays as it is, with what is wrong told."""
    broken = pierced(resample(template(path), 3.0, how=how), wide, filling)
    out, changes = brought(broken)
    assert out is broken
    assert all(line.startswith("left as it is: leak.left_ventricle") for line in changes)
    assert any(reason.startswith("leak.left_ventricle.myocardium") for reason in reasons(out))


@EVERY_TEMPLATE
def test_a_free_wall_pierced_on_3_mm_voxels_is_rejected(path):
    """Holes at random places of the free wall, wherever they are farther from the valves than their rims."""
    coarse = resample(template(path), 3.0)
    blood, wall = (coarse.labels == HEART.label(s) for s in ("left_ventricle", "myocardium"))
    openings = np.isin(coarse.labels, [HEART.label(s) for s in ("aorta", "left_atrium")])
    away = 3.0 * ndimage.distance_transform_edt(~openings)
    inner = np.argwhere(blood & ndimage.binary_dilation(wall) & (away > 22))
    _, outside = ndimage.distance_transform_edt(blood | wall, return_indices=True)
    for place in inner[np.random.default_rng(0).permutation(len(inner))[:6]]:
        step = outside[(slice(None), *place)] - place
        line = np.unique(np.rint(place + np.linspace(0, 1, 60)[:, None] * step).astype(int), axis=0)
        hole = np.zeros(coarse.labels.shape, bool)
        hole[tuple(line.T)] = True
        hole = ndimage.binary_dilation(hole) & wall
        broken = LabelMap(np.where(hole, 0, coarse.labels).astype(np.uint8), coarse.affine)
        assert reasons(brought(broken)[0]), place
