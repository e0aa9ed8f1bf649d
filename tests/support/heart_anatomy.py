"""The anatomy, grid and convention of whole hearts, as the workflow reads them."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.label_maps.reading import open_convention

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
HEART, HEART_GRID = read_anatomy(RESOURCES / "anatomies/heart/anatomy.json")
CONVENTION_FILES = sorted(map(str, (RESOURCES / "anatomies/heart/convention").glob("*.tsv")))
CONVENTION = open_convention(CONVENTION_FILES, HEART)
