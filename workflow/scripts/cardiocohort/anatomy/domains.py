"""Domains: soft-edged parts of space; `structure@domain` is the structure inside one. Owned by no stage.

A domain is a weight w(x) in [0, 1]. The moments of `structure@domain` are those of the occupancy times w, in
guidance as in a measured label map. A face of a domain is a ramp of one cell of guidance:
w = clip(1/2 + d / edge, 0, 1), with d the depth inside the face. Faces multiply. An edit fades out in the
neighbourhood of its domain, two cells wide. `structure@outside_domain` is what lies beyond: 1 - w of the
domain with each face moved out by that much.

A domain in the frame of a structure, or of the contact of two, is placed once per subject, on the label map
that the subject is made from, and stays there: nothing is estimated again while a heart is sampled or judged.
Light: numpy only.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from ..runtime.errors import InputError
from ..runtime.keys import from_section, key, schema_of
from .labels import Anatomy, Grid
from .moments import THICKNESS, Moments, measure, of_each, to_ellipsoid
from .thickness import cut_off, measured_in, opposed
from .unions import select

AT = "@"
REST = "outside_"  # prefix of a domain's name: the structure beyond it and its neighbourhood
NEIGHBOUR_CELLS = 2  # of guidance: how far the neighbourhood of a domain reaches
NAME = "^(?!outside_)[a-z][a-z0-9_]{0,63}(?!\\n)$"
CELL_VOXELS = 2  # edge of a cell of guidance
SMALLEST_ML = 0.1  # of a structure in a domain: a dozen voxels of 2 mm, below which moments mean little
OPPOSED = 0.6  # least share of the sides of a wall that face along one line; a rod has half
SLAB_CELLS = 2  # of a slab's thickness that its structure need not fill
CUT_OFF = 0.2  # most of the faces across a wall that are the domain's own; whole septa have 0.04 to 0.17
LEAST_COSINE = 0.2  # between long axis and the way to `towards`; below, ends cannot be told apart
NEEDED = {  # keys of a form beside frame and towards
    "half_space": ("axis",),
    "slab": ("axis", "low", "high"),
    "box": ("centre", "size"),
    "sphere": ("centre", "radius"),
    "cylinder": ("axis", "centre", "radius", "length"),
}
FORM_KEYS = ("axis", "low", "high", "centre", "size", "radius", "length")
FRAME_ENTRIES = {"heart": 0, "structure": 2, "contact": 6}  # of `frame_entries`
ELLIPSOID_ENDS = np.log(
    np.sqrt([5.0, 5.0])
)  # theirs for a solid ellipsoid, whose half axis is sqrt(5) deviations
MARGIN = 1.5  # by which the heart of a subject may be larger than the usual one
FARTHEST = 1000.0  # mm, or shares of a length: beyond, it is a slip
BETWEEN = {"minimum": -FARTHEST, "maximum": FARTHEST}
ABOVE_ZERO = {"exclusiveMinimum": 0, "maximum": FARTHEST}
VECTOR = {
    "minItems": 3,
    "maxItems": 3,
    "items": {"type": "number", "description": "along one axis", **BETWEEN},
}


@dataclass(frozen=True)
class Domain:
    """A domain as the config has it: a form in a frame.

    Frame `heart`: axes x, y, z and mm. Frame `structure`: the structure's principal axes, the longest first;
    lengths are shares of its length along the first. Coordinate 0 of that is its end away from `towards`, 1
    the other; the others are 0 in its centroid. Frame `contact`: the surface that the structure shares with
    `towards`; the first axis is its mean normal, the origin its centroid, and lengths are mm. `of` is another
    structure whose frame it is, so that parts of several structures lie in one place. `across` turns the
    second axis.
    """

    form: str = key("slab", "Form of the domain.", enum=list(NEEDED))
    frame: str = key(
        "structure",
        "structure: along the structure's own principal axes, in shares of its length. contact: along the "
        "normal of the surface that it shares with `towards`, in mm from its middle. heart: along x, y, z "
        "of the heart frame, in mm.",
        enum=["structure", "contact", "heart"],
    )
    of: str | None = key(
        None,
        "Structure whose frame it is (frames `structure` and `contact`); null is the one before the `@`.",
        minLength=1,
    )
    towards: str | None = key(
        None,
        "Structure that the first axis points to (frames `structure` and `contact`). In the frame "
        "`structure` coordinate 1 is the end near it.",
        minLength=1,
    )
    across: str | None = key(
        None,
        "Structure that the second axis points to, as far as the first leaves that open; null is the next "
        "principal axis (frame `structure`), or the least oblique of x, y, z (`contact`).",
        minLength=1,
    )
    axis: list | None = key(
        None, "Normal of slab and half space, axis of a cylinder; null is the first axis.", **VECTOR
    )
    low: float | None = key(None, "Where a slab or half space begins along its axis.", **BETWEEN)
    high: float | None = key(None, "Where it ends; a half space has one of the two.", **BETWEEN)
    centre: list | None = key(None, "Centre of a box, sphere or cylinder.", **VECTOR)
    size: list | None = key(None, "Edges of a box, along the axes of the frame.", **VECTOR)
    radius: float | None = key(None, "Radius of a sphere or cylinder.", **ABOVE_ZERO)
    length: float | None = key(None, "Length of a cylinder.", **ABOVE_ZERO)


SCHEMA = schema_of(Domain, "a domain (docs/cohort-table.md)")


@dataclass(frozen=True)
class Frame:
    """Origin (3,) mm, axes as rows (3, 3), and the unit of lengths (mm)."""

    origin: np.ndarray
    axes: np.ndarray
    unit_mm: float


HEART = Frame(np.zeros(3), np.eye(3), 1.0)


@dataclass(frozen=True)
class Placed:
    """A domain in the heart frame, mm.

    layers: (normal, low, high) of pairs of parallel faces, None where open. curved: centre, axis and radius
    of a cylinder's mantle, or of a sphere with axis (0, 0, 0). outside: what lies beyond is meant.
    """

    layers: tuple[tuple[tuple[float, ...], float | None, float | None], ...]
    curved: tuple[tuple[float, ...], tuple[float, ...], float] | None
    edge_mm: float
    slab: bool = False
    outside: bool = False

    @property
    def thickness_mm(self) -> float | None:
        """Of a slab; None for other forms."""
        return self.layers[0][2] - self.layers[0][1] if self.slab and not self.outside else None

    @property
    def narrowest_mm(self) -> float:
        """Least extent."""
        extents = [high - low for _, low, high in self.layers if low is not None and high is not None]
        return min([*extents, *([2.0 * self.curved[2]] if self.curved else [])], default=np.inf)

    def weights(self, axes_mm: tuple) -> np.ndarray:
        """w (X, Y, Z) at points whose coordinates along x, y, z are `axes_mm`."""
        grown = NEIGHBOUR_CELLS * self.edge_mm if self.outside else 0.0
        x, y, z = np.meshgrid(*axes_mm, indexing="ij", sparse=True)
        w = np.ones(tuple(len(a) for a in axes_mm))
        for normal, low, high in self.layers:
            along = normal[0] * x + normal[1] * y + normal[2] * z
            w *= 1.0 if low is None else self._ramp(along - low + grown)
            w *= 1.0 if high is None else self._ramp(high + grown - along)
        if self.curved:
            centre, axis, radius = self.curved
            offset = (x - centre[0], y - centre[1], z - centre[2])
            along = sum(a * o for a, o in zip(axis, offset, strict=True))
            squared = offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2 - along**2
            w *= self._ramp(radius + grown - np.sqrt(np.maximum(squared, 0.0)))
        return 1.0 - w if self.outside else w

    def _ramp(self, distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + distance / self.edge_mm, 0.0, 1.0)


def to_text(placed: Placed) -> str:
    """A placed domain as the column `domain` of the targets has it (JSON)."""
    return json.dumps(asdict(placed))


@lru_cache(maxsize=64)
def from_text(text: str) -> Placed:
    """Inverse of `to_text`."""
    plain = json.loads(text)
    layers = tuple((tuple(normal), low, high) for normal, low, high in plain.pop("layers"))
    around = plain.pop("curved")
    return Placed(layers=layers, curved=around and (tuple(around[0]), tuple(around[1]), around[2]), **plain)


def refusal(reason: str) -> str:
    """The column `domain` of a part that cannot be placed on a heart."""
    return json.dumps({"refused": reason})


def refused(text: str) -> str:
    """Why a part cannot be placed, of its column `domain`; empty where it is placed."""
    return json.loads(text).get("refused", "")


def slab_mm(text: str) -> float:
    """Thickness (mm) of a slab, of its column `domain`; NaN for other forms, and for one without a place."""
    if refused(text) or (thickness := from_text(text).thickness_mm) is None:
        return np.nan
    return thickness


def read_domains(section: Mapping, anatomy: Anatomy, grid: Grid) -> dict[str, Domain]:
    """The config section `domains`, checked as far as no heart is needed; InputError naming the key."""
    domains = {}
    for name, values in section.items():
        where = f"config key 'domains.{name}'"
        domain = from_section(Domain, dict(values), f"domains.{name}")
        _check_keys(f"domains.{name}", domain, anatomy)
        if domain.frame != "structure":
            placed = place(domain, HEART, grid)
            if problem := too_thin(placed):
                raise InputError(f"{where}: {problem}")
        if domain.frame == "heart" and not (placed.weights(grid.axes_mm()) > 0).any():
            half = " x ".join(f"{n * grid.spacing_mm:g}" for n in grid.shape)
            raise InputError(f"{where}: it lies outside the field, {half} mm about the heart's centre")
        domains[name] = domain
    return domains


def _check_keys(key_name: str, domain: Domain, anatomy: Anatomy) -> None:
    where = f"config key '{key_name}'"
    needed = NEEDED[domain.form]
    optional = ("low", "high") if domain.form == "half_space" else ()
    for name in FORM_KEYS:
        given = getattr(domain, name) is not None
        open_axis = name == "axis" and domain.frame != "heart"
        if given and name not in (*needed, *optional):
            raise InputError(
                f"config key '{key_name}.{name}': a {domain.form} has no {name}; its keys are "
                f"{', '.join((*needed, *optional))}"
            )
        if not given and name in needed and not open_axis:
            raise InputError(f"{where}: a {domain.form} in the frame {domain.frame!r} needs '{name}'")
    if domain.form == "half_space" and (domain.low is None) == (domain.high is None):
        raise InputError(f"{where}: a half_space has either 'low' or 'high'; with both it is a slab")
    if domain.low is not None and domain.high is not None and domain.low >= domain.high:
        raise InputError(
            f"{where}: it is empty, since low ({domain.low:g}) is not below high ({domain.high:g})"
        )
    if domain.axis is not None and not np.linalg.norm(domain.axis) > 1e-6:
        raise InputError(f"config key '{key_name}.axis': {domain.axis} has no direction")
    if domain.size is not None and min(domain.size) <= 0:
        raise InputError(f"config key '{key_name}.size': {domain.size} is empty; all three edges are above 0")
    if domain.frame != "heart" and domain.towards is None:
        raise InputError(
            f"config key '{key_name}.towards': in the frame {domain.frame!r} it names the structure that the "
            "first axis points to"
        )
    for name in ("of", "towards", "across"):
        structure = getattr(domain, name)
        if structure is None:
            continue
        if domain.frame == "heart":
            raise InputError(f"config key '{key_name}.{name}': in the frame 'heart' it is left out")
        try:
            anatomy.label(structure)
        except InputError as error:
            raise InputError(f"config key '{key_name}.{name}': {error}") from None
    if domain.of and (problem := points_to_itself(domain.of, domain)):
        raise InputError(f"{where}: {problem}")
    if domain.frame == "structure" and domain.axis is None and not _touches_unit_interval(domain):
        raise InputError(
            f"{where}: it lies outside its structure, whose long axis goes from 0 to 1; here it is "
            f"{domain.low} to {domain.high}"
        )


def points_to_itself(structure: str, domain: Domain) -> str:
    """Why a domain of a structure has no frame in any heart; empty if it may have one."""
    own = domain.of or structure
    for name in ("towards", "across"):
        if domain.frame != "heart" and getattr(domain, name) == own:
            return f"'{name}' is {own}, whose frame it is; name another structure"
    return ""


def _touches_unit_interval(domain: Domain) -> bool:
    begins_after = domain.low is not None and domain.low >= 1
    ends_before = domain.high is not None and domain.high <= 0
    return not (begins_after or ends_before)


def place(domain: Domain, frame: Frame, grid: Grid) -> Placed:
    """The domain in the heart frame."""

    def to_mm(point) -> np.ndarray:
        return frame.origin + frame.unit_mm * (np.asarray(point, dtype=float) @ frame.axes)

    def layer(normal: np.ndarray, start: np.ndarray, low: float | None, high: float | None):
        at = float(normal @ start)
        bounds = (None if b is None else at + float(b) * frame.unit_mm for b in (low, high))
        return (tuple(normal.tolist()), *bounds)

    edge = CELL_VOXELS * grid.spacing_mm
    axis = np.asarray(domain.axis or (1.0, 0.0, 0.0), dtype=float) @ frame.axes
    axis = axis / np.linalg.norm(axis)
    if domain.form in ("slab", "half_space"):
        layers = (layer(axis, frame.origin, domain.low, domain.high),)
        return Placed(layers, None, edge, domain.form == "slab")
    centre = to_mm(domain.centre)
    if domain.form == "box":
        halves = np.asarray(domain.size, dtype=float) / 2.0
        pairs = zip(frame.axes, halves, strict=True)
        return Placed(tuple(layer(n, centre, -half, half) for n, half in pairs), None, edge)
    radius = domain.radius * frame.unit_mm
    if domain.form == "sphere":
        return Placed((), (tuple(centre.tolist()), (0.0, 0.0, 0.0), radius), edge)
    ends = (layer(axis, centre, -domain.length / 2.0, domain.length / 2.0),)
    return Placed(ends, (tuple(centre.tolist()), tuple(axis.tolist()), radius), edge)


def own_frame(
    mask: np.ndarray, towards_mm: np.ndarray, grid: Grid, across_mm: np.ndarray | None = None
) -> Frame:
    """The frame of a structure whose voxels are `mask` (X, Y, Z); its long axis points to `towards_mm` (3,).

    Its second axis points to `across_mm` (3,), if that is given. Its length is the extent of its voxels along
    the long axis. InputError for a structure that is not there, and for a long axis across the way to
    `towards_mm`, so that its ends cannot be told apart.
    """
    axes_mm = grid.axes_mm()
    points = np.stack([a[i] for a, i in zip(axes_mm, np.nonzero(mask), strict=True)], axis=-1)
    if not len(points):
        raise InputError("the structure is empty")
    centroid = points.mean(axis=0)
    axes = own_axes(centroid, (points - centroid).T @ (points - centroid), towards_mm, across_mm)
    along = (points - centroid) @ axes[0]
    start, end = along.min() - grid.spacing_mm / 2.0, along.max() + grid.spacing_mm / 2.0
    return Frame(centroid + axes[0] * start, axes, float(end - start))


def own_axes(
    centroid: np.ndarray,
    covariance: np.ndarray,
    towards_mm: np.ndarray,
    across_mm: np.ndarray | None = None,
) -> np.ndarray:
    """Axes (3, 3), as rows, of a structure with this centroid (3,) and covariance (3, 3), in any unit."""
    long, middle = np.linalg.eigh(covariance)[1].T[[2, 1]]
    way = towards_mm - centroid
    cosine = float(long @ way) / max(float(np.linalg.norm(way)), 1e-9)
    if not abs(cosine) >= LEAST_COSINE:
        raise InputError(
            f"its long axis is {np.degrees(np.arccos(abs(cosine))):.0f} degrees from the way to 'towards', "
            "so that its ends cannot be told apart; name another structure in 'towards'"
        )
    long = long * np.sign(cosine)
    middle = middle * np.sign(middle[np.argmax(np.abs(middle))])
    if across_mm is not None:
        middle = _second_axis(long, across_mm - centroid)
    return np.stack([long, middle, np.cross(long, middle)])


def contact_frame(
    mask: np.ndarray, other: np.ndarray, grid: Grid, across_mm: np.ndarray | None = None
) -> Frame:
    """The frame of the voxel faces that `mask` and `other` (X, Y, Z) share; its normal points to `other`.

    The sum of the faces' normals is that of a smooth surface with the same rim. InputError for structures
    that do not touch, and for one that closes around the other, whose normals cancel.
    """
    axes_mm, points, normal = grid.axes_mm(), [], np.zeros(3)
    for axis in range(3):
        own, its = np.moveaxis(mask, axis, 0), np.moveaxis(other, axis, 0)
        for sign, faces in ((1.0, own[:-1] & its[1:]), (-1.0, its[:-1] & own[1:])):
            middle = (np.arange(grid.shape[axis] - 1) + 0.5) * grid.spacing_mm + axes_mm[axis][0]
            of_others = [axes_mm[k] for k in range(3) if k != axis]
            at = [a[i] for a, i in zip((middle, *of_others), np.nonzero(faces), strict=True)]
            points.append(np.insert(np.stack(at[1:], -1), axis, at[0], axis=1))
            normal[axis] += sign * len(at[0])
    points = np.concatenate(points)
    if not len(points):
        raise InputError("the two structures of its contact do not touch")
    if not np.linalg.norm(normal) >= LEAST_COSINE * len(points):
        raise InputError("one structure of its contact closes around the other, so that it has no normal")
    normal /= np.linalg.norm(normal)
    origin = points.mean(axis=0)
    return Frame(origin, _across_contact(normal, origin, across_mm), 1.0)


def _across_contact(normal: np.ndarray, origin: np.ndarray, across_mm: np.ndarray | None) -> np.ndarray:
    """Axes (3, 3), as rows, of a contact with this normal (3,)."""
    way = np.eye(3)[np.argmin(np.abs(normal))] if across_mm is None else across_mm - origin
    second = _second_axis(normal, way)
    return np.stack([normal, second, np.cross(normal, second)])


def _second_axis(first: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Unit vector (3,) across `first`, as near to `way` as can be."""
    across = way - (way @ first) * first
    if not np.linalg.norm(across) >= LEAST_COSINE * np.linalg.norm(way):
        raise InputError("'across' lies along its first axis; name another structure")
    return across / np.linalg.norm(across)


