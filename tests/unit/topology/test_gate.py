"""The gate on hearts: real and warped ones pass, every rule catches its seeded defects.

The defects are made from a rule alone (its kind, structures and bounds) and are run for every rule of the
table, so that a rule of a kind without two defects, or with bounds that let them pass, fails here.
"""

import json
import re
import runpy
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cardiocohort.anatomy import bundle_metadata
from cardiocohort.anatomy.label_map import LabelMap, read_label_map, to_grid, write_label_map
from cardiocohort.anatomy.moments import MOMENT_COLUMNS
from cardiocohort.cohort import stage_tables
from cardiocohort.label_maps.importing import repaired
from cardiocohort.runtime import artifacts, tables
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import Rules, check_batch, examine, load_rules, repair, repairs
from cardiocohort.topology.betti import betti
from cardiocohort.topology.repairs import REPAIRS
from cardiocohort.topology.scene import Scene
from heart_anatomy import HEART, HEART_GRID
from resampled import resample

RESOURCES = Path(__file__).resolve().parents[3] / "resources"
SCRIPT = Path(__file__).resolve().parents[3] / "workflow" / "scripts" / "check_topology.py"
TEMPLATES = sorted((RESOURCES / "templates").glob("*.nii.gz"))
RULES = load_rules(RESOURCES / "anatomies/heart/topology.tsv", HEART)
ALL_LABELS = range(HEART.n_channels)


@cache
def heart(path):
    labels = to_grid(read_label_map(path, HEART), HEART_GRID).labels
    labels.setflags(write=False)
    return labels


def label(name):
    return HEART.label(name)


def warped(labels, seed, spread_mm):
    """A smooth random displacement (normal on 4^3 nodes, cubic between) of slightly blurred structures."""
    rng = np.random.default_rng(seed)
    points = np.indices(labels.shape).astype(np.float32)
    for axis in range(3):
        nodes = rng.normal(0, spread_mm / HEART_GRID.spacing_mm, (4, 4, 4))
        points[axis] += ndimage.zoom(nodes, 24, order=3, grid_mode=True, mode="nearest")
    boxes = [tuple(slice(0, n) for n in labels.shape), *ndimage.find_objects(labels)]
    best, out = np.zeros(labels.shape, np.float32), np.zeros_like(labels)
    for k, box in enumerate(boxes):
        around = tuple(slice(max(s.start - 8, 0), s.stop + 8) for s in box)  # four spreads
        soft = ndimage.gaussian_filter((labels == k).astype(np.float32), 0.6)
        here = ndimage.map_coordinates(soft, points[(slice(None), *around)], order=1)
        better = here > best[around]
        best[around][better], out[around][better] = here[better], k
    return out


# --- seeded defects: (labels, rule) -> labels, or None where the defect cannot be made in this heart ---


def of(labels, structure):
    return np.isin(labels, structure)


def put(labels, mask, value):
    out = labels.copy()
    out[mask] = value
    return out


def depth(mask):
    return ndimage.distance_transform_edt(mask)


def near(mask, voxels):
    """Voxels outside `mask` within `voxels` of it."""
    return (depth(~mask) <= voxels) & ~mask


def slabs(mask, period):
    """Every `period`-th slice (one thick) of the mask across its longest axis."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    axis = int(np.argmax([s.stop - s.start for s in found]))
    index = np.arange(mask.shape[axis]) - found[axis].start
    chosen = index % period == period - 1
    return mask & chosen.reshape([-1 if a == axis else 1 for a in range(3)])


def removed(labels, rule):
    return put(labels, of(labels, rule.structure), 0)


def swallowed(labels, rule):
    """The structure is labelled as its largest neighbour."""
    mask = of(labels, rule.structure)
    around = labels[near(mask, 1)]
    return put(labels, mask, np.bincount(around[around > 0]).argmax())


def shrunken(labels, rule):
    """Only the deepest voxels are left: less than the least volume."""
    mask = of(labels, rule.structure)
    keep = int(0.9 * rule.minimum / HEART_GRID.voxel_volume_ml)
    order = np.sort(depth(mask)[mask])[::-1]
    return put(labels, mask & (depth(mask) <= order[keep]), 0)


def islands(labels, rule):
    out = labels.copy()
    for i in range(int(rule.maximum)):
        out[2 + 4 * i : 4 + 4 * i, 2:4, 2:4] = rule.structure[0]
    return out


def sliced(labels, rule):
    """Cut to slices as a lost stack of images would."""
    mask = of(labels, rule.structure)
    return put(labels, mask & ~slabs(mask, 3), 0)


def drilled(labels, rule):
    """Tunnels one voxel wide, along straight lines that leave at both ends, until the bound is passed."""
    out = labels.copy()
    holes = betti(of(out, rule.structure)).holes
    rng = np.random.default_rng(0)
    for axis in rng.permutation(np.repeat([0, 1, 2], 80)):
        mask = of(out, rule.structure)
        starts = mask & ~np.roll(mask, 1, axis)
        start = tuple(rng.permutation(np.argwhere(starts))[0])
        line = tuple(slice(None) if a == axis else start[a] for a in range(3))
        run = np.arange(mask.shape[axis]) >= start[axis]
        run[start[axis] :] &= np.cumprod(mask[line][start[axis] :]).astype(bool)
        trial = out.copy()
        trial[line][run] = 0
        if run.sum() >= 2 and betti(of(trial, rule.structure)).holes > holes:
            out, holes = trial, holes + 1
        if holes > rule.maximum:
            return out
    return None


def handled(labels, rule):
    """Handles: rings of the structure standing on its topmost or lowest voxel."""
    mask = of(labels, rule.structure)
    tops = np.argwhere(mask)
    up = tops[:, 2].max() < 96 - 16
    x, y, z = tops[tops[:, 2].argmax() if up else tops[:, 2].argmin()]
    out = labels.copy()
    for i in range(int(rule.maximum) + 1):
        ring = np.zeros((4, 4), bool)
        ring[[0, -1]] = ring[:, [0, -1]] = True
        low = z + 1 + 4 * i if up else z - 4 - 4 * i
        out[x : x + 4, y, low : low + 4][ring] = rule.structure[0]
    return out


def bubbled(labels, rule):
    """One voxel of background in the deepest place."""
    mask = of(labels, rule.structure)
    return put(labels, np.unravel_index(np.argmax(depth(mask)), mask.shape), 0)


def engulfed(labels, rule):
    """A foreign structure inside a blister of this one."""
    out = labels.copy()
    out[2:9, 2:9, 2:9] = rule.structure[0]
    out[4:7, 4:7, 4:7] = rule.structure[0] % (HEART.n_channels - 1) + 1
    return out


def shifted(labels, rule):
    """The heart lies off-centre: the structure reaches the field's border and beyond."""
    start = np.argwhere(of(labels, rule.structure)).min(axis=0)[0]
    out = np.zeros_like(labels)
    out[: 96 - start - 1] = labels[start + 1 :]
    return out


