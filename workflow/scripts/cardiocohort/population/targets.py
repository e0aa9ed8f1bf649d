"""Target moments of an arm's subjects: drawn from the population model, edited, tabulated.

Owned by the population stage. Absolute edits condition the draw, relative ones change the heart
that was drawn; both hold exactly in the targets.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from ..anatomy.domains import slab_mm
from ..anatomy.labels import Grid
from ..anatomy.moments import Moments, from_vector, to_columns
from ..anatomy.unions import select
from ..cohort.covariates import AREA, Person
from ..cohort.grammar import Edit, for_person
from ..cohort.stage_tables import DOMAIN, JUDGED
from ..cohort.table import Arm, seed_sequence, subject_name
from ..runtime.errors import InputError
from .covariates import draw_person, unknown_person
from .edits import apply_edits, follow_parts, given_values
from .model import ENTRIES, Gaussian, condition_on, draw, marginal
from .parts import PartsModel
from .plausibility import Population, judge

ROUNDS, MET = 20, 1e-9  # of the linearised log areas of slabs, and how closely they are met

Heart = tuple[tuple[str, ...], Moments]  # names and their moments (K,)


def drawn_targets(
    arm: Arm,
    indices: Iterable[int],
    seed: int,
    population: Population,
    truncation: float,
    grid: Grid | None = None,
) -> pd.DataFrame:
    """Targets of the arm's subjects `indices`, drawn from the population (columns: `tabulate`).

    `seed` is the config's, used where the arm has none. Where the population has parts, the last column is
    `domain`, and `grid` is that of the anatomy. Raises InputError if the arm names a structure that the
    reference population does not have.
    """
    names, parts, texts = population.names, population.parts, {}
    _check_names(arm, "edits", [part for edit in arm.edits for part in edit.structure.split("/")], names)

    try:
        given_values(for_person(arm.edits, 1.0), names)
    except InputError as error:
        raise InputError(f"arm {arm.name!r}, {error}") from None

    def heart(index: int, person: Person) -> Heart:
        edits = for_person(arm.edits, person[AREA])
        vector = draw_vector(population, person, edits, truncation, _streams(arm, seed, index)[1], grid)
        if not parts:
            return names, apply_edits(from_vector(vector.reshape(-1, ENTRIES)), names, edits)
        _, moments, places = parts.heart(vector, grid)
        texts[subject_name(arm.name, index)] = places
        slabs_mm = {name: slab_mm(text) for name, text in places.items()}
        return names, follow_parts(names, moments, apply_edits(moments, names, edits, slabs_mm))

    table = tabulate(arm, indices, seed, population, heart)
    if not parts:
        return table
    rows = zip(table["subject"], table["structure"], strict=True)
    return table.assign(**{DOMAIN: [texts[subject].get(name, "") for subject, name in rows]})


def tabulate(
    arm: Arm,
    indices: Iterable[int],
    seed: int,
    population: Population | None,
    heart: Callable[[int, Person], Heart],
    person_of: Callable[[int], Person | None] | None = None,
) -> pd.DataFrame:
    """One row per subject and structure of `heart(index, person)`, and of the unions the arm constrains.

    Columns: `stage_tables.TARGETS`, then JUDGED, then the standard covariates and those of the population,
    which are NaN or "" where they are not known. People are drawn as the arm says, unless `person_of` knows
    them; it gives None for somebody of whom nothing is known.
    """
    constrained = {name: ",".join(attributes) for name, attributes in arm.asked().items()}
    nobody = unknown_person(population and population.reference)
    frames = []
    for index in indices:
        if person_of:
            person = person_of(index)
        elif population:
            of_person = _streams(arm.matched or arm, seed, index)[0]
            person = draw_person(arm, population.reference, of_person)
        else:
            person = None
        known = population is not None and person is not None
        person = person or nobody
        own, moments = heart(index, person)
        _check_ellipsoids(arm, subject_name(arm.name, index), own, moments)
        for name in constrained:
            _check_names(arm, "constraints", [name] if name in own else name.split("+"), own)
        names = (*own, *(name for name in constrained if name not in own))
        moments = select(moments, own, names)
        table = {"subject": subject_name(arm.name, index), "arm": arm.name, "structure": list(names)}
        table |= to_columns(moments) | {"constrained": [constrained.get(name, "") for name in names]}
        unjudged = dict.fromkeys(("plausibility", *JUDGED), np.nan)
        table |= judge(population, person, names, moments) if known else unjudged
        frames.append(pd.DataFrame(table | person))
    return pd.concat(frames, ignore_index=True)


def _check_ellipsoids(arm: Arm, subject: str, names: tuple[str, ...], moments: Moments) -> None:
    """InputError where edits lie so far from the population that nothing with a volume follows from them."""
    for k, name in enumerate(names):
        covariance = moments.covariance_mm2[k]
        if np.isnan(covariance).any():  # of a part without a place, which ends its subject with a reason
            continue
        if not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance)[0] <= 0:
            raise InputError(
                f"arm {arm.name!r}, column 'edits': no {name} of {subject} follows from them (its "
                "covariance is that of no ellipsoid); they lie too far from the reference population. Take "
                "values nearer to it"
            )


def draw_vector(
    population: Population,
    person: Person,
    edits: tuple[Edit, ...],
    truncation: float,
    rng: np.random.Generator,
    grid: Grid | None = None,
) -> np.ndarray:
    """One heart (D,): what edits give is fixed, the rest is drawn given it.

    Parts are drawn last, given the whole structures, which are those of the same subject without parts. The
    log area of a slab is not linear in the vector: it is linearised at what was drawn, and the heart is drawn
    again from the same numbers, until the area is met.
    """
    gaussian, parts = population.given(person), population.parts
    walls = parts.walls if parts else {}
    further = len(gaussian.mean) - ENTRIES * len(population.names)
    given = [e for e in edits if (e.quantity, e.operation) == ("area", "set")]
    vector, state = gaussian.mean, rng.bit_generator.state
    for _ in range(ROUNDS):
        areas, met = _areas(given, parts, vector, grid)
        if given and met:
            break
        rng.bit_generator.state = state
        values = given_values(edits, population.names, walls, areas, further)
        vector = _draw_given(gaussian, *values, ENTRIES * len(population.joint.names), truncation, rng)
        if not areas:
            break
    return vector


def _areas(
    edits: list[Edit], parts: PartsModel | None, vector: np.ndarray, grid: Grid | None
) -> tuple[dict[str, tuple[np.ndarray, float]], bool]:
    """`areas` of `given_values`, linearised at a joint vector (D,), and whether all are met there.

    A part without a place there has none: its subject fails with the reason.
    """
    found, met = {}, True
    for edit in edits:
        wanted = np.log(edit.value / 1000.0)  # mL/mm
        try:
            gradient, now = parts.area(edit.structure, vector, grid)
        except InputError:
            continue
        found[edit.structure] = gradient, float(wanted - now + gradient @ vector)
        met &= abs(wanted - now) < MET
    return found, met and bool(found)


def _draw_given(
    gaussian: Gaussian,
    fixed: dict[int, float],
    transform: np.ndarray,
    wholes: int,
    truncation: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """A vector (D,) of the Gaussian with the `fixed` entries of transform @ vector (`given_values`).

    The first `wholes` entries are drawn before the others.
    """
    vector = np.empty(len(gaussian.mean))
    index = np.array(sorted(fixed), dtype=int)
    vector[index] = [fixed[i] for i in index]
    if fixed:
        gaussian = Gaussian(transform @ gaussian.mean, transform @ gaussian.covariance @ transform.T)
        gaussian = condition_on(gaussian, index, vector[index])
    free = np.setdiff1d(np.arange(len(vector)), index)
    whole = free < wholes
    vector[free[whole]] = draw(marginal(gaussian, np.flatnonzero(whole)), truncation, rng)
    if not whole.all():
        gaussian = condition_on(gaussian, np.flatnonzero(whole), vector[free[whole]])
        vector[free[~whole]] = draw(gaussian, truncation, rng)
    return np.linalg.solve(transform, vector)


def _streams(arm: Arm, seed: int, index: int) -> list[np.random.Generator]:
    """Two streams of a subject, covariates and heart: another age distribution leaves the second alone."""
    sequence = seed_sequence(seed if arm.seed is None else arm.seed, arm.name, index, "population")
    return [np.random.default_rng(child) for child in sequence.spawn(2)]


def _check_names(arm: Arm, column: str, names: list[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise InputError(
                f"arm {arm.name!r}, column {column!r}: there is no {name} in the reference or targets "
                f"table; it has {', '.join(known)}"
            )