def frame_on(labels: np.ndarray, structure: str, domain: Domain, anatomy: Anatomy, grid: Grid) -> Frame:
    """The frame of a domain of `structure` on a label map (X, Y, Z)."""
    if domain.frame == "heart":
        return HEART
    masks = {}
    for name in filter(None, (domain.towards, domain.across)):
        masks[name] = labels == anatomy.label(name)
        if not masks[name].any():
            key_name = "towards" if name == domain.towards else "across"
            raise InputError(f"the heart has no {name}, which the domain's {key_name!r} names")
    centre = {name: measure(mask.astype(float), grid.axes_mm()).centroid_mm for name, mask in masks.items()}
    mask = np.isin(labels, anatomy.labels_of(domain.of or structure))
    across_mm = centre[domain.across] if domain.across else None
    if domain.frame == "contact":
        return contact_frame(mask, masks[domain.towards], grid, across_mm)
    return own_frame(mask, centre[domain.towards], grid, across_mm)


def frame_entries(domain: Domain, frame: Frame, of: Moments) -> np.ndarray:
    """What the moments `of` a frame's structure leave open of the frame, as free numbers (FRAME_ENTRIES,).

    Frame `structure`: logarithms of how far both ends are from the centroid, in standard deviations along the
    long axis. `contact`: origin (mm) and normal.
    """
    if domain.frame == "heart":
        return np.zeros(0)
    if domain.frame == "contact":
        return np.concatenate([frame.origin, frame.axes[0]])
    long = frame.axes[0]
    start = float((frame.origin - of.centroid_mm) @ long)
    return np.log(np.array([-start, start + frame.unit_mm]) / np.sqrt(long @ of.covariance_mm2 @ long))


