"""Pictures for docs/tutorial.md and docs/trial.md from a cohort that was run, as small as a page needs.

    python tests/support/tutorial_pictures.py results/cohorts/pulmonary_hypertension ph-00000 docs

The heart is drawn by the tutorial's own code (its section "A picture"). forest.png is that of the target
`trial`, if it has run.
"""

import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

TUTORIAL = Path(__file__).resolve().parents[2] / "docs/tutorial.md"
MOST_BYTES = 200_000
WIDTH = 800  # pixels, about what a page shows


def picture_code(cohort: Path) -> str:
    """The tutorial's code that draws hearts, for another folder of a cohort."""
    (code,) = (
        c for c in re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL) if "pyvista" in c
    )
    folder = 'Path("results/cohorts/pulmonary_hypertension")'
    assert folder in code
    return code.replace(folder, f"Path({str(cohort)!r})")


def take(cohort: Path, subject: str, docs: Path) -> list[Path]:
    """Write `heart_cut.png` and, where the trial has run, `forest.png` into the folder `docs`."""
    (mesh,) = cohort.glob(f"meshes/*/{subject}.vtu")
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "meshes/batch"
        alone.mkdir(parents=True)
        (alone / mesh.name).symlink_to(mesh.resolve())
        exec(picture_code(Path(folder)), {})
        written = [_small(Path(folder) / f"{subject}.png", docs / "heart_cut.png")]
    forest = cohort / "trial/forest.png"
    return [*written, _small(forest, docs / "forest.png")] if forest.is_file() else written


def _small(source: Path, target: Path) -> Path:
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    image.save(target, optimize=True)
    assert target.stat().st_size < MOST_BYTES, f"{target} has {target.stat().st_size} bytes"
    return target


if __name__ == "__main__":
    for path in take(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])):
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