def cropped(labels, rule):
    """The field ends within the structure."""
    middle = int(np.argwhere(of(labels, rule.structure))[:, 1].mean())
    return labels[:, :middle]


def other_moved(labels, rule):
    """The other structure lies in a corner of the field."""
    mask = of(labels, rule.other)
    points = np.argwhere(mask)
    points = points - points.min(axis=0)
    out = put(labels, mask, 0)
    values = labels[mask]
    free = ~of(out, rule.structure)[tuple(points.T)]
    out[tuple(points[free].T)] = values[free]
    return out


def walled_off(labels, rule):
    """Two voxels of nothing between the structures."""
    return put(labels, of(labels, rule.other) & near(of(labels, rule.structure), 2), 0)


def coated(labels, rule):
    """The other structure covers this one."""
    return put(labels, near(of(labels, rule.structure), 1.5), rule.other[0])


def mixed(labels, rule):
    """Every second slice of the structure is labelled as the other one."""
    return put(labels, slabs(of(labels, rule.structure), 2), rule.other[0])


def bridged(labels, rule):
    """A cord three voxels wide of the other structure from its place to this one."""
    if rule.maximum > 0:
        return None
    here, there = of(labels, rule.structure), of(labels, rule.other)
    ends = [np.argwhere(mask)[0] for mask in (here, there)]
    _, index = ndimage.distance_transform_edt(~here, return_indices=True)
    away = np.where(there, depth(~here), np.inf)
    ends[1] = np.array(np.unravel_index(np.argmin(away), away.shape))
    ends[0] = index[(slice(None), *ends[1])]
    cord = np.zeros(labels.shape, bool)
    for t in np.linspace(0, 1, 200):
        cord[tuple(np.rint(ends[1] + t * (ends[0] - ends[1])).astype(int))] = True
    return put(labels, ndimage.binary_dilation(cord) & ~here, rule.other[0])


def lost_piece(labels, rule):
    out = labels.copy()
    out[4:9, 4:9, 4:9] = rule.structure[0]
    return out


def withdrawn(labels, rule):
    mask = of(labels, rule.structure)
    return put(labels, mask & near(of(labels, rule.other), 2 + rule.maximum / HEART_GRID.spacing_mm), 0)


def stripped(labels, rule):
    """Half of the structure has lost the innermost layer of its wall."""
    mask = of(labels, rule.structure)
    half = np.arange(96)[:, None, None] > np.argwhere(mask)[:, 0].mean()
    return put(labels, of(labels, rule.other) & near(mask, 1) & half, 0)


def torn_at_openings(labels, rule):
    """No wall within 12 mm of the openings."""
    return put(labels, of(labels, rule.other) & near(of(labels, rule.openings), 6), 0)


def outward(labels, rule):
    """The voxels on a line from the blood's place farthest from the openings to beyond the wall."""
    blood = of(labels, rule.structure)
    far = np.where(blood, depth(~of(labels, rule.openings)), 0)
    start = np.array(np.unravel_index(np.argmax(far), far.shape))
    away = start - np.argwhere(blood).mean(axis=0)
    line = np.zeros(labels.shape, bool)
    for t in np.arange(0, 40, 0.25):
        point = tuple(np.rint(start + t * away / np.linalg.norm(away)).astype(int))
        line[point] = True
        if not of(labels[point], rule.structure + rule.other):
            break
    return line


def pierced_with_blood(labels, rule):
    """The apical wall is open along a line, one voxel wide, that blood fills."""
    return put(labels, outward(labels, rule), rule.structure[0])


def pierced_with_nothing(labels, rule):
    line = ndimage.binary_dilation(outward(labels, rule)) & of(labels, rule.other)
    return put(labels, line, 0)


def thin_all_round(labels, rule):
    mask = of(labels, rule.structure)
    return put(labels, of(labels, rule.other) & ~near(mask, 1.5), 0)


def dilated_into_wall(labels, rule):
    """Blood has taken all of the wall but its outermost layer."""
    inside = of(labels, rule.structure + rule.other)
    return put(labels, of(labels, rule.other) & (depth(inside) > 1.5), rule.structure[0])


