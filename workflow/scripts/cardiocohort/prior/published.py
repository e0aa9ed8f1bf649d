"""What the tables in resources/reference say of adult hearts: means, spreads, relations (prior stage).

`reference_values.tsv` has means and standard deviations, `relations.tsv` beside it everything else: slopes
with age, ratios, correlations, shares. Each row names its source; rows of kind `assumption` have a reason.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ..runtime.errors import InputError
from ..runtime.tables import first_bad, read_cells

CHAMBERS = ("left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "myocardium")
SEXES = ("female", "male")
SEVERITIES = ("mild", "moderate", "severe")
RELATIONS = "relations.tsv"
UNITS = {  # by quantity, of chambers and wall
    "end_diastolic_volume": "mL",
    "end_diastolic_volume_index": "mL/m2",
    "maximal_volume": "mL",
    "maximal_volume_index": "mL/m2",
    "mass": "g",
    "mass_index": "g/m2",
}
ALL, BOTH, HEALTHY, DISEASE = "all", "both", "healthy", "disease"
KINDS = ("published", "assumption")

# by name of a relation, or by its beginning where that ends in "_": lowest value, highest value, units
RELATION_NAMES = {
    "prevalence": (0, 1, ("1",)),
    "women_share": (0, 1, ("1",)),
    "age_lowest": (0, 120, ("years",)),
    "age_highest": (0, 120, ("years",)),
    "age_reference": (0, 120, ("years",)),
    "body_surface_mean": (0.5, 4, ("m2",)),
    "body_surface_sd": (0.01, 1, ("m2",)),
    "widest_draw": (0.5, 4, ("SD",)),
    "size_exponent": (0, 3, ("1",)),
    "residual_correlation": (0, 1, ("1",)),
    "least_own_spread": (0, 1, ("1",)),
    "muscle_density": (0.9, 1.2, ("g/mL",)),
    "age_slope": (-5, 5, ()),  # units: SLOPE_UNITS
    "age_slope_factor": (0, 5, ("1",)),
    "age_correlation": (-1, 1, ("1",)),
    "size_slope": (0, 50, ("mm/m2",)),
    "sex_ratio_exponent": (0, 1, ("1",)),
    "variation_factor": (0.1, 5, ("1",)),
    "variation": (0.01, 1, ("1",)),
    "mean_ratio": (0.1, 5, ("1",)),
    "share_of_": (0, 1, ("1",)),
    "severity_share_": (0, 1, ("1",)),
    "ventricular_ratio_lowest_": (0.2, 5, ("1",)),
    "ventricular_ratio_highest_": (0.2, 5, ("1",)),
    "septum_to_free_wall_mean": (0.2, 5, ("1",)),
    "septum_to_free_wall_sd": (0, 1, ("1",)),
    "log_spread": (0, 1, ("1",)),
}
SLOPE_UNITS = {"myocardium": ("g/year", "mL/year"), "aorta": ("mm/year",)}  # of other structures mL/year


@dataclass(frozen=True)
class Published:
    """What virtual patients are drawn from.

    volumes_ml by structure, condition and sex: mean and SD at `age_reference`; relative_slopes by the same:
    share of the volume per year; ventricular_ratios by condition: (share, lowest, highest RV/LV) of each
    severity; septum_ratios by condition: mean and SD of septum over free-wall thickness, `healthy` included;
    aorta_mm by sex; aorta_of_both_mm, the mean over the sexes.
    """

    prevalence: dict[str, float]
    women_share: float
    age_years: tuple[float, float]
    age_reference: float
    body_surface_m2: dict[str, tuple[float, float]]
    widest: float
    size_exponent: float
    residual_correlation: float
    least_own_spread: float
    volumes_ml: dict[tuple[str, str, str], tuple[float, float]]
    relative_slopes: dict[tuple[str, str, str], float]
    ventricular_ratios: dict[str, tuple[tuple[float, float, float], ...]]
    septum_ratios: dict[str, tuple[float, float]]
    vessel_log_sd: float
    aorta_mm: dict[str, tuple[float, float]]
    aorta_of_both_mm: float
    aorta_mm_per_year: float
    aorta_mm_per_m2: float


@dataclass(frozen=True)
class Relations:
    """Rows of relations.tsv by name, structure, group and sex, and those that something has read."""

    path: Path
    values: dict[tuple[str, str, str, str], float]
    units: dict[tuple[str, str, str, str], str]
    read: set

    def find(self, name: str, structure: str = ALL, group: str = ALL, sex: str = BOTH) -> float | None:
        key = next((k for s in (sex, BOTH) if (k := (name, structure, group, s)) in self.values), None)
        if key is None:
            return None
        self.read.add(key)
        return self.values[key]

    def get(self, name: str, structure: str = ALL, group: str = ALL, sex: str = BOTH) -> float:
        """InputError where there is no such row."""
        value = self.find(name, structure, group, sex)
        if value is None:
            raise InputError(
                f"{self.path}, column 'name': no row {name!r} of structure {structure!r}, group {group!r}, "
                f"sex {sex!r}; add it"
            )
        return value

    def groups(self, name: str) -> list[str]:
        return list(dict.fromkeys(key[2] for key in self.values if key[0] == name))


def read_published(path: str | Path) -> Published:
    """From reference_values.tsv and the relations.tsv beside it.

    InputError naming file, row and column for a value, unit, sex or name that is not allowed, for a relation
    that is missing, and for one that nothing reads.
    """
    table = read_reference_table(path)
    relations, frame = _relations(Path(path).with_name(RELATIONS))
    get = relations.get
    get("prevalence", group=HEALTHY)  # all other volumes are relative to it
    prevalence = {group: get("prevalence", group=group) for group in relations.groups("prevalence")}
    _sum_to_one(relations.path, "prevalence", prevalence.values())
    ages = get("age_lowest"), get("age_highest")
    _ordered(relations.path, "age_lowest", "age_highest", *ages)
    widest = get("widest_draw")
    body = {sex: (get("body_surface_mean", sex=sex), get("body_surface_sd", sex=sex)) for sex in SEXES}
    people = list(product(CHAMBERS, prevalence, SEXES))
    rows = {(row["structure"], row["group"], row["sex"]): row for row in table.to_dict("records")[::-1]}
    source = _Source(Path(path), rows, relations, body, get("muscle_density", "myocardium"))
    volumes = {of: _volume(source, *of) for of in people}
    slopes = {of: _relative_slope(source, volumes, np.ptp(ages) / np.sqrt(12), *of) for of in people}
    aorta = table[table["structure"] == "ascending_aorta"].drop_duplicates("sex").set_index("sex")
    lacking = [sex for sex in SEXES if sex not in aorta.index]
    if lacking:
        raise InputError(f"{path}, column 'structure': no row of the ascending_aorta, sex {lacking[0]!r}")
    diameters = {sex: (aorta.at[sex, "mean"], aorta.at[sex, "sd"]) for sex in SEXES}
    septum = {condition: _septum_ratio(relations, condition) for condition in prevalence}
    _stay_positive(relations.path, "body_surface_sd", body, widest)
    _stay_positive(relations.path, "septum_to_free_wall_sd", septum, widest)
    _stay_positive(Path(path), "sd of the ascending_aorta", diameters, widest)
    published = Published(
        prevalence=prevalence,
        women_share=get("women_share"),
        age_years=ages,
        age_reference=get("age_reference"),
        body_surface_m2=body,
        widest=widest,
        size_exponent=get("size_exponent"),
        residual_correlation=get("residual_correlation"),
        least_own_spread=get("least_own_spread"),
        volumes_ml=volumes,
        relative_slopes=slopes,
        ventricular_ratios=_ventricular_ratios(relations),
        septum_ratios=septum,
        vessel_log_sd=get("log_spread", "vessels"),
        aorta_mm=diameters,
        aorta_of_both_mm=float(np.mean([diameters[sex][0] for sex in SEXES])),
        aorta_mm_per_year=get("age_slope", "aorta", HEALTHY),
        aorta_mm_per_m2=get("size_slope", "aorta", HEALTHY),
    )
    keys = zip(frame["name"], frame["structure"], frame["group"], frame["sex"], strict=True)
    unread = [key not in relations.read for key in keys]
    allowed = (
        "read by anything: its structure, group or sex is unknown, or another row stands before it "
        f"(a mean in {Path(path).name} before a ratio, a ratio before shares)"
    )
    first_bad(relations.path, frame, "name", np.array(unread), allowed)
    return published


def read_reference_table(path: str | Path) -> pd.DataFrame:
    """reference_values.tsv with its means and SDs as numbers; InputError naming file, row and column."""
    frame = _cells(path, ("quantity", "structure", "group", "sex", "mean", "sd", "unit", "source", "note"))
    for column in ("mean", "sd"):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        first_bad(path, frame, column, ~(np.isfinite(numbers) & (numbers > 0)), "a number above 0")
        frame[column] = numbers
    first_bad(path, frame, "sex", ~frame["sex"].isin([*SEXES, BOTH]), "female, male or both")
    first_bad(path, frame, "source", frame["source"] == "", "the place where the value was read")
    volumes = frame["structure"].isin(CHAMBERS)
    first_bad(path, frame, "quantity", volumes & ~frame["quantity"].isin(UNITS), f"one of {', '.join(UNITS)}")
    masses = volumes & frame["quantity"].str.startswith("mass") & (frame["structure"] != "myocardium")
    first_bad(path, frame, "quantity", masses, "a volume; only the myocardium has a mass")
    expected = frame["quantity"].map(UNITS).where(volumes)
    expected[frame["structure"] == "ascending_aorta"] = "mm"
    pairs = ", ".join(f"{unit} ({quantity})" for quantity, unit in UNITS.items())
    other = expected.notna() & (frame["unit"] != expected)
    first_bad(path, frame, "unit", other, f"that of the quantity: {pairs}, mm (diameter)")
    return frame


def assumptions(path: str | Path) -> str:
    """The assumptions of a relations.tsv as a Markdown table: what, of whom, value, reason."""
    _, frame = _relations(Path(path))
    lines = ["| relation | structure | group | value | reason |", "|---|---|---|---|---|"]
    rows = frame[frame["kind"] == "assumption"]
    for alike, same in rows.groupby(["name", "group", "sex", "value", "unit", "source"], sort=False):
        name, group, sex, value, unit, source = alike
        amount = f"{value} {unit}".removesuffix(" 1") + ("" if sex == BOTH else f" ({sex})")
        lines.append(f"| {name} | {', '.join(same['structure'])} | {group} | {amount} | {source} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Source:
    """Both tables, and what turns a published value into mL.

    rows: of reference_values.tsv by structure, group and sex, the first of the file for each.
    """

    path: Path
    rows: dict[tuple[str, str, str], dict]
    relations: Relations
    body_surface_m2: dict[str, tuple[float, float]]
    density_g_ml: float


def _cells(path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame = read_cells(path, "table of references")
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(columns)}")
    return frame


def _relations(path: Path) -> tuple[Relations, pd.DataFrame]:
    columns = ["name", "structure", "group", "sex"]
    frame = _cells(path, (*columns, "value", "unit", "source", "kind"))
    kinds = frame["name"].map(_kind)
    first_bad(path, frame, "name", kinds == "", f"one of {', '.join(RELATION_NAMES)}")
    first_bad(path, frame, "sex", ~frame["sex"].isin([*SEXES, BOTH]), "female, male or both")
    first_bad(path, frame, "kind", ~frame["kind"].isin(KINDS), " or ".join(KINDS))
    first_bad(path, frame, "source", frame["source"] == "", "a source, or the reason of an assumption")
    repeated = frame.duplicated(columns)
    first_bad(path, frame, "name", repeated, f"new: an earlier row has the same {', '.join(columns)}")
    numbers = pd.to_numeric(frame["value"], errors="coerce")
    for row, kind in kinds.items():
        low, high, units = RELATION_NAMES[kind]
        if kind == "age_slope":
            units = SLOPE_UNITS.get(frame.at[row, "structure"], ("mL/year",))
        if not low <= numbers[row] <= high:
            first_bad(path, frame, "value", frame.index == row, f"a number from {low:g} to {high:g}")
        if frame.at[row, "unit"] not in units:
            first_bad(path, frame, "unit", frame.index == row, " or ".join(units))
    keys = list(frame[columns].itertuples(index=False, name=None))
    values = dict(zip(keys, numbers.astype(float), strict=True))
    return Relations(path, values, dict(zip(keys, frame["unit"], strict=True)), set()), frame


def _kind(name: str) -> str:
    """The entry of RELATION_NAMES that a relation's name is, or begins with; empty if there is none."""
    return next((k for k in RELATION_NAMES if name == k or (k[-1] == "_" and name.startswith(k))), "")


