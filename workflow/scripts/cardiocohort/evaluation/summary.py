"""`summary.md`: the evaluation's main figures as Markdown tables, for documents (evaluation stage)."""

import pandas as pd

from .arms import PAPER
from .coupling import BAR
from .fidelity import headline
from .gate_rates import ALL
from .page import number
from .realism_table import FIGURES
from .variety import BAR as VARIETY_BAR

NAMES = {"reference": "held-out hearts", "left_out": "left-out template"}
METHOD = "polyak"  # the default
TITLES = ("Fréchet distance", "precision", "recall", "MMD, mm", "coverage", "1-NNA")
ERRORS = ("volume, %", "centroid, mm", "norm of the Sⁿ difference")
DIGITS = dict.fromkeys(FIGURES, 2) | {"fd": 0}


def markdown(tables: dict[str, pd.DataFrame], criteria: list[dict]) -> str:
    """Realism, errors, slopes, shares that pass, extremes and bars, with their counts and 95 % intervals."""
    parts = [
        realism(tables["realism"]),
        errors(tables["fidelity"]),
        coupling(tables["coupling"]),
        topology(tables["topology"]),
        *([extremes(tables["extremes"])] if len(tables.get("extremes", ())) else []),
        *([known(tables["known"])] if "known" in tables else []),
        acceptance(criteria),
    ]
    return "\n\n".join(parts) + "\n"


def overview(tables: dict[str, pd.DataFrame]) -> str:
    """One row per method and number of structures: realism against held-out hearts, the share that passes the
    gate, and the median errors of what is constrained.
    """
    realism = tables["realism"]
    realism = realism[realism["reference"] == "reference"]
    whole = tables["topology"]
    whole = whole[(whole["rule"] == ALL) & (whole["strength"] == 1)]
    passed = whole.set_index(["method", "constrained_structures"])
    keys = ["method", "constrained_structures", "attribute"]
    medians = headline(tables["fidelity"]).set_index(keys)["median_error"].to_dict()
    rows = []
    for _, row in realism.iterrows():
        key = (row["method"], row["constrained_structures"])
        pairs = zip(PAPER, (1, 1, 3), strict=True)
        # unguided samples are listed there for every set, but none of it was a target for them
        errors_ = [number(medians[*key, name] if key[1] else None, digits) for name, digits in pairs]
        realism_ = [_with_interval(row, name, 2) for name in ("fd_ratio", "one_nna")]
        rows.append([_arm(row), *realism_, number(passed["share"].get(key)), *errors_, str(row["n"])])
    columns = ["method, structures", "Fréchet ratio", "1-NNA", "passes the gate"]
    return markdown_table([*columns, *ERRORS, "n"], rows)


def anatomies(evaluated: dict[str, dict[str, pd.DataFrame]]) -> str:
    """One row per anatomy (name -> tables): samples of its largest set of structures, and unguided ones."""
    rows = []
    for name, tables in evaluated.items():
        most = tables["realism"]["constrained_structures"].max()
        whole = tables["topology"].query("rule == @ALL and strength == 1")
        whole = whole.set_index(["method", "constrained_structures"])
        passed = [
            f"{number(row['share'])} ({number(row['low'])} to {number(row['high'])})"
            for row in (whole.loc["unguided", 0], whole.loc[METHOD, most])
        ]
        errors_ = headline(tables["fidelity"]).query("method == @METHOD and constrained_structures == @most")
        errors_ = errors_.set_index("attribute")
        cells = [
            f"{number(row['median_error'], digits)} ({number(row['p95_error'], digits)})"
            for row, digits in (
                (errors_.loc[attribute], d) for attribute, d in zip(PAPER, (1, 1, 3), strict=True)
            )
        ]
        real = tables["realism"].query("reference == 'reference'")
        (row,) = (
            r for _, r in real.iterrows() if (r["method"], r["constrained_structures"]) == (METHOD, most)
        )
        counts = f"{whole.loc['unguided', 0]['n']:.0f}, {whole.loc[METHOD, most]['n']:.0f}"
        rows.append([name, str(most), *cells, *passed, _with_interval(row, "fd_ratio", 2), counts])
    columns = ["anatomy", "structures", *(f"{error} (95th percentile)" for error in ERRORS)]
    columns += ["unguided: pass the gate", "guided: pass the gate", "Fréchet ratio", "n"]
    return markdown_table(columns, rows)