def thick_all_round(labels, rule):
    inside = of(labels, rule.structure + rule.other)
    return put(labels, near(inside, 13), rule.other[0])


def filled_in(labels, rule):
    """Only a core of the blood is left in an outgrown wall."""
    blood = of(labels, rule.structure)
    core = depth(blood) > depth(blood).max() - 3
    out = put(labels, blood & ~core, rule.other[0])
    return put(out, near(of(labels, rule.structure + rule.other), 6), rule.other[0])


def thinned_patch(labels, rule):
    """The lower fifth of the wall is one voxel thin from outside."""
    mask = of(labels, rule.structure)
    low = np.arange(96) < np.quantile(np.argwhere(mask)[:, 2], 0.2)
    return put(labels, of(labels, rule.other) & ~near(mask, 1) & low, 0)


def aneurysm(labels, rule):
    """The blood bulges through the lower part of the wall, leaving its outermost layer."""
    inside = of(labels, rule.structure + rule.other)
    low = np.arange(96) < np.quantile(np.argwhere(of(labels, rule.structure))[:, 2], 0.3)
    return put(labels, of(labels, rule.other) & (depth(inside) > 1.0) & low, rule.structure[0])


DEFECTS = {  # by kind and side of the bound
    ("volume", "min"): [removed, swallowed, shrunken],
    ("components", "min"): [removed, swallowed],
    ("components", "max"): [islands, sliced],
    ("holes", "max"): [drilled, handled],
    ("cavities", "max"): [bubbled, engulfed],
    ("border", "max"): [shifted, cropped],
    ("exposure", "max"): [stripped, torn_at_openings],
    ("breach", "max"): [pierced_with_blood, pierced_with_nothing],
    ("leak", "max"): [pierced_with_blood, pierced_with_nothing],
    ("wall_median", "min"): [thin_all_round, dilated_into_wall],
    ("wall_median", "max"): [thick_all_round, filled_in],
    ("wall_thin", "min"): [thinned_patch, aneurysm],
    ("contact", "min"): [other_moved, walled_off],
    ("contact", "max"): [coated, mixed, bridged],
    ("gap", "max"): [lost_piece, withdrawn],
}


def sides(rule):
    return [side for side, bound in (("min", rule.minimum), ("max", rule.maximum)) if np.isfinite(bound)]


def defects_of(rule, side):
    name = rule.id.split(".")[0]
    return DEFECTS.get((name, side), DEFECTS.get((rule.kind, side), []))


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        pytest.param(
            rule,
            path,
            id=f"{rule.id}-{path.name[:2]}",
            marks=[] if i % len(TEMPLATES) == j else pytest.mark.long,  # the heart changes with the rule
        )
        for i, rule in enumerate(RULES.checks)
        for j, path in enumerate(TEMPLATES)
    ],
)
def test_every_rule_catches_its_seeded_defects(rule, path):
    alone = Rules((rule,), ())
    assert examine(heart(path), 2.0, HEART, alone).accepted
    for side in sides(rule):
        seeded = {defect.__name__: defect(heart(path), rule) for defect in defects_of(rule, side)}
        seeded = {name: labels for name, labels in seeded.items() if labels is not None}
        assert len(seeded) >= 2, f"rule {rule.id} has fewer than two seeded defects for its {side}"
        for name, labels in seeded.items():
            verdict = examine(labels, 2.0, HEART, alone)
            assert not verdict.accepted, f"{name} passed with {verdict.measures}"
            assert f", {side} " in verdict.reasons[0], f"{name}: {verdict.reasons}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_real_hearts_pass_unrepaired(path):
    verdict = examine(heart(path), 2.0, HEART, RULES)
    assert verdict.reasons == ()
    assert verdict.accepted
    assert list(verdict.measures) == [rule.id for rule in RULES.checks]
    labels, repairs = repair(heart(path), 2.0, HEART, RULES)
    assert repairs == ()
    np.testing.assert_array_equal(labels, heart(path))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.long) for s in range(2, 5))])
def test_mildly_warped_hearts_pass(path, seed):
    labels, repairs = repair(warped(heart(path), seed, spread_mm=2.0), 2.0, HEART, RULES)
    assert (labels != heart(path)).mean() > 0.005  # the warp is one
    assert examine(labels, 2.0, HEART, RULES).reasons == (), repairs


def test_measures_do_not_depend_on_pose_or_padding():
    """Mirrored, turned by right angles and padded, a heart measures the same."""
    labels = heart(TEMPLATES[0])
    turned = np.pad(labels.transpose(2, 0, 1)[::-1], ((2, 0), (0, 5), (1, 1)))
    expected = examine(labels, 2.0, HEART, RULES).measures
    assert examine(turned, 2.0, HEART, RULES).measures == pytest.approx(expected)


def test_lengths_are_millimetres_on_any_grid():
    """On doubled spacing areas are four times, volumes eight times, lengths twice as large."""
    labels = heart(TEMPLATES[1])
    once, twice = (examine(labels, h, HEART, RULES).measures for h in (2.0, 4.0))
    by_unit = {"mL": 8, "mm2": 4, "mm": 2, "count": 1, "%": 1}
    for rule in RULES.checks:
        if not rule.openings_mm:  # the part left out beside the openings is in mm too
            assert twice[rule.id] == pytest.approx(by_unit[rule.unit] * once[rule.id]), rule.id


