"""Solver inputs from a `BiventricularModel`, one module per format. Owned by the inputs stage.

A module of this package registers its writer under the name that the config uses:

    @register("vtu")
    def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck) -> list[Path]: ...

It writes into `folder` (there, empty) and returns the files it wrote; a format that is a mesh alone has no
use for `mechanics`. Its last file is README.txt, which says what the others are and how to run them; a
writer that leaves it out gets one that lists them. Adding a format is adding a module; names with an
underscore are not formats.
"""

import importlib
import json
import pkgutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.frames import CONVENTION
from ..mesh.label_model import LabelModel
from ..mesh.model import BiventricularModel
from ..mesh.storage import Model, read_model
from ..runtime.artifacts import check_file, link_to, listed_in, remove, write_text
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from . import _labels
from ._archive import pack
from ._deck import Deck
from ._deck import Simulated as Simulated

Writer = Callable[[BiventricularModel, Path, Mechanics, Deck], list[Path]]
_WRITERS: dict[str, Writer] = {}
_MESH_FILES: dict[str, tuple[str, str]] = {}


def register(name: str, mesh_files: tuple[str, str] | None = None) -> Callable[[Writer], Writer]:
    """Decorator that makes a writer known by `name`; ValueError if the name is taken.

    mesh_files: the format's names of the mesh's own volume and surface file. Where a deck is made from stored
    files these are there before the writer begins, and it leaves them.
    """

    def keep(writer: Writer) -> Writer:
        if name in _WRITERS:
            raise ValueError(f"two exporters are registered as {name!r}")
        _WRITERS[name] = writer
        if mesh_files:
            _MESH_FILES[name] = mesh_files
        return writer

    return keep


def available() -> dict[str, Writer]:
    """All writers by name, alphabetically."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_WRITERS.items()))


def writer(name: str) -> Writer:
    """The writer of a format; InputError listing the formats there are."""
    writers = available()
    if name not in writers:
        raise InputError(f"inputs.formats: {name!r} is not a known format; allowed: {', '.join(writers)}")
    return writers[name]


def label_writer(name: str) -> Callable[[LabelModel, Path], list[Path]]:
    """The writer of a format for meshes of all labels; InputError listing the formats there are."""
    if name not in _labels.WRITERS:
        allowed = ", ".join(_labels.WRITERS)
        raise InputError(f"formats: {name!r} cannot hold a mesh of all labels; allowed: {allowed}")
    return _labels.WRITERS[name]


def deck_rows(record: dict) -> list[dict]:
    """One row per file, from a record of `write_deck`; one without a file where there is no deck."""
    head = {name: record.get(name, "") for name in ("subject", "verdict", "reason", "format")}
    return [head | listed for listed in (*record.get("files", []), listed_in(record))]


def _write_frame(readme: Path, model: Model) -> Path:
    """frame.json beside the README, and a paragraph in it: where the heart lay in the scanner."""
    file = readme.with_name("frame.json")
    matrix = np.asarray(model.world_from_heart).tolist()
    record = {"frame": model.frame, "world_from_heart": matrix, "convention": CONVENTION}
    write_text(file, json.dumps(record, indent=1) + "\n")
    text = (
        f"Frame: coordinates and directions are in the {model.frame} frame. frame.json has the rigid matrix\n"
        f"world_from_heart from the heart frame to the scanner's coordinates ({CONVENTION}).\n"
    )
    write_text(readme, readme.read_text(encoding="utf-8") + text)
    return file


@lru_cache(maxsize=1)
def _model(volume: tuple[str, int, str], surface: tuple[str, int, str]) -> Model:
    """The mesh of two files, kept for the subject's next format."""
    return read_model(volume[0], surface[0])


def _link_mesh(names: tuple[str, ...], payload: tuple, folder: Path) -> None:
    """The mesh's own volume and surface file under a format's `names` for them."""
    for name, (source, *_) in zip(names, payload[1:3], strict=False):
        link_to(source, folder / name)


def write_deck(path: Path, payload: tuple[str, tuple, tuple, Mechanics, Deck]) -> dict:
    """Write one subject's deck of one format into the folder of `path`, its README.txt, which comes last.

    payload: format, path, size and sha256 of the mesh's volume and of its surface file, the passive
    inflation that the deck describes, and the rest of it. What is the mesh's own file becomes a second name
    of it, unless the volume is another, unloaded one, whose surface has other places. All other files go into
    an archive where `deck` says so. The record's `files` are all but the README, relative to the batch folder
    of <batch>/<subject>/<format>/README.txt.
    """
    name, volume, surface, mechanics, deck = payload
    for file in (volume, surface):
        check_file(*file)
    model = _model(volume, surface)
    remove(path.parent)
    path.parent.mkdir(parents=True)
    if isinstance(model, LabelModel):
        mesh_files = _labels.MESH_FILES.get(name, ())
        _link_mesh(mesh_files, payload, path.parent)
        written = label_writer(name)(model, path.parent)
    else:
        write = writer(name)  # known after this: its mesh files too
        mesh_files = _MESH_FILES.get(name, ())
        if deck.simulated is None or deck.simulated.reference == "image":
            _link_mesh(mesh_files, payload, path.parent)
        written = write(model, path.parent, mechanics, deck)
    if not path.exists():
        listed = "\n".join(file.relative_to(path.parent).as_posix() for file in written)
        write_text(path, f"A biventricular heart, written by the exporter {name!r}:\n{listed}\n")
    if model.world_from_heart is not None:
        written.append(_write_frame(path, model))
    if deck.settings.archive and not mesh_files:
        written = [pack(path)]
    batch = path.parents[2]
    return {
        "verdict": Outcome.ACCEPTED,
        "reason": "",
        "format": name,
        "files": [file.relative_to(batch).as_posix() for file in written if file != path],
    }
