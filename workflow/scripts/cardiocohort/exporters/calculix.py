"""CalculiX's input file, which Abaqus reads too. Owned by the inputs stage.

Format: CalculiX CrunchiX manual, "Input deck format" and "Ten-node tetrahedral element": faces of a
tetrahedron are S1 = 123, S2 = 142, S3 = 243, S4 = 341, a positive pressure Pn pushes on face n. Nodes and
elements count from 1. Units are mm and N, in which a stress is in MPa. Numbers have a decimal point: CalculiX
2.20 does not read 4e-06.

The material is always the neo-Hookean one. CalculiX' own fibre law (ELASTIC_FIBER) has the fibre and sheet
terms of Holzapfel and Ogden, but a neo-Hookean matrix and no shear term. It also ends the process where an
iterate stretches a fibre too far, instead of halving the step: with the default parameters at 3 % of the
load. Fibres are there as an orientation per element, in which stresses can be printed and from which a user
material can start. Springs along the epicardium's normal are SPRING1 elements with an orientation.
"""

from pathlib import Path

import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import write_text
from . import register
from ._checks import CHECKS, checked
from ._deck import (
    ENDOCARDIA,
    PLAIN,
    Deck,
    behind_facets,
    expected,
    mesh_of_order,
    patches,
    pressures_kpa,
)
from ._text import text_rows

NAME = "heart"
MPA_PER_KPA = 1e-3
TET_KINDS = {4: "C3D4", 10: "C3D10"}
# number of the face opposite to node 0..3
FACE_NUMBERS = np.array([3, 4, 2, 1])
IDS_A_LINE = 12
SPRING_IDS = 3  # of elements that are springs of the base, per node
FLAT = 1e-6  # share of a node's largest stiffness below which an axis has no spring
RUN = f"ccx {NAME}"


@register("calculix")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """heart.inp, the files that it includes (mesh, fibres), and README.txt in `folder`."""
    points, tets, facets = mesh_of_order(model, mechanics.element_order)
    surfaces = patches(model, facets)
    files = [folder / f"{NAME}_mesh.inp"]
    write_text(files[0], _mesh(model, points, tets, surfaces))
    if model.microstructure is not None:
        files.append(folder / f"{NAME}_fibres.inp")
        write_text(files[-1], _fibres(model))
    files += [folder / f"{NAME}.inp", folder / "README.txt"]
    write_text(files[-2], _deck(model, mechanics, deck, points, surfaces))
    write_text(files[-1], _readme(model, mechanics, deck))
    return files


def face_numbers(model: BiventricularModel) -> tuple[np.ndarray, np.ndarray]:
    """Element index and face number 1..4 of each facet of the model."""
    element, opposite = behind_facets(model)
    return element, FACE_NUMBERS[opposite]


def _mesh(
    model: BiventricularModel, points: np.ndarray, tets: np.ndarray, surfaces: dict[str, np.ndarray]
) -> str:
    text = ["*NODE, NSET=NALL\n"]
    text.append(text_rows("%d, %.9f, %.9f, %.9f\n", np.arange(1, len(points) + 1), points))
    form = ", ".join(["%d"] * (tets.shape[1] + 1)) + "\n"
    for name, tag in REGIONS.items():
        rows = np.flatnonzero(model.region == tag)
        if len(rows):
            text.append(f"*ELEMENT, TYPE={TET_KINDS[tets.shape[1]]}, ELSET={name.upper()}\n")
            text.append(text_rows(form, rows + 1, tets[rows] + 1))
    parts = [name.upper() for name, tag in REGIONS.items() if (model.region == tag).any()]
    text.append("*ELSET, ELSET=MUSCLE\n" + "".join(f"{name},\n" for name in parts))
    text += [_set("NSET", name.upper(), np.unique(rows) + 1) for name, rows in surfaces.items()]
    element, face = face_numbers(model)
    for name, tag in FACETS.items():
        faces = [n for n in range(1, 5) if ((model.facet_tag == tag) & (face == n)).any()]
        text += [
            _set(
                "ELSET", f"{name.upper()}_S{n}", np.sort(element[(model.facet_tag == tag) & (face == n)]) + 1
            )
            for n in faces
        ]
        if faces:
            text.append(f"*SURFACE, NAME={name.upper()}_SURFACE, TYPE=ELEMENT\n")
            text += [f"{name.upper()}_S{n}, S{n}\n" for n in faces]
    return "".join(text)


