"""The readable half of a bundle, `bundle.json`: anatomy, grid, digests. Owned by the prior stage.

Light on purpose (json only): the Snakefile reads it too. The weights are in `prior.bundle`.
"""

import json
from pathlib import Path

from .anatomy import Anatomy, Grid
from .errors import InputError

FORMAT = "cardiocohort-bundle/1"


def read_card(path: str | Path) -> dict:
    """The content of a `bundle.json`, its format checked; InputError naming the file otherwise."""
    path = Path(path)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: no readable bundle.json ({error}); `bundle` names a bundle folder"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    found = card.get("format") if isinstance(card, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: its 'format' is {found!r}; this version reads {FORMAT!r}")
    return card


def read_anatomy(path: str | Path) -> tuple[Anatomy, Grid]:
    """Anatomy and grid of the bundle whose `bundle.json` is at `path`."""
    card = read_card(path)
    try:
        anatomy = Anatomy(tuple(card["anatomy"]["structures"]), tuple(card["anatomy"]["centred_on"]))
        grid = Grid(tuple(int(n) for n in card["grid"]["shape"]), float(card["grid"]["spacing_mm"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: anatomy or grid is missing or malformed ({error!r})") from error
    return anatomy, grid
