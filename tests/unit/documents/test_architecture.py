"""The page for those who change the code names every module of the library and every target."""

import re
from pathlib import Path

import pytest

from cardiocohort.config import command_line

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "workflow/scripts/cardiocohort"
PAGE = (ROOT / "docs/architecture.md").read_text()
NAMED = {name.rpartition("/")[2] for name in re.findall(r"`([\w./]+?)/?`", PAGE.split("## Decisions")[0])}
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and path.parent.name != "ellipsoid_benchmark"
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_is_named(module):
    assert module.name in NAMED


COHORT = {"all", "inputs"}  # stages of a cohort, which the page shows in a drawing
TARGETS = [name for name in command_line.targets_of(ROOT / "workflow/Snakefile") if name not in COHORT]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_named(target):
    assert target in NAMED
