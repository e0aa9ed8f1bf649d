"""An anatomy as a folder: labels and grid, topology rules, convention, templates. Owned by no stage; light.

| file | holds |
|---|---|
| `anatomy.json` | labels, centre, structures shown, colours, grid, usual constraints, variation |
| `topology.tsv` | the rules of the gate, which say too which structures a map may lack |
| `topology_conditions.tsv` | conditions that the rules exclude; may be left out |
| `convention/` | what label maps of users are compared with; may be left out |
| `templates/` | label maps that a population is deformed from; may be left out |
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from struct import error as StructError
from struct import unpack

from ..runtime.errors import InputError
from .bundle_metadata import read_anatomy, read_card
from .labels import Anatomy, Grid

LABELS, RULES, CONVENTION = "anatomy.json", "topology.tsv", "convention"
CONVENTION_OF_ANATOMY = "anatomy"  # value of the config key `convention`
GRID_STEP = 16  # voxels: cells of two, halved twice by the autoencoder and once by the denoiser
NEEDED = (LABELS, RULES)
KEYS = {  # of `anatomy.json`, and in its parts
    "": ("format", "anatomy", "grid", "constraints", "variation"),
    "anatomy": ("structures", "centred_on", "shown", "colours"),
    "grid": ("shape", "spacing_mm"),
    "variation": ("together", "each"),
}
# of the domain `biventricular`, of fibres, segments and virtual patients
OF_HEARTS = ("myocardium", "left_ventricle", "right_ventricle")


@dataclass(frozen=True)
class Variation:
    """How far deformed templates grow, beside their random shape: standard deviations of log volumes.

    together: of all structures at once; each: of every structure on its own.
    """

    together: float = 0.2
    each: float = 0.08


def check_folder(folder: str | Path, key: str = "anatomy") -> None:
    """InputError for a folder of an anatomy that lacks a file, or whose `anatomy.json` cannot be used."""
    folder = Path(folder)
    lacking = [name for name in NEEDED if not (folder / name).is_file()]
    if lacking:
        raise InputError(
            f"config key {key!r}: the folder {str(folder)!r} has no {' and no '.join(lacking)}; the "
            f"folder of an anatomy needs {' and '.join(NEEDED)} (docs/howto.md)"
        )
    check_keys(folder / LABELS)
    read_anatomy(folder / LABELS)
    read_variation(folder / LABELS)
    read_constraints(folder / LABELS)


def check_keys(path: str | Path) -> None:
    """InputError for a key of an `anatomy.json` that nothing reads, with the nearest one that is read."""
    card = read_card(path)
    for where, known in KEYS.items():
        part = card.get(where, {}) if where else card
        for key in part if isinstance(part, dict) else ():
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise InputError(
                    f"{path}: key {'.'.join(filter(None, (where, key)))[:80]!r} is unknown; {hint}allowed "
                    f"{f'in {where!r}' if where else 'there'}: {', '.join(known)}"
                )


def read_constraints(path: str | Path) -> str:
    """The key `constraints` of an `anatomy.json`: a cell of the cohort table, what `default` stands for.

    Empty where it has none; InputError for what is no text.
    """
    given = read_card(path).get("constraints", "")
    if not isinstance(given, str):
        raise InputError(
            f"{path}: 'constraints' is {str(given)[:80]}; write it as in the cohort table, for example "
            "'femur, tibia: size position shape'"
        )
    return given


def read_variation(path: str | Path) -> Variation:
    """The key `variation` of an `anatomy.json`, or its default; InputError for other values."""
    given = read_card(path).get("variation", {})
    try:
        found = Variation(**given)
        fits = all(0 <= float(value) <= 1 for value in (found.together, found.each))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{path}: 'variation' is {str(given)[:80]}; allowed: 'together' and 'each', numbers from 0 to 1"
        )
    return found


def check_grid(grid: Grid, path: str | Path) -> None:
    """InputError for a grid that the networks of a prior cannot halve."""
    if len(set(grid.shape)) > 1 or grid.shape[0] % GRID_STEP:
        raise InputError(
            f"{path}: a grid of {' x '.join(map(str, grid.shape))} voxels; a prior needs a cube with an edge "
            f"that is a multiple of {GRID_STEP}"
        )


def check_same(anatomy: Anatomy, own: Anatomy, what: str, folder: str | Path) -> None:
    """InputError where `what` has the labels of another `anatomy` than the folder's `own`."""
    if anatomy.structures != own.structures:
        raise InputError(
            f"{what} has the labels of another anatomy: {', '.join(anatomy.structures)}; the anatomy "
            f"{str(folder)!r} has {', '.join(own.structures)}. Set the config keys 'anatomy' and 'bundle' to "
            "the same anatomy"
        )


def of_hearts(anatomy: Anatomy) -> bool:
    """Whether what is made for hearts only can be used with this anatomy."""
    return set(OF_HEARTS) <= set(anatomy.structures)


def check_atlas_of(
    path: str | Path, own: Anatomy, grid: Grid, anatomy_file: str | Path, key: str = "prior.templates"
) -> None:
    """InputError for an atlas (.safetensors) of other structures or another grid than those of the anatomy.

    Reads the header alone, since the Snakefile may not import torch. `key` is the config key that names it.
    """
    what = f"config key {key!r}: {path}"
    try:
        with open(path, "rb") as file:
            (size,) = unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, 2**24)))
        about = json.loads(header["__metadata__"]["atlas"])
        structures, spacing_mm = tuple(about["structures"]), float(about["spacing_mm"])
        shape = tuple(map(int, header["template"]["shape"]))
    except (OSError, ValueError, KeyError, TypeError, StructError) as error:
        raise InputError(f"{what} is no atlas ({error!r}); `snakemake atlas` makes one") from None
    check_same(Anatomy(structures, ()), own, what, Path(anatomy_file).parent)
    if shape != tuple(grid.shape) or spacing_mm != grid.spacing_mm:
        raise InputError(
            f"{what} is an atlas on {_voxels(shape, spacing_mm)}; the grid of {anatomy_file} has "
            f"{_voxels(grid.shape, grid.spacing_mm)}. Make the atlas on this grid (`snakemake atlas`), or "
            "set the config key 'anatomy' to the one that it was made with"
        )


def _voxels(shape: tuple[int, ...], spacing_mm: float) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {spacing_mm:g} mm"
