"""Decks of meshes of whole label maps, as far as a format has use for them. Owned by the inputs stage.

They have neither cavities with pressures nor fibres everywhere, so that a deck is the mesh with its regions
and interfaces; materials and loads are the user's.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..mesh.label_model import LabelModel
from ..mesh.storage import write_surface, write_volume
from ..runtime.artifacts import readable_json, write_text
from ._surfaces import write_glb, write_stl
from ._text import LON, text_rows
from ._xdmf import write_tagged_mesh

NAME = "heart"
UM_PER_MM = 1000.0
IDS_A_LINE = 12
MESH_FILES = {"vtu": ("mesh.vtu", "surface.vtp")}  # a format's names of the mesh's own files


def write_vtu(model: LabelModel, folder: Path) -> list[Path]:
    """README.txt in `folder`, and mesh.vtu and surface.vtp where they are not there yet."""
    files = [folder / name for name in MESH_FILES["vtu"]]
    for file, write_part in zip(files, (write_volume, write_surface), strict=True):
        if not file.exists():
            write_part(file, model)
    text = (
        "Mesh of all labels, coordinates in mm. Load in ParaView, or: pyvista.read('mesh.vtu')\n"
        f"mesh.vtu     tetrahedra; cell array region: {_regions(model)}\n"
        "surface.vtp  triangles between regions and around them, each once; cell arrays behind and before:\n"
        "             the regions on both sides, the normal points from behind to before, 0 is outside;\n"
        "             point array node is the index in mesh.vtu\n"
        f"{_fibres(model, 'f0, s0, n0 (cell and point arrays)')}"
    )
    return [*files, _readme(folder, model, text)]


def write_opencarp(model: LabelModel, folder: Path) -> list[Path]:
    """heart.pts/.elem/.lon, heart.<interface>.surf/.vtx and README.txt in `folder`."""
    files = [folder / f"{NAME}.pts", folder / f"{NAME}.elem"]
    n, m = len(model.points_mm), len(model.tets)
    write_text(files[0], f"{n}\n" + text_rows("%.4f %.4f %.4f\n", model.points_mm * UM_PER_MM))
    write_text(files[1], f"{m}\n" + text_rows("Tt %d %d %d %d %d\n", model.tets, model.region))
    if model.microstructure is not None:
        files.append(folder / f"{NAME}.lon")
        rows = text_rows(LON + "\n", model.microstructure.f0, model.microstructure.s0)
        write_text(files[-1], "2\n" + rows)
    for name, facets in model.interfaces().items():
        files += [folder / f"{NAME}.{name}.surf", folder / f"{NAME}.{name}.vtx"]
        nodes = np.unique(facets)
        write_text(files[-2], f"{len(facets)}\n" + text_rows("Tr %d %d %d\n", facets))
        write_text(files[-1], f"{len(nodes)}\nintra\n" + text_rows("%d\n", nodes))
    text = (
        f"openCARP mesh '{NAME}' of all labels, coordinates in micrometres.\n"
        f"Element tags: {_regions(model)}.\n"
        "Interfaces (.surf) and their nodes (.vtx) are named after the two regions, turned outward of the\n"
        f"first. {_fibres(model, f'{NAME}.lon')}"
        "There is no parameter file: which regions conduct is the user's choice.\n"
    )
    return [*files, _readme(folder, model, text)]


def write_calculix(model: LabelModel, folder: Path) -> list[Path]:
    """heart_mesh.inp with element and node sets, and README.txt in `folder`."""
    text = ["*NODE, NSET=NALL\n"]
    text.append(
        # with a decimal point: CalculiX 2.20 does not read 4e-06
        text_rows("%d, %.9f, %.9f, %.9f\n", np.arange(1, len(model.points_mm) + 1), model.points_mm)
    )
    for label in np.unique(model.region):
        rows = np.flatnonzero(model.region == label)
        text.append(f"*ELEMENT, TYPE=C3D4, ELSET={model.name(label).upper()}\n")
        text.append(text_rows("%d, %d, %d, %d, %d\n", rows + 1, model.tets[rows] + 1))
    for name, facets in model.interfaces().items():
        ids = (np.unique(facets) + 1).tolist()
        text.append(f"*NSET, NSET={name.upper().replace('-', '_TO_')}\n")
        text += [", ".join(map(str, ids[i : i + IDS_A_LINE])) + ",\n" for i in range(0, len(ids), IDS_A_LINE)]
    file = folder / f"{NAME}_mesh.inp"
    write_text(file, "".join(text))
    readme = (
        f"CalculiX and Abaqus mesh of all labels, {NAME}_mesh.inp, in mm: *INCLUDE it in your deck.\n"
        f"Element sets: {', '.join(model.name(k).upper() for k in np.unique(model.region))}.\n"
        "Node sets of interfaces: <REGION>_TO_<REGION> and <REGION>_TO_OUTSIDE.\n"
        "There are no materials, loads or fibres in it.\n"
    )
    return [file, _readme(folder, model, readme)]


def write_surfaces(model: LabelModel, folder: Path) -> list[Path]:
    """<region>.stl (mm) for each region, heart.glb (m) with all of them, and README.txt in `folder`."""
    parts = {model.name(label): model.surface_of(label) for label in np.unique(model.region)}
    files = write_stl(folder, model.points_mm, parts)
    files.append(write_glb(folder / f"{NAME}.glb", model.points_mm, parts))
    text = (
        "Closed surface of each region, normals outward. Neighbours share their triangles.\n"
        "<region>.stl: binary, mm, RAS+; for print.\n"
        f"{NAME}.glb: glTF 2.0, one mesh per region, m, y up; for viewers.\n"
    )
    return [*files, _readme(folder, model, text)]


def write_fenicsx(model: LabelModel, folder: Path) -> list[Path]:
    """mesh.xdmf, mesh.h5, markers.json and README.txt in `folder`: tags of regions and of interfaces."""
    interfaces = model.interfaces()
    facets = np.concatenate(list(interfaces.values()))
    tags = np.repeat(np.arange(1, len(interfaces) + 1), [len(part) for part in interfaces.values()])
    comment = "All labels, mm; tags are named in markers.json."
    files = write_tagged_mesh(folder, model.points_mm, model.tets, model.region, facets, tags, comment)
    markers = {model.name(label): [label, 3] for label in np.unique(model.region).tolist()}
    markers |= {name: [tag, 2] for tag, name in enumerate(interfaces, 1)}
    files.append(folder / "markers.json")
    write_text(files[-1], readable_json(markers))
    text = (
        "Mesh of all labels as XDMF, coordinates in mm, for DOLFINx, ParaView and what else reads XDMF.\n"
        "mesh.xdmf, mesh.h5: grids Mesh, Cell tags (regions) and Facet tags (interfaces, as triangles)\n"
        "markers.json: name of each tag, with the dimension of what it marks: [tag, dimension]\n"
        "There are no materials, loads or fibres in it.\n"
    )
    return [*files, _readme(folder, model, text)]


WRITERS: dict[str, Callable[[LabelModel, Path], list[Path]]] = {
    "calculix": write_calculix,
    "fenicsx": write_fenicsx,
    "opencarp": write_opencarp,
    "surfaces": write_surfaces,
    "vtu": write_vtu,
}


def _regions(model: LabelModel) -> str:
    return ", ".join(f"{label} {model.name(label)}" for label in np.unique(model.region))


def _fibres(model: LabelModel, where: str) -> str:
    if model.microstructure is None:
        return (
            "There are no fibres: their rule needs a myocardium between two ventricles, atria and outside.\n"
        )
    muscle = np.unique(model.region[model.microstructure.f0.any(axis=1)])
    names = " and ".join(model.name(label) for label in muscle)
    return f"Fibres, {where}: unit vectors in {names}, zero in all other regions.\n"


def _readme(folder: Path, model: LabelModel, text: str) -> Path:
    """README.txt: `text` and the volumes of the regions."""
    ml = model.volumes_mm3 / 1000
    volumes = ", ".join(f"{model.name(k)} {ml[k - 1]:.2f} mL" for k in np.unique(model.region))
    file = folder / "README.txt"
    write_text(file, f"{text}Volumes: {volumes}.\n")
    return file
