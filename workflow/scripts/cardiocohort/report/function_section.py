"""What the page shows of simulations: endings, figures, curves, strains. Of hearts only. Owned by report."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyvista
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..anatomy.aha_segments import LEFT, SEGMENTS
from ..cohort import stage_tables
from ..mesh.tetrahedron_geometry import signed_volumes
from ..plotting.style import plt
from ..runtime import tables
from ..runtime.artifacts import check_file, listed_file
from ..runtime.outcomes import Outcome
from ..simulation import calibration
from ..simulation.beat_output import end_systole
from . import bullseye

PARTS = (
    "curve_",
    "unloaded_",
    "loops_",
    "strains_",
    "motion_",
    "animation_",
)  # files of a run, beside its displacement
RUNS = stage_tables.SIMULATIONS | {
    f"{part}{name}": kind for part in PARTS for name, kind in tables.FILE_COLUMNS.items()
}
MOST_HEARTS = 30  # of an arm, whose curves and strains are read; the table of figures has them all
STRAIN_STEP = 5.0  # percent; colour scales end at a multiple
STRAIN_COLOURS = "RdBu_r"  # blue is shorter, red is longer
COLOURS = {"lv": "#35638f", "rv": "#c4622d"}

# quantities by column of the simulation table: words, unit, factor
OF_A_BEAT = {
    "lv_ef": ("LV ejection fraction", "%", 100.0),
    "rv_ef": ("RV ejection fraction", "%", 100.0),
    "lv_stroke_ml": ("LV stroke volume", "mL", 1.0),
    "rv_stroke_ml": ("RV stroke volume", "mL", 1.0),
    "lv_edv_ml": ("LV end-diastolic volume", "mL", 1.0),
    "lv_esv_ml": ("LV end-systolic volume", "mL", 1.0),
    "rv_edv_ml": ("RV end-diastolic volume", "mL", 1.0),
    "rv_esv_ml": ("RV end-systolic volume", "mL", 1.0),
    "cardiac_output_l_min": ("cardiac output", "L/min", 1.0),
    "lv_peak_kpa": ("LV peak pressure", "kPa", 1.0),
    "rv_peak_kpa": ("RV peak pressure", "kPa", 1.0),
    "arterial_mean_kpa": ("mean arterial pressure", "kPa", 1.0),
    "arterial_peak_kpa": ("peak arterial pressure", "kPa", 1.0),
    "lv_dpdt_max_kpa_s": ("LV fastest rise of pressure", "kPa/s", 1.0),
    "lv_long_axis_shortening": ("LV long-axis shortening", "%", 100.0),
    "septal_inward_motion_mm": ("septum, inward motion", "mm", 1.0),
    "lv_free_wall_inward_motion_mm": ("LV free wall, inward motion", "mm", 1.0),
    "septal_thickening": ("septum, thickening", "%", 100.0),
    "lv_free_wall_thickening": ("LV free wall, thickening", "%", 100.0),
}
OF_AN_INFLATION = {
    "lv_unloaded_ml": ("LV volume, unloaded", "mL", 1.0),
    "lv_loaded_ml": ("LV volume, loaded", "mL", 1.0),
    "rv_unloaded_ml": ("RV volume, unloaded", "mL", 1.0),
    "rv_loaded_ml": ("RV volume, loaded", "mL", 1.0),
    "max_displacement_mm": ("largest displacement", "mm", 1.0),
}
FIBRE = "fibre"
OF_STRAINS = ("longitudinal", "circumferential", "radial")  # columns of a beat's table
STRAIN_WORDS = {FIBRE: "fibre strain at the full load, from the unloaded state"} | {
    name: f"{name} strain at end-systole, from end-diastole" for name in OF_STRAINS
}


@dataclass(frozen=True)
class Function:
    """What `simulate` found.

    counts: arm, run, complete, failed, unsteady (beats that do not repeat themselves), not_run (accepted
    hearts). quantities: arm, quantity, unit, n, mean, sd, median of complete runs. remarks: subject, arm,
    verdict, reason, detail, load_share of failed and unsteady runs. curves: subject, arm, ventricle,
    volume_ml, pressure_kpa; the last beat's where hearts beat. strains by name of STRAIN_WORDS: subject, arm,
    one column (percent) per segment. calibrations: arm, heart, quantity, unit, wanted, reached, scalar,
    factor, runs, verdict; warnings: a sentence per calibration whose targets were not reached.
    """

    counts: pd.DataFrame
    quantities: pd.DataFrame
    remarks: pd.DataFrame
    curves: pd.DataFrame
    strains: dict[str, pd.DataFrame]
    beats: bool
    calibrations: pd.DataFrame
    warnings: list[str]


def read_runs(paths: Iterable[str], manifest: pd.DataFrame) -> pd.DataFrame:
    """Rows of the simulation tables with `arm` and the `folder` of their files; none without tables."""
    frames = [tables.read_table(path, RUNS).assign(folder=str(Path(path).with_suffix(""))) for path in paths]
    if not frames:
        return pd.DataFrame()
    return pd.concat(frames, ignore_index=True).merge(manifest[["subject", "arm"]], on="subject")


def run_file(run: pd.Series | dict, part: str = "") -> Path | None:
    """The file of a part of a run; None where it has none. InputError where it is missing or was changed."""
    return check_file(*listed_file(run, Path(run["folder"]), part)) if run[f"{part}file"] else None


def last_beat(run: dict) -> pd.DataFrame:
    """Rows of loops.tsv of a run that beat: those of the last one."""
    loops = pd.read_csv(run_file(run, "loops_"), sep="\t")
    return loops[loops["beat"] == loops["beat"].max()]


def function_of(
    runs: pd.DataFrame, manifest: pd.DataFrame, calibrations: Iterable[str] = ()
) -> Function | None:
    """None where nothing was simulated. calibrations: their files."""
    if runs.empty:
        return None
    found = [calibration.read(path) for path in calibrations]
    runs = runs[runs["verdict"] != "skipped"]
    complete = runs[runs["verdict"] == Outcome.ACCEPTED]
    beats = bool((runs["loops_file"] != "").any())
    drawn = complete.groupby("arm", sort=False).head(MOST_HEARTS).to_dict("records")
    curves = [_curve(run) for run in drawn]
    strains = {
        name: pd.DataFrame([row for row in rows if row])
        for name, rows in {
            FIBRE: [_fibre_strain(run) for run in drawn],
            **{name: [_strain_of_beat(run, name) for run in drawn] for name in OF_STRAINS},
        }.items()
    }
    return Function(
        counts=_counts(runs, manifest),
        quantities=_quantities(complete, OF_A_BEAT if beats else OF_AN_INFLATION),
        remarks=_remarks(runs),
        curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        strains={name: frame for name, frame in strains.items() if len(frame)},
        beats=beats,
        calibrations=_calibrations(found),
        warnings=[one.warning for one in found if one.warning],
    )


def strain_table(strains: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """By arm and segment, percent: arm, segment, name, n, `<strain>_mean` and `<strain>_sd`."""
    parts = []
    for name, frame in strains.items():
        long = frame.melt(["subject", "arm"], list(SEGMENTS), "segment", "percent").dropna(subset="percent")
        by = long.groupby(["arm", "segment"], sort=False)["percent"].agg(["size", "mean", "std"])
        parts.append(by.rename(columns={"size": "n", "mean": f"{name}_mean", "std": f"{name}_sd"}))
    if not parts:
        return pd.DataFrame()
    table = parts[0]
    for part in parts[1:]:
        table = table.join(part.drop(columns="n"), how="outer")
    table = table.reset_index()
    return table.assign(name=table["segment"].map(SEGMENTS))


def charts(function: Function, words) -> dict[str, Figure]:
    """Curves, and bull's-eyes of each strain, by name."""
    drawn = {} if function.curves.empty else {"pressure_volume": pressure_volume(function.curves, words)}
    for name, frame in function.strains.items():
        label = f"{STRAIN_WORDS[name].partition(',')[0]}, %"
        drawn[name] = bullseye.arms_beside(frame, words, strain_scale(frame), label, STRAIN_COLOURS)
    return drawn


