"""Every column of `subjects.tsv`, defined once: name, unit, definition, stage. Owned by no stage; light.

The file's data dictionary and the reference in docs/results.md are made from TEMPLATES. A template with a
placeholder stands for one column per structure, chamber, pair, relation or segment.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from ..anatomy.aha_segments import SEGMENTS, WALL_COLUMNS
from ..anatomy.domains import AT, is_slab
from ..runtime.errors import InputError
from .covariates import Covariate
from .table import Arm

MUSCLE_G_PER_ML = 1.05
CHAMBERS = ("left_ventricle", "right_ventricle", "left_atrium", "right_atrium")
RATIOS = (
    ("right_ventricle", "left_ventricle"),
    ("left_atrium", "left_ventricle"),
    ("right_atrium", "right_ventricle"),
    ("myocardium", "left_ventricle"),
)
NO_UNIT = "1"  # of a number that is a ratio, a share or a count
DTYPES = {"text": "str", "integer": "Int64", "number": "float64"}
SIMULATION = "simulation_"  # prefix of a column of the simulation table
# what a config must have for a column to hold values (`trial.endpoints` names the keys)
BEAT, UNLOADED, BIVENTRICULAR = "a beat", "the unloading", "a mesh of both ventricles"
VENTRICLES = {"lv": "left", "rv": "right"}
RELATIONS = ("volume_ratio", "distance", "direction")
RELATION_TARGETS = tuple(f"target_{attribute}_" for attribute in RELATIONS)  # beginnings of columns
# columns that are another column per body surface area
INDEXED = {f"{side}_cavity_ml": f"{side}_cavity_index_ml_m2" for side in VENTRICLES} | {
    f"{SIMULATION}{side}_{name}_ml": f"{SIMULATION}{side}_{name}_index_ml_m2"
    for side in VENTRICLES
    for name in ("edv", "esv", "stroke")
}


@dataclass(frozen=True)
class Column:
    """A column, or a template of columns (`over` names what it is repeated for).

    kind: of DTYPES. stage: where the value comes from. role: `identity`, `covariate`, `target`, `geometry`,
    `quality`, `function` (simulated), `setting` (the config sets it, so it is the same for all) or `run`.
    needs: BEAT, UNLOADED or BIVENTRICULAR, without which the column is empty for everyone.
    """

    name: str
    unit: str
    definition: str
    stage: str
    role: str
    kind: str = "number"
    over: str = ""
    needs: str = ""


def _text(name: str, definition: str, stage: str, role: str = "identity") -> Column:
    return Column(name, "", definition, stage, role, "text")


def _meshed(name: str, unit: str, definition: str) -> Column:
    return Column(name, unit, definition, "meshing", "geometry", needs=BIVENTRICULAR)


def _simulated(
    name: str, unit: str, definition: str, role: str = "function", kind: str = "number", needs: str = ""
) -> Column:
    return Column(SIMULATION + name, unit, definition, "simulation", role, kind, needs=needs)


def _of_a_beat(name: str, unit: str, definition: str, role: str = "function", kind: str = "number") -> Column:
    return _simulated(name, unit, definition, role, kind, BEAT)


TEMPLATES = (
    _text("subject", "name of the subject", "plan"),
    _text("arm", "arm of the subject", "plan"),
    _text("batch", "batch of the subject", "plan"),
    _text("base", "the subject, or the label map file, whose sibling this is; empty for none", "plan"),
    _text("matched",
        "the subject whose covariates this one has, except for those that the arm gives otherwise; empty for "
        "none", "plan"),
    _text("cluster",
        "hearts with the same entry are not independent: siblings of one heart or label map file, matched "
        "subjects, hearts with the same explicit targets. It names the first of them or the file", "plan"),
    Column("seed", NO_UNIT,
        "seed of the arm; empty for the user's own label maps", "plan", "identity", "integer"),
    Column("attempts", NO_UNIT, "anatomies sampled for the subject", "generation", "run", "integer"),
    _text("status", "accepted, rejected, base_rejected or failed", "report"),
    _text("stage", "stage where the subject ended; inputs for accepted ones", "report"),
    _text("reason", "why the subject was not accepted; empty for accepted ones", "report"),
    _text("causes", "the reason by name, without figures", "report"),
    _text("arm_settings", "settings of the arm that override the cohort's, JSON; empty for none", "plan"),
    Column("{covariate}", "",
        "covariate of the subject: {description}", "population", "covariate", over="covariate"),
    Column("heart_plausibility", NO_UNIT,
        "share of the reference population that is farther from its mean than all targets together",
        "population", "target"),
    Column("{structure}_target_volume_ml", "mL",
        "target volume of {structure}", "population", "target", over="structure"),
    Column("{structure}_volume_ml", "mL",
        "volume of {structure} in the label map", "generation", "geometry", over="structure"),
    Column("{structure}_volume_index_ml_m2", "mL/m2",
        "volume of {structure} per body surface area; empty where that is not known",
        "generation", "geometry", over="structure"),
    Column("{structure}_volume_error_percent", "%",
        "achieved over target volume of {structure}, minus 1", "generation", "quality", over="structure"),
    Column("{structure}_centroid_error_mm", "mm",
        "distance from the target centroid of {structure} to the achieved one",
        "generation", "quality", over="structure"),
    Column("{structure}_shape_error", NO_UNIT,
        "Frobenius norm of the achieved minus the target shape of {structure}, the covariance over its trace",
        "generation", "quality", over="structure"),
    Column("{part}_target_volume_ml", "mL",
        "target volume of {part}, a part `structure@domain`", "population", "target", over="part"),
    Column("{part}_volume_ml", "mL",
        "volume of {part} in the label map", "generation", "geometry", over="part"),
    Column("{part}_volume_error_percent", "%",
        "achieved over target volume of {part}, minus 1", "generation", "quality", over="part"),
    Column("{part}_centroid_error_mm", "mm",
        "distance from the target centroid of {part} to the achieved one",
        "generation", "quality", over="part"),
    Column("{part}_shape_error", NO_UNIT,
        "Frobenius norm of the achieved minus the target shape of {part}, the covariance over its trace",
        "generation", "quality", over="part"),
    Column("{part}_target_area_mm2", "mm2",
        "target area of {part}, a slab", "population", "target", over="slab"),
    Column("{part}_area_mm2", "mm2",
        "area of {part}: volume over the thickness of its slab", "generation", "geometry", over="slab"),
    Column("{part}_target_thickness_mm", "mm",
        "target thickness of {part}", "population", "target", over="wall"),
    Column("{part}_thickness_mm", "mm",
        "mean thickness of the wall {part}: twice its volume over the area of its two sides in the domain",
        "generation", "geometry", over="wall"),
    Column("myocardium_mass_g", "g",
        "mass of the left ventricular muscle: label map volume times 1.05 g/mL",
        "generation", "geometry", over="myocardium"),
    Column("myocardium_mass_index_g_m2", "g/m2",
        "myocardium_mass_g per body surface area", "generation", "geometry", over="myocardium"),
    Column("{structure}_sphericity", NO_UNIT,
        "short over long axis of {structure}: geometric mean of the two shorter semi-axes over the "
        "longest one, of the ellipsoid with the same covariance; 1 for a sphere",
        "generation", "geometry", over="chamber"),
    Column("left_ventricle_conicity", NO_UNIT,
        "width of the LV cavity's apical third over its middle third: square root of the ratio of their "
        "volumes along the principal long axis; 0.73 for an ellipsoid, 0.38 for a cone, 1 for a cylinder "
        "(apical over short axis, after Di Donato et al., Eur J Cardiothorac Surg 2006)",
        "generation", "geometry", over="left ventricle"),
    Column("target_distance_{a}_to_{b}_mm", "mm",
        "distance between the target centroids of {a} and {b}", "population", "target", over="pair"),
    Column("distance_{a}_to_{b}_mm", "mm",
        "distance between the centroids of {a} and {b}", "generation", "geometry", over="pair"),
    Column("target_volume_ratio_{a}_to_{b}", NO_UNIT,
        "target volume of {a} over target volume of {b}", "population", "target", over="ratio"),
    Column("volume_ratio_{a}_to_{b}", NO_UNIT,
        "volume of {a} over volume of {b}", "generation", "geometry", over="ratio"),
    Column("target_direction_{a}_to_{b}_{axis}", NO_UNIT,
        "{axis} of the unit vector from the target centroid of {b} to the target centroid of {a}, RAS+ "
        "(constrained relations)", "population", "target", over="direction"),
    Column("direction_{a}_to_{b}_{axis}", NO_UNIT,
        "{axis} of the unit vector from the centroid of {b} to the centroid of {a}, RAS+ (constrained "
        "relations)", "generation", "geometry", over="direction"),
    _meshed("mesh_wall_volume_ml", "mL", "volume of the mesh: muscle of both ventricles"),
    _meshed("mesh_wall_mass_g", "g", "mass of the mesh: mesh_wall_volume_ml times 1.05 g/mL"),
    _meshed("lv_wall_ml", "mL",
        "muscle of the LV's free wall in the mesh (region 1): tetrahedra that lie farther from the RV's "
        "endocardium than from the LV's and from the epicardium"),
    _meshed("rv_wall_ml", "mL",
        "muscle of the RV's free wall in the mesh (region 2): tetrahedra that lie farther from the LV's "
        "endocardium than from the RV's and from the epicardium"),
    _meshed("septum_wall_ml", "mL",
        "muscle of the septum in the mesh (region 3): tetrahedra that lie farther from the epicardium than "
        "from both endocardia. The three walls add up to mesh_wall_volume_ml"),
    _meshed("lv_wall_mass_g", "g", "mass of the LV's free wall: lv_wall_ml times 1.05 g/mL"),
    _meshed("rv_wall_mass_g", "g", "mass of the RV's free wall: rv_wall_ml times 1.05 g/mL"),
    _meshed("septum_wall_mass_g", "g", "mass of the septum: septum_wall_ml times 1.05 g/mL"),
    _meshed("lv_mass_index_g_m2", "g/m2",
        "mass of the LV in the mesh, free wall and septum, per body surface area"),
    _meshed("rv_mass_index_g_m2", "g/m2",
        "mass of the RV's free wall in the mesh per body surface area; the septum counts as LV. "
        "`meshing.rv_wall_mm` sets the thickness"),
    *(column for side, name in VENTRICLES.items() for column in (
        _meshed(f"{side}_cavity_ml", "mL", f"cavity volume of the {name} ventricle in the mesh"),
        _meshed(f"{side}_cavity_index_ml_m2", "mL/m2", f"{side}_cavity_ml per body surface area"),
    )),
    _meshed("rv_wall_mm", "mm", "median thickness of the right ventricular free wall"),
    Column("wall_mm_aha_{number}", "mm",
        "mean wall thickness of segment {number}, {segment}", "meshing", "geometry", over="segment",
        needs=BIVENTRICULAR),
    _meshed("septal_curvature_per_cm", "1/cm",
        "curvature of the septum's LV surface between 1/3 and 2/3 of the long axis, in the short-axis "
        "plane: 1 / radius of the best circle; positive where the septum is convex towards the right "
        "ventricle, 0 where it is flat"),
    _meshed("septal_curvature_ratio", NO_UNIT,
        "septal_curvature_per_cm over the same curvature of the LV's free wall; 1 for a round LV, below 0"
        " for a septum that bows into it"),
    Column("n_nodes", NO_UNIT, "nodes of the mesh", "meshing", "quality", "integer"),
    Column("n_tets", NO_UNIT, "tetrahedra of the mesh", "meshing", "quality", "integer"),
    Column("min_scaled_jacobian", NO_UNIT, "least scaled Jacobian of the mesh", "meshing", "quality"),
    Column("p1_scaled_jacobian", NO_UNIT, "1st percentile of the scaled Jacobians", "meshing", "quality"),
    _text("simulation_verdict",
        "how `simulate` ended: accepted, failed or skipped; empty where it has not run", "simulation", "run"),
    _text("simulation_reason", "why the simulation did not reach the full load", "simulation", "run"),
    _text("simulation_detail", "what the solver reported", "simulation", "run"),
    _simulated("load_share", NO_UNIT,
        "share of the full load that was reached, for failed runs too", "setting"),
    _simulated("lv_pressure_kpa", "kPa", "pressure of the left ventricle at the full load", "setting"),
    _simulated("rv_pressure_kpa", "kPa", "pressure of the right ventricle at the full load", "setting"),
    _simulated("lv_unloaded_ml", "mL", "cavity volume of the left ventricle without load"),
    _simulated("lv_loaded_ml", "mL", "cavity volume of the left ventricle at the full load"),
    _simulated("rv_unloaded_ml", "mL", "cavity volume of the right ventricle without load"),
    _simulated("rv_loaded_ml", "mL", "cavity volume of the right ventricle at the full load"),
    *(_simulated(f"{side}_fibre_strain", NO_UNIT,
        f"mean Green-Lagrange strain along the fibres of the {name} at the full load, from the unloaded "
        "state, weighted by volume")
      for side, name in (("lv", "LV, segments 1 to 17"), ("rv", "RV's free wall, segments 18 to 26"))),
    _simulated("image_residual_mm", "mm",
        "largest distance of a node of the unloaded heart, inflated again, from the image", "run",
        needs=UNLOADED),
    _simulated("unloading_iterations", NO_UNIT,
        "Newton iterations of the unloading", "run", "integer", UNLOADED),
    _of_a_beat("beats", NO_UNIT, "beats that were simulated", "run", "integer"),
    _of_a_beat("periodic", NO_UNIT,
        "1 where the last beat repeats the one before within simulation.cycle.tolerance, else 0",
        "run", "integer"),
    _of_a_beat("beat_iterations", NO_UNIT, "Newton iterations of all beats", "run", "integer"),
    *(column for side, name in VENTRICLES.items() for column in (
        _of_a_beat(f"{side}_edv_ml", "mL", f"largest volume of the {name} ventricle in the last beat"),
        _of_a_beat(f"{side}_esv_ml", "mL", f"least volume of the {name} ventricle in the last beat"),
        _of_a_beat(f"{side}_stroke_ml", "mL", f"stroke volume of the {name} ventricle: edv - esv"),
        *(_of_a_beat(f"{side}_{volume}_index_ml_m2", "mL/m2",
            f"{SIMULATION}{side}_{volume}_ml per body surface area") for volume in ("edv", "esv", "stroke")),
        _of_a_beat(f"{side}_ef", NO_UNIT,
            f"ejection fraction of the {name} ventricle: stroke volume over edv, 0 to 1"),
        _of_a_beat(f"{side}_peak_kpa", "kPa", f"largest pressure of the {name} ventricle in the last beat"),
        _of_a_beat(f"{side}_dpdt_max_kpa_s", "kPa/s", f"fastest rise of the {name} ventricle's pressure"),
        _of_a_beat(f"{side}_dpdt_min_kpa_s", "kPa/s",
            f"fastest fall of the {name} ventricle's pressure, negative"),
    )),
    _of_a_beat("cardiac_output_l_min", "L/min", "stroke volume of the left ventricle times the heart rate"),
    _of_a_beat("arterial_mean_kpa", "kPa", "mean pressure of the systemic arteries over the last beat"),
    _of_a_beat("arterial_peak_kpa", "kPa", "largest pressure of the systemic arteries in the last beat"),
    _of_a_beat("body_size", NO_UNIT,
        "body-surface area over simulation.cycle.reference_bsa_m2, by which the circulation is scaled; 1 "
        "where either is not known"),
    _of_a_beat("systemic_resistance_kpa_s_ml", "kPa s/mL", "resistance of the systemic arteries"),
    *(_of_a_beat(f"lv_{name}_strain", NO_UNIT,
        f"mean {name} Green-Lagrange strain of the LV's wall, segments 1 to 17, at end-systole, from "
        "end-diastole, weighted by volume. End-systole is the frame of strains.tsv nearest to the end of "
        "the left ventricle's ejection in the last beat: the first moment with its least volume, within "
        "0.1 % of the stroke volume")
      for name in ("longitudinal", "circumferential", "radial")),
    _of_a_beat("lv_long_axis_shortening", NO_UNIT,
        "1 - length of the LV's long axis at end-systole over that at end-diastole. The axis runs from the "
        "middle of the endocardium's rim to its farthest point; end-systole is that of the strains"),
    *(_of_a_beat(f"{name}_inward_motion_mm", "mm",
        f"how much nearer the {wall} endocardium is to the LV's long axis at end-systole than at "
        f"end-diastole, mean of the points between 1/3 and 2/3 of the axis that face {side} RV; below 0 for "
        "motion away from the axis")
      for name, wall, side in (
          ("septal", "septum's left", "the"), ("lv_free_wall", "LV free wall's", "away from the"))),
    _of_a_beat("septal_thickening", NO_UNIT,
        "mean thickness of the septum at end-systole over that at end-diastole, minus 1; distance of the "
        "left endocardium from the right one, where the RV's cavity lies across the wall"),
    _of_a_beat("lv_free_wall_thickening", NO_UNIT,
        "mean thickness of the LV's free wall at end-systole over that at end-diastole, minus 1; distance of "
        "the endocardium from the epicardium"),
    _simulated("max_displacement_mm", "mm", "largest displacement of a node at the full load"),
    _simulated("min_j", NO_UNIT, "least volume change J of an element", "run"),
    _simulated("max_j", NO_UNIT, "largest volume change J of an element", "run"),
    _simulated("steps", NO_UNIT, "load steps", "run", "integer"),
    _simulated("halvings", NO_UNIT, "load steps that were halved", "run", "integer"),
    _simulated("factorisations", NO_UNIT, "factorisations of the stiffness matrix", "run", "integer"),
    _simulated("n_tets", NO_UNIT, "elements of the solver's mesh", "run", "integer"),
    _simulated("n_unknowns", NO_UNIT, "unknowns of the solver", "run", "integer"),
    _simulated("seconds", "s", "time of the simulation", "run"),
    _simulated("peak_mb", "MB", "peak memory of the simulation", "run"),
)  # fmt: skip


def part_name(name: str) -> str:
    """A structure, union `a+b` or part `a@domain` as part of a column name."""
    return name.replace("+", "_and_").replace(AT, "_at_")


def relations(arms: Iterable[Mapping]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Relations that arms (`Arm.to_dict()`) constrain: pairs (a, b) by attribute."""
    found: dict[str, dict] = {attribute: {} for attribute in RELATIONS}
    for arm in arms:
        for name, attributes in arm["constraints"].items():
            a, slash, b = name.partition("/")
            for attribute in attributes if slash else ():
                found[attribute][a, b] = None
    return {attribute: tuple(pairs) for attribute, pairs in found.items()}


