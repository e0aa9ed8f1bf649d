"""From target rows to what guidance steers by, and how far an anatomy is from it (generation stage)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..anatomy import attributes, domains, moments
from ..anatomy.labels import Anatomy, Grid
from ..anatomy.moments import Moments
from ..anatomy.unions import select
from ..cohort.stage_tables import SPREADS
from ..diffusion.bundle import Prior
from ..population.reference import read_reference
from ..runtime.outcomes import Ending, Outcome, Stage
from .guidance import Constraint, Within

OUTSIDE = "target outside the prior"
NO_PART = "domain not in this heart"
EDIT_WEIGHT = 10.0  # a few per cent are small beside what the neighbours of an edit have to give way
HELD_POSITION_WEIGHT = 3.0  # what is not edited is to stay within a millimetre, a fifth of a reference spread
SMALLEST_SPREAD = 1e-3  # of a reference population in which an attribute does not vary

Constrained = tuple[str, tuple[str, ...]]  # an attribute and its structures, unions included


@cache
def spread_of(bundle: Path, anatomy: Anatomy, attribute: str, names: tuple[str, ...]) -> float:
    """Standard deviation of an attribute of structures or unions in the bundle's reference population.

    Of a part `structure@domain` it is that of the whole: the population's table has whole structures only
    (`spread_in` takes that of the part where it is known).
    Of a thickness it is that of the wall's size; both are logarithms.
    Raises InputError for a bundle without a usable reference_moments.parquet, ValueError for a structure
    that its reference population does not have.
    """
    reference = _reference(bundle, anatomy)
    whole = tuple(domains.split(name)[0] for name in names)
    selected = select(reference.moments, reference.structures, whole)
    if attribute == "thickness":  # a wall of the same area is thicker by as much as it is larger
        attribute = "size"
    spread = attributes.spread(attribute, tuple(selected[:, i] for i in range(len(names))))
    return max(spread, SMALLEST_SPREAD)


def spread_in(
    rows: pd.DataFrame, bundle: Path, anatomy: Anatomy, attribute: str, names: tuple[str, ...]
) -> float:
    """`spread_of`, or that of the part itself, where a subject's target rows have it (`part_spreads`)."""
    texts = rows.loc[rows["structure"] == names[0], SPREADS] if SPREADS in rows.columns else []
    known = next((json.loads(text) for text in texts if text), {})
    word = "/".join([attribute, *names[1:]])
    if word in known:
        return max(known[word], SMALLEST_SPREAD)
    return spread_of(bundle, anatomy, attribute, names)


@cache
def _reference(bundle: Path, anatomy: Anatomy):
    return read_reference(Path(bundle) / "reference_moments.parquet", anatomy)


def constrained_by(rows: pd.DataFrame) -> list[Constrained]:
    """What a subject's target rows (stage_tables.TARGETS) constrain."""
    pairs = []
    for name, text in zip(rows["structure"], rows["constrained"], strict=True):
        for word in filter(None, text.split(",")):
            attribute, other = attributes.split(word)
            pairs.append((attribute, (name, other) if other else (name,)))
    return pairs


def make_constraints(
    rows: list[pd.DataFrame], prior: Prior, bundle: Path, edited: tuple[str, ...] = ()
) -> list[Constraint]:
    """Constraints of B subjects from their target rows, one per attribute and structure.

    What one subject constrains and another does not is inactive for the latter. What a sibling's edits
    change, the attributes of the structures `edited`, counts EDIT_WEIGHT times, and so does what lies beyond
    the domain of an edited part: the two share a surface. Positions of other structures count
    HELD_POSITION_WEIGHT times.
    """
    by_subject = [constrained_by(r) for r in rows]
    constraints = []
    within = _domains_of(rows, prior)
    for attribute, names in sorted({pair for pairs in by_subject for pair in pairs}):
        active = [float((attribute, names) in pairs) for pairs in by_subject]
        first = rows[active.index(1.0)]  # subjects that are sampled together are of one arm
        constraints.append(
            Constraint(
                attribute,
                tuple(prior.anatomy.labels_of(domains.split(name)[0]) for name in names),
                tuple(_wanted(rows, name, prior.device) for name in names),
                torch.tensor(active, dtype=torch.float32, device=prior.device),
                spread_in(first, bundle, prior.anatomy, attribute, names),
                _weight(attribute, names[0], edited),
                tuple(within.get(name) for name in names),
            )
        )
    return constraints


