"""The page `evaluation.html`: tables and charts in one file, readable without scripts (evaluation stage)."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ..plotting import pages

TEMPLATE = Path(__file__).with_name("evaluation.html.j2")


def html(card: dict, tables: dict[str, pd.DataFrame], charts: dict[str, Figure], criteria: list[dict]) -> str:
    """The whole page. card: of the bundle; criteria: rows of bar, found, met (None if unknown)."""
    environment = pages.environment(TEMPLATE)
    environment.filters["number"] = number
    return environment.get_template(TEMPLATE.name).render(
        name=card.get("name", ""),
        sha256=card["weights_sha256"],
        tables={name: frame.to_dict("records") for name, frame in tables.items()},
        charts={name: pages.data_uri(png(chart), "png") for name, chart in charts.items()},
        criteria=criteria,
    )


def number(value, digits: int = 2) -> str:
    """As `pages.number`, with the decimals that most figures here have."""
    return pages.number(value, digits)


def png(figure: Figure) -> bytes:
    """A chart as it stands beside the page and in it."""
    return pages.png(figure, dpi=100)
