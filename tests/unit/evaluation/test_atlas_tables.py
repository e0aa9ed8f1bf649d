"""The atlas's tables: what they say of hearts that miss a bar, of poses, and of the file that ships."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cardiocohort.atlas import model, quality
from cardiocohort.evaluation import atlas_tables, documents
from heart_anatomy import HEART, HEART_GRID, RESOURCES

SHIPPED = RESOURCES / "atlas/heart.safetensors"


def cells(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def registered(**changes) -> dict[str, pd.DataFrame]:
    """Four hearts, the last with cut vessels; `changes`: Dice by structure and heart."""
    names = ["a", "b", "c", "cut"]
    table = pd.DataFrame({"subject": names, "verdict": "accepted"})
    for structure in HEART.structures:
        table[f"dice_{structure}"] = 0.97
        table[f"distance_{structure}_mm"] = 0.3
        for name, value in changes.get(structure, {}).items():
            table.loc[table["subject"] == name, f"dice_{structure}"] = value
    hearts = pd.DataFrame({"subject": names, "cut_vessels": [False, False, False, True]})
    return {"registrations": table, "hearts": hearts}


def test_hearts_that_miss_the_bar_of_their_structure_are_named():
    tables = registered(left_ventricle={"b": 0.94}, aorta={"b": 0.94}, pulmonary_vein={"cut": np.nan})
    rows = {row[0]: row for row in cells(atlas_tables.registration(tables, HEART))}
    assert rows["left ventricle"][1:] == ["0.95", "0.970", "0.940", "0.30", "0.970", "**not met**: b"]
    assert rows["aorta"][-1] == "met"  # of a vessel less is asked
    assert rows["pulmonary vein"][-2:] == ["–", "**not met**: cut (not matched)"]
    assert rows["after registration"][2] == "3 hearts: median Dice"


def test_a_refused_heart_is_in_no_figure():
    tables = registered()
    tables["registrations"].loc[1, "verdict"] = "rejected"
    tables["registrations"].loc[1, "dice_aorta"] = 0.1
    rows = {row[0]: row for row in cells(atlas_tables.registration(tables, HEART))}
    assert rows["aorta"][2:4] == ["0.970", "0.970"]


def test_left_out_hearts_are_summed_up_by_chambers_and_vessels():
    table = pd.DataFrame(
        [
            {"modes": modes, "structure": name, "dice": dice, "distance_mm": 10 * (1 - dice)}
            for modes, worse in ((0, 0.1), (10, 0.0), (2, 0.05))
            for name, dice in (("left_ventricle", 0.9 - worse), ("aorta", 0.8 - worse))
        ]
    )
    rows = cells(atlas_tables.generalisation({"generalisation": table}, HEART))
    assert [row[0] for row in rows[2:]] == ["0", "2", "10"]
    assert rows[-1][1:] == ["1.00 (0.900)", "2.00 (0.800)"]


def test_random_hearts_stand_beside_the_share_of_variance():
    compactness = pd.DataFrame({"modes": [1, 2], "cumulative": [0.6, 1.0]})
    values = {1: ((1.0, 0.4), (3.0, 0.2)), 2: ((2.0, 0.3), (2.5, 0.35))}
    table = pd.DataFrame(
        [
            {"sample": i, "modes": modes, "nearest_mm": mm, "least_jacobian": least}
            for modes, drawn in values.items()
            for i, (mm, least) in enumerate(drawn)
        ]
    )
    rows = cells(atlas_tables.specificity({"compactness": compactness, "specificity": table}, HEART))
    assert rows[2:] == [["1", "60.0", "2.00", "3.00", "0.20"], ["2", "100.0", "2.25", "2.50", "0.30"]]


def poses(degrees: dict[str, list[float]]) -> pd.DataFrame:
    """By group: hearts turned about z."""
    rows = []
    for group, angles in degrees.items():
        for i, angle in enumerate(angles):
            x, y, z = Rotation.from_euler("z", angle, degrees=True).apply([1.0, 0, 0]) * (-1) ** i
            turn = {"turn_x_deg": 0.0, "turn_y_deg": 0.0, "turn_z_deg": angle}
            axis = {
                f"left_ventricle_axis_{name}": value for name, value in zip("xyz", (x, y, z), strict=True)
            }
            rows.append({"subject": f"{group}-{i}", "group": group} | turn | axis)
    return pd.DataFrame(rows)


def test_spreads_and_shares_are_those_of_known_turns():
    """An axis has no sign; the population is symmetric about its mean."""
    drawn = [*np.arange(-20.0, 21.0, 1.0)]
    table = poses(
        {atlas_tables.REAL: [-6, 6, 6, -6], atlas_tables.POPULATION: drawn, "own chest": [17.5, 30]}
    )
    rows = {row[0]: row[1:] for row in cells(atlas_tables.poses({"poses": table}, HEART))}
    assert rows["turn of the whole heart"][:3] == ["6.0", "6.0", "6.0"]
    assert rows["long axis: left ventricle"][4:] == ["11.8", "19.0", "20.0", "41"]
    single = {row[0]: row[1:] for row in cells(atlas_tables.single_poses({"poses": table}, HEART))}
    assert single["own chest-0"] == ["own chest", "17.5", "15", "17.5", "15"]  # 6 of 41
    assert single["own chest-1"] == ["own chest", "30.0", "0", "30.0", "0"]


def test_a_heart_without_a_long_axis_is_left_out_of_its_spread():
    table = poses({atlas_tables.REAL: [-6, 6, 6, -6, 50], atlas_tables.POPULATION: [-5, 5], "own chest": [3]})
    axis = [f"left_ventricle_axis_{name}" for name in "xyz"]
    table.loc[table["turn_z_deg"].isin([50, 3]), axis] = np.nan
    rows = {row[0]: row[1:] for row in cells(atlas_tables.poses({"poses": table}, HEART))}
    assert rows["long axis: left ventricle"][:4] == ["6.0", "6.0", "6.0", "4"]
    (single,) = cells(atlas_tables.single_poses({"poses": table}, HEART))[2:]
    assert single[2:] == ["3.0", "100", "–", "–"]


def test_a_table_without_its_parts_is_not_written():
    assert atlas_tables.writers({}, HEART) == {}
    assert list(atlas_tables.writers(registered(), HEART)) == ["registration"]


# ---- the shipped tables


@pytest.fixture(scope="module")
def shipped():
    names = sorted(path.stem for path in documents.ATLAS.glob("*.tsv"))
    return documents.read(documents.ATLAS, names), model.load(SHIPPED, HEART, HEART_GRID)[0]


def test_compactness_is_that_of_the_shipped_file(shipped):
    tables, shape = shipped
    pd.testing.assert_frame_equal(tables["compactness"], quality.compactness(shape), rtol=1e-4)
