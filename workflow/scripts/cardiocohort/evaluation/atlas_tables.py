"""The shipped atlas's results as Markdown tables, for documents (evaluation stage).

Each function takes the tables of `resources/atlas/evaluation` by name. All but `lddmm` and `poses` have the
columns that `snakemake atlas` writes (`atlas.quality`, `atlas.registering`).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from ..anatomy.labels import Anatomy
from .page import number
from .summary import markdown_table

BARS = {True: 0.95, False: 0.90}  # Dice of a heart after registration: structures of the centre, vessels
POPULATION, REAL = "population", "22 hearts"  # groups of poses.tsv; others are single hearts
FAR_PERCENT = 95
LONG_AXIS = "left_ventricle"
SHOWN_MODES = (1, 2, 4, 9, 18, 20, 21)

Tables = dict[str, pd.DataFrame]


def writers(tables: Tables, anatomy: Anatomy) -> dict[str, str]:
    """Name -> Markdown of each table that `tables` suffice for."""
    needed: dict[str, tuple[tuple[str, ...], Callable[[Tables, Anatomy], str]]] = {
        "compactness": (("compactness", "lddmm"), compactness),
        "generalisation": (("generalisation",), generalisation),
        "poses": (("poses",), poses),
        "registration": (("hearts", "registrations"), registration),
        "single_poses": (("poses",), single_poses),
        "specificity": (("compactness", "specificity"), specificity),
    }
    return {
        name: write(tables, anatomy)
        for name, (names, write) in needed.items()
        if all(each in tables for each in names)
    }


def compactness(tables: Tables, anatomy: Anatomy) -> str:
    """Cumulative variance of the published LDDMM momenta and of this atlas, by number of modes."""
    rows = []
    for name, title in (("lddmm", "published LDDMM momenta"), ("compactness", "this atlas, velocities")):
        share = 100 * tables[name].set_index("modes")["cumulative"]
        cells = [number(share[n], 1) if n in share else "" for n in SHOWN_MODES]
        rows.append([f"{title}, {len(share) + 1} hearts", *cells])
    first, *others = (str(n) for n in SHOWN_MODES)
    return markdown_table(["cumulative variance, %", f"{first} mode", *others], rows)


def specificity(tables: Tables, anatomy: Anatomy) -> str:
    """Distance of random hearts from the nearest real one, and their least Jacobian, by number of modes."""
    share = 100 * tables["compactness"].set_index("modes")["cumulative"]
    rows = [
        [
            str(modes),
            number(share[modes], 1),
            number(part["nearest_mm"].mean()),
            number(part["nearest_mm"].max()),
            number(part["least_jacobian"].min()),
        ]
        for modes, part in tables["specificity"].groupby("modes")
    ]
    distance = "random hearts to the nearest real one, mm"
    return markdown_table(["modes", "variance, %", distance, "farthest", "least Jacobian determinant"], rows)


def generalisation(tables: Tables, anatomy: Anatomy) -> str:
    """Distance and Dice of left-out hearts that are rebuilt from the modes of all others."""
    table = tables["generalisation"]
    centre = table["structure"].isin(anatomy.centred_on)
    rows = []
    for modes in sorted(table["modes"].unique()):
        parts = [table[(table["modes"] == modes) & chosen] for chosen in (centre, ~centre)]
        cells = [f"{number(p['distance_mm'].mean())} ({number(p['dice'].mean(), 3)})" for p in parts]
        rows.append([str(modes), *cells])
    titles = [f"left-out hearts, {what}: distance, mm (Dice)" for what in ("chambers and wall", "vessels")]
    return markdown_table(["modes", *titles], rows)


def registration(tables: Tables, anatomy: Anatomy) -> str:
    """Dice and surface distance after registration by structure, and which hearts miss the bar.

    Hearts whose vessels are cut elsewhere stand apart.
    """
    table = tables["registrations"].query("verdict == 'accepted'").set_index("subject")
    cut = tables["hearts"].set_index("subject")["cut_vessels"].reindex(table.index).astype(bool)
    rows = []
    for structure in anatomy.structures:
        dice, distance = table[f"dice_{structure}"], table[f"distance_{structure}_mm"]
        bar = BARS[structure in anatomy.centred_on]
        missed = [name for name in table.index if not dice[name] >= bar]
        apart = [name for name in table.index if np.isnan(dice[name])]
        shown = ", ".join(f"{name} (not matched)" if name in apart else name for name in missed)
        whole = [number(dice[~cut].median(), 3), number(dice[~cut].min(), 3), number(distance[~cut].median())]
        cells = [structure.replace("_", " "), f"{bar:.2f}", *whole, number(dice[cut].min(), 3)]
        rows.append([*cells, f"**not met**: {shown}" if missed else "met"])
    columns = ["after registration", "bar", f"{(~cut).sum()} hearts: median Dice", "least"]
    columns += ["median distance, mm", f"{cut.sum()} with cut vessels: least Dice", "bar for every heart"]
    return markdown_table(columns, rows)


def poses(tables: Tables, anatomy: Anatomy) -> str:
    """Spread of the turn and of the structures' long axes: of real hearts and of the population."""
    table = tables["poses"]
    groups = [table[table["group"] == name] for name in (REAL, POPULATION)]
    names = [column.removesuffix("_axis_x") for column in table if column.endswith("_axis_x")]
    measures = {"turn of the whole heart": _turns} | {
        f"long axis: {name.replace('_', ' ')}": partial(_spread, name=name) for name in names
    }
    rows = []
    for title, measure in measures.items():
        cells = []
        for group in groups:
            angles = measure(group)
            angles = angles[np.isfinite(angles)]
            figures = (np.sqrt(np.mean(angles**2)), np.percentile(angles, FAR_PERCENT), angles.max())
            cells += [*(number(figure, 1) for figure in figures), str(len(angles))]
        rows.append([title, *cells])
    columns = ["angle, degrees"]
    for name in (REAL, POPULATION):
        columns += [f"{name}: rms", f"{FAR_PERCENT}th percentile", "largest", "n"]
    return markdown_table(columns, rows)


