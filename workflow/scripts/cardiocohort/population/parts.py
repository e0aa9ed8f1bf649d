"""Parts `structure@domain` of drawn hearts, as label maps of a population have them. Population stage.

A table of parts has, for each of N hearts, the moments of the whole structures and of the parts, the
thickness of walls, and where the frame of each part lies (`domains.frame_entries`). All but the first follow
from the moments of the whole structures by ridge regression. Its penalty is chosen by left-out hearts, one
per number, and so are the residuals, whose covariance is shrunk. The whole structures themselves keep the
Gaussian of the reference population; both together are one Gaussian. So the table may come from fewer hearts
than the reference population, and from others. Errors of parts count in their spreads over its hearts.

Sources: Hoerl and Kennard 1970 (ridge); Allen 1974 (left-out residuals in closed form); Ledoit and Wolf 2004.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.covariance import ledoit_wolf

from ..anatomy import attributes
from ..anatomy import domains as own
from ..anatomy.domains import Domain
from ..anatomy.labels import Anatomy, Grid
from ..anatomy.moments import (
    MOMENT_COLUMNS,
    THICKNESS,
    VECTOR_ENTRIES,
    Moments,
    from_columns,
    from_vector,
    measure,
    measure_labels,
    of_each,
    to_columns,
    to_vector,
)
from ..anatomy.unions import select
from ..cohort.target_arms import DEFINITION, PART_COLUMNS
from ..runtime import tables
from ..runtime.errors import InputError
from .model import ENTRIES, Gaussian

FRAME_COLUMNS = tuple(f"frame_{k}" for k in range(1, max(own.FRAME_ENTRIES.values()) + 1))
COLUMNS = PART_COLUMNS | dict.fromkeys((*MOMENT_COLUMNS, THICKNESS, *FRAME_COLUMNS), "float64")
FEWEST = 30  # hearts of a table: spreads of fewer are too uncertain to draw from
PENALTIES = 10.0 ** np.arange(-4.0, 4.0, 0.5)  # of standardised moments, times the number of hearts
SMALLEST_SD = 1e-6  # of a residual, in its own unit; below it is rounding
STEP = 1e-4  # of a numerical derivative by log moments and ends of a frame


@dataclass(frozen=True)
class PartsModel:
    """Parts and their frames, given the vector (D,) of the whole `structures` of a heart.

    Their own vector (E,) has ENTRIES per part, then those of the frames, then log thicknesses of walls.
    `frames`: by domain and structure whose frame it is, the place of its entries. `thicknesses`: the place of
    each wall's, counted as those of the frames. explained (E,): share of each variance that follows from the
    whole structures, in left-out hearts; below 0 where nothing does.
    """

    names: tuple[str, ...]
    structures: tuple[str, ...]
    domains: Mapping[str, Domain]
    frames: Mapping[tuple[str, str], slice]
    offset: np.ndarray  # (E,)
    gain: np.ndarray  # (E, D)
    covariance: np.ndarray  # (E, E) of the residuals
    explained: np.ndarray
    thicknesses: Mapping[str, int] = field(default_factory=dict)

    def joined(self, wholes: Gaussian) -> Gaussian:
        """The Gaussian (D + E,) of whole structures and parts."""
        cross = self.gain @ wholes.covariance
        within = cross @ self.gain.T + self.covariance
        covariance = np.block([[wholes.covariance, cross.T], [cross, (within + within.T) / 2.0]])
        return Gaussian(np.concatenate([wholes.mean, self.offset + self.gain @ wholes.mean]), covariance)

    def entries(self, name: str) -> np.ndarray:
        """Indices (10,) of a part's moments in the joint vector."""
        first = len(self.structures) + self.names.index(name)
        return first * ENTRIES + np.arange(ENTRIES)

    @property
    def walls(self) -> dict[str, int]:
        """Indices of log thicknesses in the joint vector."""
        first = ENTRIES * (len(self.structures) + len(self.names))
        return {name: first + place for name, place in self.thicknesses.items()}

    def place(self, name: str, vector: np.ndarray, grid: Grid) -> own.Placed:
        """Where a part lies in the heart of a joint vector (D + E,); InputError where it has no place."""
        size = ENTRIES * len(self.structures)
        whole = (from_vector(vector[:size].reshape(-1, ENTRIES)), self.structures)
        entries = vector[size + ENTRIES * len(self.names) :][self.frames[frame_key(name, self.domains)]]
        frame = own.frame_of_moments(name, self.domains, whole, entries)
        return own.place_part(name, self.domains, frame, grid)

    def area(self, name: str, vector: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
        """The gradient (D + E,) of the log area of a slab (log mL/mm) at a joint vector, and its value there.

        The slab's thickness depends on the frame: on the moments of the structure whose frame it is, and on
        the ends that are drawn.
        """

        def log_area(at: np.ndarray) -> float:
            return at[self.entries(name)[0]] - np.log(self.place(name, at, grid).thickness_mm)

        key, domain = frame_key(name, self.domains), own.domain_named(name, self.domains)
        at = [self.entries(name)[0]]
        if domain.frame == "structure":  # of the others lengths are mm
            of = [self.structures.index(structure) * ENTRIES for structure in key[1].split("+")]
            at += [first + k for first in of for k in range(ENTRIES)]
            first = ENTRIES * (len(self.structures) + len(self.names))
            at += range(first + self.frames[key].start, first + self.frames[key].stop)
        gradient = np.zeros(len(vector))
        for k in at:
            step = np.zeros(len(vector))
            step[k] = STEP
            gradient[k] = (log_area(vector + step) - log_area(vector - step)) / (2.0 * STEP)
        return gradient, log_area(vector)

    def heart(self, vector: np.ndarray, grid: Grid) -> tuple[tuple[str, ...], Moments, dict[str, str]]:
        """Names, their moments and the parts' column `domain` of a joint vector (D + E,).

        A part that has no place in this heart has NaN and the reason (`domains.refusal`).
        """
        names = (*self.structures, *self.names)
        size = ENTRIES * len(names)
        moments = from_vector(vector[:size].reshape(-1, ENTRIES))
        moments, texts = of_each(np.array, moments), {}
        if self.thicknesses:
            thickness = np.full(len(names), np.nan)
            for name, place in self.walls.items():
                thickness[names.index(name)] = np.exp(vector[place])
            moments = replace(moments, thickness_mm=thickness)
        for k, name in enumerate(self.names, start=len(self.structures)):
            try:
                texts[name] = own.to_text(self.place(name, vector, grid))
                if problem := own.too_small(float(moments.volume_ml[k]), own.split(name)[0]):
                    raise InputError(problem)
            except InputError as error:
                texts[name] = own.refusal(str(error))
                for values in (moments.volume_ml, moments.centroid_mm, moments.covariance_mm2):
                    values[k] = np.nan
        return names, moments, texts


def frame_key(name: str, domains: Mapping[str, Domain]) -> tuple[str, str]:
    """Domain of a part, and the structure whose frame it is: parts with the same key lie in one place."""
    structure, word = own.split(name)
    return word.removeprefix(own.REST), own.domain_named(name, domains).of or structure


def measure_heart(
    labels: np.ndarray,
    names: Iterable[str],
    domains: Mapping[str, Domain],
    anatomy: Anatomy,
    grid: Grid,
    walls: Collection[str] = (),
) -> pd.DataFrame:
    """The rows (COLUMNS) of a label map (X, Y, Z): whole structures, then the parts `names`.

    Of the parts `walls` the thickness is measured too. InputError for a part that has no place in this heart,
    and for a wall that is none there.
    """
    groups = [(label,) for label in range(1, anatomy.n_channels)]
    found, frames = [measure_labels(labels, groups, grid.axes_mm())], {}
    rows = dict.fromkeys(anatomy.structures, ("", []))
    for name in names:
        try:
            key, domain = frame_key(name, domains), own.domain_named(name, domains)
            if key not in frames:
                frames[key] = own.frame_on(labels, own.split(name)[0], domain, anatomy, grid)
            weight = own.place_on(labels, name, domains, anatomy, grid, frames[key]).weights(grid.axes_mm())
            if name in walls:
                own.check_wall(labels, name, weight, anatomy)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        found.append(own.measure_parts(labels, [name], [weight], anatomy, grid, walls))
        of = measure(np.isin(labels, anatomy.labels_of(key[1])).astype(float), grid.axes_mm())
        rows[name] = (own.definition(name, domains, grid), own.frame_entries(domain, frames[key], of))
    moments = of_each(lambda *values: np.concatenate(values), *found)
    open_entries = np.full((len(rows), len(FRAME_COLUMNS)), np.nan)
    for row, (_, entries) in zip(open_entries, rows.values(), strict=True):
        row[: len(entries)] = entries
    texts = {"structure": list(rows), DEFINITION: [text for text, _ in rows.values()]}
    numbers = {THICKNESS: np.full(len(rows), np.nan)} | to_columns(moments)
    return pd.DataFrame(texts | numbers | dict(zip(FRAME_COLUMNS, open_entries.T, strict=True)))


def read_parts(
    path: str | Path,
    names: Iterable[str],
    domains: Mapping[str, Domain],
    structures: tuple[str, ...],
    walls: Collection[str] = (),
) -> PartsModel:
    """The model of the parts `names`, of a table that `snakemake reference_parts` wrote.

    structures: of the reference population, in its order. walls: names whose thickness is drawn too.
    InputError for a table that lacks one, or hearts.
    """
    frame = read_rows(path)
    names, walls = tuple(names), tuple(name for name in names if name in walls)
    by_name = dict(iter(frame.sort_values("subject").groupby("structure", sort=False)))
    subjects = frame["subject"].nunique()
    for name in (*structures, *names):
        if name not in by_name or len(by_name[name]) != subjects:
            raise InputError(
                f"{path}: not every heart has one row of {name}; `snakemake reference_parts` makes one"
            )
    if subjects < FEWEST:
        raise InputError(f"{path}: it has {subjects} hearts; drawing parts needs at least {FEWEST}")

    def vectors(wanted: tuple[str, ...]) -> np.ndarray:
        return np.concatenate([to_vector(from_columns(by_name[name])) for name in wanted], axis=1)

    places, entries = {}, [vectors(names)]
    at = 0
    for name in names:
        key, size = frame_key(name, domains), own.FRAME_ENTRIES[own.domain_named(name, domains).frame]
        if key not in places:
            places[key] = slice(at, at + size)
            entries.append(by_name[name][list(FRAME_COLUMNS[:size])].to_numpy())
            at += size
    thicknesses = {name: at + k for k, name in enumerate(walls)}
    for name in walls:
        thickness = by_name[name][THICKNESS].to_numpy()
        if np.isnan(thickness).any():
            raise InputError(
                f"{path}: not every heart has a thickness of {name}; `snakemake reference_parts`"
            )
        entries.append(np.log(thickness)[:, None])
    columns = np.concatenate(entries, axis=1)
    return fit(vectors(structures), columns, names, structures, domains, places, thicknesses)


def read_rows(path: str | Path) -> pd.DataFrame:
    """A table of parts; the thickness is NaN throughout in one that was made before it had that column."""
    lacking = {THICKNESS} - set(tables.column_names(path))
    kinds = {name: kind for name, kind in COLUMNS.items() if name not in lacking}
    return tables.read_table(path, {"subject": "str"} | kinds).assign(**dict.fromkeys(lacking, np.nan))


def spreads(path: str | Path, wanted: Iterable[tuple[str, tuple[str, ...]]]) -> dict[tuple, float]:
    """Standard deviations over a table's hearts of attributes of the names (structures, unions, parts).

    wanted: pairs of an attribute and its one or two names. One that the table lacks is left out.
    """
    frame = read_rows(path).sort_values("subject")
    own_names = tuple(dict.fromkeys(frame["structure"]))
    by_name = [from_columns(rows) for _, rows in frame.groupby("structure", sort=False)]
    moments = of_each(lambda *values: np.stack(values, axis=1), *by_name)
    found = {}
    for attribute, names in wanted:
        known = [name in own_names or ({*name.split("+")} <= {*own_names}) for name in names]
        if not all(known):
            continue
        chosen = select(moments, own_names, names)
        if attribute != "thickness" or not np.isnan(chosen.thickness_mm).any():
            found[attribute, names] = attributes.spread(
                attribute, tuple(chosen[:, k] for k in range(len(names)))
            )
    return found


def fit(
    wholes: np.ndarray,
    parts: np.ndarray,
    names: tuple[str, ...],
    structures: tuple[str, ...],
    domains: Mapping[str, Domain],
    frames: Mapping[tuple[str, str], slice],
    thicknesses: Mapping[str, int],
) -> PartsModel:
    """The model of `parts` (N, E) given `wholes` (N, D)."""
    along = followed(names, structures, domains, frames, parts.shape[1])
    offset, gain, residuals = ridge(wholes, parts - wholes @ along.T)
    scale = np.maximum(residuals.std(axis=0), SMALLEST_SD)
    covariance, _ = ledoit_wolf(residuals / scale, assume_centered=True)
    variance = np.maximum(parts.var(axis=0), SMALLEST_SD**2)
    return PartsModel(
        names,
        structures,
        domains,
        frames,
        offset,
        gain + along,
        covariance * np.outer(scale, scale),
        1.0 - np.mean(residuals**2, axis=0) / variance,
        thicknesses,
    )


def followed(
    names: tuple[str, ...],
    structures: tuple[str, ...],
    domains: Mapping[str, Domain],
    frames: Mapping[tuple[str, str], slice],
    size: int,
) -> np.ndarray:
    """The gain (E, D) of parts that grow, move and change their form as their structure does.

    The ridge penalty is on what differs from it. Of a union the mean of its structures is followed. The
    origin of a contact follows the centroid.
    """
    gain = np.zeros((size, ENTRIES * len(structures)))

    def follow(rows: np.ndarray, structure: str, entries: np.ndarray):
        members = structure.split("+")
        for name in members:
            gain[rows, structures.index(name) * ENTRIES + entries] = 1.0 / len(members)

    for k, name in enumerate(names):
        follow(k * ENTRIES + np.arange(ENTRIES), own.split(name)[0], np.arange(ENTRIES))
    for (word, structure), place in frames.items():
        if domains[word].frame == "contact":
            first = len(names) * ENTRIES + place.start
            follow(first + np.arange(3), structure, np.array([VECTOR_ENTRIES.index(axis) for axis in "xyz"]))
    return gain


def ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset (E,) and gain (E, D) of the regression of y (N, E) on x (N, D), and left-out residuals (N, E).

    The penalty of each column of y is the one whose left-out residuals are smallest.
    """
    scale = np.maximum(x.std(axis=0), SMALLEST_SD)
    u, s, vt = np.linalg.svd((x - x.mean(axis=0)) / scale, full_matrices=False)
    centred = y - y.mean(axis=0)
    along = u.T @ centred
    best, residuals, weights = np.full(y.shape[1], np.inf), np.empty(y.shape), np.empty(along.shape)
    for penalty in PENALTIES * len(x):
        kept = s**2 / (s**2 + penalty)
        leverage = 1.0 / len(x) + u**2 @ kept
        left_out = (centred - u @ (kept[:, None] * along)) / np.maximum(1.0 - leverage, 1e-9)[:, None]
        error = np.mean(left_out**2, axis=0)
        better = error < best
        best[better], residuals[:, better] = error[better], left_out[:, better]
        weights[:, better] = (s / (s**2 + penalty))[:, None] * along[:, better]
    gain = (vt.T @ weights / scale[:, None]).T
    return y.mean(axis=0) - gain @ x.mean(axis=0), gain, residuals