def frame_of_moments(
    name: str,
    domains: Mapping[str, Domain],
    heart: tuple[Moments, tuple[str, ...]],
    entries: np.ndarray | None = None,
) -> Frame:
    """The frame of `structure@domain` in a heart of which moments (K,) and K names are known.

    Inverse of `frame_entries`. Without `entries` the ends are those of a solid ellipsoid (frame `structure`).
    InputError for a structure that is not among the names.
    """
    domain, (moments, names) = domain_named(name, domains), heart
    if domain.frame == "heart":
        return HEART

    def centroid(key_name: str) -> np.ndarray | None:
        other = getattr(domain, key_name)
        if other is not None and other not in names:
            raise InputError(f"the heart has no {other}, which the domain's {key_name!r} names")
        return None if other is None else moments.centroid_mm[names.index(other)]

    towards_mm, across_mm = centroid("towards"), centroid("across")
    if domain.frame == "contact":
        origin, normal = entries[:3], entries[3:] / np.linalg.norm(entries[3:])
        return Frame(origin, _across_contact(normal, origin, across_mm), 1.0)
    structure = domain.of or split(name)[0]
    if not set(structure.split("+")) <= set(names):
        raise InputError(f"the heart has no {structure}, whose frame it is")
    of = select(moments, names, (structure,))[0]
    axes = own_axes(of.centroid_mm, of.covariance_mm2, towards_mm, across_mm)
    ends = np.exp(ELLIPSOID_ENDS if entries is None else entries)
    start, end = np.sqrt(axes[0] @ of.covariance_mm2 @ axes[0]) * ends * (-1.0, 1.0)
    return Frame(of.centroid_mm + axes[0] * start, axes, float(end - start))


