"""Names of chambers, valves and added walls in the domain `four_chamber`. Light: the report imports it."""

MYOCARDIUM, LV = "myocardium", "left_ventricle"
VALVES = {
    "mitral": (LV, "left_atrium"),
    "aortic": (LV, "aorta"),
    "tricuspid": ("right_ventricle", "right_atrium"),
    "pulmonary": ("right_ventricle", "pulmonary_artery"),
}
# what an anatomy must have
CHAMBERS = {MYOCARDIUM, *(name for pair in VALVES.values() for name in pair)}
OPENINGS = (
    ("right_atrium", "superior_vena_cava"),
    ("right_atrium", "inferior_vena_cava"),
    ("left_atrium", "pulmonary_vein"),
)
# structures whose walls are added around their blood, and the columns of a mesh table about walls and valves
ADDED = ("right_ventricle", "left_atrium", "right_atrium", "aorta", "pulmonary_artery")
WALL_FIGURES = (
    *(f"{name}_wall_mm" for name in ADDED), *(f"{name}_wall_ml" for name in ADDED),
    *(f"{valve}_valve_mm2" for valve in VALVES), "blood_carved_ml",
)  # fmt: skip