def strain_scale(frame: pd.DataFrame) -> Normalize:
    """The same to both sides of zero, up to the 99th percentile of the left segments' sizes (percent)."""
    values = np.abs(frame[list(LEFT)].to_numpy(dtype=float))
    values = values[np.isfinite(values)]
    most = np.quantile(values, 0.99) if values.size else 0.0
    most = max(np.ceil(most / STRAIN_STEP), 1) * STRAIN_STEP
    return Normalize(-most, most)


def pressure_volume(curves: pd.DataFrame, words) -> Figure:
    """Pressure against volume of both ventricles, one panel per arm, one line per heart."""
    arms = list(dict.fromkeys(curves["arm"]))[: bullseye.MOST_ARMS]
    columns = min(len(arms), 4)
    rows = -(-len(arms) // columns)
    fig = Figure(figsize=(3.3 * columns + 0.6, 3.0 * rows + 0.3), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(arms) :]:
        ax.set_axis_off()
    for ax, arm in zip(axes.flat, arms, strict=False):
        part = curves[curves["arm"] == arm]
        hearts = part["subject"].nunique()
        for (ventricle, _), line in part.groupby(["ventricle", "subject"], sort=False):
            ax.plot(
                line["volume_ml"], line["pressure_kpa"], color=COLOURS[ventricle], lw=1.2,
                alpha=max(0.25, 1 - 0.05 * hearts),
            )  # fmt: skip
        ax.set_title(f"{words(arm)}, {hearts} heart{'s' if hearts > 1 else ''}", size=10)
    for ax in axes[-1]:
        ax.set_xlabel("volume, mL")
    for ax in axes[:, 0]:
        ax.set_ylabel("pressure, kPa")
    lines = [plt.Line2D([], [], color=colour, label=name.upper()) for name, colour in COLOURS.items()]
    fig.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    return fig


def _counts(runs: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    accepted = manifest[manifest["status"] == Outcome.ACCEPTED]
    rows = []
    for arm in manifest["arm"].unique():
        own = runs[runs["arm"] == arm]
        waiting = ~accepted.loc[accepted["arm"] == arm, "subject"].isin(own["subject"])
        complete = own["verdict"] == Outcome.ACCEPTED
        unsteady = complete & (own["periodic"] == 0)
        rows.append(
            {"arm": arm, "run": len(own), "complete": int(complete.sum()), "failed": int((~complete).sum())}
            | {"unsteady": int(unsteady.sum()), "not_run": int(waiting.sum())}
        )
    return pd.DataFrame(rows)


def _quantities(complete: pd.DataFrame, wanted: dict[str, tuple[str, str, float]]) -> pd.DataFrame:
    rows = []
    for arm, own in complete.groupby("arm", sort=False):
        for column, (quantity, unit, factor) in wanted.items():
            values = factor * own[column].dropna().astype(float)
            if len(values):
                spread = {"n": len(values), "mean": values.mean(), "sd": values.std()}
                head = {"arm": arm, "quantity": quantity, "unit": unit}
                rows.append(head | spread | {"median": values.median()})
    return pd.DataFrame(rows)


def _calibrations(found: list[calibration.Calibration]) -> pd.DataFrame:
    rows = []
    for row in (row for one in found for row in one.rows()):
        quantity, unit, factor = (OF_A_BEAT | OF_AN_INFLATION)[row.pop("target")]
        figures = {name: factor * row[name] for name in ("wanted", "reached")}
        rows.append(row | {"quantity": quantity, "unit": unit} | figures)
    return pd.DataFrame(rows)


def _remarks(runs: pd.DataFrame) -> pd.DataFrame:
    said = runs[(runs["verdict"] != Outcome.ACCEPTED) | (runs["detail"] != "")]
    return said[["subject", "arm", "verdict", "reason", "detail", "load_share"]]


def _curve(run: dict) -> pd.DataFrame:
    beat = bool(run["loops_file"])
    rows = last_beat(run) if beat else pd.read_csv(run_file(run, "curve_"), sep="\t")
    parts = [
        pd.DataFrame(
            {"ventricle": v, "volume_ml": rows[f"{v}_volume_ml"], "pressure_kpa": rows[f"{v}_pressure_kpa"]}
        )
        for v in COLOURS
    ]
    return pd.concat(parts).dropna().assign(subject=run["subject"], arm=run["arm"])


def _strain_of_beat(run: dict, name: str) -> dict | None:
    """At the frame that is nearest to the left ventricle's end-systole."""
    if not run["strains_file"]:
        return None
    table = pd.read_csv(run_file(run, "strains_"), sep="\t")
    beat = last_beat(run)
    systole = end_systole(beat["time_s"].to_numpy(), beat["lv_volume_ml"].to_numpy())
    times = table["time_s"].unique()
    shown = table[table["time_s"] == times[np.abs(times - systole).argmin()]].set_index("aha")[name]
    return {"subject": run["subject"], "arm": run["arm"], **(100 * shown.reindex(list(SEGMENTS))).to_dict()}


def _fibre_strain(run: dict) -> dict | None:
    """Volume-weighted means of the segments; none without fibres or segments."""
    grid = pyvista.read(run_file(run))
    if not {"E_ff", "aha"} <= set(grid.cell_data):
        return None
    corners = grid.cells_dict[pyvista.CellType.QUADRATIC_TETRA][:, :4]
    weights = np.abs(signed_volumes(np.asarray(grid.points, dtype=float), corners))
    size = max(SEGMENTS) + 1
    aha = np.asarray(grid.cell_data["aha"])
    volume = np.bincount(aha, weights, size)
    total = np.bincount(aha, weights * np.asarray(grid.cell_data["E_ff"], dtype=float), size)
    means = {
        number: 100 * total[number] / volume[number] if volume[number] else np.nan for number in SEGMENTS
    }
    return {"subject": run["subject"], "arm": run["arm"], **means}