def frame_structures(name: str, domains: Mapping[str, Domain]) -> list[str]:
    """The structures whose moments say where the frame of `structure@domain` lies; none for frame `heart`."""
    domain = domain_named(name, domains)
    if domain.frame == "heart":
        return []
    of = (domain.of or split(name)[0]).split("+")
    return list(dict.fromkeys(filter(None, (*of, domain.towards, domain.across))))


def definition(name: str, domains: Mapping[str, Domain], grid: Grid) -> str:
    """All that the moments of `structure@domain` in a label map depend on beside the map, as JSON."""
    edge = CELL_VOXELS * grid.spacing_mm
    return json.dumps(asdict(domain_named(name, domains)) | {"edge_mm": edge}, sort_keys=True)


def too_thin(placed: Placed) -> str:
    """Why a domain is too thin to measure; empty if it is not."""
    if placed.narrowest_mm >= placed.edge_mm:
        return ""
    return f"it is {placed.narrowest_mm:.1f} mm thick, thinner than a cell, {placed.edge_mm:g} mm; widen it"


def split(name: str) -> tuple[str, str]:
    """`aorta@root` -> ("aorta", "root"); the second is empty for a whole structure."""
    structure, _, domain = name.partition(AT)
    return structure, domain


def is_part(name: str) -> bool:
    """Whether a name is `structure@domain`."""
    return AT in name


