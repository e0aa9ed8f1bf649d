"""The readable half of a bundle, `bundle.json`: anatomy, grid, digests. Owned by the prior stage.

Light on purpose (json only): the Snakefile reads it too. The weights are in `prior.bundle`.
"""

import json
import re
from pathlib import Path

from ..runtime.errors import InputError
from ..runtime.text_files import read_text
from .labels import Anatomy, Grid

MAX_CARD_BYTES = 2**24
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
STRUCTURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
RESERVED_NAMES = {
    "default": "the anatomy's own constraints in the cohort table",
    "outside": "what no region fills, in the names of a mesh's interfaces",
}
MAX_STRUCTURES = 255  # label maps are uint8
MIN_EDGE, MAX_EDGE = 4, 512  # voxels
SPACING_MM = (0.05, 20.0)  # of voxels; beyond, it is a slip in units
FORMAT = "cardiocohort-bundle/1"
FILES = {
    "bundle": "bundle.json",
    "weights": "weights.safetensors",
    "moments": "reference_moments.parquet",
}


def read_card(path: str | Path) -> dict:
    """The content of a `bundle.json`, format and name checked; InputError naming the file otherwise."""
    path = Path(path)
    text = read_text(
        path,
        f"{path.name} (`bundle` names a bundle folder, `anatomy` a folder of an anatomy)",
        MAX_CARD_BYTES,
    )
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    file_format = card.get("format") if isinstance(card, dict) else None
    if file_format != FORMAT:
        raise InputError(f"{path}: its 'format' is {file_format!r}; this version reads {FORMAT!r}")
    name = card.get("name")
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise InputError(
            f"{path}: its 'name' is {str(name)[:80]!r}; it names folders: allowed are 1 to 64 letters "
            "(a-z, A-Z), digits and underscores, the first a letter or digit"
        )
    return card


def read_anatomy(path: str | Path) -> tuple[Anatomy, Grid]:
    """Anatomy and grid of the `bundle.json` of a bundle or the `anatomy.json` of an anatomy at `path`."""
    card = read_card(path)
    try:
        own = card["anatomy"]
        for key in ("structures", "centred_on", "shown"):
            _check_list(path, key, own.get(key, []))
        colours = tuple((str(n), str(c)) for n, c in dict(own.get("colours", {})).items())
        anatomy = Anatomy(
            tuple(own["structures"]), tuple(own["centred_on"]), tuple(own.get("shown", ())), colours
        )
        grid = Grid(_voxels(path, card["grid"]["shape"]), float(card["grid"]["spacing_mm"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: anatomy or grid is missing or malformed ({error!r})") from error
    _check_anatomy(path, anatomy)
    _check_grid(path, grid)
    return anatomy, grid


def trained_on(training: dict, hearts: bool = True) -> tuple[str, str]:
    """What a bundle was trained on, and how that varies: from the entry `training` of its `bundle.json`.

    The words of the bundle's CARD.md, lines broken as there, and of a cohort's report. hearts: whether these
    are hearts, whose volumes are those of virtual patients; others vary as `folder.Variation` states.
    """
    if training["label_maps"]:
        return f"the label maps in {training['label_maps']}", "shapes and volumes vary as in these label maps"
    names = [Path(path).name.split(".")[0] for path in training["templates"]]
    if any(Path(path).suffix == ".safetensors" for path in training["templates"]):
        return (
            f"hearts drawn from the atlas {', '.join(names)}, turned, deformed a little and grown",
            "shapes vary as the modes of the atlas do, volumes as\npublished distributions do",
        )
    if not hearts:
        return (
            "random deformations of " + ", ".join(names),
            "shapes vary as random smooth deformations do, volumes\nlog-normally about the templates'",
        )
    return (
        "random deformations of " + ", ".join(names),
        "shapes vary as random smooth deformations do, volumes as published\ndistributions do",
    )


def _check_list(path, key: str, given) -> None:
    """InputError for what is no list: the letters of a text would be read as names."""
    if not isinstance(given, list):
        raise InputError(
            f"{path}: anatomy: {key!r} is {str(given)[:80]!r}; allowed: a list of names, "
            f'for example ["{given if isinstance(given, str) and given else "femur"}"]'[:300]
        )


def _voxels(path, given) -> tuple[int, ...]:
    """The shape of a grid; InputError for a share of a voxel, or a text, whose digits would be read."""
    if not isinstance(given, list) or not all(isinstance(n, int) and n is not True for n in given):
        raise InputError(
            f"{path}: grid: 'shape' is {str(given)[:80]!r}; allowed: three whole numbers in a list"
        )
    return tuple(given)


def _check_anatomy(path, anatomy: Anatomy) -> None:
    """Names go into tables, pages and files; labels are bytes."""
    names = anatomy.structures
    bad = next((n for n in names if not (isinstance(n, str) and STRUCTURE_NAME.fullmatch(n))), None)
    if bad is not None:
        raise InputError(
            f"{path}: anatomy: {str(bad)[:80]!r} is no name of a structure; allowed: 1 to 64 letters (a-z), "
            "digits and underscores, the first a letter"
        )
    taken = next((n for n in names if n in RESERVED_NAMES), None)
    if taken:
        raise InputError(
            f"{path}: anatomy: {taken!r} is no name for a structure, since it stands for "
            f"{RESERVED_NAMES[taken]}; give it another one, for example '{taken}_part'"
        )
    if not 1 <= len(names) <= MAX_STRUCTURES or len(set(names)) < len(names):
        raise InputError(
            f"{path}: anatomy: {len(names)} structures, {len(set(names))} of different names; allowed: 1 to "
            f"{MAX_STRUCTURES}, each with a name of its own"
        )
    if not anatomy.centred_on or not set(map(str, anatomy.centred_on)) <= set(names):
        raise InputError(f"{path}: anatomy: 'centred_on' names one or more of the structures")
    if not set(map(str, anatomy.shown)) <= set(names):
        raise InputError(f"{path}: anatomy: 'shown' names structures only, or is left out")
    for name, colour in anatomy.colours:
        if name not in names or not COLOUR.fullmatch(colour):
            raise InputError(
                f"{path}: anatomy: colour {colour[:20]!r} of {name[:80]!r}; allowed: '#rrggbb' by structure"
            )


def _check_grid(path, grid: Grid) -> None:
    low, high = SPACING_MM
    sizes = len(grid.shape) == 3 and all(MIN_EDGE <= n <= MAX_EDGE for n in grid.shape)
    if not sizes or not low <= grid.spacing_mm <= high:
        raise InputError(
            f"{path}: grid of shape {str(grid.shape)[:80]} and {grid.spacing_mm:g} mm; allowed: three of "
            f"{MIN_EDGE} to {MAX_EDGE} voxels, {low:g} to {high:g} mm"
        )
