"""One heart's simulation, from its mesh to its files and row of the table. Owned by the simulation stage."""

import math
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np

from ..anatomy.aha_segments import LEFT, RIGHT
from ..cohort import stage_tables
from ..mechanics.decks import NOT_UNLOADED
from ..mechanics.settings import Mechanics
from ..mesh.model import REGIONS, BiventricularModel
from ..mesh.storage import read_model, write_volume
from ..runtime.artifacts import NO_FILE, atomic_path, check_file, digest, digest_of_arrays, listed_in
from ..runtime.batch_runner import Task
from ..runtime.errors import SubjectError
from ..runtime.outcomes import Outcome
from ..runtime.peak_memory import peak_mb
from . import beat_output, materials, measures, mesh, output, wall_motion
from .beat import Heart
from .beats import beat_until_periodic, closed_outlets, figures, unheld_pressure
from .circulation import V_LV
from .continuation import Run, Step, inflate
from .factors import blas_on_one_thread
from .finite_elements import ng
from .problem import Problem, Spring, problem
from .settings import SimulationSettings
from .unloading import LEAST_VOLUME_RATIO, Unloading, pulled_back, stress_free, unload

UNFINISHED = "simulation did not converge"
NO_BEAT = "beat did not converge"
NOT_EJECTED = "a ventricle does not eject"
MOST_FROM_IMAGE_MM = 0.1  # of a node of the inflated stress-free geometry
CHECKPOINT = "beat.npz"  # of a beat that is under way
BEAT_FILES = (
    beat_output.LOOPS, beat_output.STRAINS, beat_output.WALL_MOTION, beat_output.MOTION, beat_output.FIGURE,
    beat_output.ANIMATION,
)  # fmt: skip
BESIDE = {  # of the table's columns
    "curve": output.CURVE, "regional": output.REGIONAL, "unloaded": output.UNLOADED,
    **dict(
        zip(("loops", "strains", "wall_motion", "motion", "picture", "animation"), BEAT_FILES, strict=True)
    ),
}  # fmt: skip
VENTRICLES = ("lv", "rv")
WALLS = {"lv": LEFT, "rv": RIGHT}  # segments of each ventricle
BEAT_FIGURES = (
    "edv_ml", "esv_ml", "stroke_ml", "ef", "peak_kpa", "dpdt_max_kpa_s", "dpdt_min_kpa_s",
)  # fmt: skip
FIGURES = (
    "load_share", "lv_pressure_kpa", "rv_pressure_kpa", "lv_unloaded_ml", "lv_loaded_ml", "rv_unloaded_ml",
    "rv_loaded_ml", "lv_fibre_strain", "rv_fibre_strain", "image_residual_mm", "unloading_iterations",
    "max_displacement_mm", "min_j", "max_j", "steps", "halvings", "factorisations", "n_tets", "n_unknowns",
    "seconds", "peak_mb", "beats", "periodic", "beat_iterations",
    *(f"{v}_{name}" for v in VENTRICLES for name in BEAT_FIGURES), "cardiac_output_l_min",
    "arterial_mean_kpa", "arterial_peak_kpa", "body_size", "systemic_resistance_kpa_s_ml",
    *(f"lv_{name}_strain" for name in beat_output.DIRECTIONS), *wall_motion.MOTION,
)  # fmt: skip


def task(
    row: dict,
    folder: Path,
    mechanics: Mechanics,
    settings: SimulationSettings,
    threads: int,
    inputs: str,
    bsa_m2: float = math.nan,
) -> Task:
    """Task for `subjects.run_batch`; `row` of the mesh table lists the mesh's files in `folder`.

    bsa_m2: the subject's body-surface area, NaN where it is not known.
    """
    listed = stage_tables.mesh_files(row, folder)
    field = f"{row['subject']}/{output.FIELD}"
    arm, _, _ = row["subject"].rpartition("-")
    settings = replace(settings, cycle=settings.cycle.of_arm(arm))
    payload = (*listed, mechanics, settings, threads, bsa_m2)
    return Task(row["subject"], field, inputs, payload, (row["subject"],))


