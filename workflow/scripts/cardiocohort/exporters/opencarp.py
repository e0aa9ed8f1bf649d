"""openCARP's text mesh: .pts, .elem, .lon, .surf, .vtx, and fields as .dat. Owned by the inputs stage.

Format: openCARP user manual, "File formats". Coordinates are in micrometres, indices start at 0; .lon has
"2" (fibre and sheet) and six numbers an element; regions are the element tags; .dat has a number a line.

activation.par is a run of the electrical activation: monodomain, one beat, from four sites.
"""

from pathlib import Path

import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import write_text
from . import register
from ._checks import checked
from ._deck import PLAIN, Deck, at_rest
from ._text import LON, text_rows
from ._uvc import uvc

UM_PER_MM = 1000.0
NAME = "heart"
RUN = "openCARP +F activation.par"
# rotational and apicobasal coordinate of each site on its endocardium: where the normal human heart is
# activated first, Durrer et al., Circulation 41:899 (1970); rotational 1/3 is the middle of a free wall
SITES = {
    "lv_anterior": ("lvendo", 0.58, 0.7),
    "lv_posterior": ("lvendo", 0.08, 0.5),
    "lv_septal": ("lvendo", 5 / 6, 0.5),
    "rv_free_wall": ("rvendo_nosept", 1 / 3, 0.4),
}
SITE_RADIUS_MM = 5.0
# of Niederer et al., Phil Trans R Soc A 369:4331 (2011), along and across the fibres (S/m)
CONDUCTIVITIES = {"g_il": 0.17, "g_it": 0.019, "g_in": 0.019, "g_el": 0.62, "g_et": 0.24, "g_en": 0.24}
SURFACES = {"epi": "epi", "base": "base", "lv_endo": "lvendo", "rv_endo": "rvendo"}


@register("opencarp")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """heart.pts/.elem/.lon, heart.<surface>.surf/.vtx, heart.<field>.dat activation.par
    and README.txt in `folder`.

    Surfaces: epi, base, lvendo, rvendo and the parts of rvendo, rvsept (on septal tets) and rvendo_nosept,
    that ventricular coordinates ask for. Fields: the coordinates a node, the AHA segment an element. Without
    microstructure the .lon is left out, without coordinates the .dat files, stimuli and activation.par are.
    """
    files = [folder / f"{NAME}.pts", folder / f"{NAME}.elem"]
    _write_rows(files[0], f"{len(model.points_mm)}", model.points_mm * UM_PER_MM, "%.4f %.4f %.4f")
    elements = np.column_stack([model.tets, model.region])
    _write_rows(files[1], f"{len(elements)}", elements, "Tt %d %d %d %d %d")
    if model.microstructure is not None:
        files.append(folder / f"{NAME}.lon")
        both = np.hstack([model.microstructure.f0, model.microstructure.s0])
        _write_rows(files[-1], "2", both, LON)
    parts = surfaces(model)
    for name, facets in parts.items():
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
        for name, values in uvc(model).items():
            files.append(folder / f"{NAME}.uvc_{name}.dat")
            _write_values(files[-1], values)
        sites = {name: nodes for name in SITES if len(nodes := site_nodes(model, parts, name))}
        for name, nodes in sites.items():
            files.append(folder / f"{NAME}.stimulus_{name}.vtx")
            _write_rows(files[-1], f"{len(nodes)}\nintra", nodes[:, None], "%d")
        files.append(folder / "activation.par")
        write_text(files[-1], _parameters(list(sites)))
    files.append(folder / "README.txt")
    write_text(files[-1], _readme(model, deck))
    return files


def surfaces(model: BiventricularModel) -> dict[str, np.ndarray]:
    """Facets (F, 3), normals outward, by openCARP's customary names."""
    facets = {name: model.facets[model.facet_tag == FACETS[tag]] for tag, name in SURFACES.items()}
    septal = np.isin(np.sort(facets["rvendo"], axis=1) @ _key(model), _septal_keys(model))
    return facets | {"rvsept": facets["rvendo"][septal], "rvendo_nosept": facets["rvendo"][~septal]}