def _domains_of(rows: list[pd.DataFrame], prior: Prior) -> dict[str, Within]:
    """The domains of B subjects by the name of the part, as their target rows have placed them."""
    weights: dict[str, list[np.ndarray]] = {}
    for subject in rows:
        for name, own in zip(subject["structure"], domains.weights_of(subject, prior.grid), strict=True):
            if own is not None:
                weights.setdefault(name, []).append(own)
    return {
        name: Within(torch.tensor(np.stack(own), dtype=torch.float32, device=prior.device))
        for name, own in weights.items()
    }


def _weight(attribute: str, name: str, edited: tuple[str, ...]) -> float:
    if name in edited or domains.lies_beyond(name, edited):
        return EDIT_WEIGHT
    return HELD_POSITION_WEIGHT if edited and attribute == "position" else 1.0


def _wanted(rows: list[pd.DataFrame], name: str, device: str) -> Moments:
    wanted = moments.from_columns(pd.DataFrame([r[r["structure"] == name].iloc[0] for r in rows]))
    return moments.of_each(lambda t: torch.tensor(t, dtype=torch.float32, device=device), wanted)


def residuals(rows: pd.DataFrame, achieved: Moments, bundle: Path, anatomy: Anatomy) -> dict[str, float]:
    """Root mean square residual of all that one subject constrains, in reference standard deviations.

    `achieved` has the moments (K,) of the rows' structures. Keys are `structure.attribute`, with the
    attribute as the column `constrained` has it.
    """
    names, wanted = list(rows["structure"]), moments.from_columns(rows)
    errors = {}
    for attribute, of in constrained_by(rows):
        at = [slice(k, k + 1) for k in (names.index(name) for name in of)]
        pairs = [(achieved[k], wanted[k]) for k in at]
        differs = attributes.differences(attribute, *(tuple(side) for side in zip(*pairs, strict=True)))
        key = f"{of[0]}.{'/'.join([attribute, *of[1:]])}"
        errors[key] = float(np.sqrt(np.mean(differs**2)) / spread_in(rows, bundle, anatomy, attribute, of))
    return errors


def impossible(rows: pd.DataFrame, grid: Grid) -> Ending | None:
    """Why no anatomy on the grid can meet the target rows of one subject; None if nothing forbids it."""
    wanted = moments.from_columns(rows)
    half = np.array(grid.shape) * grid.spacing_mm / 2.0
    field_ml = np.prod(2.0 * half) / 1000.0
    for name, place in zip(rows["structure"], rows.get("domain", [""] * len(rows)), strict=True):
        if domains.is_part(name) and (reason := domains.refused(place)):
            return Ending(Outcome.FAILED, NO_PART, f"{name}: {reason}", Stage.GENERATION)
    for k, (name, text) in enumerate(zip(rows["structure"], rows["constrained"], strict=True)):
        constrained, target = text.split(","), wanted[k]
        needed = [target.volume_ml, target.centroid_mm, target.covariance_mm2]
        needed += [target.thickness_mm] if "thickness" in constrained else []
        if text and not all(np.isfinite(v).all() for v in needed):
            return _outside(f"{name}, not finite")
        cell_mm = domains.CELL_VOXELS * grid.spacing_mm
        if "thickness" in constrained and target.thickness_mm < cell_mm:
            return _outside(f"{name}, {target.thickness_mm:.1f} mm thick, a cell is {cell_mm:g} mm")
        if "position" in constrained and (np.abs(target.centroid_mm) >= half).any():
            place = ", ".join(f"{c:.0f}" for c in target.centroid_mm)
            return _outside(f"{name}, centroid ({place}) mm, field +-{half.max():.0f} mm")
        if {"size", "area"} & set(constrained) and target.volume_ml >= field_ml:
            return _outside(f"{name}, volume {target.volume_ml:.0f} mL, field {field_ml:.0f} mL")
    return None


def missed(errors: dict[str, float], max_miss: float) -> Ending | None:
    """The worst of `residuals` as an ending, if it is beyond `max_miss` standard deviations; else None."""
    if not errors:
        return None
    worst = max(errors, key=lambda key: np.inf if np.isnan(errors[key]) else errors[key])
    if errors[worst] <= max_miss:
        return None
    return _outside(f"{worst} missed by {errors[worst]:.1f} SD, max {max_miss:g}")


def _outside(detail: str) -> Ending:
    return Ending(Outcome.FAILED, OUTSIDE, detail, Stage.GENERATION)
