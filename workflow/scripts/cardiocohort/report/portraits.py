"""The pictures of one virtual heart: label map, targets, slices, mesh. Owned by the report stage."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from ..anatomy.domains import split
from ..anatomy.label_map import LabelMap
from ..anatomy.labels import Anatomy
from ..anatomy.moments import from_columns, to_ellipsoid
from ..mesh.label_model import LabelModel
from ..mesh.model import DIRECTIONS, FACETS, REGIONS, BiventricularModel
from ..mesh.tetrahedron_geometry import row_keys
from ..plotting import palette, render
from ..plotting.render import ANTERIOR, POSTERIOR, Frame, Layer, Surface, View
from . import heart_mesh
from .shapes import ellipsoid_section, ellipsoid_silhouette, label_surface, principal_ellipses, rgb

SIZE_PX = 340
FINE = 2  # pictures are drawn this much larger, then reduced, for smooth edges
MARGIN_MM = 14.0  # ellipsoids reach beyond the heart
LARGEST_MM = 260.0
OPACITY = 0.30
OUTLINE_DARKER = 0.45
FIBRE_MM, FIBRE_CELL_PX = 6.0, 18
BASE_COLOUR, INK = "#efe9dc", (25, 25, 35)

# radiological convention: axial seen from the feet, coronal from the front, sagittal from the left
SLICES = (
    (View("axial", (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), 2, "RLAP"),
    (View("coronal", (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)), 1, "RLHF"),
    (View("sagittal", (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)), 0, "APHF"),
)


@dataclass(frozen=True)
class Window:
    """A cube of the world that all pictures of a gallery show, so that hearts compare; centre, edge in mm."""

    centre_mm: tuple[float, float, float]
    size_mm: float

    def frame(self, view: View) -> Frame:
        n = SIZE_PX * FINE
        return Frame(view, self.centre_mm, (n, n), self.size_mm / n)


@dataclass(frozen=True)
class Outline:
    """The ellipsoid of a structure's target moments: centre, semi-axes (mm), rotation, colour #rrggbb.

    The structure of a union is its first one.
    """

    centre: np.ndarray
    semi_axes: np.ndarray
    rotation: np.ndarray
    colour: str
    structure: str


def window_around(boxes: list[np.ndarray]) -> Window:
    """The window that holds boxes, each (2, 3): lowest and highest corner in mm."""
    low = np.min([box[0] for box in boxes], axis=0)
    high = np.max([box[1] for box in boxes], axis=0)
    size = min(float((high - low).max()) + 2 * MARGIN_MM, LARGEST_MM)
    return Window(tuple(float(c) for c in (low + high) / 2), size)


def extent(label_map: LabelMap) -> np.ndarray:
    """Box (2, 3) of all that is not background; of the whole field where there is nothing."""
    inside = label_map.labels > 0
    corners = []
    for axis, positions in enumerate(label_map.axes_mm):
        held = np.flatnonzero(inside.any(axis=tuple(i for i in range(3) if i != axis)))
        corners.append(positions[[held[0], held[-1]]] if held.size else positions[[0, -1]])
    return np.array(corners).T


def outlines(targets: pd.DataFrame, anatomy: Anatomy) -> list[Outline]:
    """Target ellipsoids of a subject's constrained rows.

    A union has the colour of its first structure, a part `structure@domain` the colour of the whole.
    """
    rows = targets[targets["constrained"] != ""]
    colour = dict(zip(anatomy.structures, palette.colours(anatomy.structures, anatomy.colours), strict=True))
    ellipsoids = zip(rows["structure"], *to_ellipsoid(from_columns(rows)), strict=True)
    named = [(split(name)[0].split("+")[0], *ellipsoid) for name, *ellipsoid in ellipsoids]
    return [Outline(*ellipsoid, colour[name], name) for name, *ellipsoid in named]


def surfaces(label_map: LabelMap, anatomy: Anatomy) -> dict[str, Surface]:
    """Smooth surfaces of the structures that are there, by name."""
    colours = palette.colours(anatomy.structures, anatomy.colours)
    each = {
        name: label_surface(label_map, anatomy.label(name), colour)
        for name, colour in zip(anatomy.structures, colours, strict=True)
    }
    return {name: surface for name, surface in each.items() if surface is not None}


def label_map_pictures(
    label_map: LabelMap, anatomy: Anatomy, solid: dict[str, Surface], targets: list[Outline], window: Window
) -> dict[str, Image.Image]:
    """Pictures of a label map by name: anterior, posterior, targets (if there are any), slices.

    `solid` are its `surfaces`.
    """
    layers = {
        view.name: [render.draw(s, window.frame(view)) for s in solid.values()]
        for view in (ANTERIOR, POSTERIOR)
    }
    frame = window.frame(ANTERIOR)
    pictures = {name: _image(_opaque(views, frame)) for name, views in layers.items()}
    if targets:
        seen = layers["anterior"]
        canvas = _image(render.translucent(seen, [OPACITY] * len(seen)) if seen else _blank(frame))
        _draw_wires(canvas, targets, frame)
        pictures["targets"] = canvas
    pictures = {name: _finished(picture, window) for name, picture in pictures.items()}
    return pictures | {
        "slices": _side_by_side([_slice(label_map, anatomy, targets, window, *s) for s in SLICES])
    }


def mesh_picture(
    model: BiventricularModel | LabelModel, window: Window, colours: Iterable[tuple[str, str]] = ()
) -> Image.Image:
    """The mesh from the front: regions in colours, its triangles, fibres on the outer surface.

    Of a mesh of all labels the outside, in the `colours` of the anatomy.
    """
    frame = window.frame(ANTERIOR)
    if isinstance(model, LabelModel):
        layer = render.draw(outside(model, colours), frame)
        return _finished(_image(_opaque([layer], frame)), window)
    surface = Surface(model.points_mm, model.facets, facet_colours(model))
    layer = render.draw(surface, frame)
    canvas = _image(_opaque([layer], frame))
    _draw_fibres(canvas, model, layer, frame)
    return _finished(canvas, window)


def outside(model: LabelModel, colours: Iterable[tuple[str, str]] = ()) -> Surface:
    """The facets between a region and the outside, facing outward, in the colours of the structures."""
    behind, before = model.sides.T
    facets = np.concatenate([model.facets[before == 0], model.facets[behind == 0][:, ::-1]])
    labels = np.concatenate([behind[before == 0], before[behind == 0]])
    # walls in the colour of their blood
    names = tuple(name.removesuffix("_wall") for name in model.structures)
    shades = np.array([rgb(colour) for colour in palette.colours(names, colours)])
    return Surface(model.points_mm, facets, shades[labels - 1])


def facet_colours(model: BiventricularModel) -> np.ndarray:
    """RGB (F, 3): outside the region of the tet behind the facet, the inner surface and the base pale."""
    region = model.region[owners(model)]
    colours = np.zeros((len(region), 3))
    for name, number in REGIONS.items():
        colours[region == number] = rgb(heart_mesh.REGION_COLOURS[name])
    colours[model.facet_tag == FACETS["base"]] = rgb(BASE_COLOUR)
    colours[np.isin(model.facet_tag, heart_mesh.INNER_FACETS)] = rgb(heart_mesh.INNER_COLOUR)
    return colours


def owners(model: BiventricularModel) -> np.ndarray:
    """The tets (F,) behind the facets."""
    on_boundary = np.zeros(len(model.points_mm), dtype=bool)
    on_boundary[model.facets] = True
    near = np.flatnonzero(on_boundary[model.tets].sum(axis=1) >= 3)
    faces = model.tets[near][:, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]].reshape(-1, 3)
    n = len(model.points_mm)
    keys = row_keys(np.sort(faces, axis=1), n)
    order = keys.argsort()
    return near[order[np.searchsorted(keys[order], row_keys(np.sort(model.facets, axis=1), n))] // 4]


def _draw_fibres(canvas: Image.Image, model: BiventricularModel, layer: Layer, frame: Frame) -> None:
    if model.microstructure is None:
        return
    nodes = model.nodes_of("epi")
    u, v, depth = frame.project(model.points_mm[nodes]).T
    column, row = np.rint(u).astype(int), np.rint(v).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < frame.shape[1]) & (row < frame.shape[0])
    nodes, column, row, depth = (a[inside] for a in (nodes, column, row, depth))
    seen = depth > layer.depth[row, column] - 1.0
    cells = row[seen] // FIBRE_CELL_PX * frame.shape[1] + column[seen] // FIBRE_CELL_PX
    nodes = nodes[seen][np.unique(cells, return_index=True)[1]]
    along = getattr(model.microstructure, f"node_{DIRECTIONS[0]}")[nodes] * FIBRE_MM / 2
    ends = frame.project(np.stack([model.points_mm[nodes] - along, model.points_mm[nodes] + along], 1))
    pen = ImageDraw.Draw(canvas)
    for (u0, v0, _), (u1, v1, _) in ends.tolist():
        pen.line([u0, v0, u1, v1], fill=INK, width=FINE)


def _draw_wires(canvas: Image.Image, targets: list[Outline], frame: Frame) -> None:
    pen = ImageDraw.Draw(canvas)
    for target in targets:
        ellipsoid = target.centre, target.semi_axes, target.rotation
        lines = [(line, FINE - 1) for line in principal_ellipses(*ellipsoid)]
        lines.append((ellipsoid_silhouette(*ellipsoid, np.array(frame.view.towards)), 2 * FINE - 1))
        for line, width in lines:
            drawn = [tuple(p) for p in frame.project(line)[:, :2].tolist()]
            pen.line(drawn, fill=_ink(target.colour), width=width, joint="curve")


def _slice(label_map, anatomy, targets, window, view, axis, letters) -> Image.Image:
    """The voxels, as written, of the plane through the origin of the heart frame, with target outlines."""
    frame = window.frame(view)
    n = frame.shape[0]
    steps = (np.arange(n) - (n - 1) / 2) * frame.pixel_mm
    level = 0.0
    points = (
        np.array(window.centre_mm)
        + steps[None, :, None] * np.array(view.right)
        - steps[:, None, None] * np.array(view.up)
    )
    points[..., axis] = level
    first = np.array([positions[0] for positions in label_map.axes_mm])
    index = np.rint((points - first) / label_map.spacing_mm).astype(int)
    inside = ((index >= 0) & (index < label_map.labels.shape)).all(axis=-1)
    labels = np.zeros(frame.shape, dtype=np.uint8)
    labels[inside] = label_map.labels[tuple(index[inside].T)]
    colours = np.array(
        [rgb(c) for c in (palette.BACKGROUND, *palette.colours(anatomy.structures, anatomy.colours))]
    )
    canvas = _image(1.0 - (1.0 - colours[labels]) * 0.75)
    pen = ImageDraw.Draw(canvas)
    plane = [i for i in range(3) if i != axis]
    for target in targets:
        line = ellipsoid_section(target.centre, target.semi_axes, target.rotation, axis, level)
        if line is not None:
            world = np.full((len(line), 3), level)
            world[:, plane] = line
            drawn = [tuple(p) for p in frame.project(world)[:, :2].tolist()]
            pen.line(drawn, fill=(255, 255, 255), width=3 * FINE, joint="curve")
            pen.line(drawn, fill=_ink(target.colour), width=2 * FINE - 1, joint="curve")
    font = ImageFont.load_default(14 * FINE)
    pad = 4 * FINE
    places = ((pad, n / 2, "lm"), (n - pad, n / 2, "rm"), (n / 2, pad, "mt"), (n / 2, n - pad, "mb"))
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        pen.text((x, y), letter, fill=INK, font=font, anchor=anchor)
    return _finished(canvas, window)


def _ink(colour: str) -> tuple[int, ...]:
    """A colour dark enough to be seen over its own structure."""
    return tuple(int(255 * (1 - OUTLINE_DARKER) * c) for c in rgb(colour))


def _opaque(layers: list[Layer], frame: Frame) -> np.ndarray:
    return render.opaque(layers, frame.pixel_mm).rgb if layers else _blank(frame)


def _blank(frame: Frame) -> np.ndarray:
    return np.ones((*frame.shape, 3), dtype=np.float32)


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))


def _finished(canvas: Image.Image, window: Window) -> Image.Image:
    """With a scale bar, reduced to the size of the page."""
    n, length = canvas.size[0], 50.0 / window.size_mm * canvas.size[0]
    pen = ImageDraw.Draw(canvas)
    right, low = n - 8 * FINE, n - 10 * FINE
    pen.line([right - length, low, right, low], fill=INK, width=2 * FINE)
    font = ImageFont.load_default(11 * FINE)
    pen.text((right - length / 2, low - 3 * FINE), "50 mm", fill=INK, font=font, anchor="mb")
    return canvas.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(p.size[0] for p in pictures), pictures[0].size[1]), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (k * SIZE_PX, 0))
    return sheet