def single_poses(tables: Tables, anatomy: Anatomy) -> str:
    """Turn and long axis of the left ventricle of single hearts, and how much of the population lies as far
    from the template and from the population's mean axis.
    """
    table = tables["poses"]
    population = table[table["group"] == POPULATION]
    axis = partial(_angles, name=LONG_AXIS, axis=_mean_axis(population, LONG_AXIS))
    rows = []
    for _, heart in table[~table["group"].isin((POPULATION, REAL))].iterrows():
        one = heart.to_frame().T
        cells = []
        for measure in (_turns, axis):
            own, others = measure(one)[0], measure(population)
            others = others[np.isfinite(others)]
            share = 100 * np.mean(others >= own) if np.isfinite(own) else np.nan
            cells += [number(own, 1), number(share, 0)]
        rows.append([heart["subject"], heart["group"], *cells])
    share = "of the population as far or farther, %"
    return markdown_table(["heart", "pose", "turn, degrees", share, "axis of the LV, degrees", share], rows)


def _turns(table: pd.DataFrame) -> np.ndarray:
    """Angles (N,) of the turns from the template, degrees."""
    return np.linalg.norm(table[[f"turn_{axis}_deg" for axis in "xyz"]].to_numpy(float), axis=1)


def _axes(table: pd.DataFrame, name: str) -> np.ndarray:
    """Long axes (N, 3) of a structure; NaN where it has none that is much longer than the others."""
    return table[[f"{name}_axis_{axis}" for axis in "xyz"]].to_numpy(float)


def _mean_axis(table: pd.DataFrame, name: str) -> np.ndarray:
    """The axis (3,) nearest to all, whatever their signs."""
    axes = _axes(table, name)
    axes = axes[np.isfinite(axes).all(axis=1)]
    return np.linalg.eigh(axes.T @ axes)[1][:, -1]


def _angles(table: pd.DataFrame, name: str, axis: np.ndarray) -> np.ndarray:
    """Angles (N,) between axes without sign, degrees."""
    return np.degrees(np.arccos(np.clip(np.abs(_axes(table, name) @ axis), 0, 1)))


def _spread(table: pd.DataFrame, name: str) -> np.ndarray:
    """Angles (N,) from the group's own mean axis, degrees."""
    return _angles(table, name, _mean_axis(table, name))
