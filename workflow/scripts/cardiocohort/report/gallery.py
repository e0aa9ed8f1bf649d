"""Which hearts are pictured, and their pictures. Owned by the report stage."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from ..anatomy.aha_segments import SEGMENTS
from ..anatomy.label_map import LabelMap, read_label_map
from ..anatomy.labels import Anatomy
from ..mesh.frames import in_frame
from ..mesh.storage import read_model
from ..runtime.artifacts import check_file
from ..runtime.outcomes import Outcome
from . import bullseye, heart_mesh, portraits, viewer
from .cohort_tables import CohortTables
from .function_section import last_beat, run_file
from .motion import motion_of

PER_ARM, MOST = 4, 24
SHEET_COLUMNS = 4


@dataclass(frozen=True)
class Portrait:
    """A subject's row of the manifest, its pictures by name, its `viewer.scene`, and its beat if it has one.

    Pictures are of the label map, the mesh and the bull's-eye.
    """

    row: dict
    pictures: dict[str, Image.Image]
    scene: dict
    beat: "Beat | None" = None


@dataclass(frozen=True)
class Beat:
    """The animated picture of a simulated beat, a WebP file's content, and its still when it has emptied."""

    moving: bytes
    still: Image.Image


@dataclass(frozen=True)
class Gallery:
    """The portraits, and the `viewer.settings` that their scenes share."""

    portraits: list[Portrait]
    shared: dict


def chosen(manifest: pd.DataFrame, per_arm: int = PER_ARM, most: int = MOST) -> list[str]:
    """Subjects to picture: the first accepted ones of every arm, then rejected ones that have an anatomy.

    Arms take turns, so that many arms share the places fairly; at most `most` in all. Rejected hearts
    take at most half of the places that the accepted ones leave free, and never none if there is one.
    """
    drawable = manifest[manifest["anatomy"] != ""]
    good = drawable[drawable["status"] == Outcome.ACCEPTED].groupby("arm", sort=False).head(per_arm)
    bad = drawable[drawable["status"] != Outcome.ACCEPTED]
    turns = [rows.assign(turn=rows.groupby("arm", sort=False).cumcount()) for rows in (good, bad)]
    good, bad = (rows.sort_values("turn", kind="stable")["subject"].tolist() for rows in turns)
    room = max(most - len(good), most // 4)
    bad = bad[:room]
    return good[: most - len(bad)] + bad


def portray(
    subjects: list[str],
    cohort: Path,
    tables: CohortTables,
    manifest: pd.DataFrame,
    anatomy: Anatomy,
    runs: pd.DataFrame,
) -> Gallery:
    """Draw the subjects, in the manifest's order; their files are read below the folder `cohort`.

    runs: simulations, of `function_section.read_runs`; complete ones move in the 3-D view.
    Raises InputError naming a file that is missing or not the one its table lists.
    """
    rows = manifest[manifest["subject"].isin(subjects)]
    listed = tables.anatomies.drop_duplicates("subject").set_index("subject").loc[rows["subject"]]
    meshes = tables.meshes.set_index("subject")
    walls = bullseye.wall_rows(tables.meshes, manifest).set_index("subject")
    scale = bullseye.common_scale(walls)
    both_walls = bullseye.common_scale(walls, SEGMENTS)  # bull's-eyes have the left one alone

    def read(row: dict) -> LabelMap:
        file = listed.loc[row["subject"]]
        return read_label_map(check_file(cohort / row["anatomy"], file["size"], file["sha256"]), anatomy)

    rows = rows.to_dict("records")
    if not rows:
        return Gallery([], {})
    # scans can be large: each is read twice rather than all kept
    window = portraits.window_around([portraits.extent(read(row)) for row in rows])
    complete = runs[runs["verdict"] == Outcome.ACCEPTED] if len(runs) else runs
    simulated = {run["subject"]: run for run in complete.to_dict("records")}
    drawn, strain = [], 0.0
    for row in rows:
        label_map = read(row)
        solid = portraits.surfaces(label_map, anatomy)
        targets = tables.targets[tables.targets["subject"] == row["subject"]]
        wanted = portraits.outlines(targets, anatomy) if len(targets) else []
        pictures = portraits.label_map_pictures(label_map, anatomy, solid, wanted, window)
        model = motion = beat = None
        if row["mesh"]:
            mesh = meshes.loc[row["subject"]]
            volume = check_file(cohort / row["mesh"], mesh["size"], mesh["sha256"])
            stored = read_model(volume, volume.with_suffix(".surface.vtp"))
            model = in_frame(stored, "heart")
            pictures["mesh"] = portraits.mesh_picture(model, window, anatomy.colours)
            if row["subject"] in simulated:
                motion = motion_of(simulated[row["subject"]], stored)
                beat = beat_of(simulated[row["subject"]])
                if stored.frame == "scanner":
                    places = motion.in_heart_frame(stored.world_from_heart)
                    motion = replace(motion, places_mm=places)
                if motion.strain is not None:
                    strain = max(strain, float(np.quantile(np.abs(motion.strain), 0.99)))
        if row["subject"] in walls.index:
            pictures["bullseye"] = bullseye.picture(walls.loc[row["subject"]], scale, portraits.SIZE_PX)
        drawn.append(Portrait(row, pictures, viewer.scene(solid, wanted, model, both_walls, motion), beat))
    return Gallery(drawn, viewer.settings(anatomy, window, both_walls, strain))


def beat_of(run: dict) -> Beat | None:
    """Of a run that beat. InputError where a file is missing or was changed."""
    if not run["animation_file"]:
        return None
    content = run_file(run, "animation_").read_bytes()
    loop = last_beat(run)
    times = loop["time_s"].to_numpy()
    emptied = heart_mesh.emptied_s(loop)
    with Image.open(io.BytesIO(content)) as frames:
        # frames are evenly spaced, and the last one would be the first again
        frames.seek(min(round(emptied / (times[-1] - times[0]) * frames.n_frames), frames.n_frames - 1))
        return Beat(content, frames.convert("RGB"))


def contact_sheet(gallery: list[Portrait]) -> Image.Image:
    """Anterior views of all portraits on one sheet, with their names."""
    size, text = portraits.SIZE_PX, 26
    rows = max(1, -(-len(gallery) // SHEET_COLUMNS))
    sheet = Image.new("RGB", (min(len(gallery), SHEET_COLUMNS) * size or size, rows * (size + text)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for k, portrait in enumerate(gallery):
        x, y = k % SHEET_COLUMNS * size, k // SHEET_COLUMNS * (size + text)
        sheet.paste(portrait.pictures["anterior"], (x, y + text))
        status = portrait.row["status"]
        name = portrait.row["subject"] + ("" if status == Outcome.ACCEPTED else f" ({status})")
        pen.text((x + size / 2, y + text / 2), name, fill=portraits.INK, font=font, anchor="mm")
    if not gallery:
        pen.text((size / 2, text), "no anatomy to draw", fill=portraits.INK, font=font, anchor="mm")
    return sheet
