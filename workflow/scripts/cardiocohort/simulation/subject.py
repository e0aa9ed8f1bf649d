"""One heart's simulation, from its mesh to its files and row of the table. Owned by the simulation stage."""

import time
from pathlib import Path

import ngsolve as ng
import numpy as np

from ..cohort import stage_tables
from ..mechanics.settings import Mechanics
from ..mesh.model import BiventricularModel
from ..mesh.storage import read_model
from ..runtime.artifacts import NO_FILE, check_file, listed_in
from ..runtime.batch_runner import Task
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome
from ..runtime.peak_memory import peak_mb
from . import materials, measures, mesh, output
from .continuation import Run, Step, inflate
from .problem import Problem, Spring, problem
from .settings import SimulationSettings

UNFINISHED = "simulation did not converge"
VENTRICLES = ("lv", "rv")
FIGURES = (
    "load_share", "lv_pressure_kpa", "rv_pressure_kpa", "lv_unloaded_ml", "lv_loaded_ml", "rv_unloaded_ml",
    "rv_loaded_ml", "max_displacement_mm", "min_j", "max_j", "steps", "halvings", "factorisations", "n_tets",
    "n_unknowns", "seconds", "peak_mb",
)  # fmt: skip


def task(
    row: dict, folder: Path, mechanics: Mechanics, settings: SimulationSettings, threads: int, inputs: str
) -> Task:
    """Task for `subjects.run_batch`; `row` of the mesh table lists the mesh's files in `folder`."""
    listed = stage_tables.mesh_files(row, folder)
    field = f"{row['subject']}/{output.FIELD}"
    return Task(row["subject"], field, inputs, (*listed, mechanics, settings, threads), (row["subject"],))


def simulate_subject(path: Path, payload: tuple) -> dict:
    """Write displacement.vtu at `path` and the tables beside it; the record holds the figures.

    A run that does not reach the full load is `failed` and keeps its last good state in the same files.
    """
    start = time.perf_counter()
    volume, surface, mechanics, settings, threads = payload
    model = read_model(check_file(*volume), check_file(*surface))
    ng.SetNumThreads(threads)
    stated, order, axes = state_heart(model, mechanics, settings, threads)
    curve: list[dict] = []
    run = inflate(stated, settings, lambda step: curve.append(_point(stated, model, step)))
    moved = measures.ten_node_displacements(stated, model, order)
    cells = {name: _by_tet(values, order) for name, values in measures.strains(stated, axes).items()}
    folder = path.parent
    output.write_rows(folder / output.CURVE, curve)
    output.write_rows(folder / output.REGIONAL, output.regional_displacements(model, moved))
    output.write_field(path, model, moved, cells)
    return _outcome(run) | {
        **_volumes(curve),
        "load_share": run.share,
        "max_displacement_mm": float(np.linalg.norm(moved, axis=1).max()),
        "min_j": float(cells["J"].min()),
        "max_j": float(cells["J"].max()),
        **{name: getattr(run, name) for name in ("steps", "halvings", "factorisations")},
        "n_tets": len(model.tets),
        "n_unknowns": int(stated.free.sum()),
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": round(peak_mb()),
        "files": [f"{folder.name}/{name}" for name in (output.CURVE, output.REGIONAL)],
    }


def state_heart(
    model: BiventricularModel, mechanics: Mechanics, settings: SimulationSettings, threads: int = 1
) -> tuple[Problem, np.ndarray, np.ndarray | None]:
    """The inflation that the decks describe, which tet each element is, and the axes of the fibres if any.

    SubjectError where the material needs fibres that the model lacks.
    """
    if model.microstructure is None and mechanics.material != "neo_hooke":
        raise SubjectError("no fibres", f"material {mechanics.material} needs fibres, the mesh has none")
    solver_mesh, order = mesh.solver_mesh(model)
    axes = None if model.microstructure is None else mesh.directions(model, order)
    springs = []
    if mechanics.base == "robin":
        springs.append(Spring("base", mechanics.base_stiffness_kpa_per_mm))
    if settings.pericardium_kpa_per_mm > 0:
        springs.append(Spring("epi", settings.pericardium_kpa_per_mm, normal=True))
    stated = problem(
        solver_mesh,
        materials.law(mechanics),
        mechanics.bulk_modulus_kpa,
        {"lv_endo": mechanics.lv_pressure_kpa, "rv_endo": mechanics.rv_pressure_kpa},
        {"base": "xyz"} if mechanics.base == "fixed" else {},
        springs,
        axes,
        materials.approach(mechanics),
        threads,
    )
    return stated, order, axes


def table_row(record: dict) -> dict:
    """The table's row of a record, finished or not."""
    beside = record.get("files") or [NO_FILE, NO_FILE]
    listed = {
        f"{part}_{name}": value
        for part, file in zip(("curve", "regional"), beside, strict=True)
        for name, value in file.items()
    }
    head = {name: record.get(name, "") for name in ("subject", "verdict", "reason", "detail")}
    # a run that ended unfinished is a failure with files
    figures = {name: record.get(name, np.nan) for name in FIGURES}
    return head | figures | listed_in(record) | listed


def _outcome(run: Run) -> dict:
    if run.complete:
        return {"verdict": Outcome.ACCEPTED, "reason": "", "detail": ""}
    return {"verdict": Outcome.FAILED, "reason": UNFINISHED, "detail": run.reason}


def _point(stated: Problem, model: BiventricularModel, step: Step) -> dict:
    """A row of the pressure-volume table."""
    row = {"load_share": step.share}
    for ventricle in VENTRICLES:
        row[f"{ventricle}_pressure_kpa"] = step.share * stated.pressures_kpa[f"{ventricle}_endo"]
        row[f"{ventricle}_volume_ml"] = measures.cavity_volume_ml(stated, model, ventricle)
    return row | {"iterations": step.iterations}


def _volumes(curve: list[dict]) -> dict:
    pressures = {f"{v}_pressure_kpa": curve[-1][f"{v}_pressure_kpa"] for v in VENTRICLES}
    ends = (("unloaded", curve[0]), ("loaded", curve[-1]))
    return pressures | {f"{v}_{name}_ml": row[f"{v}_volume_ml"] for v in VENTRICLES for name, row in ends}


def _by_tet(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values of the elements in the order of the model's tets."""
    by_tet = np.empty_like(values)
    by_tet[order] = values
    return by_tet
