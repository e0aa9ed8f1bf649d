"""FEBio's input file, specification 4.0. Owned by the inputs stage.

Format: FEBio user manual, chapter 3, and the readers of FEBio's source (FEBioXML/FEBioMesh*Section4.cpp):
elements and nodes count from 1, MeshDomains stands behind Mesh, MeshData behind MeshDomains, `lid` counts
the elements of a part from 1. Units are mm, kg and s, in which a pressure is in kPa. One part and one
material a region, so that regions can be given different ones.

Ten-node tetrahedra need the type three-field-solid by name: without it FEBio takes displacements alone, which
are stiffer in nearly incompressible muscle. Springs (traction Robin BC) exist from FEBio 4.10 on.

heart_active.feb has its own materials and loads, and takes the other sections `from` heart.feb. Its tension
T0 is a second Piola-Kirchhoff stress along the first axis.

What differs from the settings: FEBio has no term in I8fs, the shear between fibre and sheet of Holzapfel and
Ogden's energy; it is left out. It has no springs along the normal alone either (traction Robin BC acts in all
directions), so that the epicardium is free.
"""

from pathlib import Path

import numpy as np

from ..mechanics.settings import Guccione, HolzapfelOgden, Mechanics, NeoHooke
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import write_text
from . import register
from ._checks import CHECKS, checked
from ._deck import (
    PLAIN,
    Deck,
    expected,
    is_ramp,
    load_shares,
    mesh_of_order,
    need_fibres,
    patches,
    pressures_kpa,
)  # fmt: skip
from ._text import text_rows

NAME = "heart"
TET_KINDS = {4: "tet4", 10: "tet10"}
TRIANGLE_KINDS = {3: "tri3", 6: "tri6"}
RUN = f"febio4 -i {NAME}.feb"
RUN_ACTIVE = f"febio4 -i {NAME}_active.feb"
MIXTURE = "uncoupled solid mixture"
RUN_BY_HAND = "Run by hand with guccione and neo_hooke, FEBio 4.11."
SLACK_STEPS = 4  # steps that fail are shortened


@register("febio")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """heart.feb, a complete passive inflation, and README.txt in `folder`."""
    need_fibres(model, mechanics)
    files = [folder / f"{NAME}.feb"]
    write_text(files[0], _document(model, mechanics))
    if _contracts(model, mechanics, deck):
        files.append(folder / f"{NAME}_active.feb")
        write_text(files[1], _active_document(model, mechanics, deck))
    files.append(folder / "README.txt")
    write_text(files[-1], _readme(model, mechanics, deck))
    return files


