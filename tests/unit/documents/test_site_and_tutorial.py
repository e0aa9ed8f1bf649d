"""The tutorial's commands and code, and the site of the documents."""

import os
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pyvista
import yaml
from PIL import Image

import tutorial_pictures
from cardiocohort.cohort.table import read_cohort
from heart_anatomy import HEART
from workflow_runs import REPOSITORY, job_counts, snakemake

DOCS = REPOSITORY / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text()
COMMANDS = re.findall(r"```bash\n(.*?)```", TUTORIAL, re.DOTALL)
CODE = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
ARMS = ("control", "ph")


def arguments(block: str) -> list[str]:
    """What a block `make run <target> ARGS="..."` gives to Snakemake, by the rules of shell and make."""
    program, goal, *words = shlex.split(block.replace("\\\n", " "))
    assert (program, goal) == ("make", "run")
    (given,) = (word.removeprefix("ARGS=") for word in words if word.startswith("ARGS="))
    given = given.replace("config/experiments", str(REPOSITORY / "config/experiments"))
    return [*(word for word in words if "=" not in word), *shlex.split(given)]


@pytest.mark.parametrize("block", COMMANDS, ids=range(len(COMMANDS)))
def test_every_command_of_the_tutorial_can_be_planned(block, tmp_path):
    """From another folder, where nothing is made yet, with the shipped prior."""
    run = snakemake(tmp_path, *arguments(block), *([] if "--dry-run" in block else ["--dry-run"]))
    assert run.returncode == 0, run.stdout
    jobs = job_counts(run.stdout)
    assert jobs["generate_anatomies"] == 4
    simulated = "simulate" in block or "trial" in block
    assert jobs.get("simulate_hearts", 0) == (8 if simulated else 0)
    assert jobs.get("analyse_trial", 0) == ("trial" in block)


def test_the_table_of_the_tutorial_is_that_of_the_experiment():
    arms = read_cohort(REPOSITORY / "config/experiments/pulmonary_hypertension.tsv", HEART)
    frame = pd.read_csv(
        REPOSITORY / "config/experiments/pulmonary_hypertension.tsv", sep="\t", dtype=str
    ).fillna("")
    assert tuple(arm.name for arm in arms) == ARMS
    for _, row in frame.iterrows():
        cells = (row[name] for name in ("arm", "n", "sex", "condition", "age", "bsa", "matched"))
        assert "|" + "".join(f" {cell} |" if cell else " |" for cell in cells) in TUTORIAL
    config = yaml.safe_load((REPOSITORY / "config/experiments/pulmonary_hypertension.yaml").read_text())
    assert config["arms"]["ph"]["meshing"]["rv_wall_mm"] == 7
    assert "8 mm instead of 7 mm" in TUTORIAL


def test_the_code_of_the_tutorial_runs_on_the_files_of_a_cohort(tmp_path, monkeypatch, capsys):
    cohort = tmp_path / "results/cohorts/pulmonary_hypertension"
    (cohort / "meshes/ph-0000").mkdir(parents=True)
    columns = ("subject", "status", "left_ventricle_volume_ml", "right_ventricle_volume_ml")
    rows = [("ph-00000", "accepted", 91.5, 180.5), ("ph-00001", "rejected", 77.25, 170.5)]
    pd.DataFrame(rows, columns=columns).to_csv(cohort / "subjects.tsv", sep="\t", index=False)
    grid = pyvista.ImageData(dimensions=(4, 4, 4)).cast_to_unstructured_grid()
    grid["wall_mm"] = np.arange(grid.n_cells, dtype=float)
    grid.save(cohort / "meshes/ph-0000/ph-00000.vtu")
    monkeypatch.chdir(tmp_path)
    for code in CODE:
        exec(code, {})
    printed = capsys.readouterr().out
    assert "ph-00000" in printed
    assert "ph-00001" not in printed
    assert np.asarray(Image.open(cohort / "ph-00000.png")).std() > 0


