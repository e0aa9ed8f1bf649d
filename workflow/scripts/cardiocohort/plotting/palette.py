"""One colour per structure, the same in every figure. Owned by no stage."""

BACKGROUND = "#ffffff"
COLOURS = {
    "myocardium": "#8c3b3b",
    "left_ventricle": "#e15759",
    "right_ventricle": "#4e79a7",
    "left_atrium": "#f28e2b",
    "right_atrium": "#76b7b2",
    "aorta": "#c4161c",
    "pulmonary_artery": "#1f5fa8",
    "superior_vena_cava": "#59a14f",
    "inferior_vena_cava": "#9c755f",
    "pulmonary_vein": "#ff9da7",
}
OTHERS = ("#b07aa1", "#edc948", "#499894", "#d37295", "#86bcb6", "#bab0ac")


def colours(structures: tuple[str, ...]) -> list[str]:
    """Colours of any anatomy's structures; unknown names take the spare colours in turn."""
    return [COLOURS.get(name, OTHERS[i % len(OTHERS)]) for i, name in enumerate(structures)]
