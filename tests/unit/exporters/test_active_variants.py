"""Active variants of decks, by the rules of the solvers' own readers (sources of July 2026 and 4.11)."""

import tomllib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cardiocohort import exporters
from cardiocohort.exporters import Deck
from cardiocohort.mechanics.decks import DeckSettings
from cardiocohort.mechanics.settings import MATERIALS, Mechanics
from decks import block, svmultiphysics_curve

LOADS = DeckSettings(active_tension_kpa=42.0, active_lv_pressure_kpa=11.0, active_rv_pressure_kpa=3.0)
FILES = {
    "febio": {"heart_active.feb"},
    "svmultiphysics": {
        "solver_active.xml", "active_tension.dat", "lv_endo_pressure_active.dat",
        "rv_endo_pressure_active.dat",
    },
    "fenicsx": {"contraction.toml", "beat.toml"},
}  # fmt: skip
SIDES = {(0, 0, 1): 2, (1, 0, 0): 3, (-1, 0, 0): 4}
HEART = block(side=lambda normal: SIDES.get(normal, 1))


def export(name: str, folder: Path, mechanics: Mechanics, model=HEART, settings=LOADS) -> set[str]:
    """Names of the deck's files."""
    return {path.name for path in exporters.writer(name)(model, folder, mechanics, Deck(settings=settings))}


@pytest.mark.parametrize("name", FILES)
def test_a_variant_needs_tension_and_fibres(name, tmp_path):
    law = Mechanics(material="guccione")
    names = export(name, tmp_path, law)
    assert FILES[name] <= names
    text = (tmp_path / "README.txt").read_text()
    assert "42 kPa" in text
    assert "LV 11 kPa, RV 3 kPa" in text
    passive = replace(LOADS, active_tension_kpa=0.0)
    assert not FILES[name] & export(name, tmp_path, law, settings=passive)
    without = replace(HEART, microstructure=None)
    assert not FILES[name] & export(name, tmp_path, Mechanics(material="neo_hooke"), without)
    assert "Active" not in (tmp_path / "README.txt").read_text()


@pytest.mark.parametrize(("name", "order"), [("febio", 1), ("febio", 2), ("svmultiphysics", 1)])
def test_there_is_no_contraction_that_fails_in_the_solver(name, order, tmp_path):
    names = export(name, tmp_path, Mechanics(material="holzapfel_ogden", element_order=order))
    assert not FILES[name] & names
    assert "No active variant: the solver failed" in (tmp_path / "README.txt").read_text()


@pytest.mark.parametrize(
    ("material", "order"), [*((material, 2) for material in MATERIALS), ("guccione", 1), ("neo_hooke", 1)]
)
def test_svmultiphysics_tension_is_an_active_stress_model_of_its_factory(material, order, tmp_path):
    mechanics = Mechanics(material=material, element_order=order)
    export("svmultiphysics", tmp_path, mechanics)
    passive, active = (
        ElementTree.parse(tmp_path / f"{name}.xml").getroot().find("Add_equation")
        for name in ("solver", "solver_active")
    )
    stress = active.find("Active_stress")
    # Model is required and names the element with the model's own parameters, both of them required
    model = stress.findtext("Model").strip()
    assert model == "UniformUnsteady"
    assert [part.tag for part in stress] == ["Model", model]
    own = {part.tag: part.text.strip() for part in stress.find(model)}
    assert own.keys() == {"Ramp", "Temporal_values_file_path"}
    general = ElementTree.parse(tmp_path / "solver_active.xml").getroot().find("GeneralSimulationParameters")
    steps, step = (float(general.findtext(name)) for name in ("Number_of_time_steps", "Time_step_size"))
    # ten-node tetrahedra overshot in an equal step from rest
    even = order == 1
    assert own["Ramp"] == str(even).lower()
    tension = svmultiphysics_curve(tmp_path / own["Temporal_values_file_path"], even)
    error = 1e-9 if even else 0.01  # of a Fourier series at the end of its rise
    assert tension(steps * step) == pytest.approx(42.0, rel=1e-9 if even else 1e-3)
    assert tension(step) == pytest.approx(0.0 if not even else 42.0 / (steps - 6), abs=42 * error)
    for name, kpa in (("lv_endo", 11.0), ("rv_endo", 3.0)):
        (condition,) = (bc for bc in active.findall("Add_BC") if bc.get("name") == name)
        ramp = condition.find("Ramp_function")
        assert ramp.text.strip() == own["Ramp"]
        curve = condition.find("Temporal_values_file_path")
        pressure = svmultiphysics_curve(tmp_path / curve.text.strip(), even)
        assert pressure(steps * step) == pytest.approx(kpa, rel=1e-9 if even else 1e-3)
        for time in np.arange(1, steps + 1) * step:  # together all the way
            assert pressure(time) / kpa == pytest.approx(tension(time) / 42.0, abs=1e-6)
        (unloaded,) = (bc for bc in passive.findall("Add_BC") if bc.get("name") == name)
        curve.text, ramp.text = f" {name}_pressure.dat ", unloaded.findtext("Ramp_function")
    # the solver takes the mean out of the tension: compressible muscle would swell (mat_models.cpp)
    bulk = active.find("Penalty_parameter")
    assert float(bulk.text) == mechanics.bulk_modulus_kpa * (1 if even else 100)
    bulk.text = passive.findtext("Penalty_parameter")
    # nothing else differs, but for what helps Newton's method
    active.remove(stress)
    for equation in (active, passive):
        viscosity = equation.find("Viscosity")
        assert (viscosity is None) == (even or (equation is passive and material != "holzapfel_ogden"))
        if viscosity is not None:
            equation.remove(viscosity)
    assert ElementTree.tostring(active).split() == ElementTree.tostring(passive).split()


