"""The page `atlas.html`: how the hearts of an atlas registered, its modes, and how good it is (atlas
stage).
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ..anatomy.label_map import LabelMap, read_label_map
from ..anatomy.labels import Anatomy
from ..plotting import pages
from ..plotting.style import STYLE, plt
from ..runtime import artifacts
from . import portraits
from .portraits import Window

TEMPLATE = Path(__file__).with_name("atlas.html.j2")
LEAST_SHOWN = 12  # hearts with the least overlap, listed first
PICTURE_PX = 250


def html(
    name: str, anatomy: Anatomy, hearts: pd.DataFrame, template: dict, registrations: pd.DataFrame,
    tables: dict[str, pd.DataFrame], examples: list[dict], pictures: dict[str, str],
) -> str:  # fmt: skip
    """The whole page.

    template: of template.json; examples: rows of examples.tsv with their `picture`; pictures: of hearts that
    do not register, by subject.
    """
    environment = pages.environment(TEMPLATE)
    environment.filters["number"] = pages.number
    used = registrations[registrations["verdict"] == "accepted"]
    dice = used[[f"dice_{structure}" for structure in anatomy.structures]]
    distance = used[[f"distance_{structure}_mm" for structure in anatomy.structures]]
    overlap = [
        {
            "structure": structure.replace("_", " "),
            "median": d.median(),
            "least": d.min(),
            "least_heart": used.loc[d.idxmin(), "subject"] if d.notna().any() else "",
            "matched": int(d.notna().sum()),
            "distance": m.median(),
            "largest": m.max(),
        }
        for structure, (_, d), (_, m) in zip(anatomy.structures, dice.items(), distance.items(), strict=True)
    ]
    chart = quality_chart(tables, anatomy)
    modes = sorted({row["mode"] for row in examples if row["kind"] == "mode"})
    share = tables["compactness"].set_index("modes")["share"]
    return environment.get_template(TEMPLATE.name).render(
        name=name,
        hearts=hearts.to_dict("records"),
        n_used=int((registrations["use"] == "atlas").sum()),
        template=template,
        overlap=overlap,
        registrations=used.assign(mean_dice=dice.mean(axis=1)).sort_values("mean_dice").to_dict("records"),
        refused=[
            row | {"picture": pictures.get(row["subject"])}
            for row in registrations[registrations["verdict"] != "accepted"].to_dict("records")
        ],
        least_jacobian=used["least_jacobian"].min(),
        specificity_jacobian=tables["specificity"]["least_jacobian"].min(),
        chart=pages.data_uri(pages.png(chart), "png"),
        mean=next(row for row in examples if row["kind"] == "mean"),
        modes=[
            {
                "mode": mode,
                "share": 100 * share[mode],
                "pictures": [row for row in examples if row["mode"] == mode],
            }
            for mode in modes
        ],
        samples=[row for row in examples if row["kind"] == "sample"],
    )


def quality_chart(tables: dict[str, pd.DataFrame], anatomy: Anatomy) -> Figure:
    """Compactness, generalisation of central and other structures, specificity, by the number of modes."""
    compactness, generalisation, specificity = (
        tables[name] for name in ("compactness", "generalisation", "specificity")
    )
    central = generalisation["structure"].isin(anatomy.centred_on)
    with plt.rc_context(STYLE):
        fig, (a, b, c) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
        a.plot(compactness["modes"], 100 * compactness["cumulative"], "o-", ms=3)
        a.set(title="Compactness", xlabel="modes", ylabel="variance, %", ylim=(0, 102))
        for part, label in ((central, "structures of the centre"), (~central, "other structures")):
            by = generalisation[part].groupby("modes")["distance_mm"]
            b.plot(by.mean().index, by.mean(), "o-", ms=3, label=label)
            b.fill_between(by.mean().index, by.quantile(0.1), by.quantile(0.9), alpha=0.15)
        b.set(title="Generalisation", xlabel="modes", ylabel="surface distance, left-out hearts, mm")
        b.set_ylim(0)
        b.legend(frameon=False)
        by = specificity.groupby("modes")["nearest_mm"]
        c.plot(by.mean().index, by.mean(), "o-", ms=3)
        c.fill_between(by.mean().index, by.quantile(0.1), by.quantile(0.9), alpha=0.15)
        c.set(title="Specificity", xlabel="modes", ylabel="distance to the nearest heart, mm")
        c.set_ylim(0)
    return fig


def with_pictures(examples: pd.DataFrame, folder: Path, anatomy: Anatomy) -> list[dict]:
    """Rows of examples.tsv with a `picture` each: the heart from the front, as the source of an <img>."""
    maps = {
        row.name: read_label_map(artifacts.check_file(folder / row.file, int(row.size), row.sha256), anatomy)
        for row in examples.itertuples(index=False)
    }
    window = portraits.window_around([portraits.extent(one) for one in maps.values()])
    return [
        row | {"picture": picture(maps[row["name"]], anatomy, window)}
        for row in examples.replace({np.nan: None}).to_dict("records")
    ]


def picture(label_map: LabelMap, anatomy: Anatomy, window: Window) -> str:
    """The heart from the front, as the source of an <img>."""
    solid = portraits.surfaces(label_map, anatomy)
    image = portraits.label_map_pictures(label_map, anatomy, solid, [], window)["anterior"].convert("RGB")
    buffer = io.BytesIO()
    image.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=85)
    return pages.data_uri(buffer.getvalue(), "jpeg")