def test_the_command_for_pictures_takes_the_tutorials_code(tmp_path):
    cohort, docs = tmp_path / "cohort", tmp_path / "docs"
    (cohort / "meshes/ph-0000").mkdir(parents=True)
    docs.mkdir()
    grid = pyvista.ImageData(dimensions=(4, 4, 4)).cast_to_unstructured_grid()
    grid["wall_mm"] = np.arange(grid.n_cells, dtype=float)
    grid.save(cohort / "meshes/ph-0000/ph-00000.vtu")
    assert tutorial_pictures.take(cohort, "ph-00000", docs) == [docs / "heart_cut.png"]
    (cohort / "trial").mkdir()
    Image.new("RGB", (1900, 400), "white").save(cohort / "trial/forest.png")
    assert tutorial_pictures.take(cohort, "ph-00000", docs) == [docs / "heart_cut.png", docs / "forest.png"]
    assert Image.open(docs / "forest.png").width == tutorial_pictures.WIDTH
    assert np.asarray(Image.open(docs / "heart_cut.png")).std() > 0


def test_pictures_of_the_documents_are_small_and_described():
    pages = {page: page.read_text() for page in DOCS.glob("**/*.md")}
    shown = {
        (page.parent / name).resolve(): words
        for page, text in pages.items()
        for words, name in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    }
    # an animation with a still for print and for readers who prefer less motion
    shown |= {
        (page.parent / name).resolve(): re.search(r'alt="([^"]*)"', one)[1]
        for page, text in pages.items()
        for one in re.findall(r"<picture>.*?</picture>", text, re.DOTALL)
        for name in re.findall(r'(?:src|srcset)="([^"]+)"', one)
    }
    assert all(path.exists() and len(words.split()) > 3 for path, words in shown.items())
    animations = [path.resolve() for path in DOCS.glob("**/*.webp")]
    assert set(animations) <= set(shown)
    assert all(path.stat().st_size < 1_000_000 for path in animations)
    pictures = [path.resolve() for kind in ("png", "jpg") for path in DOCS.glob(f"**/*.{kind}")]
    assert set(pictures) <= set(shown)
    assert all(path.stat().st_size < 200_000 for path in pictures)
    assert sum(path.stat().st_size for path in (DOCS / "validation/pages").iterdir()) < 1_500_000


# ---- the site


def site() -> dict:
    """mkdocs.yml, without the one entry that names a function."""
    return yaml.safe_load(re.sub(r"!!python\S+ ", "", (REPOSITORY / "mkdocs.yml").read_text()))


def leaves(entries) -> list[str]:
    """Pages of a navigation, in its order."""
    if isinstance(entries, str):
        return [entries]
    entries = entries.values() if isinstance(entries, dict) else entries
    return [leaf for entry in entries for leaf in leaves(entry)]


def test_every_page_is_in_the_navigation_once():
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md"))
    assert sorted(leaves(site()["nav"])) == pages


def test_the_site_uses_no_network():
    settings = site()
    assert settings["theme"]["font"] is False
    assert "offline" in settings["plugins"]
    for address in settings["extra"]["polyfills"]:
        assert (DOCS / address).is_file()


@pytest.mark.parametrize(
    ("page", "markdown", "expected"),
    [
        ("a.md", "[LICENSE](../LICENSE) is", "`LICENSE` is"),
        ("a.md", "[see](../tests/conftest.py#x)", "see (`tests/conftest.py`)"),
        ("validation/a.md", "[up](../a.md) [P](../../Makefile)", "[up](../a.md) P (`Makefile`)"),
        ("a.md", "[gone](../nowhere.md)", "[gone](../nowhere.md)"),
        ("a.md", "![picture](../LICENSE)", "![picture](../LICENSE)"),
    ],
)
def test_links_out_of_the_site_become_paths(page, markdown, expected):
    hook = {}
    exec((DOCS / "site_links.py").read_text(), hook)
    place = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert hook["on_page_markdown"](markdown, place, {"docs_dir": os.fspath(DOCS)}, None) == expected