def is_inside(name: str) -> bool:
    """Whether a name is `structure@domain`, and not what lies beyond the domain."""
    return is_part(name) and not split(name)[1].startswith(REST)


def domain_named(name: str, domains: Mapping[str, Domain]) -> Domain:
    """The domain that `aorta@root` or `aorta@outside_root` names."""
    return domains[split(name)[1].removeprefix(REST)]


def is_slab(name: str, domains: Mapping[str, Domain]) -> bool:
    """Whether `structure@domain` is a slab, which has an area: its volume over its thickness."""
    return is_inside(name) and domain_named(name, domains).form == "slab"


def rest_of(name: str) -> str:
    """What is held when a part is edited: `aorta@root` -> `aorta@outside_root`, and back."""
    structure, domain = split(name)
    rest = domain.removeprefix(REST) if domain.startswith(REST) else REST + domain
    return f"{structure}{AT}{rest}"


def lies_beyond(name: str, edited: Collection[str]) -> bool:
    """Whether a name is what lies beyond the domain of a part that is edited, of whichever structure."""
    rests = {split(rest_of(part))[1] for part in edited if is_part(part)}
    return is_part(name) and split(name)[1] in rests


def place_on(
    labels: np.ndarray,
    name: str,
    domains: Mapping[str, Domain],
    anatomy: Anatomy,
    grid: Grid,
    frame: Frame | None = None,
) -> Placed:
    """The domain of `structure@domain` on a label map (X, Y, Z) in the heart frame.

    frame: of the domain on this map, where it is known (`frame_on`).
    InputError for one that is thinner than a cell, or has next to nothing of the structure in this heart.
    """
    structure, _ = split(name)
    domain, mask = domain_named(name, domains), np.isin(labels, anatomy.labels_of(structure))
    placed = place_part(name, domains, frame or frame_on(labels, structure, domain, anatomy, grid), grid)
    held_ml = float(placed.weights(grid.axes_mm())[mask].sum()) * grid.voxel_volume_ml
    whole_ml = float(mask.sum()) * grid.voxel_volume_ml
    problem = too_small(held_ml, structure) or _not_filled(mask, placed, grid)
    if problem := problem or _no_part(whole_ml - held_ml, structure, domain):
        raise InputError(problem)
    return placed


