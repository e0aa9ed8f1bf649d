"""The anatomy and grid of whole hearts, as the workflow reads them."""

from pathlib import Path

from cardiocohort.anatomy.bundle_metadata import read_anatomy

HEART, HEART_GRID = read_anatomy(Path(__file__).resolve().parents[2] / "resources/anatomies/heart.json")