def acceptance(criteria: list[dict]) -> str:
    rows = [[row["bar"], row["found"], _met(row["met"])] for row in criteria]
    return markdown_table(["bar", "found", "met"], rows)


def _met(value: bool | None) -> str:
    return "not measured" if value is None else "yes" if value else "**no**"


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _with_interval(row: pd.Series, name: str, digits: int) -> str:
    if not pd.notna(row.get(name)):
        return "–"
    low, high = (number(row[f"{name}_{end}"], digits) for end in ("low", "high"))
    return f"{number(row[name], digits)} ({low} to {high})"


def _arm(row: pd.Series) -> str:
    k = row["constrained_structures"]
    return row["method"] if row["method"] in ("real", "unguided") else f"{row['method']}, {k}"


def realism(table: pd.DataFrame) -> str:
    rows = [
        [NAMES[row["reference"]], _arm(row)]
        + [_with_interval(row, name, DIGITS[name]) for name in FIGURES]
        + [_with_interval(row, "fd_ratio", 2), str(row["n"]), number(row["incomplete"], 0)]
        for _, row in table.iterrows()
    ]
    columns = ["compared with", "method, structures", *TITLES, "Fréchet ratio", "n", "incomplete"]
    return markdown_table(columns, rows)


def errors(table: pd.DataFrame) -> str:
    errors = headline(table)
    rows = []
    for (structure, method), group in errors.groupby(["structure", "method"], sort=False):
        by = group.set_index("attribute")
        cells = []
        for attribute, digits in (("size", 2), ("position", 2), ("shape", 3)):
            row = by.loc[attribute]
            cells.append(f"{number(row['median_error'], digits)} ({number(row['p95_error'], digits)})")
        rows.append([structure.split("_")[1], method, *cells, str(int(by["n"].iloc[0]))])
    rows.sort(key=lambda cells: (int(cells[0]), cells[1] != "unguided", cells[1]))
    columns = ["structures", "method", f"{ERRORS[0]} (95th percentile)", *ERRORS[1:], "errors"]
    return markdown_table(columns, rows)


def coupling(table: pd.DataFrame) -> str:
    rows = []
    for attribute, group in table.groupby("constrained", sort=False):
        cells = []
        for of in ("", "passed_", "unguided_"):
            if f"{of}slope" not in group or group[f"{of}slope"].isna().all():
                cells += ["–"] * (1 if of == "passed_" else 3)
                continue
            low, high, slope = (group[f"{of}{name}"] for name in ("low", "high", "slope"))
            within = (low <= group["data_slope"] + BAR) & (high >= group["data_slope"] - BAR)
            cells.append(f"{int(within.sum())} of {len(group)}")
            if of != "passed_":
                cells.append(number((slope - group["data_slope"]).abs().median()))
                cells.append(number((high - low).median()))
        rows.append([attribute, *cells])
    columns = ["slopes within the bar", "median distance from the data's, SD/SD", "median width of interval"]
    names = [*columns, "of samples that the gate accepts", *(f"unguided: {name}" for name in columns)]
    whole = markdown_table(["constrained alone", *names], rows)
    shown = [of for of in ("", "passed_", "unguided_") if f"{of}slope" in table]
    outside = [
        [row["constrained"], row["y"], row["x"], *(_slope(row, of) for of in (*shown, "data_"))]
        for _, row in table[~table["within_bar"]].iterrows()
    ]
    texts = {"slope": "slope, SD/SD", "passed_slope": "accepted by the gate", "unguided_slope": "unguided"}
    names = ["outside the bar: constrained", "of", "on"]
    names += [*(text for name, text in texts.items() if name in table), "data"]
    return "\n\n".join([whole, *([markdown_table(names, outside)] if outside else [])])


