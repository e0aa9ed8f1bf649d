"""Settings of single arms, which override the cohort's: the config key `arms`. Owned by no stage; light."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

from ..cohort.covariates import HEALTHY
from ..mechanics.settings import Mechanics
from ..meshing.settings import MeshSettings
from ..microstructure.settings import FibreAngles
from ..runtime.errors import InputError
from ..runtime.keys import schema_of
from ..simulation.scaling import check_range
from ..simulation.settings import SimulationSettings
from ..simulation.targets import ANSWERED_BY

SECTIONS = {
    "meshing": MeshSettings,
    "mechanics": Mechanics,
    "microstructure": FibreAngles,
    "simulation": SimulationSettings,
}
PARTS = {"simulation": ("calibrate", "cycle")}  # of a section that an arm may have its own of in part only
APART = ("calibrate", "cycle")  # parts whose keys are compared one by one, or not at all
OF_ALL_ARMS = {"cycle": ("beats", "contractility", "reference_bsa_m2")}  # keys of such parts, the cohort's


def _schema_of_section(name: str, settings: type) -> dict:
    schema = schema_of(settings, f"the arm's {name}")
    own = {key: part for key, part in schema["properties"].items() if key in PARTS.get(name, (key,))}
    for part in own.keys() & OF_ALL_ARMS.keys():
        keys = {key: value for key, value in own[part]["properties"].items() if key not in OF_ALL_ARMS[part]}
        own[part] = own[part] | {"properties": keys}
    return schema | {"properties": own}


OF_AN_ARM = {
    "description": "sections of an arm; keys that are not given are the cohort's",
    "type": "object",
    "additionalProperties": False,
    "properties": {name: _schema_of_section(name, settings) for name, settings in SECTIONS.items()},
}


def section_of(settings: Mapping, arm: str, section: str) -> dict:
    """The section of an arm: the cohort's, with the keys that `arms.<arm>.<section>` gives."""
    return _merged(settings[section], settings["arms"].get(arm, {}).get(section, {}))


def check_arms(settings: Mapping, arms: Iterable[str], edge_lengths_mm: Iterable[float] = ()) -> None:
    """Check the key `arms` before any work; InputError naming arm and key.

    arms: names in the cohort table, none for label maps of the user. edge_lengths_mm: of a refinement study,
    if one is to run; every arm's wall must hold them.
    """
    names = list(arms)
    for arm in settings["arms"]:
        where = f"config key 'arms.{arm}'"
        if arm not in names:
            allowed = ", ".join(names) or "none, since label maps of your own have no arms"
            raise InputError(f"{where}: the cohort table has no arm {arm!r}; allowed: {allowed}")
        try:
            whole = {name: own.of(section_of(settings, arm, name)) for name, own in SECTIONS.items()}
        except InputError as error:
            raise InputError(f"{where}: together with the cohort's settings, {error}") from None
        if whole["meshing"].domain != settings["meshing"]["domain"]:
            raise InputError(
                f"{where}.meshing.domain: all arms have the domain of the cohort; set meshing.domain"
            )
        if whole["meshing"].frame == "scanner":
            raise InputError(f"{where}.meshing.frame: generated hearts have the frame 'heart' only")
        for mm in edge_lengths_mm:
            try:
                asdict(whole["meshing"].with_edges(mm))
            except InputError as error:
                raise InputError(f"{where}: with {mm:g} of 'refinement.edge_lengths_mm', {error}") from None


def unlike_bases(settings: Mapping, bases: Mapping[str, str]) -> list[str]:
    """What a user should know of siblings whose settings are not those of the arm they are made from.

    bases: as in `calibrated_as`, whose factors siblings take anyway.
    """
    found = []
    contractility = settings["simulation"]["cycle"]["contractility"]
    for arm, base in bases.items():
        if (given := _calibrate(settings, arm)) and _own_targets(settings, arm) is None:
            found.append(
                f"arm {arm!r}: {', '.join(f'simulation.calibrate.{key}' for key in given)} without effect, "
                f"since siblings without targets of their own have the factors of {base!r}"
            )
        keys = []
        for section in SECTIONS:
            own, others = (section_of(settings, name, section) for name in (arm, base))
            # factors of a calibration are the base's anyway
            keys += [f"{section}.{key}" for key in own if key not in APART and own[key] != others[key]]
        own, others = (section_of(settings, name, "simulation")["cycle"] for name in (arm, base))
        keys += [f"simulation.cycle.{key}" for key in own if own["beats"] and own[key] != others[key]]
        if contractility.get(arm, 1.0) != contractility.get(base, 1.0):
            keys.append("simulation.cycle.contractility")
        if keys:
            found.append(
                f"arm {arm!r}: its hearts are siblings of those of {base!r}, but these settings differ: "
                f"{', '.join(sorted(keys))}. Pairs then differ in more than the edit; siblings do not take "
                "settings from their base, so give both arms the same ones (config key 'arms') where that is "
                "not meant"
            )
    return found