def _no_part(beyond_ml: float, structure: str, domain: Domain) -> str:
    """Why a domain that leaves this much of its structure outside is none; empty if it is one."""
    if beyond_ml >= SMALLEST_ML or domain.of not in (None, structure):
        return ""  # small structures may lie whole in the region of another
    problem = f"all of {structure} lies in it, {beyond_ml:.2f} mL beyond; make it smaller"
    if domain.frame == "structure":
        problem += f" (its lengths are shares of the length of {domain.of or structure})"
    return problem


def _not_filled(mask: np.ndarray, placed: Placed, grid: Grid) -> str:
    """Why a slab of a structure (X, Y, Z) has no area; empty if it has, or is another form."""
    if placed.thickness_mm is None:
        return ""
    inside = np.argwhere(mask & (placed.weights(grid.axes_mm()) >= 0.5)) * grid.spacing_mm
    along = inside @ np.array(placed.layers[0][0])
    filled_mm = np.ptp(along) + grid.spacing_mm if len(along) else 0.0
    if filled_mm >= placed.thickness_mm - SLAB_CELLS * placed.edge_mm:
        return ""
    return (
        f"the structure fills {filled_mm:.1f} mm of a slab of {placed.thickness_mm:.1f} mm, whose area would "
        "be too small; let the slab end where the structure ends, or name a half_space"
    )


