"""From registered hearts to a shape model's material, and hearts of it to look at (atlas stage)."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from .. import topology
from ..anatomy.contacts import contact_areas
from ..anatomy.label_map import write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..runtime import artifacts
from ..runtime.errors import InputError
from ..runtime.outcomes import Outcome
from . import flow, quality, registering
from .flow import Lattice
from .hearts import ATLAS, FEWEST, read_prepared, turned_labels
from .model import Drawer, ShapeModel

log = logging.getLogger(__name__)
SHOWN_MODES, SHOWN_SD, SHOWN_SAMPLES = 4, 2.0, 8
SEALED_MM = 4.0


@dataclass(frozen=True)
class Cohort:
    """Registered hearts of an atlas: velocities (N, 3, x, y, z) mm on the model's cells, contacts_mm2 (N,
    K + 1, K + 1), rotations (N, 3, 3) onto the template, and the template's labels (X, Y, Z).

    `rated`: by place in the list, labels (X, Y, Z) in the template's pose of hearts that quality is measured
    on. Those of all others are not kept: an atlas may have hundreds of hearts.
    """

    subjects: list[str]
    velocities: np.ndarray
    rated: dict[int, np.ndarray]
    contacts_mm2: np.ndarray
    rotations: np.ndarray
    template: np.ndarray


def read_registered(
    table: str | Path, template: str | Path, anatomy: Anatomy, grid: Grid, cell: int
) -> Cohort:
    """Those of registrations.tsv that are in the atlas, on cells of `cell` voxels; InputError where fewer
    than three registered.
    """
    folder = Path(table).parent
    rows = pd.read_csv(table, sep="\t", keep_default_na=False, dtype={"subject": str})
    used = rows[(rows["verdict"] == Outcome.ACCEPTED) & (rows["use"] == ATLAS)]
    if len(used) < FEWEST:
        raise InputError(
            f"{table}: {len(used)} of {len(rows)} hearts registered; an atlas needs {FEWEST} or more. "
            "Column 'reason' says why each did not"
        )
    size, rated = Lattice.of(grid, cell).shape, set(quality.rated(len(used)))
    velocities, hearts, contacts, rotations = [], {}, [], []
    for i, row in enumerate(used.itertuples()):
        path = artifacts.check_file(folder / "registrations" / row.file, int(float(row.size)), row.sha256)
        velocity = torch.from_numpy(registering.read_velocity(path))
        velocities.append(flow.upsampled(velocity, size).numpy())
        rotations.append(np.array(row.rotation.split(","), dtype=float).reshape(3, 3))
        own = read_prepared(folder / "hearts" / f"{row.subject}.nii.gz", anatomy)
        labels = turned_labels(own, rotations[-1], grid, anatomy)
        contacts.append(contacts_of(labels, anatomy, grid))
        if i in rated:
            hearts[i] = labels
    return Cohort(
        used["subject"].tolist(),
        np.stack(velocities),
        hearts,
        np.stack(contacts),
        np.stack(rotations),
        read_prepared(template, anatomy),
    )


def sealed(template: np.ndarray, anatomy: Anatomy, grid: Grid, rules: topology.Rules) -> np.ndarray:
    """The template (X, Y, Z) with pores between blood, wall and openings made wall, near the blood.

    Where a valve's fibrous ring meets the wall, a segmentation leaves a ring of pores. A voxel closes them in
    the template; hearts that are drawn from it would stretch them open. What may not be bare are the rules of
    kind `breach`.
    """
    out = template.copy()
    for rule in rules.of_kind("breach").checks:
        kept = np.isin(out, (*rule.structure, *rule.other, *rule.openings))
        closed = ndimage.binary_closing(kept, np.ones((3, 3, 3)))
        distance_mm = ndimage.distance_transform_edt(~np.isin(out, rule.structure)) * grid.spacing_mm
        pores = closed & (out == 0) & (distance_mm <= SEALED_MM)
        out[pores] = rule.other[0]
        log.info("%.2f mL of pores closed", pores.sum() * grid.voxel_volume_ml)
    return out


def contacts_of(labels: np.ndarray, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Contact areas (K + 1, K + 1) mm2 of labels (X, Y, Z) on the grid."""
    return contact_areas(labels, (grid.spacing_mm,) * 3, anatomy.n_channels)


def parted(
    template: np.ndarray, contacts_mm2: np.ndarray, anatomy: Anatomy, grid: Grid, rules: topology.Rules
) -> np.ndarray:
    """The template (X, Y, Z) with neighbours opened that touch over more than they usually do in the hearts.

    A flow keeps what touches: hearts that are drawn have the contacts of the one heart that lent the template
    its form. Contacts that the rules bound from above are peeled from their rims, a voxel of the larger
    structure at a time, down to the median of the hearts' areas contacts_mm2 (N, K + 1, K + 1).
    """
    out, usual = template.copy(), np.median(contacts_mm2, axis=0)
    around = np.ones((3, 3, 3), dtype=bool)
    for rule in rules.of_kind("contact").checks:
        if not np.isfinite(rule.maximum):
            continue
        for a, b in ((a, b) for a in rule.structure for b in rule.other):
            wide, narrow = sorted((a, b), key=lambda k: -np.count_nonzero(out == k))
            before = area = contacts_of(out, anatomy, grid)[a, b]
            while area > usual[a, b]:
                touching = (out == wide) & ndimage.binary_dilation(out == narrow)
                rim = touching & ndimage.binary_dilation((out != wide) & (out != narrow), around)
                if not rim.any():
                    break
                out[rim | ((out == wide) & ndimage.binary_dilation(rim))] = 0
                area = contacts_of(out, anatomy, grid)[a, b]
            if area < before:
                names = " and ".join(anatomy.structures[k - 1] for k in (a, b))
                log.info("%s touch over %.0f mm2 for %.0f", names, area, before)
    return out


def write_examples(folder: Path, shape: ShapeModel, seed: int, anatomy: Anatomy, grid: Grid) -> pd.DataFrame:
    """Label maps of the mean, of the first modes at +-2 SD and of random hearts, in `folder`; their table."""
    drawer, rows = Drawer(shape, anatomy, grid), []
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, kind: str, mode: int, sd: float, coefficients: np.ndarray) -> None:
        write_label_map(folder / f"{name}.nii.gz", drawer.labels(coefficients), grid)
        listed = artifacts.listing(folder, f"{name}.nii.gz")
        rows.append({"name": name, "kind": kind, "mode": mode, "sd": sd} | listed)
        log.info("example %d: %s", len(rows), name)

    none = np.zeros(len(shape.variances))
    write("mean", "mean", 0, 0.0, none)
    for mode in range(min(SHOWN_MODES, len(none))):
        for sd in (-SHOWN_SD, SHOWN_SD):
            coefficients = none.copy()
            coefficients[mode] = sd * shape.deviations[mode]
            write(f"mode-{mode + 1}-{'plus' if sd > 0 else 'minus'}", "mode", mode + 1, sd, coefficients)
    for sample in range(SHOWN_SAMPLES):
        rng = np.random.default_rng(np.random.SeedSequence([seed, sample]))
        write(f"sample-{sample}", "sample", 0, 0.0, shape.draw(rng))
    artifacts.remove_unlisted(folder, {row["file"] for row in rows})
    return pd.DataFrame(rows)
