"""openCARP's text mesh: .pts, .elem, .lon, .surf, .vtx. Owned by the inputs stage.

Format: openCARP user manual, "File formats". Coordinates are in micrometres, indices start at 0; .lon has
"2" (fibre and sheet) and six numbers an element; regions are the element tags.
"""

from pathlib import Path

import numpy as np

from ..files import atomic_path, write_text
from ..mechanics.settings import Mechanics
from ..meshing.model import FACETS, REGIONS, BiventricularModel
from . import register

UM_PER_MM = 1000.0
NAME = "heart"
SURFACES = {"epi": "epi", "base": "base", "lv_endo": "lvendo", "rv_endo": "rvendo"}


@register("opencarp")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics) -> list[Path]:
    """heart.pts/.elem/.lon, heart.<surface>.surf/.vtx and README.txt in `folder`.

    Surfaces: epi, base, lvendo, rvendo and the parts of rvendo, rvsept (on septal tets) and rvendo_nosept,
    that ventricular coordinates ask for. Without microstructure the .lon is left out.
    """
    files = [folder / f"{NAME}.pts", folder / f"{NAME}.elem"]
    _write_rows(files[0], f"{len(model.points_mm)}", model.points_mm * UM_PER_MM, "%.4f %.4f %.4f")
    elements = np.column_stack([model.tets, model.region])
    _write_rows(files[1], f"{len(elements)}", elements, "Tt %d %d %d %d %d")
    if model.microstructure is not None:
        files.append(folder / f"{NAME}.lon")
        both = np.hstack([model.microstructure.f0, model.microstructure.s0])
        _write_rows(files[-1], "2", both, " ".join(["%.7f"] * 6))
    for name, facets in surfaces(model).items():
        surf, vtx = folder / f"{NAME}.{name}.surf", folder / f"{NAME}.{name}.vtx"
        _write_rows(surf, f"{len(facets)}", facets, "Tr %d %d %d")
        nodes = np.unique(facets)
        _write_rows(vtx, f"{len(nodes)}\nintra", nodes[:, None], "%d")
        files += [surf, vtx]
    files.append(folder / "README.txt")
    write_text(files[-1], _readme())
    return files


def surfaces(model: BiventricularModel) -> dict[str, np.ndarray]:
    """Facets (F, 3), normals outward, by openCARP's customary names."""
    found = {name: model.facets[model.facet_tag == FACETS[tag]] for tag, name in SURFACES.items()}
    septal = np.isin(np.sort(found["rvendo"], axis=1) @ _key(model), _septal_keys(model))
    return found | {"rvsept": found["rvendo"][septal], "rvendo_nosept": found["rvendo"][~septal]}


def _key(model: BiventricularModel) -> np.ndarray:
    """Weights that turn the sorted nodes of a facet into one number of its own."""
    n = len(model.points_mm)
    return np.array([n * n, n, 1], dtype=np.int64)


def _septal_keys(model: BiventricularModel) -> np.ndarray:
    tets = np.sort(model.tets[model.region == REGIONS["septum"]], axis=1)
    faces = np.concatenate([np.delete(tets, i, axis=1) for i in range(4)])
    return faces @ _key(model)


def _write_rows(path: Path, head: str, rows: np.ndarray, form: str) -> None:
    with atomic_path(path) as temporary:
        np.savetxt(temporary, rows, fmt=form, header=head, comments="", encoding="ascii")


def _readme() -> str:
    tags = ", ".join(f"{value} {name}" for name, value in REGIONS.items())
    return (
        f"openCARP mesh '{NAME}', coordinates in micrometres.\n"
        f"Run with: openCARP -meshname {NAME} +F your.par\n"
        f"Element tags: {tags}. {NAME}.lon: fibre and sheet an element.\n"
        "Surfaces (.surf) and their nodes (.vtx): base, epi, lvendo, rvendo = rvsept + rvendo_nosept.\n"
    )