def place_part(name: str, domains: Mapping[str, Domain], frame: Frame, grid: Grid) -> Placed:
    """The domain of `structure@domain`, or what lies outside it, in a frame; InputError if it is too thin."""
    placed = place(domain_named(name, domains), frame, grid)
    if problem := too_thin(placed):
        raise InputError(problem)
    return replace(placed, outside=not is_inside(name))


def too_small(held_ml: float, structure: str) -> str:
    """Why a part with this volume means nothing; empty if it does."""
    if held_ml >= SMALLEST_ML:
        return ""
    return f"it has {held_ml:.2f} mL of {structure} in it, less than {SMALLEST_ML} mL"


def place_usual(
    name: str,
    domains: Mapping[str, Domain],
    usual: tuple[Moments, tuple[str, ...]],
    grid: Grid,
) -> str:
    """Why `structure@domain` has no place in a usual heart; empty if it has, or if that is not known.

    usual: moments (K,) of a heart, and the K names. Its structures are taken as ellipsoids, with a margin
    (MARGIN), since the heart of a subject is another.
    """
    structure, domain = split(name)[0], domain_named(name, domains)
    moments, known = usual
    named = filter(None, (domain.of, domain.towards, domain.across))
    if domain.frame == "contact" or not {*structure.split("+"), *named} <= set(known):
        return ""
    points, frame = np.stack(np.meshgrid(*grid.axes_mm(), indexing="ij"), axis=-1), HEART

    def depth(of: str) -> np.ndarray:
        centre, half_axes, axes = to_ellipsoid(select(moments, known, (of,))[0])
        return np.linalg.norm(((points - centre) @ axes) / half_axes, axis=-1)

    try:
        if domain.frame == "structure":
            towards_mm, across_mm = (
                moments.centroid_mm[known.index(other)] if other else None
                for other in (domain.towards, domain.across)
            )
            frame = own_frame(depth(domain.of or structure) <= 1.0, towards_mm, grid, across_mm)
    except InputError as error:
        return str(error)
    placed = place(domain, frame, grid)
    if placed.narrowest_mm * MARGIN < placed.edge_mm:
        return too_thin(placed)
    held_ml = placed.weights(grid.axes_mm())[depth(structure) <= MARGIN].sum() * grid.voxel_volume_ml
    return "" if held_ml >= SMALLEST_ML else f"it lies outside {structure}; move or enlarge it"


