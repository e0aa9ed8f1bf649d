"""FEniCSx: XDMF mesh with tags, microstructure and a script that inflates. Owned by the inputs stage.

Layout: a folder that `cardiac_geometries.geometry.Geometry.from_folder` reads: mesh.xdmf (its data in
mesh.h5) with the grids "Mesh", "Cell tags" and "Facet tags" that DOLFINx writes, markers.json (name -> tag,
dimension), microstructure.json (name -> family, cell, degree, discontinuous of basix), microstructure.bp
(fibres, sheets, normals). io4dolfinx reads the last one by the numbering of the cells in mesh.h5. It is in
the layout of its h5py backend, since ADIOS2, its default, cannot be written without its library.

For the command line of fenicsx-pulse, inflation.toml is the same inflation, contraction.toml the active
variant and beat.toml a beat. Units are mm and kPa; the mesh
stays linear, displacements are quadratic and pressures linear.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ..mechanics.settings import Mechanics
from ..mesh.model import DIRECTIONS, FACETS, REGIONS, BiventricularModel
from ..runtime.artifacts import readable_json, write_text
from . import register
from ._checks import CHECKS, checked
from ._deck import PLAIN, Deck, expected, need_fibres, pressures_kpa
from ._fenicsx_script import INFLATE
from ._xdmf import write_hdf5, write_tagged_mesh

# the names that fenicsx-pulse and fenicsx-ldrb look for
MARKERS = {"epi": "EPI", "base": "BASE", "lv_endo": "LV", "rv_endo": "RV"}
REGION_MARKERS = {"lv": "LV_MUSCLE", "rv": "RV_MUSCLE", "septum": "SEPTUM"}
# basix: family P, cell tetrahedron, degree 0, discontinuous: one vector a cell
CELLWISE = [1, 3, 0, 1]
RUN = "mpirun -n 4 python3 inflate.py"
RUN_PULSE = "python3 inflate.py pulse run inflation.toml"
RUN_CONTRACTION = "python3 inflate.py pulse run contraction.toml"
RUN_BEAT = "python3 inflate.py pulse run beat.toml"
PERIOD_S, ONSET_S, ACTIVE_S = 0.8, 0.12, 0.4  # of a beat: the tension rises and falls in ACTIVE_S
# filling and Windkessels of an adult at 75 beats/min, as in fenicsx-pulse's template complete_cycle
CIRCULATION = {
    "lv_endo": {
        "filling_rate": "0.104 mL/ms", "windkessel.p_init": "9 kPa",
        "windkessel.compliance": "1.5 mL/mmHg", "windkessel.resistance": "1.1 mmHg*s/mL",
        "windkessel.characteristic_impedance": "0.03 mmHg*s/mL",
    },
    "rv_endo": {
        "filling_rate": "0.057 mL/ms", "windkessel.p_init": "2.5 kPa",
        "windkessel.compliance": "4.0 mL/mmHg", "windkessel.resistance": "0.5 mmHg*s/mL",
        "windkessel.characteristic_impedance": "0.01 mmHg*s/mL",
    },
}  # fmt: skip
_GEOMETRY = '[geometry]\ntype = "folder"\nfolder = "."\nunit = "mm"\nquadrature_degree = 4\n'
_ACTIVE = '[active]\ntype = "active_stress"\n\n'
NO_FIBRES = '[geometry.fibers]\ntype = "none"\n'


@register("fenicsx")
def write(model: BiventricularModel, folder: Path, mechanics: Mechanics, deck: Deck = PLAIN) -> list[Path]:
    """mesh.xdmf, .h5, markers, microstructure, settings, inflate.py and README.txt in `folder`."""
    need_fibres(model, mechanics)
    comment = f"Both ventricles, mm; tags are named in markers.json. Run: {RUN}"
    mesh = (model.points_mm, model.tets, model.region, model.facets, model.facet_tag)
    files = [*write_tagged_mesh(folder, *mesh, comment), folder / "markers.json"]
    write_text(files[-1], readable_json(_markers()))
    if model.microstructure is not None:
        files += [folder / "microstructure.bp", folder / "microstructure.json"]
        write_hdf5(files[-2], partial(_fill_microstructure, model=model))
        write_text(files[-1], readable_json(dict.fromkeys(DIRECTIONS, CELLWISE)))
    springs = {"pericardium_kpa_per_mm": deck.pericardium_kpa_per_mm}
    texts = {"mechanics.json": readable_json(asdict(mechanics) | springs)}
    texts["inflation.toml"] = _command_line(mechanics, deck)
    if deck.contracts(model):
        texts["contraction.toml"] = _contraction(mechanics, deck)
        if beats(model, mechanics):
            texts["beat.toml"] = _beat(mechanics, deck)
    texts |= {"inflate.py": INFLATE, "README.txt": _readme(model, mechanics, deck)}
    for name, text in texts.items():
        files.append(folder / name)
        write_text(files[-1], text)
    return files


def beats(model: BiventricularModel, mechanics: Mechanics) -> bool:
    """Whether both ventricles can beat: they are there, and have an end-diastolic pressure."""
    both = pressures_kpa(mechanics).items()
    return all(kpa > 0 and (model.facet_tag == FACETS[name]).any() for name, kpa in both)


def _fill_microstructure(store: h5py.File, model: BiventricularModel) -> None:
    """Functions as io4dolfinx's h5py backend keeps them: three values a cell, in the order of mesh.h5."""
    packed = {"compression": "gzip", "shuffle": True, "track_times": False}
    offsets = 3 * np.arange(len(model.tets) + 1, dtype=np.int64)
    shared = {"dofmap": np.arange(offsets[-1]), "dofmap_offsets": offsets}
    store.create_dataset("mesh/CellPermutations", data=np.zeros(len(model.tets), np.uint32), **packed)
    functions = store.create_group("mesh/functions")
    for name in DIRECTIONS:
        function = functions.create_group(name)
        function.attrs["timestamps"] = np.zeros(1)
        values = getattr(model.microstructure, name).astype(float).ravel()
        function.create_dataset("0/array", data=values, **packed)
        for part, numbers in shared.items():
            if name == DIRECTIONS[0]:
                function.create_dataset(part, data=numbers, **packed)
            else:  # a second name of the same data
                function[part] = functions[f"{DIRECTIONS[0]}/{part}"]


