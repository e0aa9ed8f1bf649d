"""Settings of single arms, which override the cohort's: the config key `arms`. Owned by no stage; light."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from ..mechanics.settings import Mechanics
from ..meshing.settings import MeshSettings
from ..microstructure.settings import FibreAngles
from ..runtime.errors import InputError
from ..runtime.keys import schema_of

SECTIONS = {"meshing": MeshSettings, "mechanics": Mechanics, "microstructure": FibreAngles}
OF_AN_ARM = {
    "description": "sections of an arm; keys that are not given are the cohort's",
    "type": "object",
    "additionalProperties": False,
    "properties": {name: schema_of(settings, f"the arm's {name}") for name, settings in SECTIONS.items()},
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


def _merged(whole: Mapping, own: Mapping) -> dict:
    """`whole` with the keys of `own`, subsections too."""
    return {
        key: _merged(value, own[key]) if key in own and isinstance(value, Mapping) else own.get(key, value)
        for key, value in whole.items()
    }
