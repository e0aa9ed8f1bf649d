"""VTK files, for ParaView, PyVista, meshio and whatever reads them. Owned by the inputs stage."""

from pathlib import Path

from ..mechanics.settings import Mechanics
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..mesh.storage import write_surface, write_volume
from ..runtime.artifacts import write_text
from . import register
from ._deck import PLAIN, Deck, at_rest

README = f"""Biventricular mesh, coordinates in mm. Load in ParaView, or: pyvista.read("mesh.vtu")
mesh.vtu     tetrahedra; cell array region {REGIONS}; cell and point arrays f0, s0, n0
surface.vtp  all boundary triangles, normals outward; cell array facet {FACETS};
             point array node is the index in mesh.vtu
f0 fibre, s0 sheet, n0 sheet normal; unit vectors
Coordinates (Cobiveco, Schuler et al. 2021), cell and point arrays: apicobasal (0 tip of the septum, 1 base),
transmural (0 epicardium and middle of the septum, 1 endocardium), rotational (0 posterior junction, 2/3
anterior one, then through the septum to 1 = 0; average rotational_sin and rotational_cos instead),
transventricular (0 LV, 1 RV). Cell arrays: aha (AHA segments 1 to 17, 18 to 26 in the RV's free wall),
wall_mm (thickness of the wall).
"""
MESH_FILES = ("mesh.vtu", "surface.vtp")


@register("vtu", MESH_FILES)
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """README.txt in `folder`, and mesh.vtu and surface.vtp where they are not there yet."""
    files = [folder / name for name in (*MESH_FILES, "README.txt")]
    for file, write_part in zip(files, (write_volume, write_surface), strict=False):
        if not file.exists():
            write_part(file, model)
    write_text(files[2], README + at_rest(model, deck))
    return files