def as_scan(labels, spacing_mm=2.0):
    """Verdict on a user's label map after the repairs of scans, what they did, and the labels."""
    label_map = LabelMap(labels, np.diag([*(spacing_mm,) * 3, 1.0]))
    label_map, notes = repaired(label_map, HEART, HEART_GRID, RULES)
    rules = RULES.for_scans(set(np.unique(labels)))
    return examine(label_map.labels, spacing_mm, HEART, rules), notes, label_map.labels


# --- the septum, whatever fills the hole, however thin ---


@pytest.mark.parametrize("filling", ["left_ventricle", "right_ventricle", "background"])
@pytest.mark.parametrize("voxels", [1, 3])
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_a_pierced_septum_is_rejected(path, voxels, filling):
    labels = heart(path)
    left, right = labels == label("left_ventricle"), labels == label("right_ventricle")
    wall = labels == label("myocardium")
    valves = depth(~np.isin(labels, (label("aorta"), label("left_atrium"), label("pulmonary_artery"))))
    lines = []
    for step in (-1, 1):  # the septum may face either way; its lines of wall begin beside the RV
        for x, y, z in np.argwhere(wall & np.roll(right, step, 0)) if not lines else ():
            line = labels[x::step, y, z]
            wide = int(np.argmin(line == label("myocardium")))
            if line[wide] == label("left_ventricle"):
                low = x - wide + 1 if step < 0 else x
                lines.append((valves[x, y, z], low, low + wide, y, z))
    _, low, high, y, z = max(lines)
    hole = np.zeros(labels.shape, bool)
    hole[low:high, y - voxels // 2 : y + voxels // 2 + 1, z - voxels // 2 : z + voxels // 2 + 1] = True
    value = label(filling) if filling != "background" else 0
    assert left.any()
    pierced = put(labels, hole & wall, value)
    assert not examine(pierced, 2.0, HEART, RULES).accepted
    assert not as_scan(pierced)[0].accepted


def septal_tunnels(labels, n):
    """Tunnels of one voxel through the septum within 16 mm of the left ventricle's valves, seeded places."""
    left, right, wall = (
        labels == label(name) for name in ("left_ventricle", "right_ventricle", "myocardium")
    )
    valves = left & near(np.isin(labels, [label("left_atrium"), label("aorta")]), 1)
    to_right, index = ndimage.distance_transform_edt(~right, return_indices=True)
    starts = np.argwhere(left & near(wall, 1) & (depth(~valves) <= 8) & (to_right <= 8))
    found = []
    for start in np.random.default_rng(1).permutation(starts):
        end, at = index[(slice(None), *start)], start.copy()
        tunnel = np.zeros(labels.shape, bool)
        for t in np.linspace(0, 1, 100):
            goal = np.rint(start + t * (end - start)).astype(int)
            for axis in range(3):  # face by face
                at[axis] = goal[axis]
                tunnel[tuple(at)] = True
        if not (tunnel & ~(left | right | wall)).any() and (tunnel & wall).any():
            found.append(tunnel & wall)
        if len(found) == n:
            break
    return found


@pytest.mark.parametrize("filling", ["left_ventricle", "right_ventricle", "background"])
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_a_septum_pierced_beside_the_valves_is_not_repaired_in_a_scan(path, filling):
    value = label(filling) if filling != "background" else 0
    tunnels = septal_tunnels(heart(path), 3)
    assert len(tunnels) == 3
    for tunnel in tunnels:
        verdict, notes, after = as_scan(put(heart(path), tunnel, value))
        assert not verdict.accepted
        assert (after[tunnel] == value).all()
        assert "not repaired further: left_ventricle and right_ventricle meet through the wall" in notes


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_a_pierced_free_wall_is_rejected_near_the_valves_too(path):
    """Holes three voxels wide, filled with nothing, from 8 mm beside the openings' bare rims onwards."""
    labels = heart(path)
    blood, wall = labels == label("left_ventricle"), labels == label("myocardium")
    rim = blood & near(~(blood | wall), 1)  # at an opening or bare
    inner = blood & near(wall, 1) & (depth(~rim) > 4) & (depth(~rim) < 9)
    _, outside = ndimage.distance_transform_edt(blood | wall, return_indices=True)
    places, pierced = np.argwhere(inner), 0
    for place in places[np.random.default_rng(0).permutation(len(places))[:12]]:
        step = outside[(slice(None), *place)] - place
        line = np.unique(np.rint(place + np.linspace(0, 1, 60)[:, None] * step).astype(int), axis=0)
        if np.count_nonzero(blood[tuple(line.T)]) > 1:
            continue  # the line runs along the cavity, not straight through the wall
        hole = np.zeros(labels.shape, bool)
        hole[tuple(line.T)] = True
        hole = ndimage.binary_dilation(hole) & wall
        assert examine(put(labels, hole, 0), 2.0, HEART, RULES).reasons, place
        assert not as_scan(put(labels, hole, 0))[0].accepted, place
        pierced += 1
    assert pierced >= 4


# --- repairs ---


def of_kind(kind):
    return [pytest.param(rule, id=rule.id) for rule in RULES.repairs if rule.kind == kind]


def checked(labels, rule):
    """Apply one repair; the input is untouched and the change no larger than the rule allows."""
    before = labels.copy()
    out, notes = repair(labels, 2.0, HEART, Rules((), (rule,)))
    np.testing.assert_array_equal(labels, before)
    changed = int((out != labels).sum())
    assert changed * HEART_GRID.voxel_volume_ml <= rule.maximum
    assert bool(changed) == bool(notes)
    assert sum(int(note.split(": ")[1].split()[0]) for note in notes) == changed
    return out, notes


@pytest.mark.parametrize("rule", of_kind("speck"))
def test_specks_go_and_islands_stay(rule):
    labels = heart(TEMPLATES[1])
    speck = labels.copy()
    speck[3:5, 3:5, 3:6] = rule.structure[0]  # 12 voxels
    out, notes = checked(speck, rule)
    assert notes == (f"{rule.id}: 12 voxels (0.096 mL) became background",)
    np.testing.assert_array_equal(out, labels)
    speck[10, 3, 3] = rule.structure[0]  # together they are more than the rule allows
    assert checked(speck, rule)[1] == ()


@pytest.mark.parametrize("rule", of_kind("pinhole"))
def test_pinholes_are_filled_and_caverns_stay(rule):
    labels = heart(TEMPLATES[1])
    mask = of(labels, rule.structure)
    deepest = np.unravel_index(np.argmax(depth(mask)), mask.shape)
    for value in (0, rule.structure[0] % 10 + 1):
        out, notes = checked(put(labels, deepest, value), rule)
        assert len(notes) == 1
        np.testing.assert_array_equal(out, labels)
    blister = labels.copy()
    blister[2:9, 2:9, 2:9] = rule.structure[0]
    blister[4:7, 4:7, 4:7] = 0  # 27 voxels
    assert checked(blister, rule)[1] == ()


@pytest.mark.parametrize("rule", of_kind("perforation"))
def test_perforations_are_sealed_and_openings_stay(rule):
    labels = heart(TEMPLATES[1])
    holes = betti(of(labels, rule.structure)).holes
    ring = labels.copy()
    ring[2:8, 2:8, 2:5] = rule.structure[0]
    ring[2:8, 2:8, 2:5][2:4, 2:4] = 0  # 12 voxels, two wide
    assert betti(of(ring, rule.structure)).holes == holes + 1
    out, notes = checked(ring, rule)
    assert notes == (f"{rule.id}: 12 voxels (0.096 mL) became {rule.id.split('.')[1]}",)
    assert betti(of(out, rule.structure)).holes == holes
    wide = labels.copy()
    wide[2:12, 2:12, 2:5] = rule.structure[0]
    wide[5:9, 5:9, 2:5] = 0
    assert checked(wide, rule)[1] == ()


@pytest.mark.parametrize("rule", of_kind("parting"))
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name[:2])
def test_touching_chambers_are_parted_and_a_septal_defect_stays(rule, template):
    """A voxel of the wall beside the left ventricle belongs to the right one, or all within 12 mm of it."""
    labels = heart(template)
    assert checked(labels, rule)[1] == ()
    first, last = sorted(rule.other)
    wall = labels == rule.structure[0]
    beside = np.argwhere(wall & near(labels == first, 1) & near(labels == last, 6))
    spot = np.zeros_like(wall)
    spot[tuple(beside[len(beside) // 2])] = True
    for defect, mended in ((spot, True), (wall & near(spot, 6), False)):
        out, notes = checked(put(labels, defect, last), rule)
        assert bool(notes) == mended
        assert (Scene(out, (2.0, 2.0, 2.0), HEART).faces_mm2[first, last] == 0) == mended


@pytest.mark.parametrize("rule", of_kind("border_end"))
def test_a_vessel_ends_inside_the_field_and_a_long_run_along_the_border_stays(rule):
    """A vessel prolonged to the border loses its last layer; a plate of it along the border is too much."""
    labels = heart(TEMPLATES[0])
    assert checked(labels, rule)[1] == ()
    vessel = of(labels, rule.structure)
    x, y = np.argwhere(vessel.any(axis=2))[0]
    border = next(r for r in RULES.checks if r.kind == "border" and r.structure == rule.structure)
    for voxels, mended in ((3, True), (13, False)):
        reaching = np.zeros_like(vessel)
        reaching[x : x + voxels, y : y + voxels, -4:] = True
        given = put(labels, reaching & (labels == 0), rule.structure[0])
        alone = Rules((border,), ())
        assert not examine(given, 2.0, HEART, alone).accepted
        out, notes = checked(given, rule)
        assert bool(notes) == mended
        assert examine(out, 2.0, HEART, alone).accepted == mended
        inside = (slice(1, -1),) * 3
        assert np.all(out[inside] == given[inside])


def thinned(labels, rule, width):
    """The wall below and beside the apex, `width` voxels wide, cut to one voxel from outside."""
    blood = of(labels, rule.structure)
    x, y, z = np.argwhere(blood)[np.argmin(np.argwhere(blood)[:, 2])]
    patch = np.zeros_like(blood)
    patch[x : x + width, y : y + width, : z + width // 3] = True
    return put(labels, of(labels, rule.other) & patch & ~near(blood, 1), 0)


@pytest.mark.parametrize("rule", of_kind("thin_spot"))
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name[:2])
def test_thin_spots_are_mended_and_a_missing_wall_stays(rule, template):
    labels = heart(template)
    assert checked(labels, rule)[1] == ()
    spot = thinned(labels, rule, 3)
    measure = next(r for r in RULES.checks if r.id.startswith("wall_thin"))
    thinnest = Rules((replace(measure, percentile=0.0),), ())
    assert not examine(spot, 2.0, HEART, thinnest).accepted
    out, notes = checked(spot, rule)
    assert notes
    assert examine(out, 2.0, HEART, thinnest).accepted
    assert np.all(out[out != spot] == rule.other[0])
    assert checked(thinned(labels, rule, 12), rule)[1] == ()
    pierced = spot.copy()
    blood = of(labels, rule.structure)
    x, y, z = np.argwhere(blood)[np.argmin(np.argwhere(blood)[:, 2])]
    pierced[x, y, :z][np.isin(pierced[x, y, :z], rule.other)] = 0
    assert checked(pierced, rule)[1] == ()


def characteristic(mask):
    """The Euler characteristic: components and cavities less holes."""
    found = betti(mask)
    return found.components + found.cavities - found.holes


def looped(labels, rule, thick):
    """One loop more than the openings account for: rings of wall beside an opening, `thick` voxels across.

    A ring is a square of five voxels, hung onto the wall.
    """
    wanted, grown = len(rule.openings), of(labels, rule.structure)
    beside = np.argwhere(near(of(labels, rule.openings), 5) & near(grown, 3))
    loops = betti(grown)
    for place in beside[np.random.default_rng(1).permutation(len(beside))]:
        if loops.holes == wanted:
            return labels
        ring = np.zeros(labels.shape, bool)
        ring[place[0], place[1] - 2 : place[1] + 3, place[2] - 2 : place[2] + 3] = True
        ring[place[0], place[1] - 1 : place[1] + 2, place[2] - 1 : place[2] + 2] = False
        if thick > 1:
            around = tuple(slice(p - 6, p + 7) for p in place)
            hole = np.zeros_like(ring[around])
            hole[:, 5:8, 5:8] = True
            ring[around] = ndimage.binary_dilation(ring[around], np.ones((3, 3, 3)), iterations=thick - 1)
            ring[around] &= ~hole
        # the characteristic changes around the ring alone: most places are ruled out by a look there
        window = tuple(slice(max(0, p - 8), p + 9) for p in place)
        if characteristic(grown[window] | ring[window]) != characteristic(grown[window]) - 1:
            continue
        with_ring = put(labels, ring, rule.structure[0])
        found = betti(of(with_ring, rule.structure))
        if found == loops._replace(holes=loops.holes + 1):
            labels, grown, loops = with_ring, of(with_ring, rule.structure), found
    raise AssertionError("no place for a ring")


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=rule.id) for rule in (*RULES.coarse, RULES.repairs[-1])]
)
@pytest.mark.parametrize(
    "template",
    [pytest.param(t, marks=[] if t == TEMPLATES[1] else pytest.mark.long) for t in TEMPLATES],
    ids=lambda path: path.name[:2],
)
def test_strands_beside_an_opening_are_cut_and_walls_stay(rule, template):
    """A heart without a strand, or with a loop that is none, is left alone."""
    labels = heart(template)
    assert checked(labels, rule)[1] == ()
    for thick, goes in ((1, True), (3, False)):
        odd = looped(labels, rule, thick)
        out, notes = checked(odd, rule)
        assert bool(notes) == goes
        assert betti(of(out, rule.structure)).holes == len(rule.openings) - goes