def _markers() -> dict[str, list[int]]:
    facets = {MARKERS[name]: [tag, 2] for name, tag in FACETS.items()}
    return facets | {REGION_MARKERS[name]: [tag, 3] for name, tag in REGIONS.items()}


def _command_line(mechanics: Mechanics, deck: Deck) -> str:
    """The inflation for fenicsx-pulse's command line, which knows incompressible mixed elements alone."""
    loads = "".join(
        _ramp(f'target = "pressure"\nmarker = "{MARKERS[name]}"', kpa)
        for name, kpa in pressures_kpa(mechanics).items()
    )
    return (
        f"# Passive inflation; run: {RUN_PULSE}\n"
        f"{_GEOMETRY}{'' if mechanics.material != 'neo_hooke' else NO_FIBRES}\n"
        f"{_material(mechanics)}{_supports(mechanics, deck)}{loads}\n{_quasi_static(mechanics)}"
    )


def _contraction(mechanics: Mechanics, deck: Deck) -> str:
    """The active variant for the command line: pressures and tension rise together."""
    loads = "".join(
        _ramp(f'target = "pressure"\nmarker = "{MARKERS[name]}"', kpa)
        for name, kpa in deck.active_pressures_kpa().items()
    )
    tension = _ramp('target = "activation"', deck.settings.active_tension_kpa)
    return (
        f"# Contraction; run: {RUN_CONTRACTION}\n{_GEOMETRY}\n"
        f"{_material(mechanics)}{_ACTIVE}{_supports(mechanics, deck)}{loads}{tension}\n"
        f"{_quasi_static(mechanics)}"
    )


