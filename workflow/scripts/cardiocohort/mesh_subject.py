"""One subject's mesh, fibres and coordinates, and the rows of the mesh table. Owned by meshing."""

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from .anatomy.aha_segments import WALL_COLUMNS
from .anatomy.label_map import LabelMap, read_label_map
from .anatomy.labels import Anatomy
from .mesh import frames, storage
from .mesh.label_model import LabelModel
from .meshing.build import build
from .meshing.chambers import WALL_FIGURES
from .meshing.four_chamber import build_four_chamber, without_blood
from .meshing.label_regions import build_labels, counts
from .meshing.settings import MeshSettings
from .microstructure.coordinates import add_coordinates
from .microstructure.fibres import FibreAngles, add_fibres
from .microstructure.label_fibres import add_label_fibres, has_fibres
from .microstructure.thickness import segment_thickness
from .runtime.artifacts import NO_FILE, check_file, listed_file, listed_in
from .runtime.batch_runner import Task
from .runtime.errors import SubjectError
from .runtime.outcomes import Outcome

FIGURES = (
    "n_nodes", "n_tets", "min_scaled_jacobian", "p1_scaled_jacobian", "wall_volume_ml", "rv_wall_mm",
    "rv_wall_basal_mm", "rv_wall_mid_mm", "rv_wall_apical_mm", "lv_cavity_ml", "rv_cavity_ml",
    "lv_volume_kept", "rv_volume_kept", "surface_distance_mean_mm", "surface_distance_p95_mm", "base",
    "openings", "rim_distance_mm", "lv_base_lowered_mm", "rv_base_lowered_mm", "pits_filled_ml",
    "smoothing_mm", "changes",
    *WALL_COLUMNS.values(),
    "seconds", "seconds_domain", "seconds_surface", "seconds_tetrahedra", "seconds_gates",
    "seconds_fibres", "seconds_coordinates",
)  # fmt: skip
# of meshes of all labels, whose table has these columns as its last
LABEL_FIGURES = ("regions", "interfaces", "region_volume_error")
FURTHER_FIGURES = {
    "biventricular": (),
    "labels": LABEL_FIGURES,
    "four_chamber": (*LABEL_FIGURES, *WALL_FIGURES),
}


def task(
    row: dict,
    folder: Path,
    anatomy: Anatomy,
    settings: MeshSettings,
    angles: FibreAngles,
    inputs: str,
    origin_mm: tuple[float, ...] = (np.nan,) * 3,
) -> Task:
    """Task for `batch_runner.run_batch`; `row` (subject, file, size, sha256) lists the label map in `folder`.

    origin_mm: where the origin of the heart frame lies in the scanner's coordinates, NaN if not known.
    """
    subject = row["subject"]
    payload = (listed_file(row, folder), anatomy, settings, angles, origin_mm)
    return Task(subject, f"{subject}.vtu", inputs, payload, (surface_name(subject),))


def surface_name(subject: str) -> str:
    return f"{subject}.surface.vtp"


def mesh_subject(path: Path, payload: tuple) -> dict:
    """Write the mesh at `path` and its surface beside it; the record holds the quality figures.

    Raises InputError if the label map is not the listed one, SubjectError if it has no valid mesh or is to be
    in a scanner's coordinates that are not known.
    """
    start = time.perf_counter()
    source, anatomy, settings, angles, origin_mm = payload
    labelmap = read_label_map(check_file(*source), anatomy)
    make = _biventricular if settings.domain == "biventricular" else mesh_labels
    model, figures = make(labelmap, anatomy, settings, angles)
    model = replace(model, world_from_heart=frames.from_origin(origin_mm))
    model = frames.in_frame(model, settings.frame)
    surface = path.with_name(surface_name(path.stem))
    storage.write_surface(surface, model)
    storage.write_volume(path, storage.shortened(model))
    seconds = round(time.perf_counter() - start, 1)
    return {"verdict": Outcome.ACCEPTED, "reason": "", **figures, "seconds": seconds, "files": [surface.name]}


def _biventricular(labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings, angles: FibreAngles):
    """Mesh of both ventricles with fibres and coordinates, and its figures."""
    model, figures = build(labelmap, anatomy, settings)
    moments = [time.perf_counter()]
    model = add_fibres(model, angles)
    moments.append(time.perf_counter())
    model = add_coordinates(model)
    walls = segment_thickness(model, WALL_COLUMNS)
    moments.append(time.perf_counter())
    figures |= {
        f"seconds_{part}": round(end - begun, 1)
        for part, (begun, end) in zip(("fibres", "coordinates"), pairwise(moments), strict=True)
    }
    figures |= {WALL_COLUMNS[number]: round(mm, 3) for number, mm in walls.items()}
    return model, figures


def mesh_labels(
    labelmap: LabelMap, anatomy: Anatomy, settings: MeshSettings, angles: FibreAngles
) -> tuple[LabelModel, dict]:
    """Mesh of all labels, with fibres where the heart has what the rule needs, and its figures.

    In the domain `four_chamber` with the walls that the labels lack. `changes` of the figures says why there
    are no fibres in an anatomy that has a myocardium.
    """
    build_model = build_four_chamber if settings.domain == "four_chamber" else build_labels
    model, figures = build_model(labelmap, anatomy, settings)
    start = time.perf_counter()
    if has_fibres(anatomy):
        try:
            model = add_label_fibres(model, angles)
        except SubjectError as error:
            figures["changes"] = "; ".join(filter(None, (figures["changes"], f"{error.reason}: {error}")))
    if settings.domain == "four_chamber" and settings.blood == "left_out":
        model = without_blood(model)
        figures |= counts(model)
    return model, figures | {"seconds_fibres": round(time.perf_counter() - start, 1)}


def table_row(record: dict, domain: str = "biventricular") -> dict:
    """The mesh table's row of a record, finished or failed, of a domain."""
    surface = (record.get("files") or [NO_FILE])[0]
    verdict = {Outcome.FAILED: Outcome.REJECTED}.get(record["verdict"], record["verdict"])
    return {
        "subject": record["subject"],
        "verdict": verdict,
        "reason": record["reason"],
        "detail": record.get("detail", ""),
        **{name: record.get(name, np.nan) for name in FIGURES},
        **listed_in(record),
        **{f"surface_{name}": value for name, value in surface.items()},
        **{name: record.get(name, np.nan) for name in FURTHER_FIGURES[domain]},
    }