def parts(arms: Iterable[Mapping]) -> dict[str, set[str]]:
    """Parts `structure@domain` of the arms (`Arm.to_dict()`), and what else each is.

    A "slab" has an area, and a "wall", whose thickness an arm constrains or edits, a thickness.
    """
    found: dict[str, set[str]] = {}
    for arm in map(Arm.from_dict, arms):
        for name in arm.parts():
            kinds = found.setdefault(name, set())
            kinds |= {"slab"} if is_slab(name, arm.domains) else set()
            kinds |= {"wall"} if name in arm.walls() else set()
    return found


def pairs_of(structures: tuple[str, ...], constrained: Mapping[str, tuple]) -> dict[str, tuple]:
    """Pairs (a, b) by attribute: distances of all structures, the usual ratios, and what is constrained."""
    every = tuple(combinations(structures, 2))
    usual = tuple(pair for pair in RATIOS if set(pair) <= set(structures))
    further = tuple(p for p in constrained.get("distance", ()) if p not in every and p[::-1] not in every)
    return {
        "distance": every + further,
        "volume_ratio": tuple(dict.fromkeys(usual + tuple(constrained.get("volume_ratio", ())))),
        "direction": tuple(constrained.get("direction", ())),
    }


def columns(
    structures: tuple[str, ...],
    covariates: Mapping[str, Covariate],
    constrained: Mapping[str, tuple[tuple[str, str], ...]],
    local: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Column]:
    """The columns by name, in the order of the file.

    structures: of the anatomy. covariates: by column, as they are listed or as a table of targets has them.
    constrained: `relations` of the arms. local: their `parts`. Raises InputError where two columns have
    the same name.
    """
    pairs = pairs_of(structures, constrained)

    def both(attribute: str) -> list[dict[str, str]]:
        return [{"a": part_name(a), "b": part_name(b)} for a, b in pairs[attribute]]

    repeats = {
        "": [{}],
        "structure": [{"structure": name} for name in structures],
        "chamber": [{"structure": name} for name in CHAMBERS if name in structures],
        "part": [{"part": part_name(name)} for name in local or {}],
        **{
            kind: [{"part": part_name(name)} for name, kinds in (local or {}).items() if kind in kinds]
            for kind in ("slab", "wall")
        },
        "myocardium": [{}] * ("myocardium" in structures),
        "left ventricle": [{}] * ("left_ventricle" in structures),
        "pair": both("distance"),
        "ratio": both("volume_ratio"),
        "direction": [pair | {"axis": axis} for pair in both("direction") for axis in "xyz"],
        "segment": [
            {"number": WALL_COLUMNS[n].rpartition("_")[2], "segment": name} for n, name in SEGMENTS.items()
        ],
    }
    made = []
    for template in TEMPLATES:
        if template.over == "covariate":
            made += [_of_covariate(template, covariate) for covariate in covariates.values()]
        else:
            made += [_filled(template, values) for values in repeats[template.over]]
    found: dict[str, Column] = {}
    for column in made:
        if column.name in found:
            raise InputError(
                f"{column.name!r} is a column of subjects.tsv twice; a covariate or structure needs another "
                "name (config key 'covariates_table', or the bundle's anatomy)"
            )
        found[column.name] = column
    return found