@pytest.mark.parametrize("seed", range(12))
def test_the_strand_that_goes_is_the_first_of_all_blocks(seed):
    """Small masks of many loops and cavities: a search that spares looks finds what a full search finds."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((8, 8, 8), bool)
    mask[1:-1, 1:-1, 1:-1] = rng.random((6, 6, 6)) < rng.uniform(0.4, 0.9)
    near, now = rng.random(mask.shape) < 0.2, betti(mask)

    def blocks():
        outside = ndimage.binary_dilation(~mask, np.ones((3, 3, 3)))
        for size in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
            for place in np.argwhere(mask & near & outside):
                block = np.zeros_like(mask)
                block[tuple(slice(p, p + n) for p, n in zip(place, size, strict=True))] = True
                after = betti(mask & ~block)
                if after.holes < now.holes and after[::2] == now[::2]:
                    yield block & mask, after

    wanted, found = next(blocks(), None), repairs._strand(mask, near, now)
    assert (found is None) == (wanted is None)
    if wanted is not None:
        assert np.array_equal(found[0], wanted[0])
        assert found[1] == wanted[1]


def test_repairs_of_coarse_maps_are_for_coarse_maps():
    coarse = RULES.for_coarse_maps(3.0)
    assert coarse.repairs[-len(RULES.coarse) :] == tuple(
        replace(rule, maximum=3 * rule.maximum) for rule in RULES.coarse
    )
    assert not {rule.id for rule in RULES.repairs} & {rule.id for rule in RULES.coarse}
    assert coarse.checks == RULES.checks


def test_every_kind_of_repair_is_in_the_table():
    assert {rule.kind for rule in RULES.repairs + RULES.coarse + RULES.scan} == set(REPAIRS)


# --- scans: pores beside the valves, and maps without atria or vessels ---


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_pores_beside_the_valves_are_filled_and_a_whole_map_stays(path):
    """Wall voxels that blood meets within 6 mm of the openings' rims lose their label, one by one."""
    labels = heart(path)
    assert as_scan(labels)[1] == ()
    blood, wall = labels == label("left_ventricle"), labels == label("myocardium")
    rim = blood & near(~(blood | wall), 1)
    places = np.argwhere(wall & near(blood, 1) & (depth(~rim) < 3))
    repaired_maps = 0
    for seed in range(8):
        pores = np.zeros(labels.shape, bool)
        pores[tuple(places[np.random.default_rng(seed).permutation(len(places))[:6]].T)] = True
        porous = put(labels, pores, 0)
        if examine(porous, 2.0, HEART, RULES.for_scans(ALL_LABELS)).accepted:
            continue  # they widen an opening
        verdict, notes, after = as_scan(porous)
        repairs = [note for note in notes if not note.startswith("not repaired further")]
        assert bool(repairs) == (after != porous).any()
        assert np.count_nonzero(after != porous) * 0.008 <= 0.6
        repaired_maps += verdict.accepted
    assert repaired_maps >= 2


