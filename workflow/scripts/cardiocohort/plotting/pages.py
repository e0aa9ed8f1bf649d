"""What HTML pages are made with: one file that shows all without scripts. Owned by no stage."""

import base64
import io
import math
from pathlib import Path

import jinja2
from matplotlib.figure import Figure


def environment(template: Path) -> jinja2.Environment:
    """Jinja's environment for a template; a name that it is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def number(value, digits: int = 1) -> str:
    """A number with so many decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")  # no minus before a rounded zero


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file; equal charts are equal files."""
    buffer = io.BytesIO()
    # without the metadata that names a version
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """An image file (`kind` png, jpeg or webp) as the source of an <img>."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