def _filled(template: Column, values: Mapping[str, str]) -> Column:
    words = {key: value.replace("_", " ") for key, value in values.items()}
    name, definition = template.name.format(**values), template.definition.format(**words)
    return replace(template, name=name, definition=definition, over="")


def _of_covariate(template: Column, own: Covariate) -> Column:
    what = own.description or own.column
    definition = template.definition.format(description=what)
    unit, kind = (own.unit or NO_UNIT, "number") if own.numeric else ("", "text")
    return replace(template, name=own.column, unit=unit, definition=definition, kind=kind, over="")


def dictionary(known: Mapping[str, Column]) -> dict:
    """The data dictionary: one entry per column, with name, type, unit, definition, stage and role."""
    return {
        "title": "Columns of subjects.tsv and subjects.parquet, one row per requested subject",
        "columns": [
            {"name": c.name, "type": c.kind, "unit": c.unit or None, "definition": c.definition,
             "stage": c.stage, "role": c.role}
            for c in known.values()
        ],
    }  # fmt: skip


def from_dictionary(content: Mapping) -> dict[str, Column]:
    """Columns by name from a data dictionary; inverse of `dictionary`."""
    return {
        e["name"]: Column(e["name"], e["unit"] or "", e["definition"], e["stage"], e["role"], e["type"])
        for e in content["columns"]
    }


def check(path: object, frame: pd.DataFrame, known: Mapping[str, Column]) -> None:
    """InputError naming `path` where the frame's columns and `known` differ, or a number has no unit."""
    for name in frame.columns:
        if name not in known:
            raise InputError(
                f"{path}: column {name!r} has no definition; add it to TEMPLATES of cohort/subject_columns.py"
            )
    for name, column in known.items():
        if name not in frame.columns:
            raise InputError(f"{path}: column {name!r} is defined but missing")
        if column.kind != "text" and not column.unit:
            raise InputError(f"{path}: column {name!r} is a number without a unit")


def reference() -> list[str]:
    """The lines of the Markdown table that documents the columns."""
    lines = ["| column | unit | holds | stage |", "|---|---|---|---|"]
    for c in TEMPLATES:
        name = c.name.replace("{", "<").replace("}", ">")
        text = c.definition.replace("{", "*").replace("}", "*").replace("|", "/")  # <a> would be HTML
        unit = "its unit" if c.over == "covariate" else c.unit
        lines.append(f"| `{name}` | {unit} | {text} | {c.stage} |")
    return lines
