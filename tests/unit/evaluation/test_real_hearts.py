"""Hearts that an evaluation names: what is refused before any job."""

import pandas as pd
import pytest

from cardiocohort.evaluation import real_hearts
from cardiocohort.runtime import artifacts
from cardiocohort.runtime.errors import InputError

KEY = "evaluation.whole_hearts.training"


@pytest.fixture
def table(tmp_path):
    """hearts.tsv of two training hearts, one held out and one that was refused."""
    (tmp_path / "hearts").mkdir()
    rows = []
    for name, split in (("a", "train"), ("b", "train"), ("c", "held_out"), ("d", "")):
        (tmp_path / "hearts" / f"{name}.nii.gz").write_text(name)
        listed = artifacts.listing(tmp_path / "hearts", f"{name}.nii.gz") if split else artifacts.NO_FILE
        rows.append(
            {"subject": name, "split": split, "verdict": "accepted" if split else "rejected"} | listed
        )
    path = tmp_path / "hearts.tsv"
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


def test_the_training_hearts_are_those_that_networks_were_fitted_to(table):
    found = real_hearts.training_hearts(table, KEY)
    assert list(found) == ["a", "b"]
    for file in found.values():
        artifacts.check_file(*file)


def test_a_training_heart_that_changed_is_an_error(table):
    (table.parent / "hearts/b.nii.gz").write_text("longer")
    with pytest.raises(InputError, match=rf"'{KEY}': .*hearts\.tsv, row 3: .*b\.nii\.gz' has another size"):
        real_hearts.training_hearts(table, KEY)
    (table.parent / "hearts/b.nii.gz").unlink()
    with pytest.raises(InputError, match=r"row 3: .*b\.nii\.gz' is not there"):
        real_hearts.training_hearts(table, KEY)


@pytest.mark.parametrize("column", real_hearts.COLUMNS)
def test_a_table_without_a_column_is_an_error(table, column):
    pd.read_csv(table, sep="\t").drop(columns=column).to_csv(table, sep="\t", index=False)
    with pytest.raises(InputError, match=rf"'{KEY}': .*column '{column}' is missing.*population/hearts\.tsv"):
        real_hearts.training_hearts(table, KEY)


def test_a_table_without_training_hearts_is_an_error(table):
    table.write_text(table.read_text().replace("train", "held_out"))
    with pytest.raises(InputError, match="no row with split 'train'"):
        real_hearts.training_hearts(table, KEY)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_real_hearts_have_no_spread(n):
    with pytest.raises(InputError, match=rf"'evaluation\.real_hearts': maps has {n} label maps? .*needs 3"):
        real_hearts.check_variety(["a", "b"][:n], "maps", "evaluation.real_hearts")
    real_hearts.check_variety(["a", "b", "c"], "maps", "evaluation.real_hearts")
