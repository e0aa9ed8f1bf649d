"""A beat as a small animated picture: the heart cut open, beside its loops. Owned by the simulation stage.

The plane of the cut holds the long axis and the middles of both ventricles, as a four-chamber view does. It
cuts the heart at end-diastole and then moves with the muscle: all pictures show the same muscle.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyvista
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image, ImageDraw, ImageFont

from ..mesh.model import BiventricularModel
from ..plotting import render
from ..plotting.style import STYLE, plt
from .beat_figure import LEFT, RIGHT

SIZE_PX, DPI = (680, 330), 100
FINE = 2  # the heart is drawn this much larger, then reduced, for smooth edges
HEART_PX = 290
ROOM = 1.06  # of the window, by the largest extent of the heart over the beat
STRAIN_PERCENT = 30.0  # where the colours end, the same for all hearts
COLOURS = "RdBu_r"  # blue is shorter, red is longer, as in the report's bull's-eyes
MUSCLE, INK = (0.72, 0.42, 0.40), (30, 35, 45)
SLOWER = 2.0  # than the beat, which is too quick to follow
QUALITY = 82
DOT_PX = 5
QUANTITIES = ("volume_ml", "pressure_kpa")


def fibre_strain(model: BiventricularModel, moved: list[np.ndarray]) -> np.ndarray | None:
    """(T, M): Green-Lagrange strain along the fibres from the first frame on; None without fibres.

    model: stress-free; moved: of each frame its displacements (N + E, 3), corners first.
    """
    if model.microstructure is None:
        return None
    rest = model.points_mm
    back = np.linalg.inv(_edges(rest, model.tets))
    stretches = np.stack(
        [
            np.linalg.norm(
                np.einsum(
                    "mij,mjk,mk->mi",
                    _edges(rest + u[: len(rest)], model.tets),
                    back,
                    model.microstructure.f0.astype(float),
                ),
                axis=1,
            )
            for u in moved
        ]
    )
    return ((stretches / stretches[0]) ** 2 - 1) / 2


def at_nodes(model: BiventricularModel, values: np.ndarray) -> np.ndarray:
    """(T, N): means over the tetrahedra at each node, by volume, of values (T, M).

    One strain per tetrahedron jumps from one to the next on meshes of some 10,000.
    """
    nodes, volumes = model.tets.ravel(), np.repeat(model.tet_volumes_mm3, 4)
    around = np.bincount(nodes, volumes, len(model.points_mm))
    sums = [np.bincount(nodes, volumes * np.repeat(row, 4), len(around)) for row in values]
    return np.array(sums) / around


def cut_open(
    model: BiventricularModel,
    moved: list[np.ndarray],
    view: render.View,
    through: np.ndarray,
    values: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The surface of the muscle behind the plane across the view `through` a point, at end-diastole.

    Returns its points at the frames (T, P, 3), triangles (F, 3) facing outward, and at the points (T, P) the
    `values` (T, N) of the nodes, if there are any.
    """
    count = len(model.points_mm)
    frames = np.stack([model.points_mm + u[:count] for u in moved])
    grid = pyvista.UnstructuredGrid({pyvista.CellType.TETRA: model.tets}, frames[0])
    for k, places in enumerate(frames):
        grid.point_data[f"at_{k}"] = places
        if values is not None:
            grid.point_data[f"value_{k}"] = values[k]
    behind = grid.clip(normal=view.towards, origin=through)
    surface = behind.extract_surface(algorithm="dataset_surface").triangulate()
    # the clipped cells' own order of corners does not say what is outside
    surface = surface.compute_normals(
        cell_normals=False, split_vertices=False, consistent_normals=True, auto_orient_normals=True
    )
    triangles = np.asarray(surface.faces).reshape(-1, 4)[:, 1:]

    def cut(name: str) -> np.ndarray:
        return np.array([surface.point_data[f"{name}_{k}"] for k in range(len(frames))], dtype=float)

    return cut("at"), triangles, None if values is None else cut("value")


def four_chamber_view(model: BiventricularModel, places: np.ndarray) -> tuple[render.View, np.ndarray]:
    """From the front, base above, on the plane of the long axis and both ventricles; a point of the plane.

    places (N, 3): of the model's nodes in mm.
    """
    left, right = (places[model.nodes_of(name)].mean(axis=0) for name in ("lv_endo", "rv_endo"))
    rim = np.intersect1d(model.nodes_of("lv_endo"), model.nodes_of("base"))
    up = _unit(places[rim].mean(axis=0) - left)
    across = right - left
    towards = _unit(np.cross(across - (across @ up) * up, up))
    if towards[1] < 0:  # anterior is +y
        towards = -towards
    return render.View("four chambers", tuple(np.cross(up, towards)), tuple(up), tuple(towards)), left