@pytest.mark.parametrize(
    ("spacing_mm", "n", "usable"), [(2.0, 40, True), (1.0, 1500, True), (1.0, 5000, False)]
)
def test_one_voxel_pockets_of_a_native_segmentation_are_filled_within_a_volume(spacing_mm, n, usable):
    labels = resample(read_label_map(TEMPLATES[1], HEART), spacing_mm).labels
    wall = labels == label("myocardium")
    places = np.argwhere(wall & near(labels == label("left_ventricle"), 1))
    places = places[np.random.default_rng(0).permutation(len(places))[:n]]
    porous = labels.copy()
    porous[tuple(places.T)] = 0
    verdict, notes, after = as_scan(porous, spacing_mm)
    assert verdict.accepted == usable
    if usable:
        assert notes[0].startswith("pocket.")
        changed = after != porous
        assert (after[changed] == label("myocardium")).all()
        assert changed.sum() * spacing_mm**3 / 1000 <= 3.5


@pytest.mark.parametrize("spacing_mm", [0.8, 1.0, 2.0])
def test_a_stray_voxel_goes_at_every_voxel_size(spacing_mm):
    fine = resample(read_label_map(TEMPLATES[1], HEART), spacing_mm)
    labels = fine.labels.copy()
    labels[2, 2, 2] = label("aorta")
    label_map, notes = repaired(LabelMap(labels, fine.affine), HEART, HEART_GRID, RULES)
    assert [note.split(":")[0] for note in notes] == ["speck.aorta"]
    np.testing.assert_array_equal(label_map.labels, fine.labels)


