"""Surfaces as STL, for print, and GLB, for viewers. Owned by the inputs stage."""

from pathlib import Path

from ..mechanics.settings import Mechanics
from ..mesh.lids import lids
from ..mesh.model import FACETS, BiventricularModel
from ..runtime.artifacts import write_text
from . import register
from ._checks import checked
from ._deck import PLAIN, Deck, at_rest
from ._surfaces import write_glb, write_stl

README = f"""Surfaces of a biventricular mesh, RAS+.
wall.stl: the closed surface of the wall, normals outward; binary, mm; for print.
{", ".join(f"{name}.stl" for name in FACETS)}: its parts, which are open; mm.
lv_lid.stl, rv_lid.stl: close the cavities over their rims; with lv_endo.stl or rv_endo.stl a closed surface
with normals into the cavity, where the ventricle is there and open; mm.
heart.glb: glTF 2.0, one mesh per part, m, y up; for viewers.
"""


@register("surfaces")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """wall.stl, a .stl of each tagged surface, heart.glb and README.txt in `folder`."""
    parts = {name: model.facets[model.facet_tag == tag] for name, tag in FACETS.items()}
    closing = {f"{name}_lid": facets for name, facets in lids(model).items()}
    files = write_stl(folder, model.points_mm, {"wall": model.facets, **parts, **closing})
    files += [write_glb(folder / "heart.glb", model.points_mm, parts), folder / "README.txt"]
    write_text(files[-1], README + at_rest(model, deck) + checked("surfaces"))
    return files