def _set(kind: str, name: str, ids: np.ndarray) -> str:
    rows = [ids[i : i + IDS_A_LINE].tolist() for i in range(0, len(ids), IDS_A_LINE)]
    return f"*{kind}, {kind}={name}\n" + "".join(", ".join(map(str, row)) + ",\n" for row in rows)


def _fibres(model: BiventricularModel) -> str:
    """Local axes an element: the first along the fibre, the second along the sheet."""
    micro = model.microstructure
    form = "%d, " + ", ".join(["%.8f"] * 6) + "\n"
    return (
        # Abaqus demands the table; CalculiX ignores it with a warning
        "*DISTRIBUTION TABLE, NAME=AXES\nCOORD3D, COORD3D\n"
        "*DISTRIBUTION, NAME=FIBRES, LOCATION=ELEMENT, TABLE=AXES\n, 1., 0., 0., 0., 1., 0.\n"
        + text_rows(form, np.arange(1, len(model.tets) + 1), micro.f0, micro.s0)
        + "*ORIENTATION, NAME=FIBRE_AXES, SYSTEM=RECTANGULAR\nFIBRES\n3, 0.\n"
    )


def _deck(
    model: BiventricularModel,
    mechanics: Mechanics,
    deck: Deck,
    points: np.ndarray,
    surfaces: dict[str, np.ndarray],
) -> str:
    mu, bulk = (kpa * MPA_PER_KPA for kpa in (mechanics.neo_hooke.mu_kpa, mechanics.bulk_modulus_kpa))
    fibres = model.microstructure is not None
    step = 1.0 / mechanics.load_steps
    head = [
        "*HEADING\nPassive inflation of both ventricles; mm, N, MPa\n",
        f"** Run: {RUN}\n",
        f"*INCLUDE, INPUT={NAME}_mesh.inp\n",
        f"*INCLUDE, INPUT={NAME}_fibres.inp\n" if fibres else "",
        "*MATERIAL, NAME=MYOCARDIUM\n*HYPERELASTIC, NEO HOOKE\n",
        # C10 and D1 of C10 (I1 - 3) + (J - 1)^2 / D1
        f"{mu / 2:#.10g}, {2 / bulk:#.10g}\n",
        f"*SOLID SECTION, ELSET=MUSCLE, MATERIAL=MYOCARDIUM{', ORIENTATION=FIBRE_AXES' if fibres else ''}\n",
        _base(model, mechanics, points, surfaces.get("base")),
        _pericardium(model, deck, points, surfaces.get("epi")),
        f"*STEP, NLGEOM, INC={100 * mechanics.load_steps}\n*STATIC\n",
        f"{step:#.10g}, 1., {step / 1000:#.10g}, {step:#.10g}\n",
        "*DLOAD\n",
    ]
    _, face = face_numbers(model)
    kpa = pressures_kpa(mechanics)
    loads = [
        f"{name.upper()}_S{n}, P{n}, {kpa[name] * MPA_PER_KPA:#.10g}\n"
        for name in ENDOCARDIA
        for n in range(1, 5)
        if ((model.facet_tag == FACETS[name]) & (face == n)).any()
    ]
    tail = [
        "*NODE FILE\nU\n*EL FILE\nS, E\n",
        "*NODE PRINT, NSET=NALL, FREQUENCY=1000000\nU\n*END STEP\n",
    ]
    return "".join(head + loads + tail)


def _base(
    model: BiventricularModel, mechanics: Mechanics, points: np.ndarray, facets: np.ndarray | None
) -> str:
    if facets is None:
        return ""
    if mechanics.base == "fixed":
        return "*BOUNDARY\nBASE, 1, 3, 0.\n"
    return _springs(points, facets, mechanics.base_stiffness_kpa_per_mm * MPA_PER_KPA, len(model.tets))