def calibrated_as(settings: Mapping, arm: str, bases: Mapping[str, str]) -> str | None:
    """The arm on whose mean heart the factors of an arm's hearts are fitted; None where nothing is.

    bases: arms of siblings, and the arms that they are made from. Siblings have the factors of their bases,
    so that the hearts of a pair differ in the edit alone, unless `arms` gives them targets of their own.
    """
    while arm in bases and _own_targets(settings, arm) is None:
        arm = bases[arm]
    return arm if _simulation(settings, arm).calibrate.targets else None


def check_calibrations(settings: Mapping, arms: Iterable[str], bases: Mapping[str, str]) -> None:
    """InputError naming an arm for which no calibration can be done.

    arms: all arms with hearts, also the one that holds label maps of the user.
    """
    for arm in arms:
        fitted_on = calibrated_as(settings, arm, bases)
        if fitted_on is None:
            continue
        simulation = _simulation(settings, arm)
        if fitted_on == arm:
            _check_tension(settings, arm, simulation)
        try:
            mechanics = Mechanics.of(section_of(settings, arm, "mechanics"))
            for cycle in (simulation.cycle, simulation.cycle.of_arm(arm)):
                check_range(mechanics, replace(simulation, cycle=cycle))
        except InputError as error:
            raise InputError(f"arm {arm!r}: {error}") from None


def check_contractions(
    settings: Mapping, conditions: Mapping[str, Iterable[str]], bases: Mapping[str, str]
) -> list[str]:
    """What a user should know of arms that have people of any condition; they contract alike.

    InputError naming an arm of a condition whose hearts would contract as healthy ones without a word.
    conditions: those of each arm, none where people are drawn from all. bases: as in `calibrated_as`. Where a
    calibration fits the tension of an arm, nothing need be stated.
    """
    cycle, found = settings["simulation"]["cycle"], []
    for arm, named in conditions.items():
        own = settings["arms"].get(arm, {}).get("simulation", {}).get("cycle", {})
        fitted_on = calibrated_as(settings, arm, bases)
        targets = _simulation(settings, fitted_on).calibrate.targets if fitted_on else ()
        stated = arm in cycle["contractility"] or "tension_kpa" in own
        stated = stated or any(ANSWERED_BY[name] == "tension" for name in targets)
        if stated or not cycle["beats"]:
            continue
        if ill := sorted(set(named) - {HEALTHY}):
            raise InputError(
                f"config key 'simulation.cycle.contractility': arm {arm!r} has the condition "
                f"{', '.join(ill)}, and nothing says how strongly its muscle contracts; give the factor of "
                f"the tension, for example {{{arm}: 0.5}}, or {{{arm}: 1}} for that of {HEALTHY!r} hearts. "
                "An arm of several conditions has one factor"
            )
        if not named:
            found.append(
                f"arm {arm!r}: its people may have any condition of the reference population, and the muscle "
                f"of all contracts alike; name a condition, or say so by {{{arm}: 1}} in "
                "simulation.cycle.contractility"
            )
    return found


def _check_tension(settings: Mapping, arm: str, simulation: SimulationSettings) -> None:
    """InputError where the tension of an arm cannot answer a target, or should not."""
    cycle, of_all = simulation.cycle, settings["simulation"]["cycle"]["tension_kpa"]
    weaker = cycle.contractility.get(arm, 1.0) * (cycle.tension_kpa / of_all if of_all else 1.0)
    for name in simulation.calibrate.targets:
        if ANSWERED_BY[name] != "tension":
            continue
        if cycle.tension_kpa * weaker == 0:
            raise InputError(
                f"config key 'simulation.calibrate.{name}': the tension of arm {arm!r} is 0, which no factor "
                "changes; set simulation.cycle.tension_kpa and contractility above 0"
            )
        if weaker != 1 and (_own_targets(settings, arm) or {}).get(name) is None:
            raise InputError(
                f"config key 'simulation.calibrate.{name}': the target of all arms would undo "
                f"simulation.cycle.contractility of arm {arm!r}, {weaker:g} with the tension_kpa that 'arms' "
                f"may give it; give the arm a target of its own, or null, in arms.{arm}.simulation.calibrate."
                f"{name}"
            )


def _simulation(settings: Mapping, arm: str) -> SimulationSettings:
    return SimulationSettings.of(section_of(settings, arm, "simulation"))


def _own_targets(settings: Mapping, arm: str) -> Mapping | None:
    """Targets that `arms` gives this arm, null ones too; None where it gives other keys or nothing."""
    own = {name: value for name, value in _calibrate(settings, arm).items() if name in ANSWERED_BY}
    return own or None


def _calibrate(settings: Mapping, arm: str) -> Mapping:
    """What `arms` gives this arm of the section `simulation.calibrate`."""
    return settings["arms"].get(arm, {}).get("simulation", {}).get("calibrate") or {}


def _merged(whole: Mapping, own: Mapping) -> dict:
    """`whole` with the keys of `own`, subsections too."""
    return {
        key: _merged(value, own[key]) if key in own and isinstance(value, Mapping) else own.get(key, value)
        for key, value in whole.items()
    }
