"""Pictures of a cohort's report, light and dark, on a desktop and on a phone: docs/validation/documents.md.

    python tests/support/page_pictures.py results/cohorts/demo/report/cohort.html docs/validation/pages

It needs Chromium. Light pictures of the 3-D view show structures, dark ones the mesh. Fails where the page's
console has an error, or the page is wider than its window.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

import headless_chromium
from headless_chromium import SOFTWARE_GL, Chromium

WINDOWS = {"desktop": (1100, 900), "phone": (390, 844)}
SHOWN = {"light": ("#viewer-ellipsoids",), "dark": ("#viewer-mesh",)}
PAINT = {"dark": "thickness"}
CHOOSE = (
    "(() => {{ const e = document.querySelector('#viewer-paint'); e.value = '{}'; "
    "e.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
)
QUALITY = 78  # JPEG: text stays sharp, eight pictures are below 1 MB
LIMIT_S = 900  # software drawing on a busy machine


def take(page: Path, folder: Path) -> list[str]:
    """Write the pictures as `<part>-<scheme>-<window>.jpg`; one line per file, with its size."""
    headless_chromium.LIMIT_S = LIMIT_S
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{page}: {page.stat().st_size / 1e6:.1f} MB"]
    with tempfile.TemporaryDirectory() as profile, Chromium(Path(profile), *SOFTWARE_GL) as browser:
        for name, (width, height) in WINDOWS.items():
            for scheme, elements in SHOWN.items():
                browser.open(page, width, height, scheme)
                wide = browser.run("document.documentElement.scrollWidth")
                assert wide <= width, f"the page is {wide} pixels wide in a window of {width}"
                lines.append(_save(browser, folder / f"report-{scheme}-{name}.jpg"))
                browser.run("document.querySelector('[data-turn]').click()")
                for element in elements:
                    browser.run(f"document.querySelector('{element}').click()")
                if scheme in PAINT:
                    browser.run(CHOOSE.format(PAINT[scheme]))
                browser.run("document.querySelector('.viewer').scrollIntoView({block: 'start'})")
                browser.settle()
                lines.append(_save(browser, folder / f"viewer-{scheme}-{name}.jpg"))
                assert browser.errors == [], browser.errors
    return lines


def _save(browser: Chromium, path: Path) -> str:
    Image.fromarray(browser.picture()).save(path, quality=QUALITY, optimize=True)
    return f"{path}: {path.stat().st_size / 1e3:.0f} kB"


if __name__ == "__main__":
    print("\n".join(take(Path(sys.argv[1]), Path(sys.argv[2]))))