def _springs(points: np.ndarray, facets: np.ndarray, stiffness: float, last_id: int) -> str:
    """Springs from the nodes of the base to the ground: its stiffness times each node's share of the area."""
    nodes, which, area, _ = _carriers(points, facets)
    share = np.bincount(which, area)
    return "".join(
        f"*ELEMENT, TYPE=SPRING1, ELSET=SPRING_{node + 1}_{axis}\n{last_id + 3 * i + axis}, {node + 1}\n"
        f"*SPRING, ELSET=SPRING_{node + 1}_{axis}\n{axis}\n{stiffness * part:#.10g}\n"
        for i, (node, part) in enumerate(zip(nodes.tolist(), share.tolist(), strict=True))
        for axis in (1, 2, 3)
    )


def _carriers(
    points: np.ndarray, facets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nodes that carry a surface's springs; of each part of a facet: its node's place, area, and unit normal.

    A node's part is the integral of its shape function, which on flat triangles is a third of the area at
    each corner of a three-node one, and at each midside node of a six-node one (0 at its corners).
    """
    corners = points[facets[:, :3]]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    twice = np.linalg.norm(across, axis=1)
    nodes, which = np.unique(facets[:, 3:] if facets.shape[1] == 6 else facets, return_inverse=True)
    return nodes, which.ravel(), np.repeat(twice / 6, 3), np.repeat(across / twice[:, None], 3, axis=0)


def _pericardium(model: BiventricularModel, deck: Deck, points: np.ndarray, facets: np.ndarray | None) -> str:
    """Springs of the epicardium along its normal, from its nodes to the ground.

    The facets around a node have normals of their own: their springs together are a symmetric matrix, whose
    eigenvectors are the local axes of up to three springs at the node.
    """
    if facets is None or not deck.pericardium_kpa_per_mm:
        return ""
    nodes, which, area, normals = _carriers(points, facets)
    matrices = np.zeros((len(nodes), 3, 3))
    parts = area[:, None, None] * normals[:, :, None] * normals[:, None, :]
    np.add.at(matrices, which, deck.pericardium_kpa_per_mm * MPA_PER_KPA * parts)
    stiffness, axes = np.linalg.eigh(matrices)
    number, text = len(model.tets) + SPRING_IDS * len(points), []
    for node, values, vectors in zip(nodes.tolist(), stiffness, axes, strict=True):
        first, second = vectors[:, 2], vectors[:, 1]  # of the largest eigenvalues
        name = f"EPI_AXES_{node + 1}"
        text.append(f"*ORIENTATION, NAME={name}, SYSTEM=RECTANGULAR\n")
        text.append(", ".join(f"{x:#.10g}" for x in (*first, *second)) + "\n")
        for axis, value in enumerate(values[::-1].tolist(), start=1):
            if value > FLAT * values[2]:
                number += 1
                spring = f"EPI_SPRING_{node + 1}_{axis}"
                text.append(f"*ELEMENT, TYPE=SPRING1, ELSET={spring}\n{number}, {node + 1}\n")
                text.append(f"*SPRING, ELSET={spring}, ORIENTATION={name}\n{axis}\n{value:#.10g}\n")
    return "".join(text)


def _readme(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> str:
    instead = (
        ""
        if mechanics.material == "neo_hooke"
        else f"CalculiX has no {mechanics.material} material: the settings of neo_hooke are taken.\n"
    )
    return (
        f"CalculiX and Abaqus model '{NAME}.inp': passive inflation, mm, N, MPa.\n"
        f"Run with: {RUN}   (OMP_NUM_THREADS sets the cores); results in {NAME}.frd and {NAME}.dat\n"
        f"{instead}"
        f"{NAME}_mesh.inp: element sets {', '.join(map(str.upper, REGIONS))}; node sets\n"
        f"{', '.join(map(str.upper, FACETS))} and the same with _SURFACE. {NAME}_fibres.inp: fibre and\n"
        "sheet direction an element, as a distribution with an orientation; CalculiX warns that it cannot\n"
        "interpret the line COORD3D, which is Abaqus' alone.\n"
        f"{deck.pericardium()}"
        f"{expected(model, mechanics, deck, CHECKS['calculix'].tolerance, 'neo_hooke')}{checked('calculix')}"
    )