def resolved(path: Path) -> ElementTree.Element:
    """A .feb file with its sections `from` other files put in their place, as FEBioImport.cpp reads them."""
    root = ElementTree.parse(path).getroot()
    assert root[0].tag == "Module", "the first section of the main file"
    for place, section in enumerate(root):
        if (file := section.get("from")) is not None:
            assert len(section) == 0, "an included section has no children"
            found = ElementTree.parse(path.parent / file).getroot().find(section.tag)
            assert found is not None, f"no section {section.tag} in {file}"
            root[place] = deepcopy(found)
    return root


@pytest.mark.parametrize("material", ["guccione", "neo_hooke"])
def test_febio_tension_is_a_solid_of_an_uncoupled_mixture(material, tmp_path):
    export("febio", tmp_path, Mechanics(material=material))
    passive, active = (resolved(tmp_path / f"heart{name}.feb") for name in ("", "_active"))
    curves = {curve.get("id") for curve in active.find("LoadData")}
    for one, other in zip(passive.find("Material"), active.find("Material"), strict=True):
        assert (one.get("id"), one.get("name")) == (other.get("id"), other.get("name"))
        assert other.get("type") == "uncoupled solid mixture"
        kinds = [solid.get("type") for solid in other.findall("solid")]
        assert not [kind for kind in kinds if "mixture" in kind], "solids of a mixture are no mixtures"
        assert kinds.count("uncoupled prescribed uniaxial active contraction") == 1
        (tension,) = other.findall("solid/T0")
        assert float(tension.text) == 42.0
        assert tension.get("lc") in curves
        # the law itself, at the top or as a solid; k and pressure_model are parameters of the top alone
        texts = {(e.tag, e.text.strip()) for e in other.iter() if e.text and e.text.strip() and e.tag != "T0"}
        assert texts == {(e.tag, e.text.strip()) for e in one.iter() if e.text and e.text.strip()}
        for name in ("k", "pressure_model"):
            assert [parent.tag for parent in other.iter() if parent.find(name) is not None] == ["material"]
    loads = {load.get("name"): load for load in active.find("Loads") if load.get("type") == "pressure"}
    kpa = {name: float(load.findtext("pressure")) for name, load in loads.items()}
    assert kpa == {"lv_endo": 11.0, "rv_endo": 3.0}
    # the tension is along the first material axis, which every element has
    counts = [len(part) for part in active.find("Mesh").findall("Elements")]
    assert [len(part) for part in active.find("MeshData")] == counts
    for section in ("Control", "Mesh", "MeshDomains", "LoadData", "Output", "Boundary"):
        assert ElementTree.tostring(active.find(section)) == ElementTree.tostring(passive.find(section))


@pytest.mark.parametrize("base", ["fixed", "robin"])
@pytest.mark.parametrize("material", MATERIALS)
def test_fenicsx_variants_by_the_checks_of_pulses_command_line(material, base, tmp_path):
    export("fenicsx", tmp_path, Mechanics(material=material, base=base))
    passive, active, beat = (
        tomllib.loads((tmp_path / f"{name}.toml").read_text())
        for name in ("inflation", "contraction", "beat")
    )
    for config in (active, beat):
        assert config["active"] == {"type": "active_stress"}
        for section in ("material", "compressibility", "bcs"):
            assert config[section] == passive[section]
    ends = {load.get("marker", load["target"]): load["profile"]["to_value"] for load in active["load"]}
    assert ends == {"LV": "11 kPa", "RV": "3 kPa", "activation": "42 kPa"}
    # a circulation is in SI units, and its cavities have no pressure loads of their own
    assert (beat["geometry"]["unit"], beat["geometry"]["scale"]) == ("m", 1e-3)
    (load,) = beat["load"]
    assert load["target"] == "activation"
    times, values = (np.array(load["profile"][name]) for name in ("times", "values"))
    assert (np.diff(times) > 0).all()
    period = float(load["profile"]["period"].removesuffix(" s"))
    assert (times[0], times[-1]) == (0, period)
    assert values[0] == values[-1] == 0, "the next beat begins where this one ends"
    assert values.max() == 42.0
    cavities = {cavity["marker"]: cavity for cavity in beat["circulation"]["cavity"]}
    assert cavities.keys() == {"LV", "RV"}
    for name, kpa in (("LV", 1.5), ("RV", 0.5)):
        cavity = cavities[name]
        zero, onset, whole = (
            float(cavity[key].removesuffix(" s")) for key in ("t_zero", "t_end_diastole", "period")
        )
        assert 0 < zero <= onset < whole == period
        assert values[times <= onset].max() == 0, "the muscle is relaxed until the end of diastole"
        assert cavity["p_end_diastole"] == f"{kpa:g} kPa"
        assert cavity["windkessel"].keys() >= {"p_init", "compliance", "resistance"}
    # viscosity counts in dynamic problems alone
    assert beat["viscoelasticity"]["type"] == "viscous"
    assert beat["problem"]["type"] == "dynamic"


def test_a_heart_without_right_pressure_has_no_beat(tmp_path):
    assert "beat.toml" not in export("fenicsx", tmp_path, Mechanics(rv_pressure_kpa=0.0))