def pictures(
    model: BiventricularModel, moved: list[np.ndarray], times: np.ndarray, rows: list[dict]
) -> list[Image.Image]:
    """One picture per frame of the last beat.

    moved: of each frame the displacements (N + E, 3) from the stress-free model; times (T,) in s from the
    start of the beat; rows: of `beats.row`, whose last beat is drawn.
    """
    view, through = four_chamber_view(model, model.points_mm + moved[0][: len(model.points_mm)])
    strain = fibre_strain(model, moved)
    strain = None if strain is None else at_nodes(model, strain)
    places, triangles, strain = cut_open(model, moved, view, through, strain)
    frame = _window(places, view)
    scale = Normalize(-STRAIN_PERCENT, STRAIN_PERCENT)
    table = pd.DataFrame(rows)
    beat = table[table["beat"] == table["beat"].max()]
    background, heart_at, to_pixel = _background(beat, scale if strain is not None else None)
    drawn = []
    for k, time in enumerate(times):
        colours = np.array(MUSCLE)
        if strain is not None:
            colours = plt.get_cmap(COLOURS)(scale(100 * strain[k, triangles].mean(axis=1)))[:, :3]
        layer = render.draw(render.Surface(places[k], triangles, colours), frame)
        rgb = render.opaque([layer], frame.pixel_mm).rgb
        heart = Image.fromarray(np.rint(255 * rgb).astype(np.uint8))
        picture = background.copy()
        picture.paste(heart.resize((HEART_PX, HEART_PX), Image.Resampling.LANCZOS), heart_at)
        _mark(picture, beat, time, to_pixel)
        drawn.append(picture)
    return drawn


def write(path: Path, drawn: list[Image.Image], times: np.ndarray) -> None:
    """An animated WebP at `path` that repeats itself, at half the speed of the heart."""
    # the last frame is the first one's state, one beat later
    frames = drawn[:-1] or drawn
    steps = np.diff(times) if len(times) > 1 else [1.0]
    frames[0].save(
        path, format="WEBP", save_all=True, append_images=frames[1:], loop=0, quality=QUALITY, method=4,
        duration=[max(1, round(1000 * SLOWER * float(step))) for step in steps[: len(frames)]],
    )  # fmt: skip


def _window(places: np.ndarray, view: render.View) -> render.Frame:
    """Around the surface over the whole beat."""
    low, high = places.min(axis=(0, 1)), places.max(axis=(0, 1))
    flat = places @ np.stack([view.right, view.up], axis=-1)
    size = ROOM * float(np.ptp(flat, axis=(0, 1)).max())
    middle = (flat.min(axis=(0, 1)) + flat.max(axis=(0, 1))) / 2
    centre = (low + high) / 2
    for axis, along in zip((view.right, view.up), middle, strict=True):
        centre = centre + (along - centre @ axis) * np.array(axis)
    n = HEART_PX * FINE
    return render.Frame(view, tuple(float(c) for c in centre), (n, n), size / n)


def _background(beat: pd.DataFrame, scale: Normalize | None):
    """All that does not move; where the heart's upper left corner goes; data -> pixel of the loops' axes."""
    with plt.rc_context(STYLE):
        fig = plt.figure(figsize=(SIZE_PX[0] / DPI, SIZE_PX[1] / DPI), dpi=DPI)
        axes = fig.add_axes((0.61, 0.17, 0.375, 0.7))
        for name, colour in (("lv", LEFT), ("rv", RIGHT)):
            volume, pressure = (beat[f"{name}_{quantity}"] for quantity in QUANTITIES)
            axes.plot(volume, pressure, color=colour, lw=1.3, label=name.upper())
        axes.set(xlabel="volume, mL", ylabel="pressure, kPa")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, 1.19), ncols=2)
        if scale is not None:
            bar = fig.add_axes((0.452, 0.17, 0.014, 0.6))
            fig.colorbar(
                ScalarMappable(scale, COLOURS),
                cax=bar,
                extend="both",
                ticks=[-STRAIN_PERCENT, 0, STRAIN_PERCENT],
            )
            bar.set_title("fibre\nstrain, %", size=8, loc="left")
        fig.canvas.draw()
        rgb = np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()
        transform, height = axes.transData, rgb.shape[0]
        plt.close(fig)

    def to_pixel(volume: float, pressure: float) -> tuple[float, float]:
        x, y = transform.transform((volume, pressure))
        return float(x), float(height - y)

    return Image.fromarray(rgb), (2, (height - HEART_PX) // 2 + 8), to_pixel


def _mark(picture: Image.Image, beat: pd.DataFrame, time: float, to_pixel) -> None:
    """The moment: points on the loops, and its time."""
    pen = ImageDraw.Draw(picture)
    for name, colour in (("lv", LEFT), ("rv", RIGHT)):
        at = [np.interp(time, beat["time_s"], beat[f"{name}_{quantity}"]) for quantity in QUANTITIES]
        x, y = to_pixel(*at)
        pen.ellipse((x - DOT_PX, y - DOT_PX, x + DOT_PX, y + DOT_PX), fill=colour, outline="white", width=1)
    pen.text((10, 8), f"{time:.2f} s after end-diastole", fill=INK, font=ImageFont.load_default(12))


def _edges(points: np.ndarray, tets: np.ndarray) -> np.ndarray:
    """(M, 3, 3), edges from the first corner as columns."""
    return (points[tets[:, 1:]] - points[tets[:, :1]]).swapaxes(1, 2)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