def _contracts(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> bool:
    """Whether there is an active variant: with slack fibres it did not run."""
    return deck.contracts(model) and is_ramp(mechanics)


def _document(model: BiventricularModel, mechanics: Mechanics) -> str:
    points, tets, facets = mesh_of_order(model, mechanics.element_order)
    surfaces, parts = patches(model, facets), _parts(model)
    kind = ' type="three-field-solid"' if mechanics.element_order == 2 else ""
    sections = [
        _head("Passive inflation", RUN),
        _control(len(load_shares(mechanics, SLACK_STEPS)) - 1),
        "<Material>\n",
        *(_material(number, name, mechanics) for number, name in enumerate(parts, start=1)),
        "</Material>\n",
        "<Mesh>\n",
        f'<Nodes name="{NAME}">\n',
        text_rows('<node id="%d">%.9f,%.9f,%.9f</node>\n', np.arange(1, len(points) + 1), points),
        "</Nodes>\n",
        *(_elements(name, tets, rows) for name, rows in parts.items()),
        *(_surface(name, rows) for name, rows in surfaces.items()),
        *(_node_set(name, rows) for name, rows in surfaces.items()),
        "</Mesh>\n",
        "<MeshDomains>\n",
        *(f'<SolidDomain name="{name}" mat="{name}_muscle"{kind}/>\n' for name in parts),
        "</MeshDomains>\n",
    ]
    if model.microstructure is not None and mechanics.material != "neo_hooke":
        sections.append(_mesh_data(model, parts))
    loads = _supports_and_loads(mechanics, surfaces, pressures_kpa(mechanics))
    sections += [*loads, _load_curve(mechanics), _output(), "</febio_spec>\n"]
    return "".join(sections)


def _active_document(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> str:
    """The active variant: its own materials and loads, all other sections `from` the passive file."""
    parts, surfaces = _parts(model), patches(model, model.facets)
    tension = deck.settings.active_tension_kpa
    loads = _supports_and_loads(mechanics, surfaces, deck.active_pressures_kpa())
    no_axes = mechanics.material == "neo_hooke"
    sections = [
        _head("Contraction", RUN_ACTIVE),
        _from("Control"),
        "<Material>\n",
        *(_material(number, name, mechanics, tension) for number, name in enumerate(parts, start=1)),
        "</Material>\n",
        _from("Mesh") + _from("MeshDomains"),
        _mesh_data(model, parts) if no_axes else _from("MeshData"),
        *loads,
        _from("LoadData") + _from("Output") + "</febio_spec>\n",
    ]
    return "".join(sections)


def _from(section: str) -> str:
    return f'<{section} from="{NAME}.feb"/>\n'


def _parts(model: BiventricularModel) -> dict[str, np.ndarray]:
    """Tets of each region that has any."""
    parts = {name: np.flatnonzero(model.region == tag) for name, tag in REGIONS.items()}
    return {name: rows for name, rows in parts.items() if len(rows)}


def _head(what: str, run: str) -> str:
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n'
        f"<!-- {what} of both ventricles; mm, kg, s, kPa. Run: {run} -->\n"
        '<febio_spec version="4.0">\n'
        '<Module type="solid">\n<units>mm-kg-s</units>\n</Module>\n'
    )


def _mesh_data(model: BiventricularModel, parts: dict[str, np.ndarray]) -> str:
    return (
        "<MeshData>\n" + "".join(_axes(name, model, rows) for name, rows in parts.items()) + "</MeshData>\n"
    )


def _control(steps: int) -> str:
    step = 1.0 / steps
    return (
        "<Control>\n<analysis>STATIC</analysis>\n"
        f"<time_steps>{steps}</time_steps>\n<step_size>{step:.10g}</step_size>\n"
        '<time_stepper type="default">\n<max_retries>10</max_retries>\n<opt_iter>12</opt_iter>\n'
        f"<dtmin>{step / 1000:.10g}</dtmin>\n<dtmax>{step:.10g}</dtmax>\n</time_stepper>\n"
        # a pressure that follows the surface has a tangent that is not symmetric
        '<solver type="solid">\n<symmetric_stiffness>non-symmetric</symmetric_stiffness>\n'
        '<max_refs>25</max_refs>\n<qn_method type="full Newton"/>\n</solver>\n'
        "</Control>\n"
    )


def _material(number: int, part: str, mechanics: Mechanics, tension_kpa: float = 0.0) -> str:
    kind, content = _LAWS[mechanics.material](getattr(mechanics, mechanics.material))
    if tension_kpa:
        content, kind = f'<solid type="{kind}">\n{content}</solid>\n', MIXTURE
        # along the first of the material's axes, the fibre
        content += (
            '<solid type="uncoupled prescribed uniaxial active contraction">\n'
            f'<T0 lc="1">{tension_kpa:.10g}</T0>\n</solid>\n'
        )
    return (
        f'<material id="{number}" name="{part}_muscle" type="{kind}">\n'
        f"<k>{mechanics.bulk_modulus_kpa:.10g}</k>\n"
        # 2 is U = k/2 (J - 1)^2
        f"<pressure_model>2</pressure_model>\n{content}</material>\n"
    )


def _holzapfel_ogden(law: HolzapfelOgden) -> tuple[str, str]:
    matrix = f"{law.a_kpa:.10g}/(2*{law.b:.10g})*(exp({law.b:.10g}*(I1-3))-1)"
    return MIXTURE, (
        f'<solid type="uncoupled hyperelastic">\n<W>{matrix}</W>\n</solid>\n'
        + _fibres(law.a_f_kpa, law.b_f, "1,0,0")
        + _fibres(law.a_s_kpa, law.b_s, "0,1,0")
    )


def _fibres(stress_kpa: float, exponent: float, direction: str) -> str:
    # ksi / (alpha beta) (exp(alpha (I4 - 1)^beta) - 1), in tension only; direction in the material's axes
    return (
        f'<solid type="fiber-exp-pow-uncoupled">\n<alpha>{exponent:.10g}</alpha>\n<beta>2</beta>\n'
        f'<ksi>{stress_kpa:.10g}</ksi>\n<fiber type="vector">{direction}</fiber>\n</solid>\n'
    )


def _guccione(law: Guccione) -> tuple[str, str]:
    """FEBio's orthotropic Fung material: its moduli are C times the exponents, its Poisson ratios 0.

    With these FEBio's c Q = sum 2 mu_a (E^2)_aa + lambda_ab E_aa E_bb is C times Guccione's Q.
    """
    c = law.c_kpa
    moduli = {
        "E1": c * law.b_f, "E2": c * law.b_t, "E3": c * law.b_t,
        "G12": c * law.b_fs / 2, "G23": c * law.b_t / 2, "G31": c * law.b_fs / 2,
        "v12": 0.0, "v23": 0.0, "v31": 0.0, "c": c,
    }  # fmt: skip
    return "Fung orthotropic", "".join(f"<{name}>{value:.10g}</{name}>\n" for name, value in moduli.items())


def _neo_hooke(law: NeoHooke) -> tuple[str, str]:
    return "Mooney-Rivlin", f"<c1>{law.mu_kpa / 2:.10g}</c1>\n<c2>0</c2>\n"


_LAWS = {"holzapfel_ogden": _holzapfel_ogden, "guccione": _guccione, "neo_hooke": _neo_hooke}


def _elements(part: str, tets: np.ndarray, rows: np.ndarray) -> str:
    form = '<elem id="%d">' + ",".join(["%d"] * tets.shape[1]) + "</elem>\n"
    return (
        f'<Elements type="{TET_KINDS[tets.shape[1]]}" name="{part}">\n'
        + text_rows(form, rows + 1, tets[rows] + 1)
        + "</Elements>\n"
    )


def _surface(name: str, facets: np.ndarray) -> str:
    kind = TRIANGLE_KINDS[facets.shape[1]]
    form = f'<{kind} id="%d">' + ",".join(["%d"] * facets.shape[1]) + f"</{kind}>\n"
    rows = text_rows(form, np.arange(1, len(facets) + 1), facets + 1)
    return f'<Surface name="{name}">\n{rows}</Surface>\n'


def _node_set(name: str, facets: np.ndarray) -> str:
    nodes = ",".join(map(str, (np.unique(facets) + 1).tolist()))
    return f'<NodeSet name="{name}_nodes">{nodes}</NodeSet>\n'


def _axes(part: str, model: BiventricularModel, rows: np.ndarray) -> str:
    """First axis along the fibre; the second is what of `d` is normal to it: the sheet direction."""
    form = '<e lid="%d"><a>%.8f,%.8f,%.8f</a><d>%.8f,%.8f,%.8f</d></e>\n'
    micro = model.microstructure
    data = text_rows(form, np.arange(1, len(rows) + 1), micro.f0[rows], micro.s0[rows])
    return f'<ElementData type="mat_axis" elem_set="{part}">\n{data}</ElementData>\n'


def _supports_and_loads(
    mechanics: Mechanics, surfaces: dict[str, np.ndarray], pressures: dict[str, float]
) -> list[str]:
    fixed = springs = ""
    if mechanics.base == "fixed" and "base" in surfaces:
        fixed = (
            '<Boundary>\n<bc name="base" node_set="base_nodes" type="zero displacement">\n'
            "<x_dof>1</x_dof>\n<y_dof>1</y_dof>\n<z_dof>1</z_dof>\n</bc>\n</Boundary>\n"
        )
    elif "base" in surfaces:
        springs = (
            '<surface_load name="base" surface="base" type="traction Robin BC">\n'
            f"<spring_eps>{mechanics.base_stiffness_kpa_per_mm:.10g}</spring_eps>\n"
            "<dashpot_eps>0</dashpot_eps>\n</surface_load>\n"
        )
    loads = "".join(
        # against the normal, which points out of the muscle
        f'<surface_load name="{name}" surface="{name}" type="pressure">\n'
        f'<pressure lc="1">{kpa:.10g}</pressure>\n<symmetric_stiffness>0</symmetric_stiffness>\n'
        "<linear>0</linear>\n</surface_load>\n"
        for name, kpa in pressures.items()
        if name in surfaces
    )
    return [fixed, f"<Loads>\n{springs}{loads}</Loads>\n"]


def _load_curve(mechanics: Mechanics) -> str:
    shares = load_shares(mechanics, SLACK_STEPS)
    shares = shares[[0, -1]] if is_ramp(mechanics) else shares
    times = np.linspace(0, 1, len(shares))
    points = "".join(f"<pt>{t:.10g},{share:.10g}</pt>\n" for t, share in zip(times, shares, strict=True))
    return (
        '<LoadData>\n<load_controller id="1" type="loadcurve">\n<interpolate>LINEAR</interpolate>\n'
        f"<extend>CONSTANT</extend>\n<points>\n{points}</points>\n"
        "</load_controller>\n</LoadData>\n"
    )


def _output() -> str:
    kinds = ("displacement", "stress", "relative volume")
    return (
        '<Output>\n<plotfile type="febio">\n'
        + "".join(f'<var type="{kind}"/>\n' for kind in kinds)
        + "</plotfile>\n</Output>\n"
    )


def _readme(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> str:
    left_out = {
        "holzapfel_ogden": "FEBio has no shear term between fibre and sheet (a_fs, b_fs): it is left out.\n"
    }
    springs = (
        "The base's springs need FEBio 4.10 or newer, where they count as experimental; they act on the\n"
        "deformed area.\n"
        if mechanics.base == "robin"
        else ""
    )
    contraction = ""
    if _contracts(model, mechanics, deck):
        contraction = deck.contraction(f"{NAME}_active.feb (reads {NAME}.feb)", RUN_BY_HAND)
    elif deck.contracts(model):
        contraction = (
            f"No active variant: the solver failed in contractions with {mechanics.material}, at 0.0005 of\n"
            "the load.\n"
        )
    return (
        f"FEBio 4 model '{NAME}.feb': passive inflation, mm, kg, s, kPa.\n"
        f"Run with: {RUN}\n"
        f"Parts: {', '.join(REGIONS)}, a material each ({mechanics.material}); element ids are those of the\n"
        "mesh table's .vtu plus 1. Material axes: fibre, sheet, sheet normal.\n"
        f"Surfaces: {', '.join(FACETS)}, normals outward; the same names with _nodes are node sets.\n"
        + left_out.get(mechanics.material, "")
        + springs
        + contraction
        + deck.pericardium(
            "FEBio's springs (traction Robin BC) act in all directions alike, not along the normal alone."
        )
        + expected(model, mechanics, deck, CHECKS["febio"].tolerance, pericardium=False)
        + checked("febio")
    )