def _beat(mechanics: Mechanics, deck: Deck) -> str:
    """A beat for the command line: tension over time, and a Windkessel per ventricle.

    A circulation needs SI units, hence the scale of the mesh. Inertia and viscosity keep relaxation smooth.
    """
    cavities = "".join(
        f'\n[[circulation.cavity]]\nmarker = "{MARKERS[name]}"\nperiod = "{PERIOD_S} s"\n'
        f't_zero = "0.05 s"\nt_end_diastole = "{ONSET_S} s"\npreload_pressure = "{kpa / 2:.10g} kPa"\n'
        f'p_end_diastole = "{kpa:.10g} kPa"\np_fill = "{kpa / 2:.10g} kPa"\n'
        + "".join(f'{key} = "{value}"\n' for key, value in CIRCULATION[name].items())
        for name, kpa in pressures_kpa(mechanics).items()
    )
    geometry = _GEOMETRY.replace('unit = "mm"', 'unit = "m"\nscale = 1e-3')
    times, values = zip(*_tension(deck.settings.active_tension_kpa), strict=True)
    return (
        f"# A beat; run: {RUN_BEAT}\n{geometry}\n{_material(mechanics)}{_ACTIVE}"
        '[viscoelasticity]\ntype = "viscous"\neta = "100 Pa*s"\n\n'
        f"{_supports(mechanics, deck)}"
        # half cosines, in s and kPa
        f'\n[[load]]\ntarget = "activation"\n[load.profile]\ntype = "table"\nperiod = "{PERIOD_S} s"\n'
        f"times = {list(times)}\nvalues = {list(values)}\n"
        f'\n[circulation]\ntype = "cycle"\n{cavities}\n'
        f'[time]\nend_time = "{PERIOD_S} s"\ndt = "1 ms"\n\n'
        '[problem]\ntype = "dynamic"\n\n'
        '[output]\nfolder = "beat"\nsave_every = "5 ms"\ncheckpoint_every = "100 ms"\n'
    )


def _tension(kpa: float) -> list[tuple[float, float]]:
    """Times (s) and tensions (kPa) of a beat, with a last one where the next beat begins."""
    turns = np.linspace(0, 2 * np.pi, 41)
    times = np.round(ONSET_S + ACTIVE_S * turns / (2 * np.pi), 6).tolist()
    values = np.round(kpa * (1 - np.cos(turns)) / 2, 6).tolist()
    wave = list(zip(times, values, strict=True))
    return [(0.0, 0.0), *wave, (PERIOD_S, 0.0)]


def _material(mechanics: Mechanics) -> str:
    rows = "".join(
        f"{name} = {value}\n" for name, value in _PULSE_LAWS[mechanics.material](mechanics).items()
    )
    return f'[material]\n{rows}\n[compressibility]\ntype = "incompressible"\n\n'


def _supports(mechanics: Mechanics, deck: Deck) -> str:
    """The base, fixed or on springs along the normal and across it, and springs along the epicardium's."""
    text = '[bcs]\nbase_bc = "fixed"\n' if mechanics.base == "fixed" else "[bcs]\n"
    if mechanics.base != "fixed":
        stiffness = mechanics.base_stiffness_kpa_per_mm
        text += _spring("base", stiffness, "false") + _spring("base", stiffness, "true")
    if deck.pericardium_kpa_per_mm:
        text += _spring("epi", deck.pericardium_kpa_per_mm, "false")
    return text


def _spring(surface: str, kpa_per_mm: float, across: str) -> str:
    return (
        f'[[bcs.robin]]\nmarker = "{MARKERS[surface]}"\nvalue = "{kpa_per_mm:.10g} kPa/mm"\n'
        f'perpendicular = {across}\nnormal = "reference"\n'
    )


