"""What the decks of several solvers share. Owned by the inputs stage."""

import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import FACETS, BiventricularModel
from ..mesh.second_order import second_order
from ..mesh.tetrahedron_geometry import FACES, row_keys
from ..runtime.errors import SubjectError

ENDOCARDIA = ("lv_endo", "rv_endo")


def pressures_kpa(mechanics: Mechanics) -> dict[str, float]:
    """Cavity pressure by the facet tag that it acts on."""
    return dict(zip(ENDOCARDIA, (mechanics.lv_pressure_kpa, mechanics.rv_pressure_kpa), strict=True))


def need_fibres(model: BiventricularModel, mechanics: Mechanics) -> None:
    """SubjectError if the material has directions that the model lacks."""
    if mechanics.material != "neo_hooke" and model.microstructure is None:
        raise SubjectError(
            "no fibres", f"material {mechanics.material} needs fibre and sheet directions, the mesh has none"
        )


def mesh_of_order(model: BiventricularModel, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, tets and facets of the model with corner nodes only (1) or midside nodes too (2)."""
    if order == 2:
        return second_order(model.points_mm, model.tets, model.facets)
    return model.points_mm, model.tets, model.facets


def behind_facets(model: BiventricularModel) -> tuple[np.ndarray, np.ndarray]:
    """Index of the tetrahedron behind each facet of the model, and which node (0..3) of it lies opposite."""
    n = len(model.points_mm)
    keys = row_keys(np.sort(model.tets[:, FACES].reshape(-1, 3), axis=1), n)
    order = np.argsort(keys)
    wanted = row_keys(np.sort(model.facets, axis=1), n)
    face = order[np.searchsorted(keys, wanted, sorter=order)]
    return face // 4, face % 4


def patches(model: BiventricularModel, facets: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of `facets`, which go with the model's, by tag; tags without facets are left out."""
    by_tag = {name: facets[model.facet_tag == tag] for name, tag in FACETS.items()}
    return {name: part for name, part in by_tag.items() if len(part)}


def expected(model: BiventricularModel, mechanics: Mechanics, material: str = "") -> str:
    """The README's paragraph on cavity volumes, by which a run can be judged.

    material: the deck's, if it is not the setting.
    """
    present = {
        name[:2]: kpa
        for name, kpa in pressures_kpa(mechanics).items()
        if (model.facet_tag == FACETS[name]).any()
    }
    rest = ", ".join(f"{name.upper()} {model.cavity_volume_ml(name):.2f} mL" for name in present)
    full = ", ".join(f"{name.upper()} {kpa:g} kPa" for name, kpa in present.items())
    return (
        f"Cavities at rest, closed by a fan from the middle of the rim: {rest}.\n"
        "A plane lid over a curved rim may differ by 0.5 %; more means another mesh, unit or tag.\n"
        f"Cavities at full load ({full}): the target `simulate` with the material\n"
        f"{material or mechanics.material} writes them for this mesh in simulations/<batch>.tsv\n"
        "(lv_loaded_ml, rv_loaded_ml), and as a curve in the pressure_volume.tsv of each subject.\n"
    )


def text_rows(form: str, *columns: np.ndarray) -> str:
    """One formatted row an entry of `columns`, arrays (n,) or (n, k); `%d` takes whole numbers."""
    table = np.column_stack(columns)
    return (form * len(table)) % tuple(table.ravel().tolist())