def _row(source: _Source, structure: str, condition: str, sex: str) -> dict | None:
    """A sex's own row before one of both."""
    keys = ((structure, condition, who) for who in (sex, BOTH))
    return next((source.rows[key] for key in keys if key in source.rows), None)


def _volume(source: _Source, structure: str, condition: str, sex: str) -> tuple[float, float]:
    """Mean and SD (mL): from a row of the condition, a ratio to the healthy, or other conditions' shares."""
    relations = source.relations
    row = _row(source, structure, condition, sex)
    if row is not None:
        factor = source.body_surface_m2[sex][0] if row["unit"].endswith("/m2") else 1.0
        factor /= source.density_g_ml if row["unit"].startswith("g") else 1.0
        if condition != HEALTHY and row["sex"] == BOTH and not row["unit"].endswith("/m2"):
            healthy = {s: _volume(source, structure, HEALTHY, s)[0] for s in SEXES}
            exponent = relations.get("sex_ratio_exponent", group=DISEASE)
            factor *= (healthy[sex] / np.mean(list(healthy.values()))) ** exponent
        return float(row["mean"] * factor), float(row["sd"] * factor)
    ratio = relations.find("mean_ratio", structure, condition, sex) if condition != HEALTHY else None
    if ratio is not None:
        mean, sd = _volume(source, structure, HEALTHY, sex)
        variation = relations.find("variation", structure, condition, sex)
        if variation is None:
            variation = sd / mean * relations.get("variation_factor", group=DISEASE)
        return mean * ratio, mean * ratio * variation
    shares = {
        name.removeprefix("share_of_"): value
        for (name, of, group, _), value in relations.values.items()
        if name.startswith("share_of_") and of == structure and group == condition
    }
    if not shares:
        raise InputError(
            f"{source.path}, column 'structure': no row of {structure!r}, group {condition!r}, and "
            f"{relations.path.name} has neither its mean_ratio nor its share_of_<condition>; add one of them"
        )
    _sum_to_one(relations.path, f"share_of_* of {structure}, {condition}", shares.values())
    with_own = {of for s, of, _ in source.rows if s == structure}
    with_own |= {of for name, s, of, _ in relations.values if (name, s) == ("mean_ratio", structure)}
    if not with_own.issuperset(shares):
        raise InputError(
            f"{relations.path}, column 'name': share_of_<condition> of {structure}, {condition} names "
            f"{', '.join(shares)}; allowed: {', '.join(sorted(with_own))}, which have a mean or a mean_ratio"
        )
    parts = []
    for other in shares:
        relations.get(f"share_of_{other}", structure, condition)
        parts.append(_volume(source, structure, other, sex))
    weights = np.array(list(shares.values()))
    means, sds = np.array(parts).T
    mean = weights @ means
    return float(mean), float(np.sqrt(weights @ (sds**2 + (means - mean) ** 2)))