def simulate_subject(path: Path, payload: tuple) -> dict:
    """Write displacement.vtu at `path` and the tables beside it; the record holds the figures.

    A run that does not reach the full load is `failed` and keeps its last good state in the same files.
    With an unloaded reference, unloaded.vtu is the stress-free mesh, whose inflation they describe.
    """
    start = time.perf_counter()
    volume, surface, mechanics, settings, threads, bsa_m2 = payload
    image = model = read_model(check_file(*volume), check_file(*surface))
    missing = [v for v in VENTRICLES if not len(image.nodes_of(f"{v}_endo"))]
    if settings.cycle.beats and missing:
        raise SubjectError(NO_BEAT, f"the mesh has no endocardium of the {missing[0]}; a beat needs both")
    ng.SetNumThreads(threads)
    folder, files, unloading = path.parent, [output.CURVE, output.REGIONAL], None
    if settings.reference == "unloaded":
        model, unloading = unloaded(image, mechanics, settings, threads)
        mechanics = _share(mechanics, unloading.share)
        write_volume(folder / output.UNLOADED, model)
        files.append(output.UNLOADED)
    stated, order, axes = state_heart(model, mechanics, settings, threads, image)
    curve: list[dict] = []
    run = inflate(stated, settings, lambda step: curve.append(_point(stated, model, step)))
    volumes = _volumes(curve)
    unloaded_by = {} if unloading is None else _unloading_figures(unloading, image, model, stated)
    moved = measures.ten_node_displacements(stated, model, order)
    cells = {name: by_tet(values, order) for name, values in measures.strains(stated, axes).items()}
    output.write_rows(folder / output.CURVE, curve)
    output.write_rows(folder / output.REGIONAL, output.regional_displacements(model, moved))
    output.write_field(path, model, moved, cells)
    outcome, beat = _outcome(run, unloading, unloaded_by), {}
    if settings.cycle.beats and outcome["verdict"] == Outcome.ACCEPTED:
        outcome, beat = beat_heart(folder, model, stated, order, mechanics, settings, bsa_m2)
        files += BEAT_FILES
    return (
        outcome
        | beat
        | {
            **volumes,
            **_fibre_strains(model, cells),
            **unloaded_by,
            "load_share": run.share if unloading is None else run.share * unloading.share,
            "max_displacement_mm": float(np.linalg.norm(moved, axis=1).max()),
            "min_j": float(cells["J"].min()),
            "max_j": float(cells["J"].max()),
            **{name: getattr(run, name) for name in ("steps", "halvings", "factorisations")},
            "n_tets": len(model.tets),
            "n_unknowns": int(stated.free.sum()),
            "seconds": round(time.perf_counter() - start, 1),
            "peak_mb": round(peak_mb()),
            "files": [f"{folder.name}/{name}" for name in files],
        }
    )


