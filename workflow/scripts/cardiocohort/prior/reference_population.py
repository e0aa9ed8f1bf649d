"""The label maps a prior is trained on, from a source: deformed templates or a folder (prior stage).

Every source is a list of tasks for `batch_runner.run_batch` and a `work` function that writes one heart
in the bundle's convention and returns its record: moments, covariates, origin. A heart that fails the
topology gate is never used.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import topology
from ..anatomy import moments
from ..anatomy.folder import Variation
from ..anatomy.label_map import read_label_map, to_grid, write_label_map
from ..anatomy.labels import Anatomy, Grid
from ..atlas import model as atlas_model
from ..cohort import people
from ..cohort.covariates import STANDARD, Covariate
from ..label_maps.on_grid import read_on_grid
from ..label_maps.reading import Convention
from ..runtime import artifacts
from ..runtime.batch_runner import Task
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome, ending_of
from . import virtual_patients
from .deformation import OF_ONE_HEART, DeformationSettings, Growth, Template, deform, make_template

log = logging.getLogger(__name__)
MAX_ATTEMPTS = 8


@dataclass(frozen=True)
class Source:
    """What a worker process needs, loaded once: anatomy, grid, gate, and the templates if any."""

    anatomy: Anatomy
    grid: Grid
    rules: topology.Rules
    published: virtual_patients.Published | None = None  # of hearts
    variation: Variation | None = None  # of other anatomies
    templates: tuple[Template, ...] = ()
    shares: tuple[float, ...] = ()
    seed: int = 0
    convention: Convention | None = None  # of label maps in a folder


def open_source(
    anatomy,
    grid,
    rules_path,
    templates: dict[str, float],
    values_path,
    seed,
    convention=None,
    variation: Variation | None = None,
) -> Source:
    """Initializer of a worker: `templates` maps an atlas or label maps to their share of the population.

    Volumes are those of virtual patients where the anatomy has a heart's chambers, else of `variation`.
    """
    torch.set_num_threads(1)
    loaded = [open_template(path, anatomy, grid) for path in templates]
    shares = np.array(list(templates.values()), dtype=float)
    heart = set(virtual_patients.CHAMBERS) <= set(anatomy.structures)
    return Source(
        anatomy,
        grid,
        topology.load_rules(rules_path, anatomy),
        virtual_patients.read_published(values_path) if templates and heart else None,
        variation,
        tuple(loaded),
        tuple(shares / shares.sum()) if templates else (),
        seed,
        convention,
    )


def open_template(path: str | Path, anatomy: Anatomy, grid: Grid) -> Template:
    """An atlas (.safetensors) or a template's label map; InputError for an atlas of another anatomy or
    grid.
    """
    name = Path(path).name.split(".")[0]
    if Path(path).suffix != ".safetensors":
        return make_template(name, to_grid(read_label_map(path, anatomy), grid).labels, anatomy, grid)
    model, _ = atlas_model.load(path, anatomy, grid)
    return make_template(name, model.template, anatomy, grid, model)


def deformed_tasks(n: int, inputs: str) -> list[Task]:
    """Tasks of the bundled source: `n` deformed templates named deformed-<index>."""
    names = [f"deformed-{i:05d}" for i in range(n)]
    return [Task(s, f"{s}.nii.gz", artifacts.digest([inputs, s]), (i,)) for i, s in enumerate(names)]


def folder_tasks(label_maps: dict[str, Path], inputs: str) -> list[Task]:
    """Tasks of a folder of label maps in the convention, by subject (`label_map_folder.find_label_maps`)."""
    return [
        Task(name, f"{name}.nii.gz", artifacts.digest([inputs, artifacts.sha256(path)]), (str(path),))
        for name, path in label_maps.items()
    ]


def work_deformed(s: Source, path: Path, payload: tuple[int]) -> dict:
    """Deform a template until the gate accepts it; every refusal is in the record."""
    (index,) = payload
    refused = []
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.default_rng(np.random.SeedSequence([s.seed, index, attempt]))
        template = s.templates[rng.choice(len(s.templates), p=s.shares)]
        growth, covariates = _of_a_patient(s, rng) if s.published else (_varied(s, rng), {})
        settings = OF_ONE_HEART if template.model is None else DeformationSettings()
        try:
            labels = deform(template, growth, s.anatomy, rng, settings)
            record = _accept(s, path, labels)
        except SubjectError as error:
            refused.append(f"{template.name}: {error.reason}")
            continue
        return record | covariates | {"origin": template.name, "refused": refused}
    raise SubjectError("no deformation passed the topology gate", "; ".join(refused))


def _of_a_patient(s: Source, rng: np.random.Generator) -> tuple[Growth, dict]:
    """Volumes and covariates of a virtual patient."""
    vessels = tuple(n for n in s.anatomy.structures if n not in virtual_patients.CHAMBERS)
    patient = virtual_patients.draw(rng, s.published, vessels)
    growth = Growth(
        {s.anatomy.label(name): volume for name, volume in patient.volumes_ml.items()},
        # an aorta is drawn for every patient
        {s.anatomy.label(name): f for name, f in patient.vessel_factors.items() if name in vessels},
        patient.septal_growth,
    )
    return growth, {name: getattr(patient, name) for name in STANDARD}


def _varied(s: Source, rng: np.random.Generator) -> Growth:
    """Log-normal volumes about those of the deformed template."""
    variation = s.variation or Variation()
    together = variation.together * rng.standard_normal()
    each = variation.each * rng.standard_normal(len(s.anatomy.structures))
    factors = np.exp(together + each)
    return Growth({}, {k: float(factor) for k, factor in enumerate(factors, start=1)})


def work_folder(s: Source, path: Path, payload: tuple[str]) -> dict:
    """Bring a user's label map onto the grid, the heart's centre at the origin, if the gate accepts it.

    Coarser voxels are refined, finer ones averaged; the record says so. SubjectError for a map that
    cannot be used.
    """
    (source,) = payload
    labels, changes = read_on_grid(source, s.anatomy, s.grid, s.rules, s.convention)
    record = _accept(s, path, labels)
    repairs = [*changes, *record["repairs"]]
    return record | {"origin": Path(source).name, "refused": [], "repairs": repairs}


def _accept(s: Source, path: Path, labels: np.ndarray) -> dict:
    labels, repairs, verdict = topology.judge(labels, s.grid.spacing_mm, s.anatomy, s.rules)
    if not verdict.accepted:
        raise SubjectError("; ".join(verdict.reasons))
    write_label_map(path, labels, s.grid)
    measured = moments.measure_labels(
        labels, [(k,) for k in range(1, s.anatomy.n_channels)], s.grid.axes_mm()
    )
    columns = {name: values.tolist() for name, values in moments.to_columns(measured).items()}
    return {"verdict": Outcome.ACCEPTED, "reason": "", "repairs": list(repairs), "moments": columns}


def with_covariates(
    reference: pd.DataFrame, path: str | Path, known: Mapping[str, Covariate]
) -> pd.DataFrame:
    """`reference` with the covariates `known` that a table has by subject.

    InputError naming file, row and column for a subject without a row or a value (`people.of_subjects`).
    """
    covariates = people.of_subjects(path, set(reference["subject"]), known)
    if unused := people.unknown_columns(path, known):
        log.warning("%s", unused)
    return reference.merge(covariates, on="subject", how="left")


def tables(records: list[dict], anatomy: Anatomy, held_out_share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reference table (one row per subject and structure) and the list of hearts with their split.

    Every k-th heart, k = 1 / held_out_share, is held out from training for figures: by its place in the
    list, so that a stricter gate moves no other heart to the other side. Refused hearts have no split.
    """
    accepted = [r for r in records if r["verdict"] == Outcome.ACCEPTED]
    rows = []
    for record in accepted:
        covariates = {name: record[name] for name in STANDARD if name in record}
        for i, structure in enumerate(anatomy.structures):
            values = {name: column[i] for name, column in record["moments"].items()}
            rows.append({"subject": record["subject"], "structure": structure, **values, **covariates})
    every = round(1 / held_out_share)
    hearts = pd.DataFrame(
        {
            "subject": r["subject"],
            "verdict": Outcome.ACCEPTED if r["verdict"] == Outcome.ACCEPTED else Outcome.REJECTED,
            "reason": ending_of(r).text,
            "origin": r.get("origin", ""),
            "refused": "; ".join(r.get("refused", [])),
            "repairs": "; ".join(r.get("repairs", [])),
            **artifacts.listed_in(r),
        }
        for r in records
    )
    split = np.where((hearts.index + 1) % every == 0, "held_out", "train")
    hearts["split"] = np.where(hearts["verdict"] == Outcome.ACCEPTED, split, "")
    return pd.DataFrame(rows), hearts
