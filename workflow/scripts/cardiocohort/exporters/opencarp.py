"""openCARP's text mesh: .pts, .elem, .lon, .surf, .vtx, and fields as .dat. Owned by the inputs stage.

Format: openCARP user manual, "File formats". Coordinates are in micrometres, indices start at 0; .lon has
"2" (fibre and sheet) and six numbers an element; regions are the element tags; .dat has a number a line.
"""

from pathlib import Path

import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import atomic_path, write_text
from . import register

UM_PER_MM = 1000.0
NAME = "heart"
SURFACES = {"epi": "epi", "base": "base", "lv_endo": "lvendo", "rv_endo": "rvendo"}


@register("opencarp")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics) -> list[Path]:
    """heart.pts/.elem/.lon, heart.<surface>.surf/.vtx, heart.<field>.dat and README.txt in `folder`.

    Surfaces: epi, base, lvendo, rvendo and the parts of rvendo, rvsept (on septal tets) and rvendo_nosept,
    that ventricular coordinates ask for. Fields: the coordinates a node, the AHA segment an element. Without
    microstructure the .lon is left out, without coordinates the .dat files are.
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
    if model.coordinates is not None:
        fields = model.coordinates.on_nodes() | {"aha": model.coordinates.aha}
        for name, values in fields.items():
            files.append(folder / f"{NAME}.{name}.dat")
            _write_values(files[-1], values)
    files.append(folder / "README.txt")
    write_text(files[-1], _readme())
    return files


def surfaces(model: BiventricularModel) -> dict[str, np.ndarray]:
    """Facets (F, 3), normals outward, by openCARP's customary names."""
    facets = {name: model.facets[model.facet_tag == FACETS[tag]] for tag, name in SURFACES.items()}
    septal = np.isin(np.sort(facets["rvendo"], axis=1) @ _key(model), _septal_keys(model))
    return facets | {"rvsept": facets["rvendo"][septal], "rvendo_nosept": facets["rvendo"][~septal]}


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


def _write_values(path: Path, values: np.ndarray) -> None:
    form = "%d\n" if values.dtype.kind == "i" else "%.7f\n"
    write_text(path, (form * len(values)) % tuple(values.tolist()))


def _readme() -> str:
    tags = ", ".join(f"{value} {name}" for name, value in REGIONS.items())
    return (
        f"openCARP mesh '{NAME}', coordinates in micrometres.\n"
        f"Run with: openCARP -meshname {NAME} +F your.par\n"
        f"Element tags: {tags}. {NAME}.lon: fibre and sheet an element.\n"
        "Surfaces (.surf) and their nodes (.vtx): base, epi, lvendo, rvendo = rvsept + rvendo_nosept.\n"
        "Fields (.dat), a line a node: the coordinates of Cobiveco (Schuler et al. 2021), not UVC's:\n"
        "apicobasal 0 tip of the septum, 1 base; transmural 0 epicardium and middle of the septum, 1\n"
        "endocardium; rotational 0 posterior junction, 2/3 anterior one, through the septum to 1 = 0, with\n"
        "rotational_sin and rotational_cos of its turn; transventricular 0 LV, 1 RV. A line an element:\n"
        "aha, AHA segments 1 to 17, 18 to 26 in the RV's free wall.\n"
    )