def beat_heart(
    folder: Path,
    model: BiventricularModel,
    stated: Problem,
    order: np.ndarray,
    mechanics: Mechanics,
    settings: SimulationSettings,
    bsa_m2: float = math.nan,
) -> tuple[dict, dict]:
    """Beat the heart from the end-diastolic state in stated.state, and write BEAT_FILES in `folder`.

    Returns the verdict, and the figures.
    """
    # Matplotlib takes a second and 120 MB, which an inflation alone does not need.
    from . import animation, beat_figure

    cycle = settings.cycle
    size = cycle.body_size(bsa_m2)
    share = np.where(model.region[order] == REGIONS["rv"], cycle.rv_tension, 1.0)
    with blas_on_one_thread():
        heart = Heart(stated, cycle, share, size)
        vector = stated.state.vec.FV().NumPy()
        pressures = np.array([getattr(mechanics, f"{v}_pressure_kpa") for v in VENTRICLES])
        key = digest([asdict(mechanics), asdict(settings), size, _digest_of(model)])
        beats = beat_until_periodic(heart, vector.copy(), pressures, folder / CHECKPOINT, key)
        times = np.array([moment.time for moment in beats.moments])
        shown = beat_output.frames(times)
        moved = []
        for place in shown:
            vector[:] = beats.moments[place].state
            moved.append(measures.ten_node_displacements(stated, model, order))
    volumes = np.array([moment.loop[V_LV] for moment in beats.moments])
    systole = beat_output.end_systole(times, volumes) - times[0]
    times = times[shown] - times[0]
    strains = beat_output.strains(model, moved, times)
    walls = wall_motion.rows(model, moved, times)
    output.write_rows(folder / beat_output.LOOPS, beats.rows)
    output.write_rows(folder / beat_output.STRAINS, strains)
    output.write_rows(folder / beat_output.WALL_MOTION, walls)
    beat_output.write_motion(folder / beat_output.MOTION, model, moved, times)
    with atomic_path(folder / beat_output.FIGURE) as temporary:
        beat_figure.figure(beats.rows).savefig(temporary, dpi=120)
    with atomic_path(folder / beat_output.ANIMATION) as temporary:
        animation.write(temporary, animation.pictures(model, moved, times, beats.rows), times)
    found = figures(beats, heart.circulation.period) | beat_output.end_systolic(strains, systole)
    found |= wall_motion.end_systolic(walls, systole)
    found |= {
        "body_size": size,
        "systemic_resistance_kpa_s_ml": heart.circulation.resistances[0],
    }
    lacking = unheld_pressure(heart, beats.moments)
    if cycle.reference_bsa_m2 and math.isnan(bsa_m2):
        unknown = (
            f"the subject's body-surface area is not known: its circulation is that of "
            f"{cycle.reference_bsa_m2:g} m2 (simulation.cycle.reference_bsa_m2)"
        )
        lacking = _joined(lacking, unknown)
    if not beats.reason and (closed := closed_outlets(beats.moments)):
        advice = "raise simulation.cycle.tension_kpa (or contractility of the arm)"
        if beats.beats == settings.cycle.beats:
            advice += " or beats, in which the circulation adapts"
        detail = _joined(f"in all of beat {beats.beats} {closed}; {advice}", lacking)
        return {"verdict": Outcome.FAILED, "reason": NOT_EJECTED, "detail": detail}, found
    if not beats.reason:
        detail = "" if beats.periodic else f"the beat does not repeat itself after {beats.beats} beats"
        return {"verdict": Outcome.ACCEPTED, "reason": "", "detail": _joined(detail, lacking)}, found
    detail = _joined(f"beat {beats.beats}, {beats.reason}; the files hold the states before", lacking)
    return {"verdict": Outcome.FAILED, "reason": NO_BEAT, "detail": detail}, found


def unloaded(
    image: BiventricularModel, mechanics: Mechanics, settings: SimulationSettings, threads: int = 1
) -> tuple[BiventricularModel, Unloading]:
    """The stress-free model whose inflation gives the image, and how it was found.

    It may be that of a share of the load only. SubjectError where not even a small share can be taken off, or
    where the walls around a cavity have crossed.
    """
    stated, _, _ = state_heart(image, mechanics, settings, threads)
    found = unload(stated, settings)
    if found.share == 0:
        raise SubjectError(NOT_UNLOADED, found.reason)
    model = stress_free(image, found.shift)
    for v in VENTRICLES:
        if not len(image.nodes_of(f"{v}_endo")):
            continue
        before, after = (body.cavity_volume_ml(v) for body in (image, model))
        if after < LEAST_VOLUME_RATIO * before:
            raise SubjectError(
                NOT_UNLOADED,
                f"the unloaded geometry folds: the {v.upper()}'s cavity of {before:.4g} mL would have "
                f"{after:.4g} mL",
            )
    return model, found