def without(labels, *names):
    return np.where(np.isin(labels, [label(name) for name in names]), 0, labels).astype(np.uint8)


VEINS = ("superior_vena_cava", "inferior_vena_cava", "pulmonary_vein")
BASE = ("left_atrium", "right_atrium", "aorta", "pulmonary_artery", *VEINS)


@pytest.mark.parametrize("absent", [VEINS, BASE], ids=["seven", "biventricular"])
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_scans_may_lack_structures_and_generated_hearts_not(path, absent):
    labels = without(heart(path), *absent)
    verdict, notes, _ = as_scan(labels)
    assert verdict.accepted, verdict.reasons
    assert notes == ()
    lacking = {f"volume.{name}" for name in absent}
    assert lacking <= set(examine(labels, 2.0, HEART, RULES).failed_rules)
    assert {label(name) for name in BASE} == RULES.optional()
    assert RULES.required() == set(range(1, 11)) - RULES.optional()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_two_ventricles_with_a_defect_are_refused(path):
    """A hole in the wall that is not a valve, and a wall that is missing on one side."""
    labels = without(heart(path), *BASE)
    blood = labels == label("left_ventricle")
    low, high = (np.argwhere(blood)[:, 2].min(), np.argwhere(blood)[:, 2].max())
    apex = np.zeros(labels.shape, bool)
    x, y, z = np.rint(np.argwhere(blood & (np.arange(96) < low + 3)).mean(axis=0)).astype(int)
    apex[x - 2 : x + 3, y - 2 : y + 3, : z + 2] = True
    assert "breach.left_ventricle.myocardium" in as_scan(put(labels, apex & ~blood, 0))[0].failed_rules
    left = np.zeros(labels.shape, bool)
    left[: int(np.argwhere(blood)[:, 0].mean()), :, : (low + high) // 2] = True
    bare = put(labels, left & (labels == label("myocardium")), 0)
    assert "opening.left_ventricle.myocardium" in as_scan(bare)[0].failed_rules


def test_a_repaired_heart_passes_and_says_so():
    labels = heart(TEMPLATES[2]).copy()
    labels[3, 3, 3] = label("pulmonary_vein")
    mask = labels == label("right_atrium")
    labels[np.unravel_index(np.argmax(depth(mask)), mask.shape)] = 0
    assert len(examine(labels, 2.0, HEART, RULES).reasons) == 2
    labels, repairs = repair(labels, 2.0, HEART, RULES)
    assert [note.split(":")[0] for note in repairs] == ["speck.pulmonary_vein", "pinhole.right_atrium"]
    assert examine(labels, 2.0, HEART, RULES).accepted


# --- the batch ---


@pytest.fixture
def batch(tmp_path):
    """Rows of an anatomies table for three subjects, good, broken and never generated, and their folder."""
    good = heart(TEMPLATES[0])
    broken = put(good, good == label("aorta"), 0)
    folder, rows = tmp_path / "arm-0000", []
    for i, labels in enumerate((good, broken, None)):
        path = folder / f"arm-{i:05}.nii.gz"
        made = labels is not None
        if made:
            write_label_map(path, labels, HEART_GRID)
        rows += [
            {"subject": f"arm-{i:05}", "arm": "arm", "structure": structure}
            | dict.fromkeys(MOMENT_COLUMNS, 1.0)
            | {"constrained": "", "plausibility": 0.5, "attempts": 1}
            | {"status": "generated" if made else "failed", "reason": "" if made else "sampling diverged"}
            | {"file": path.name if made else "", "size": path.stat().st_size if made else None}
            | {"sha256": artifacts.sha256(path) if made else ""}
            for structure in HEART.structures
        ]
    return SimpleNamespace(table=rows, folder=folder)


def frame_of(batch, path):
    tables.write_table(path, pd.DataFrame(batch.table), stage_tables.ANATOMIES)
    return tables.read_table(path, stage_tables.ANATOMIES)


def test_a_batch_has_a_verdict_for_every_subject(batch, tmp_path):
    anatomies = frame_of(batch, tmp_path / "arm-0000.parquet")
    verdicts = check_batch(anatomies, batch.folder, HEART, RULES)
    tables.write_table(tmp_path / "out.tsv", verdicts, stage_tables.TOPOLOGY)
    read = tables.read_table(tmp_path / "out.tsv", stage_tables.TOPOLOGY | stage_tables.FAILED_RULES)
    assert (tmp_path / "out.tsv").read_text().split("\n")[0].split("\t")[-3:] == [*stage_tables.FAILED_RULES]
    read = read.set_index("subject")
    assert list(read["verdict"]) == ["accepted", "rejected", "missing"]
    assert read.loc["arm-00000", "reasons"] == ""
    assert "volume.aorta: 0 mL, min 10" in read.loc["arm-00001", "reasons"].split("; ")
    assert read.loc["arm-00002", "reasons"] == "sampling diverged"
    rejected = read.loc["arm-00001"]
    named = [reason.split(": ")[0] for reason in rejected["reasons"].split("; ")]
    assert rejected["failed_rules"].split(",") == named
    first = next(rule for rule in RULES.checks if rule.id == named[0])
    assert rejected["failed_measured"] == pytest.approx(rejected[first.id], nan_ok=True)
    assert rejected["failed_limit"] in (first.minimum, first.maximum)
    assert read.loc["arm-00000", "failed_rules"] == ""
    assert read.loc[["arm-00000", "arm-00002"], ["failed_measured", "failed_limit"]].isna().to_numpy().all()
    assert read.loc["arm-00000", "volume.aorta"] == pytest.approx(56.6, abs=0.1)
    assert read.loc["arm-00002"][[rule.id for rule in RULES.checks]].isna().all()


def test_the_script_writes_the_table(batch, tmp_path):
    frame_of(batch, tmp_path / "arm-0000.parquet")
    card = {"format": bundle_metadata.FORMAT, "anatomy": asdict(HEART), "grid": asdict(HEART_GRID)}
    (tmp_path / "bundle.json").write_text(json.dumps(card))
    snakemake = SimpleNamespace(
        input=SimpleNamespace(
            anatomies=str(tmp_path / "arm-0000.parquet"),
            rules=str(RESOURCES / "anatomies/heart/topology.tsv"),
            bundle=str(tmp_path / "bundle.json"),
        ),
        output=SimpleNamespace(table=str(tmp_path / "topology" / "arm-0000.tsv")),
        log=[str(tmp_path / "log.txt")],
        rule="check_topology",
    )
    runpy.run_path(str(SCRIPT), {"snakemake": snakemake}, "__main__")
    read = tables.read_table(snakemake.output.table, stage_tables.TOPOLOGY)
    assert list(read["verdict"]) == ["accepted", "rejected", "missing"]
    line = r"arm-00001: rejected in .* \(2 of 2 subjects\): volume.aorta: 0 mL"
    assert re.search(line, (tmp_path / "log.txt").read_text())


def test_a_label_map_that_changed_is_named(batch, tmp_path):
    anatomies = frame_of(batch, tmp_path / "arm-0000.parquet")
    write_label_map(batch.folder / "arm-00001.nii.gz", heart(TEMPLATES[1]), HEART_GRID)
    with pytest.raises(InputError, match=r"arm-00001\.nii\.gz: changed since"):
        check_batch(anatomies, batch.folder, HEART, RULES)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name[:2])
