"""The endpoints of a trial, checked before any job starts. Owned by the trial stage; light."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from ..cohort.plan import one_origin
from ..cohort.subject_columns import BEAT, BIVENTRICULAR, UNLOADED, Column
from ..runtime.errors import InputError
from ..runtime.keys import from_section
from .settings import Hypothesis

SECTION = "endpoints"
FEWEST_HEARTS = 2  # of an arm: one has no spread
# By what a column needs: the config key, whether a value gives the column values, and what to set
NEEDS = {
    BEAT: ("simulation.cycle.beats", lambda value: value > 0, "simulation: {cycle: {beats: 10}}"),
    UNLOADED: (
        "simulation.reference", lambda value: value == "unloaded", "simulation: {reference: unloaded}"
    ),
    BIVENTRICULAR: (
        "meshing.domain", lambda value: value == "biventricular", "meshing: {domain: biventricular}"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """A column of the subject table and how it is tested; `margin` in the column's `unit`."""

    column: str
    unit: str
    primary: bool
    test: str = "superiority"
    margin: float = 0.0

    @property
    def equivalence(self) -> bool:
        return self.test == "equivalence"

    @property
    def kind(self) -> str:
        """primary or secondary."""
        return "primary" if self.primary else "secondary"


def read(settings: Mapping, columns: Mapping[str, Column]) -> list[Endpoint]:
    """The endpoints of the config section, primary ones first; InputError naming key and column.

    columns: of the subject table.
    """
    found: dict[str, Endpoint] = {}
    for kind in ("primary", "secondary"):
        for column, values in settings[kind].items():
            where = f"config key '{SECTION}.{kind}.{column}'"
            own = from_section(Hypothesis, values, f"{SECTION}.{kind}.{column}")
            _check_column(where, column, columns)
            if column in found:
                raise InputError(f"{where}: the column is a primary endpoint already; name it once")
            unit = columns[column].unit
            _check_margin(where, own, unit)
            found[column] = Endpoint(column, unit, kind == "primary", own.test, float(own.margin))
    return list(found.values())


def check(
    config: Mapping,
    columns: Mapping[str, Column],
    arms: Mapping[str, Mapping],
    sizes: Mapping[str, int],
    shared: Collection[str] = (),
) -> list[Endpoint]:
    """The endpoints, if a trial of these arms can be compared by them; InputError naming key, column or arm.

    config: the whole of it. arms: `Arm.to_dict()` by name; none for the user's own label maps. sizes:
    requested subjects of each. shared: arms whose subjects all have the same explicit targets.
    """
    settings = config[SECTION]
    endpoints = read(settings, columns)
    if not any(endpoint.primary for endpoint in endpoints):
        raise InputError(
            f"config key '{SECTION}.primary' is empty: name at least one column of subjects.tsv, such as "
            "left_ventricle_volume_ml: {}"
        )
    if len(arms) < 2:
        raise InputError(
            f"config key '{SECTION}': a trial compares arms, and this cohort has {len(arms)}; write at "
            "least two rows in the cohort table"
        )
    _check_independent(reference_of(settings, arms), arms, shared)
    for name, n in sizes.items():
        if n < FEWEST_HEARTS:
            raise InputError(
                f"config key '{SECTION}': arm {name!r} has {n} heart, which has no spread; give it at least "
                f"{FEWEST_HEARTS} in the cohort table (column 'n')"
            )
    for name in settings["adjust_for"]:
        if name not in columns or columns[name].role != "covariate":
            allowed = [c.name for c in columns.values() if c.role == "covariate"]
            raise InputError(
                f"config key '{SECTION}.adjust_for': {name!r} is no covariate; allowed: {', '.join(allowed)}"
            )
    for endpoint in endpoints:
        _check_made(endpoint, columns[endpoint.column].needs, config)
        _check_varies(endpoint, arms.values())
    return endpoints


def reference_of(settings: Mapping, arms: Iterable[str]) -> str:
    """The reference arm; InputError where the config names one that there is not."""
    names = list(arms)
    wanted = settings["reference_arm"]
    if wanted is not None and wanted not in names:
        raise InputError(
            f"config key '{SECTION}.reference_arm': {wanted!r} is no arm of the cohort table; allowed: "
            f"{', '.join(names)}"
        )
    return wanted or names[0]


def _check_independent(reference: str, arms: Mapping[str, Mapping], shared: Collection[str]) -> None:
    """Hearts of one label map file, or of the same explicit targets, count as one, which has no spread."""

    def why_one(name: str) -> str:
        return one_origin(name, arms, shared)

    others = [name for name in arms if name != reference]
    if why_one(reference) or all(map(why_one, others)):
        single = reference if why_one(reference) else others[0]
        raise InputError(
            f"config key '{SECTION}': the hearts of arm {single!r} {why_one(single)}, so statistics count "
            "them as one heart, which has no spread; take hearts that are drawn, siblings of an arm of such "
            "hearts, or explicit targets for each subject"
        )


def _check_column(where: str, column: str, columns: Mapping[str, Column]) -> None:
    if column not in columns:
        near = get_close_matches(column, columns, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "docs/results.md lists the columns"
        raise InputError(f"{where}: subjects.tsv has no column {column!r}; {hint}")
    about = columns[column]
    if about.kind == "text":
        raise InputError(f"{where}: the column holds text; an endpoint needs numbers")
    if about.role == "setting":
        raise InputError(
            f"{where}: the column is constant, since the configuration sets it; name a measured one"
        )
    if about.role == "identity":
        raise InputError(f"{where}: the column is constant within an arm; name a measured one")


def _check_margin(where: str, own: Hypothesis, unit: str) -> None:
    if own.test == "equivalence" and own.margin <= 0:
        raise InputError(f"{where}: equivalence needs a margin above 0, in {unit}; it has {own.margin:g}")
    if own.margin and own.unit is None:
        raise InputError(f"{where}: the margin {own.margin:g} has no unit; write unit: {unit!r}")
    if own.unit is not None and own.unit != unit:
        raise InputError(
            f"{where}: the margin's unit is {own.unit!r}, the column's is {unit!r}; they must agree"
        )


def _check_made(endpoint: Endpoint, needs: str, config: Mapping) -> None:
    """A column that this config never fills; arms cannot set these keys."""
    if not needs:
        return
    key, gives, remedy = NEEDS[needs]
    value = config
    for part in key.split("."):
        value = value[part]
    if not gives(value):
        raise InputError(
            f"config key '{SECTION}.{endpoint.kind}.{endpoint.column}': the column needs {needs}, so it is "
            f"empty with {key}: {value}; set {remedy}, or name another column"
        )


def _check_varies(endpoint: Endpoint, arms: Iterable[Mapping]) -> None:
    """A covariate that every arm gives the same number differs in no heart."""
    given = [arm["covariates"].get(endpoint.column) for arm in arms if not arm["base"]]
    if given and all(own is not None and own["kind"] == "fixed" for own in given):
        values = {tuple(own["parameters"]) for own in given}
        if len(values) == 1:
            raise InputError(
                f"config key '{SECTION}.{endpoint.kind}.{endpoint.column}': the cohort table gives every arm "
                "the same value, so the column is constant"
            )