def state_heart(
    model: BiventricularModel,
    mechanics: Mechanics,
    settings: SimulationSettings,
    threads: int = 1,
    image: BiventricularModel | None = None,
) -> tuple[Problem, np.ndarray, np.ndarray | None]:
    """The inflation that the decks describe, which tet each element is, and its axes of the fibres if any.

    image: of which `model` is the stress-free geometry; its fibres follow the rule. None is `model` itself.
    SubjectError where the material needs fibres that the model lacks.
    """
    if model.microstructure is None and mechanics.material != "neo_hooke":
        raise SubjectError("no fibres", f"material {mechanics.material} needs fibres, the mesh has none")
    solver_mesh, order = mesh.solver_mesh(model)
    axes = None if model.microstructure is None else mesh.directions(model, order)
    within = axes
    if axes is not None and settings.fibres == "points":
        image = image or model
        within = pulled_back(mesh.point_directions(image, order), image, model, order)
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
        within,
        materials.approach(mechanics),
        threads,
        base="base" if settings.valve_plane == "loaded" else None,
        library=settings.solver,
    )
    return stated, order, axes


def table_row(record: dict) -> dict:
    """The table's row of a record, finished or not."""
    beside = {Path(file["file"]).name: file for file in record.get("files") or []}
    listed = {
        f"{part}_{column}": value
        for part, name in BESIDE.items()
        for column, value in beside.get(name, NO_FILE).items()
    }
    head = {name: record.get(name, "") for name in ("subject", "verdict", "reason", "detail")}
    # a run that ended unfinished is a failure with files
    figures = {name: record.get(name, np.nan) for name in FIGURES}
    return head | figures | listed_in(record) | listed


def _digest_of(model: BiventricularModel) -> str:
    """Of all arrays of the mesh, fibres included."""
    arrays = [model.points_mm, model.tets, model.region, model.facets, model.facet_tag]
    if model.microstructure is not None:
        arrays += [getattr(model.microstructure, field.name) for field in fields(model.microstructure)]
    return digest_of_arrays(arrays)


def _outcome(run: Run, unloading: Unloading | None, found: dict) -> dict:
    """Verdict, reason and detail; found: of `_unloading_figures`, if anything was unloaded."""
    if not run.complete:
        return {"verdict": Outcome.FAILED, "reason": UNFINISHED, "detail": run.reason}
    if unloading is not None and not unloading.complete:
        detail = (
            f"{unloading.reason}; the files hold the geometry that unloads {unloading.share:.3g} of the load"
        )
        return {"verdict": Outcome.FAILED, "reason": NOT_UNLOADED, "detail": detail}
    if not (away := found.get("image_residual_mm", 0.0)) <= MOST_FROM_IMAGE_MM:
        # a soft heart has several equilibria: the inflation takes another one than that of the image
        allowed = f"{MOST_FROM_IMAGE_MM} is allowed"
        detail = f"the inflated stress-free geometry is {away:.3g} mm from the image; {allowed}"
        return {"verdict": Outcome.FAILED, "reason": NOT_UNLOADED, "detail": detail}
    return {"verdict": Outcome.ACCEPTED, "reason": "", "detail": ""}


def _joined(*said: str) -> str:
    return "; ".join(filter(None, said))


def _share(mechanics: Mechanics, share: float) -> Mechanics:
    """With a share of the pressures."""
    pressures = {f"{v}_pressure_kpa": share * getattr(mechanics, f"{v}_pressure_kpa") for v in VENTRICLES}
    return replace(mechanics, **pressures)


def _unloading_figures(
    unloading: Unloading, image: BiventricularModel, model: BiventricularModel, stated: Problem
) -> dict:
    """Largest distance (mm) of a node of the inflated stress-free model from the image; iterations."""
    away = model.points_mm + measures.corner_displacements(stated) - image.points_mm
    largest = float(np.linalg.norm(away, axis=1).max())
    return {"image_residual_mm": largest, "unloading_iterations": unloading.iterations}


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


def _fibre_strains(model: BiventricularModel, cells: dict[str, np.ndarray]) -> dict:
    """Mean strain along the fibres of each ventricle's wall; none without fibres or segments."""
    if "E_ff" not in cells or model.coordinates is None:
        return {}
    return {f"{v}_fibre_strain": measures.mean_over(model, cells["E_ff"], wall) for v, wall in WALLS.items()}


def by_tet(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values of the elements in the order of the model's tets."""
    found = np.empty_like(values)
    found[order] = values
    return found