def site_nodes(model: BiventricularModel, parts: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Nodes of the endocardium within SITE_RADIUS_MM of the site's own, which its coordinates say."""
    surface, rotational, apicobasal = SITES[name]
    nodes = np.unique(parts[surface])
    if not len(nodes):
        return nodes
    fields = model.coordinates
    turn = np.abs((fields.node_rotational[nodes] - rotational + 0.5) % 1 - 0.5)
    nearest = nodes[np.argmin(np.hypot(turn, fields.node_apicobasal[nodes] - apicobasal))]
    distance = np.linalg.norm(model.points_mm[nodes] - model.points_mm[nearest], axis=1)
    return nodes[distance <= SITE_RADIUS_MM]


def _parameters(sites: list[str]) -> str:
    regions = "".join(f"{{owner}}.ID[{i}] = {tag}\n" for i, tag in enumerate(REGIONS.values()))

    def everywhere(owner: str) -> str:
        return f"{owner}.num_IDs = {len(REGIONS)}\n" + regions.format(owner=owner)

    stimuli = "".join(
        f"stim[{i}].name = {name}\nstim[{i}].crct.type = 0\nstim[{i}].pulse.strength = 250.0\n"
        f"stim[{i}].ptcl.start = 0.0\nstim[{i}].ptcl.duration = 2.0\nstim[{i}].ptcl.npls = 1\n"
        f"stim[{i}].elec.vtx_file = {NAME}.stimulus_{name}.vtx\n"
        for i, name in enumerate(sites)
    )
    return (
        f"# electrical activation of both ventricles; run: {RUN}\n"
        f"meshname = {NAME}\nsimID = activation\nbidomain = 0\nparab_solve = 1\n"
        "# ms, but dt in microseconds\ntend = 200.0\ndt = 25\nspacedt = 1.0\ntimedt = 10.0\n"
        f"num_phys_regions = 1\nphys_region[0].ptype = 0\n{everywhere('phys_region[0]')}"
        "num_imp_regions = 1\nimp_region[0].im = tenTusscherPanfilov\n"
        f"{everywhere('imp_region[0]')}num_gregions = 1\n{everywhere('gregion[0]')}"
        + "".join(f"gregion[0].{name} = {value}\n" for name, value in CONDUCTIVITIES.items())
        + f"num_stim = {len(sites)}\n{stimuli}"
        "num_LATs = 1\nlats[0].ID = activation\nlats[0].all = 0\nlats[0].measurand = 0\n"
        "lats[0].threshold = -10.0\nlats[0].mode = 0\n"
    )


def _key(model: BiventricularModel) -> np.ndarray:
    """Weights that turn the sorted nodes of a facet into one number of its own."""
    n = len(model.points_mm)
    return np.array([n * n, n, 1], dtype=np.int64)


def _septal_keys(model: BiventricularModel) -> np.ndarray:
    tets = np.sort(model.tets[model.region == REGIONS["septum"]], axis=1)
    faces = np.concatenate([np.delete(tets, i, axis=1) for i in range(4)])
    return faces @ _key(model)


def _write_rows(path: Path, head: str, rows: np.ndarray, form: str) -> None:
    write_text(path, head + "\n" + text_rows(form + "\n", rows))


def _write_values(path: Path, values: np.ndarray) -> None:
    form = "%d\n" if values.dtype.kind == "i" else "%.6f\n"
    write_text(path, text_rows(form, values))


def _readme(model: BiventricularModel, deck: Deck) -> str:
    tags = ", ".join(f"{value} {name}" for name, value in REGIONS.items())
    edges = (
        model.points_mm[model.tets[:, [0, 0, 0, 1, 1, 2]]]
        - model.points_mm[model.tets[:, [1, 2, 3, 2, 3, 3]]]
    )
    return (
        f"openCARP mesh '{NAME}', coordinates in micrometres.\n"
        f"Run with: {RUN}\n"
        f"Element tags: {tags}. {NAME}.lon: fibre and sheet an element.\n"
        "Surfaces (.surf) and their nodes (.vtx): base, epi, lvendo, rvendo = rvsept + rvendo_nosept.\n"
        "Fields (.dat), a line a node: the coordinates of Cobiveco (Schuler et al. 2021):\n"
        "apicobasal 0 tip of the septum, 1 base; transmural 0 epicardium and middle of the septum, 1\n"
        "endocardium; rotational 0 posterior junction, 2/3 anterior one, through the septum to 1 = 0, with\n"
        "rotational_sin and rotational_cos of its turn; transventricular 0 LV, 1 RV. A line an element:\n"
        "aha, AHA segments 1 to 17, 18 to 26 in the RV's free wall.\n"
        "The same under the names of UVC (Bayer et al. 2018), uvc_z, uvc_rho, uvc_phi, uvc_ven: rho 0\n"
        "endocardium, 1 epicardium, in the septum 0 left, 1 right; phi 0 middle of the septum (in the RV:\n"
        "of the free wall), pi/2 anterior, -pi/2 posterior junction, pi lateral; ven -1 LV, 1 RV. They are\n"
        "made of Cobiveco's: z has another scale between apex and base, and rho jumps where septum and free\n"
        "wall meet.\n"
        "activation.par: one beat in monodomain, tenTusscherPanfilov cells, stimulus at four sites of early\n"
        f"activation ({', '.join(SITES)}), activation times in activation/.\n"
        f"Edges: {np.linalg.norm(edges, axis=2).mean():.1f} mm on average; conduction needs 0.2 to 0.5 mm.\n"
        "On the coarse mesh waves are slow or stop: refine it first, for example with meshtool resample.\n"
        f"{at_rest(model, deck)}{checked('opencarp')}"
    )
