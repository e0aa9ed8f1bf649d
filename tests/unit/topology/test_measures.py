"""Betti numbers, contacts, walls: against figures whose answers are known."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import euler_number

from cardiocohort.anatomy.contacts import contact_areas
from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import Rules, examine, load_rules
from cardiocohort.topology.betti import betti, euler_gain
from cardiocohort.topology.scene import Scene
from cardiocohort.topology.table import only_judged_apart

PEARL = Anatomy(("blood", "wall", "vessel"), ("blood",))  # a ventricle at its barest
HEADER = "rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason\n"


def radius(n, centre=None):
    centre = [(n - 1) / 2] * 3 if centre is None else centre
    return np.sqrt(sum((a - c) ** 2 for a, c in zip(np.indices((n,) * 3), centre, strict=True)))


def torus(n=24, ring=7.0, tube=2.6):
    x, y, z = np.indices((n,) * 3) - (n - 1) / 2
    return (np.hypot(x, y) - ring) ** 2 + z**2 < tube**2


def shell(mask):
    return mask & ~ndimage.binary_erosion(mask)


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, (5, 4, 4)),
    st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]),
)
def test_the_change_of_the_euler_characteristic_is_that_of_the_whole(mask, size):
    gain = euler_gain(mask, size)
    for place in np.ndindex(mask.shape):
        without = mask.copy()
        without[tuple(slice(p, p + n) for p, n in zip(place, size, strict=True))] = False
        before, after = (euler_number(np.pad(m, 1), connectivity=3) for m in (mask, without))
        assert gain[place] == after - before


def two_voxels(offset):
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[tuple(1 + np.array(offset))] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros((5, 5, 5), bool), (0, 0, 0)),
        (np.ones((5, 5, 5), bool), (1, 0, 0)),
        (radius(20) < 8, (1, 0, 0)),
        ((radius(20) < 8) & (radius(20) > 4), (1, 0, 1)),
        (torus(), (1, 1, 0)),
        (shell(torus(tube=3.5)), (1, 2, 1)),
        (torus() | (radius(24) < 2), (2, 1, 0)),
        (two_voxels((1, 1, 0)), (1, 0, 0)),  # over an edge
        (two_voxels((1, 1, 1)), (1, 0, 0)),  # over a corner
        (two_voxels((2, 0, 0)), (2, 0, 0)),
    ],
    ids=["empty", "full", "ball", "hollow ball", "torus", "torus shell", "two", "edge", "corner", "apart"],
)
def test_betti_numbers_of_known_solids(mask, expected):
    assert betti(mask) == expected


@given(arrays(bool, (4, 5, 4)))
@settings(max_examples=60, deadline=None)
def test_betti_numbers_agree_with_a_count_of_cells(mask):
    """Euler-Poincare: vertices - edges + faces - cubes of the union of closed cubes."""
    chi = 0
    for kind in np.ndindex(2, 2, 2):  # 1: the cell is open along this axis, 0: it is a grid point
        cells = np.pad(mask, 1)
        for axis, along in enumerate(kind):
            if along == 0:
                low, high = (np.take(cells, range(a, cells.shape[axis] - 1 + a), axis) for a in (0, 1))
                cells = low | high
        chi += (-1) ** sum(kind) * int(cells.sum())
    found = betti(mask)
    assert chi == found.components - found.holes + found.cavities
    assert min(found) >= 0


@given(arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 3)))
@settings(max_examples=40, deadline=None)
def test_contact_areas_count_every_shared_face_once(labels):
    spacing = (1.0, 2.0, 3.0)
    expected = np.zeros((4, 4))
    for index in np.ndindex(labels.shape):
        for axis, face in enumerate((6.0, 3.0, 2.0)):
            after = tuple(np.array(index) + np.eye(3, dtype=int)[axis])
            if after[axis] < labels.shape[axis] and labels[index] != labels[after]:
                expected[labels[index], labels[after]] += face
                expected[labels[after], labels[index]] += face
    np.testing.assert_array_equal(contact_areas(labels, spacing, 4), expected)


def pearl(n=40, inner=8.0, outer=13.0, opening=5.0):
    """Blood of radius `inner` in a wall to `outer`, a vessel leaving upwards; voxels."""
    labels = np.zeros((n,) * 3, np.uint8)
    r = radius(n)
    labels[r < outer] = 2
    x, y, z = np.indices(labels.shape) - (n - 1) / 2
    labels[(np.hypot(x, y) < opening) & (z > 0) & (r < outer + 4)] = 3
    labels[r < inner] = 1
    return labels


@pytest.fixture
def measure(tmp_path):
    """measure(labels, spacing, one row of a table) -> value."""

    def one(labels, spacing, row):
        path = tmp_path / "rules.tsv"
        path.write_text(HEADER + row + "\n")
        rules = load_rules(path, PEARL)
        (value,) = examine(labels, spacing, PEARL, rules).measures.values()
        return value

    return one


WALL = "w\twall_thickness\tany\tblood\twall\tvessel\t{1}\t{0}\t1\t\tmm\tr"
LEAK = "l\tleak\tany\tblood\twall\tvessel\t{}\t\t\t0\tmm2\tr"


@pytest.mark.parametrize("thickness", [1, 2, 3, 5])
def test_a_flat_wall_has_exactly_its_thickness(measure, thickness):
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[:, :, :10] = 1
    labels[:, :, 10 : 10 + thickness] = 2
    # the field's sides cut the blood bare; the thickest place is the wall away from them
    assert measure(labels, 1.5, WALL.format(100, 8)) == pytest.approx(1.5 * thickness)


@pytest.mark.parametrize("wall", [2.0, 3.5, 5.0, 7.5])
@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_a_spherical_wall_is_measured_within_a_voxel(measure, wall, spacing):
    labels = pearl(n=48, inner=10.3, outer=10.3 + wall)
    median, low = (measure(labels, spacing, WALL.format(p, 8 * spacing)) / spacing for p in (50, 2))
    assert abs(median - wall) < 0.6
    assert abs(low - wall) < 1.01


def test_bare_blood_has_no_wall_and_leaks(measure):
    labels = pearl()
    assert measure(labels, 2.0, LEAK.format(8)) == 0
    column = labels[:12, 20, 20]
    column[column == 2] = 1  # blood reaches the outside along one line of voxels
    assert measure(labels, 2.0, LEAK.format(8)) == 4.0
    assert measure(labels, 2.0, WALL.format(0, 8)) == 0.0


def test_what_lies_bare_beside_an_opening_is_no_leak(measure):
    labels = pearl()
    x, y, z = np.indices(labels.shape) - 19.5
    labels[(labels == 2) & (z > 0) & (np.hypot(x, y) < 6.5)] = 0  # a ring without wall around the vessel
    bare = measure(labels, 2.0, LEAK.format(0))
    assert bare > 0
    assert measure(labels, 2.0, LEAK.format(8)) == 0
    share = measure(labels, 2.0, "e\texposure\tany\tblood\twall\tvessel\t\t\t\t9\t%\tr")
    surface = Scene(labels, (2.0,) * 3, PEARL).faces_mm2[1].sum()
    assert share == pytest.approx(100 * Scene(labels, (2.0,) * 3, PEARL).faces_mm2[1, 0] / surface)


def test_the_gap_is_that_of_the_farthest_piece(measure):
    row = "g\tgap\tany\tvessel\tblood\t\t\t\t\t4\tmm\tr"
    labels = np.zeros((20, 20, 30), np.uint8)
    labels[5:15, 5:15, 10:20] = 1
    labels[8:10, 8:10, 20:24] = 3
    assert measure(labels, 2.0, row) == 0
    labels[8:10, 8:10, 3:7] = 3  # three empty voxels away
    assert measure(labels, 2.0, row) == 6.0


def test_the_border_area_counts_faces_of_the_field(measure):
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[0, 2:4, 2:5] = 2
    assert measure(labels, (1.0, 2.0, 3.0), "b\tborder\tany\twall\t\t\t\t\t\t0\tmm2\tr") == 6 * 6.0


def test_a_missing_structure_is_no_pass(measure, tmp_path):
    labels = np.where(pearl() == 1, 0, pearl()).astype(np.uint8)
    assert math.isnan(measure(labels, 2.0, WALL.format(50, 8)))
    rules = load_rules(tmp_path / "rules.tsv", PEARL)
    verdict = examine(labels, 2.0, PEARL, rules)
    assert not verdict.accepted
    assert verdict.reasons == ("w.blood.wall: not measurable, a structure is missing",)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("v\tvolumes\tany\tblood\t\t\t\t\t1\t\tmL\tr", "'volumes' is unknown; allowed: volume,"),
        ("v\tvolume\tany\tbloood\t\t\t\t\t1\t\tmL\tr", "column 'structure': unknown structure 'bloood'"),
        ("v\tcontact\tany\tblood\tskin\t\t\t\t1\t\tmm2\tr", "column 'other': unknown structure 'skin'"),
        ("v\tcontact\tany\tblood\t\t\t\t\t1\t\tmm2\tr", "column 'other': kind 'contact' needs"),
        ("v\tvolume\tany\tblood\twall\t\t\t\t1\t\tmL\tr", "column 'other': kind 'volume' takes no"),
        ("v\tvolume\tany\tblood\t\t\t\t\t1\t\tmm2\tr", "column 'unit': kind 'volume' is measured in mL"),
        ("v\tvolume\tany\tblood\t\t\t\t\tone\t\tmL\tr", "column 'min': 'one' is not a number"),
        ("v\tvolume\tany\tblood\t\t\t\t\t3\t2\tmL\tr", "min no larger than max"),
        ("v\tvolume\tany\tblood\t\t\t\t\t\t\tmL\tr", "give at least one"),
        ("v\tvolume\tany\tblood\t\t\t\t\t1\t\tmL\t", "column 'reason' is empty"),
        ("v\tvolume\tsome\tblood\t\t\t\t\t1\t\tmL\tr", "column 'scope': 'some' is unknown"),
        ("v\tspeck\tany\tblood\t\t\t\t\t1\t2\tmL\tr", "a repair has a max"),
        ("v\tvolume\tcoarse\tblood\t\t\t\t\t1\t\tmL\tr", "column 'scope': 'coarse' is for repairs"),
        (WALL.format(101, 8), "column 'percentile'"),
        ("v\tvolume\tany\tblood,blood\t\t\t\t\t1\t\tmL\tr", "rule 'v.blood' is there twice"),
        ("v\tvolume\tany\tblood", "column 'unit'"),
        ("v\tvolume\tany\tblood,\t\t\t\t\t1\t\tmL\tr", "column 'structure': 'blood,' has a comma without"),
        ("v\tvolume\tany\t,\t\t\t\t\t1\t\tmL\tr", "column 'structure': ',' has a comma without a name"),
        ("v\tholes\tany\tblood,,wall\t\t\t\t\t\t0\tcount\tr", "'blood,,wall' has a comma without"),
        ("v\tcontact\tany\tblood\twall,\t\t\t\t\t0\tmm2\tr", "column 'other': 'wall,' has a comma without"),
        (LEAK.format("inf"), "column 'openings_mm': 'inf' is not allowed; it is a distance in mm from 0 up"),
        (LEAK.format("-16"), "column 'openings_mm': '-16' is not allowed"),
        (WALL.format(50, "nan"), "column 'openings_mm': 'nan' is not a number"),
        ("v\tcontact\tany\tblood\tblood\t\t\t\t\t0\tmm2\tr", "'structure' and 'other': both name 'blood'"),
        (
            "v\tcontact\tany\tblood+wall\tvessel,wall\t\t\t\t\t0\tmm2\tr",
            "both name 'wall' (rule 'v.blood+wall.wal",
        ),
        ("v\tgap\tany\tblood\tblood\t\t\t\t\t0\tmm\tr", "columns 'structure' and 'other': both name 'blood'"),
        (
            "v\texposure\tany\tblood\twall\tvessel+wall\t\t\t\t7\t%\tr",
            "'other' and 'openings': both name 'wall'",
        ),
        ("v\tspeck\tany\tblood\t\t\t\t\t\t-1\tmL\tr", "column 'max': '-1' is not allowed; of a repair"),
        ("v\tspeck\tany\tblood\t\t\t\t\t\tinf\tmL\tr", "column 'max': 'inf' is not allowed; of a repair"),
        (
            "v\tspeck\tunopened\tblood\t\t\t\t\t\t1\tmL\tr",
            "'unopened' is for checks; allowed for a repair: any",
        ),
        ("v\tcontact\tany\tblood\twall\t\t\t\t\t-1\tmm2\tr", "no map has a contact below 0"),
        (
            "v\tcontact\tunopened\tblood\twall\t\t\t\t\t0\tmm2\tr",
            "kind 'contact' has none; allowed for the kinds",
        ),
    ],
)
def test_a_wrong_rule_is_named(tmp_path, row, said):
    path = tmp_path / "rules.tsv"
    path.write_text(HEADER + row + "\n")
    with pytest.raises(InputError) as caught:
        load_rules(path, PEARL)
    assert said in str(caught.value)
    assert re.match(rf"{re.escape(str(path))}(, line 2: column|: rule )", str(caught.value))


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "s\tspeck\tany\tblood\t\t\t\t\t\t0.1\tmL\tr\n",
        "o\topening\tunopened\tblood\twall\tvessel\t\t\t\t20\t%\tr\n",
    ],
    ids=["header alone", "repairs alone", "rows for maps without openings alone"],
)
def test_a_table_that_checks_nothing_is_an_error(tmp_path, rows):
    path = tmp_path / "rules.tsv"
    path.write_text(HEADER + rows)
    with pytest.raises(InputError, match=r"rules\.tsv: no row of it checks a map .* every map would pass"):
        load_rules(path, PEARL)


def test_a_table_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="no readable rules table"):
        load_rules(tmp_path / "absent.tsv", PEARL)
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="its columns are a, b; expected rule, kind"):
        load_rules(tmp_path / "other.tsv", PEARL)


REMARK = """\
w	wall_thickness	any	blood	wall	vessel	8	50	3	25	mm	r
v	volume	any	vessel					1	50	mL	r
h	holes	any	wall,vessel						0	count	r
c	components	any	blood,wall,vessel,blood+wall					1	1	count	r
o	opening	unopened	blood	wall	vessel				20	%	r
"""


def test_every_bound_without_a_term_is_in_the_remark(tmp_path):
    path = tmp_path / "rules.tsv"
    path.write_text(HEADER + REMARK)
    assert only_judged_apart(path, PEARL).startswith(
        f"{path}: topology guidance has no term for these bounds: "
        "max of components (c.blood, c.wall, c.vessel and 1 more); max of holes (h.vessel); "
        "max of opening (o.blood.wall); max of wall_thickness (w.blood.wall); "
        "min of components (c.blood, c.wall, c.vessel and 1 more). They judge"
    )
    path.write_text(HEADER + "w\twall_thickness\tany\tblood\twall\tvessel\t8\t50\t3\t\tmm\tr\n")
    assert only_judged_apart(path, PEARL) == ""


def test_a_row_with_lists_stands_for_every_pair(tmp_path):
    path = tmp_path / "rules.tsv"
    path.write_text(HEADER + "c\tcontact\tgenerated\tblood\twall, vessel\t\t\t\t\t9\tmm2\tr\n")
    rules = load_rules(path, PEARL)
    assert [rule.id for rule in rules.checks] == ["c.blood.wall", "c.blood.vessel"]
    assert rules.for_scans({1, 2, 3}) == Rules((), ())