def test_a_scan_may_cut_vessels_but_not_chambers(path):
    """On their own 80^3 field the templates' vessels reach the border."""
    labels = read_label_map(path, HEART).labels
    reasons = examine(labels, 2.0, HEART, RULES).reasons
    assert reasons
    assert all(reason.startswith("border.") for reason in reasons)
    assert examine(labels, 2.0, HEART, RULES.for_scans(ALL_LABELS)).accepted
    middle = int(np.argwhere(labels == label("left_ventricle"))[:, 2].mean())
    cut = examine(labels[:, :, middle:], 2.0, HEART, RULES.for_scans(ALL_LABELS)).reasons
    assert any(reason.startswith("border.left_ventricle:") for reason in cut)


# --- label maps on the grid ---


def test_to_grid_pads_and_crops_about_the_centre():
    own = read_label_map(TEMPLATES[0], HEART)
    padded = to_grid(own, HEART_GRID)
    assert padded.labels.shape == HEART_GRID.shape
    np.testing.assert_array_equal(padded.labels[8:88, 8:88, 8:88], own.labels)
    assert np.count_nonzero(padded.labels) == np.count_nonzero(own.labels)
    np.testing.assert_allclose(padded.affine, HEART_GRID.affine())
    wider = LabelMap(np.pad(padded.labels, ((7, 7), (0, 0), (3, 3))), own.affine)
    np.testing.assert_array_equal(to_grid(wider, HEART_GRID).labels, padded.labels)


def test_to_grid_refuses_what_it_would_have_to_spoil():
    own = read_label_map(TEMPLATES[0], HEART)
    with pytest.raises(InputError, match="structures lie outside"):
        to_grid(LabelMap(np.pad(own.labels, ((60, 0), (0, 0), (0, 0))), own.affine), HEART_GRID)
    with pytest.raises(InputError, match="voxels of 1 x 1 x 1 mm; the grid has 2 mm"):
        to_grid(LabelMap(own.labels, np.diag([1.0, 1.0, 1.0, 1.0])), HEART_GRID)