def check_wall(labels: np.ndarray, name: str, weights: np.ndarray, anatomy: Anatomy) -> None:
    """InputError unless `structure@domain` on a label map (X, Y, Z) has two opposed sides, both inside."""
    if problem := no_wall(labels, name, weights, anatomy):
        raise InputError(f"{problem}; move or widen the domain until both sides of a wall lie in it")


def no_wall(labels: np.ndarray, name: str, weights: np.ndarray, anatomy: Anatomy) -> str:
    """Why `structure@domain` has no thickness on a label map (X, Y, Z); empty if it has."""
    structure = split(name)[0]
    mask = np.isin(labels, anatomy.labels_of(structure))
    share = opposed(mask, weights, CELL_VOXELS)
    if share < OPPOSED:
        return (
            f"{structure} is no wall there: {share:.0%} of its sides face along one line, the least is "
            f"{OPPOSED:.0%}"
        )
    share = cut_off(mask, weights, CELL_VOXELS)
    if share > CUT_OFF:
        return (
            f"the domain ends inside {structure}: {share:.0%} of the faces across the wall are the domain's "
            f"own, the most is {CUT_OFF:.0%}"
        )
    return ""


def weights_of(rows: pd.DataFrame, grid: Grid) -> list[np.ndarray | None]:
    """The weights (X, Y, Z) of each row of targets; None for whole structures."""
    texts = rows["domain"] if "domain" in rows.columns else [""] * len(rows)
    return [
        from_text(text).weights(grid.axes_mm()) if is_part(name) else None
        for name, text in zip(rows["structure"], texts, strict=True)
    ]


def masks_of(labels: np.ndarray, rows: pd.DataFrame, anatomy: Anatomy, grid: Grid) -> list[np.ndarray]:
    """The voxels (X, Y, Z) of what each row names: of a part, those that its domain has a share in."""
    return [
        np.isin(labels, anatomy.labels_of(split(name)[0])) & (True if weight is None else weight > 0)
        for name, weight in zip(rows["structure"], weights_of(rows, grid), strict=True)
    ]


def measure_rows(labels: np.ndarray, rows: pd.DataFrame, anatomy: Anatomy, grid: Grid) -> Moments:
    """Moments (K,) in a label map (X, Y, Z) of what the K rows name: structures, unions, parts of them.

    Thicknesses are measured of the walls whose rows have one.
    """
    names = list(rows["structure"])
    walls = set(rows.loc[rows[THICKNESS].notna(), "structure"]) if THICKNESS in rows.columns else ()
    return measure_parts(labels, names, weights_of(rows, grid), anatomy, grid, walls)


def measure_parts(
    labels: np.ndarray,
    names: list[str],
    weights: list[np.ndarray | None],
    anatomy: Anatomy,
    grid: Grid,
    walls: Collection[str] = (),
) -> Moments:
    """`measure_rows` of names and their weights (None for a whole structure); `walls` have a thickness."""
    found = []
    for name, weight in zip(names, weights, strict=True):
        mask = np.isin(labels, anatomy.labels_of(split(name)[0])).astype(np.float64)
        own = measure(mask if weight is None else mask * weight, grid.axes_mm())
        if name in walls:
            own = replace(
                own, thickness_mm=np.asarray(measured_in(mask, weight, grid.spacing_mm, CELL_VOXELS))
            )
        found.append(own)
    return of_each(lambda *values: np.stack(values), *found)