def topology(table: pd.DataFrame) -> str:
    whole = table[table["rule"] == ALL]
    rows = [
        [
            _arm(row),
            f"{row['strength']:g}",
            number(row["raw_share"]),
            f"{number(row['share'])} ({number(row['low'])} to {number(row['high'])})",
            _with_interval(row, "minus_unguided", 2),
            str(row["n"]),
        ]
        for _, row in whole.iterrows()
    ]
    columns = ["method, structures", "strength", "passes before repairs", "after repairs"]
    columns += ["less unguided, same noise", "n"]
    return markdown_table(columns, rows)


def _slope(row: pd.Series, of: str) -> str:
    slope, low, high = (row[f"{of}{name}"] for name in ("slope", "low", "high"))
    return f"{number(slope)} ({number(low)} to {number(high)})" if pd.notna(slope) else "–"


def _stated(reasons: pd.Series) -> pd.Series:
    """Where there is a reason; none is empty, or NaN in a table that was read."""
    return reasons.notna() & (reasons != "")


def extremes(table: pd.DataFrame) -> str:
    rows = []
    for (attribute, deviations), group in table.groupby(["attribute", "deviations"]):
        outside = int(_stated(group["ended"]).sum())
        passed = int((~_stated(group["gate"])).sum())
        achieved = number(group["achieved"].median(), 1)
        rows.append([attribute, number(deviations, 0), achieved, f"{outside} of {len(group)}", str(passed)])
    columns = [
        "attribute",
        "target, SD",
        "achieved, SD, median",
        "ended as outside the prior",
        "pass the gate",
    ]
    return markdown_table(columns, rows)


def known(table: pd.DataFrame) -> str:
    rows = []
    away = table[["first", "second"]].abs().max(axis=1)
    rings = {"within 2 SD": away <= 2, "2 to 4 SD": (away > 2) & (away <= 4), "beyond 4 SD": away > 4}
    for plane, group in table.groupby("plane", sort=False):
        for ring, inside in rings.items():
            part = group[inside[group.index]]
            if part.empty:
                continue
            medians = part[["volume_error_percent", "centroid_error_mm", "shape_error"]].median()
            texts = [number(v, d) for v, d in zip(medians, (1, 1, 3), strict=True)]
            passed = f"{int((~_stated(part['gate'])).sum())} of {len(part)}"
            rows.append([plane, ring, *texts, passed])
    return markdown_table(["ellipsoid hearts", "target", *ERRORS, "pass the gate"], rows)


METHODS = {
    "guided": "samples",
    "autoencoder": "autoencoder's reconstruction",
    "atlas": "atlas's best fit",
    "nearest": "nearest training heart, grown",
}


def whole_hearts(table: pd.DataFrame) -> str:
    """Over all left-out hearts: a column per method, Dice and surface distance of the accepted."""
    over_all = table[table["heart"] == "all"].set_index("method")
    over_all = over_all.loc[[name for name in METHODS if name in over_all.index]]
    accepted = [f"{row['accepted']:.0f} of {row['n']:.0f}" for _, row in over_all.iterrows()]
    rows = [["accepted", *accepted]]
    for what, title, digits in (("dice", "Dice", 3), ("distance_mm", "surface distance, mm", 1)):
        for column in table.filter(regex=rf"^{what}\."):
            name = column.partition(".")[2].replace("_", " ")
            rows.append([f"{title}: {name}", *(number(v, digits) for v in over_all[column])])
    return markdown_table(["left-out hearts", *(METHODS[name] for name in over_all.index)], rows)


def variety(table: pd.DataFrame) -> str:
    """By group of entries: spread of samples over that of real hearts, how many are within the bar, and the
    spread over that of the population.
    """
    rows = []
    for group, part in table.groupby("group", sort=False):
        ratios = [
            number(value) for value in (part["ratio"].median(), part["ratio"].min(), part["ratio"].max())
        ]
        possible = ((part["low"] <= 1 + VARIETY_BAR) & (part["high"] >= 1 - VARIETY_BAR)).sum()
        within = [f"{count} of {len(part)}" for count in (int(part["within"].sum()), int(possible))]
        population = number(part["of_population"].median())
        rows.append([group, ratios[0], f"{ratios[1]} to {ratios[2]}", *within, population])
    columns = ["spread of samples over that of real hearts", "median", "range", "within the bar"]
    return markdown_table([*columns, "interval meets the bar", "over that of the population, median"], rows)