def _ramp(target: str, kpa: float) -> str:
    return f'\n[[load]]\n{target}\n[load.profile]\ntype = "ramp"\nend = "1 s"\nto_value = "{kpa:.10g} kPa"\n'


def _quasi_static(mechanics: Mechanics) -> str:
    return (
        f'[time]\nend_time = "1 s"\nnum_steps = {mechanics.load_steps}\n\n'
        # the law is slack at rest: the first step is halved until it converges
        "[solver]\nmax_halvings = 10\n"
    )


def _pulse_holzapfel_ogden(mechanics: Mechanics) -> dict[str, str]:
    law = mechanics.holzapfel_ogden
    stresses = {"a": law.a_kpa, "a_f": law.a_f_kpa, "a_s": law.a_s_kpa, "a_fs": law.a_fs_kpa}
    exponents = {"b": law.b, "b_f": law.b_f, "b_s": law.b_s, "b_fs": law.b_fs}
    return (
        {"type": '"holzapfel_ogden"'}
        | {name: f'"{kpa:.10g} kPa"' for name, kpa in stresses.items()}
        | {name: repr(float(value)) for name, value in exponents.items()}
    )


def _pulse_guccione(mechanics: Mechanics) -> dict[str, str]:
    law = mechanics.guccione
    exponents = {"bf": law.b_f, "bt": law.b_t, "bfs": law.b_fs}
    head = {"type": '"guccione"', "C": f'"{law.c_kpa:.10g} kPa"'}
    return head | {name: repr(float(value)) for name, value in exponents.items()}


def _pulse_neo_hooke(mechanics: Mechanics) -> dict[str, str]:
    return {"type": '"neo_hookean"', "mu": f'"{mechanics.neo_hooke.mu_kpa:.10g} kPa"'}


_PULSE_LAWS = {
    "holzapfel_ogden": _pulse_holzapfel_ogden,
    "guccione": _pulse_guccione,
    "neo_hooke": _pulse_neo_hooke,
}


def _active_readme(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> str:
    if not deck.contracts(model):
        return ""
    text = deck.contraction(f"contraction.toml ({RUN_CONTRACTION})", "Run by tests, fenicsx-pulse 0.12.")
    if beats(model, mechanics):
        text += (
            f"A beat: {RUN_BEAT}\n"
            f"beat.toml: half-cosine tension up to {deck.settings.active_tension_kpa:g} kPa, a Windkessel\n"
            "per ventricle, results in beat/. `simulate` has another circulation, hence other volumes.\n"
            "Of a beat, tests run the first 20 ms.\n"
        )
    return text


def _readme(model: BiventricularModel, mechanics: Mechanics, deck: Deck) -> str:
    return (
        "FEniCSx case: passive inflation, mm and kPa.\n"
        f"Run with: {RUN}\n"
        f"or: {RUN_PULSE}   (fully incompressible)\n"
        f"{_active_readme(model, mechanics, deck)}"
        "Needs DOLFINx 0.11, fenicsx-pulse 0.12, cardiac-geometriesx 0.16, h5py.\n"
        "mesh.xdmf, mesh.h5: mesh, cell tags, facet tags; markers.json names the tags. microstructure.bp:\n"
        "f0, s0, n0 by cell. Read the folder with these two lines:\n"
        '  io4dolfinx.set_default_backend("h5py")\n'
        "  geometry = cardiac_geometries.geometry.Geometry.from_folder(comm, folder)\n"
        "On several processes inflate.read_fibres_with_h5py() takes the place of the first line, unless\n"
        "h5py is built with MPI.\n"
        f"mechanics.json: material ({mechanics.material}), pressures, base. Displacements are of second\n"
        "order, pressures of first order. Load steps begin at 0.1 % of the load. They are halved where\n"
        "Newton's iteration fails and doubled where it is quick, up to 1/load_steps.\n"
        f"{deck.pericardium()}"
        f"{expected(model, mechanics, deck, CHECKS['fenicsx'].tolerance)}{checked('fenicsx')}"
    )
