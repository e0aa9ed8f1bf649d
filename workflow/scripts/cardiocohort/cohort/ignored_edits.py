"""Edits that nothing constrains: anatomies will not follow them. Owned by no stage; light."""

from .grammar import Edit
from .table import Arm

# the attribute that has to be constrained for anatomies to follow an edit of the quantity
STEERED_BY = {
    "volume": "size", "area": "size", "thickness": "thickness",
    "centroid_x": "position", "centroid_y": "position", "centroid_z": "position",
    "scale": "scale", "elongation": "aspect", "volume_ratio": "volume_ratio", "distance": "distance",
    "rotation_x": "orientation", "rotation_y": "orientation", "rotation_z": "orientation",
    "tilt_x": "direction", "tilt_y": "direction", "tilt_z": "direction",
}  # fmt: skip


def idle(arm: Arm) -> list[str]:
    """What an arm asks for and its constraints do not let anatomies follow, a sentence each."""
    if not arm.constraints and not arm.base:
        return ["nothing is constrained, so its anatomies will not follow the targets"]
    if arm.base and not arm.constraints:
        return []  # a sibling's edits are constrained
    steered = {
        (part, attribute)
        for name, attributes in arm.constraints
        for part in ([name] if "/" in name else name.split("+"))
        for attribute in attributes
    }
    return [
        f"{edit.structure}.{edit.quantity} is edited, but {edit.structure}'s {STEERED_BY[edit.quantity]} is "
        "not constrained, so its anatomies will not follow the edit"
        for edit in arm.edits
        if (not edit.operation.startswith("set") or arm.base) and not steered & _steering(edit)
    ]


def _steering(edit: Edit) -> set[tuple[str, str]]:
    """(structure or relation, attribute) pairs of which one, constrained, lets anatomies follow the edit."""
    attribute = STEERED_BY[edit.quantity]
    pairs = {(edit.structure, attribute)}
    if attribute == "size":
        pairs.add((edit.structure, "area"))
    if attribute in ("orientation", "aspect"):
        pairs.add((edit.structure, "shape"))
    if "/" in edit.structure:
        pairs.add((edit.structure.split("/")[0], "size" if attribute == "volume_ratio" else "position"))
    return pairs
