"""The page `cohort.html`: one file with all it shows. Owned by the report stage.

Without scripts only the 3-D view is missing.
"""

import io
import math
from pathlib import Path

import pandas as pd
import yaml
from matplotlib.figure import Figure
from PIL import Image

from ..anatomy.bundle_metadata import trained_on
from ..anatomy.folder import of_hearts
from ..anatomy.labels import Anatomy
from ..plotting import pages, palette
from . import function_section, pairs_section
from .charts import words
from .function_section import Function
from .gallery import Gallery
from .pairs_section import Pairs
from .summary import Summary
from .trial_section import Trial

TEMPLATE = Path(__file__).with_name("cohort.html.j2")
VIEWER = TEMPLATE.with_name("viewer.js")
MAIN_PACKAGES = ("snakemake", "numpy", "scipy", "torch", "nibabel", "pyvista", "vtk", "tetgen", "numba")
QUALITY = 86  # of JPEGs: twice the usual size, no rings around lines
MOST_ROWS = 400  # of a table: the rest is in the tables that the page links to


def html(
    title: str,
    summary: Summary,
    charts: dict[str, Figure],
    gallery: Gallery,
    anatomy: Anatomy,
    made: dict,
    viewer_library: str,
    trial: Trial | None = None,
    function: Function | None = None,
    pairs: Pairs | None = None,
    requests: pd.DataFrame | None = None,
) -> str:
    """The whole page.

    `requests`: rows of the cohort table. `made`: bundle (card), config (settings), provenance (record),
    seeds; `viewer_library`: the script of `resources/viewer` that the 3-D view draws with.
    """
    environment = pages.environment(TEMPLATE)
    environment.filters |= {"number": pages.number, "figures": figures, "words": words}
    colours = palette.colours(anatomy.structures, anatomy.colours)
    hearts = of_hearts(anatomy)
    one = "heart" if hearts else "subject"
    return environment.get_template(TEMPLATE.name).render(
        title=title,
        hearts=hearts,
        one=one,
        many=f"{one}s",
        s=summary,
        tables={name: _records(getattr(summary, name)) for name in _FRAMES},
        most_rows=MOST_ROWS,
        charts={name: pages.data_uri(pages.png(chart), "png") for name, chart in charts.items()},
        portraits=[
            {
                "row": p.row,
                "scene": p.scene,
                "pictures": {n: pages.data_uri(jpeg(i), "jpeg") for n, i in p.pictures.items()},
                "beat": p.beat
                and {
                    "moving": pages.data_uri(p.beat.moving, "webp"),
                    "still": pages.data_uri(jpeg(p.beat.still), "jpeg"),
                },
            }
            for p in gallery.portraits
        ],
        viewer={"shared": gallery.shared, "scripts": [viewer_library, VIEWER.read_text(encoding="utf-8")]},
        legend=list(zip(anatomy.structures, colours, strict=True)),
        bundle=made["bundle"],
        trained=_trained(made["bundle"], hearts),
        settings=made["config"],
        all_labels=made["config"].get("meshing", {}).get("domain") in ("labels", "four_chamber"),
        config=yaml.safe_dump(made["config"], sort_keys=False, allow_unicode=True),
        provenance=made["provenance"],
        packages={name: made["provenance"]["packages"].get(name) for name in MAIN_PACKAGES},
        seeds=made["seeds"],
        requests=[] if requests is None else _records(requests),
        function=function and _function(function),
        pairs=pairs and _pairs(pairs),
        trial=trial and {name: _records(frame) for name, frame in trial.tables.items()},
        trial_charts=trial and {name: pages.data_uri(png, "png") for name, png in trial.figures.items()},
    )


_FRAMES = (
    "arms",
    "reasons",
    "error_table",
    "further",
    "selection",
    "people",
    "comparison",
    "meshes",
    "added_walls",
    "wall_table",
)


def _trained(card: dict, hearts: bool) -> tuple[str, str] | None:
    """What the prior was trained on and how that varies; None where the bundle does not say."""
    training = card.get("training", {})
    return trained_on(training, hearts) if {"label_maps", "templates"} <= training.keys() else None


def _function(function: Function) -> dict:
    charts = function_section.charts(function, words)
    return {
        "beats": function.beats,
        "most_hearts": function_section.MOST_HEARTS,
        "charts": {name: pages.data_uri(pages.png(chart), "png") for name, chart in charts.items()},
        "strain_words": {name: function_section.STRAIN_WORDS[name] for name in function.strains},
        "strains": _records(function_section.strain_table(function.strains)),
        "warnings": function.warnings,
        **{
            name: _records(getattr(function, name))
            for name in ("counts", "quantities", "remarks", "calibrations")
        },
    }


def _pairs(pairs: Pairs) -> dict:
    return {
        "table": _records(pairs.table),
        "counts": _records(pairs.counts),
        "most_changed": pairs_section.MOST_CHANGED,
        "compared": [
            {
                "arm": one.arm,
                "summary": _records(one.summary.replace({"quantity": pairs_section.COMPARED})),
                "figure": pages.data_uri(one.figure, "png"),
            }
            for one in pairs.compared
        ],
    }


def _records(frame) -> list[dict]:
    return frame.head(MOST_ROWS).to_dict("records")


def figures(value: float) -> str:
    """A number with three significant figures; a dash where there is none."""
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else "–"


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