def _relative_slope(
    source: _Source, volumes, age_sd: float, structure: str, condition: str, sex: str
) -> float:
    """Share of the volume per year, from a slope or from a correlation with age."""
    relations = source.relations
    mean, sd = volumes[structure, HEALTHY, sex]
    slope = relations.find("age_slope", structure, HEALTHY, sex)
    if slope is not None:
        unit = next(
            u for s in (sex, BOTH) if (u := relations.units.get(("age_slope", structure, HEALTHY, s)))
        )
        slope /= source.density_g_ml if unit.startswith("g") else 1.0
    else:
        slope = relations.get("age_correlation", structure, HEALTHY, sex) * sd / age_sd
    factor = 1.0 if condition == HEALTHY else relations.get("age_slope_factor", group=DISEASE)
    return factor * slope / mean


def _ventricular_ratios(relations: Relations) -> dict[str, tuple[tuple[float, float, float], ...]]:
    found = {}
    for condition in relations.groups(f"severity_share_{SEVERITIES[0]}"):
        names = ("severity_share", "ventricular_ratio_lowest", "ventricular_ratio_highest")
        found[condition] = tuple(
            tuple(relations.get(f"{name}_{level}", "right_ventricle", condition) for name in names)
            for level in SEVERITIES
        )
        _sum_to_one(relations.path, f"severity_share_* of {condition}", [s for s, _, _ in found[condition]])
        for level, (_, low, high) in zip(SEVERITIES, found[condition], strict=True):
            lowest, highest = (f"ventricular_ratio_{end}_{level}" for end in ("lowest", "highest"))
            _ordered(relations.path, lowest, highest, low, high)
    return found


def _septum_ratio(relations: Relations, condition: str) -> tuple[float, float]:
    own = relations.find("septum_to_free_wall_mean", "myocardium", condition) is not None
    group = condition if own or condition == HEALTHY else DISEASE
    mean, sd = (relations.get(f"septum_to_free_wall_{of}", "myocardium", group) for of in ("mean", "sd"))
    return mean, sd


def _sum_to_one(path: Path, what: str, values) -> None:
    total = sum(values)
    if abs(total - 1) > 1e-6:
        raise InputError(f"{path}, column 'value': the rows {what} sum to {total:g}; they must sum to 1")


def _stay_positive(path: Path, what: str, spreads: dict[str, tuple[float, float]], widest: float) -> None:
    for group, (mean, sd) in spreads.items():
        if not mean > widest * sd:
            raise InputError(
                f"{path}: {what} of {group!r} is {sd:g}; it must be below {mean / widest:g}, so that no draw "
                f"within {widest:g} SDs of the mean {mean:g} is 0 or less"
            )


def _ordered(path: Path, first: str, second: str, low: float, high: float) -> None:
    if not low < high:
        raise InputError(f"{path}, column 'value': {first} ({low:g}) is not below {second} ({high:g})")
