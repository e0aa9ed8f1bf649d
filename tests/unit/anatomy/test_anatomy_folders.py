"""Anatomies as folders: what ships, what is refused, and that no stage knows a structure by name."""

import ast
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cardiocohort import topology
from cardiocohort.anatomy import folder
from cardiocohort.anatomy.bundle_metadata import RESERVED_NAMES, read_anatomy
from cardiocohort.anatomy.label_map import check_labels_apart, read_label_map
from cardiocohort.anatomy.labels import Grid
from cardiocohort.cohort.grammar import DEFAULT, parse_constraints
from cardiocohort.config.check import check_hearts_only, complete, of_default_table
from cardiocohort.mesh.label_model import OUTSIDE
from cardiocohort.meshing.chambers import CHAMBERS
from cardiocohort.prior import reference_population
from cardiocohort.runtime.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path.parent for path in (REPOSITORY / "resources/anatomies").glob("*/anatomy.json"))
TEMPLATES = sorted((REPOSITORY / "resources/anatomies").glob("*/templates/*.nii.gz"))
AORTA, HEART = (REPOSITORY / "resources/anatomies" / name for name in ("aorta", "heart"))
ATLAS = REPOSITORY / "resources/atlas/heart.safetensors"
LIBRARY = REPOSITORY / "workflow/scripts/cardiocohort"
ROOMS = ("population", "generation", "topology", "label_maps", "report")
OF_HEARTS = "hearts only"  # in the docstring of a module
# words of structures' names that name none
COMMON = {"left", "right", "superior", "inferior", "ascending", "descending", "thoracic", "arch", "vein",
          "artery", "l2", "l3", "l4", "l5"}  # fmt: skip
# other words of a heart's, a knee's or a spine's parts: abbreviations, walls, layers, valves and adjectives
# (not "ra": RAS is a frame)
PARTS_OF_THEM = {
    "lv", "rv", "lvot", "rvot", "septum", "septa", "septal", "valve", "valvular", "mitral", "tricuspid",
    "annulus", "ventricular", "biventricular", "atria", "atrial", "myocardial", "endocardium", "endocardia",
    "endocardial", "epicardium", "epicardial", "pericardium", "papillary", "coronary", "systole", "systolic",
    "diastole", "diastolic", "ejection", "cardiac", "apex", "apical", "aortic", "vertebral", "femoral",
    "tibial", "patellar", "meniscus", "menisci", "cartilage", "lumbar",
}  # fmt: skip
# names in the tables of every user: a kind of repair, and the quantity of published volumes
VOCABULARY = ("valve_perforation", "end_diastolic_volume")


def names():
    """Words that name structures of the shipped anatomies."""
    structures = [name for one in SHIPPED for name in read_anatomy(one / "anatomy.json")[0].structures]
    return {word for name in structures for word in name.split("_")} - COMMON


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_that_serves_every_anatomy_names_a_structure(room):
    words = sorted(names() | PARTS_OF_THEM)
    pattern = re.compile(rf"(?<![a-z])({'|'.join(words)})s?(?![a-z])", re.IGNORECASE)
    found = []
    for path in sorted((LIBRARY / room).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if OF_HEARTS not in (ast.get_docstring(ast.parse(text)) or ""):
            lines = enumerate(re.sub("|".join(VOCABULARY), "", text).splitlines(), start=1)
            found += [f"{path.name}:{n}: {line.strip()}" for n, line in lines if pattern.search(line)]
    assert not found, "\n".join(found)


def test_four_anatomies_ship_with_their_rules():
    assert [one.name for one in SHIPPED] == ["aorta", "heart", "knee", "spine"]
    for one in SHIPPED:
        folder.check_folder(one)
        anatomy, _ = read_anatomy(one / "anatomy.json")
        assert topology.load_rules(one / "topology.tsv", anatomy).checks
        assert {name for name, _ in anatomy.colours} == set(anatomy.structures)
        assert folder.of_hearts(anatomy) == (one.name == "heart")
        usual = folder.read_constraints(one / "anatomy.json")
        assert len(parse_constraints("default", anatomy, defaults=usual)) >= 3


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parts[-3]}-{path.name.split('.')[0]}")
def test_templates_pass_their_gate_and_lie_about_their_centre(path):
    anatomy, grid = read_anatomy(path.parents[1] / "anatomy.json")
    rules = topology.load_rules(path.parents[1] / "topology.tsv", anatomy)
    label_map = read_label_map(path, anatomy)
    assert topology.examine(label_map.labels, grid.spacing_mm, anatomy, rules).reasons == ()
    assert label_map.labels.shape == grid.shape
    centre = np.argwhere(np.isin(label_map.labels, [anatomy.label(n) for n in anatomy.centred_on])).mean(0)
    assert abs(centre - (np.array(grid.shape) - 1) / 2).max() < 1, (
        "a voxel: it was centred before it was resampled"
    )


def test_templates_of_any_anatomy_are_deformed_and_pass_the_gate(tmp_path):
    anatomy, grid = read_anatomy(AORTA / "anatomy.json")
    templates = {str(AORTA / "templates/hra_female.nii.gz"): 1.0}
    variation = folder.read_variation(AORTA / "anatomy.json")
    source = reference_population.open_source(
        anatomy, grid, AORTA / "topology.tsv", templates, None, 1, None, variation
    )
    made = [reference_population.work_deformed(source, tmp_path / f"{i}.nii.gz", (i,)) for i in range(3)]
    volumes = np.array([record["moments"]["volume_ml"] for record in made])
    assert (volumes.std(axis=0) / volumes.mean(axis=0) > 0.02).all(), "they differ in size"
    assert all("sex" not in record for record in made), "virtual patients are of hearts only"


@pytest.fixture
def own(tmp_path):
    return Path(shutil.copytree(AORTA, tmp_path / "own"))


@pytest.mark.parametrize("name", folder.NEEDED)
def test_a_folder_that_lacks_a_file_is_an_error(own, name):
    (own / name).unlink()
    with pytest.raises(InputError, match=rf"'anatomy'.*has no {re.escape(name)}.*needs anatomy.json and"):
        folder.check_folder(own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["anatomy"].update(colours={"femur": "#ffffff"}), "'#ffffff' of 'femur'"),
        (lambda card: card["anatomy"].update(colours={"aortic_arch": "red"}), "'red' of 'aortic_arch'"),
        (lambda card: card["anatomy"].update(shown=["femur"]), "'shown'"),
        (lambda card: card.update(variation={"together": 3}), "'variation'"),
        (lambda card: card.update(variation={"size": 0.1}), "'variation'"),
        (lambda card: card.update(constraints=["femur: size"]), "'constraints'"),
        (lambda card: card.pop("grid"), "anatomy or grid"),
        (lambda card: card.update(varation={"each": 0.3}), "'varation' is unknown; did you mean 'variation'"),
        (lambda card: card.update(constrains="femur: size"), "'constrains' is unknown; .* 'constraints'"),
        (lambda card: card["anatomy"].update(colors={}), r"'anatomy.colors' is unknown; .*mean 'colours'"),
        (lambda card: card["grid"].update(spacing=3.0), r"'grid.spacing' is unknown; .*mean 'spacing_mm'"),
        (lambda card: card.update(zzz=1), r"'zzz' is unknown; allowed there: format, anatomy, grid"),
        (lambda card: card["anatomy"].update(structures="abc"), r"'structures' is 'abc'.*list of names"),
        (lambda card: card["anatomy"].update(centred_on="aortic_arch"), r"'centred_on' is 'aortic_arch'"),
        (lambda card: card["anatomy"].update(shown="aortic_arch"), r"'shown' is 'aortic_arch'.*list of"),
        (lambda card: card["anatomy"]["structures"].append("outside"), "'outside' is no name .* interfaces"),
        (lambda card: card["anatomy"]["structures"].append("default"), "'default' is no name .* constraints"),
        (lambda card: card["grid"].update(shape=[64, 64, 64.7]), "'shape' is .*whole numbers"),
        (lambda card: card["grid"].update(shape="888"), "'shape' is '888'.*whole numbers"),
    ],
)
def test_what_a_folder_says_is_checked(own, change, message):
    card = json.loads((own / "anatomy.json").read_text())
    change(card)
    (own / "anatomy.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=message):
        folder.check_folder(own)


def test_reserved_names_are_those_that_the_code_gives_a_meaning():
    assert set(RESERVED_NAMES) == {DEFAULT, OUTSIDE}


def test_keys_that_are_allowed_are_those_that_are_read():
    """Every key of the shipped folders is allowed, and `Variation` has the ones of its part."""
    assert set(folder.KEYS["variation"]) == {field.name for field in fields(folder.Variation)}
    for one in SHIPPED:
        folder.check_keys(one / "anatomy.json")


def test_labels_of_another_anatomy_are_an_error():
    aorta, _ = read_anatomy(AORTA / "anatomy.json")
    knee, _ = read_anatomy(REPOSITORY / "resources/anatomies/knee/anatomy.json")
    with pytest.raises(InputError, match=r"another anatomy: femur, .* has ascending_aorta"):
        folder.check_same(knee, aorta, "config key 'bundle': b", AORTA)
    with pytest.raises(InputError, match=r"'prior\.templates'.*another anatomy: myocardium.*aorta' has asc"):
        folder.check_atlas_of(ATLAS, aorta, Grid((96,) * 3, 2.0), AORTA / "anatomy.json")
    map_of_knee = REPOSITORY / "resources/anatomies/knee/templates/hra_male.nii.gz"
    with pytest.raises(InputError, match="label 4 is not in the anatomy"):
        check_labels_apart([map_of_knee], aorta, whole=False)
    with pytest.raises(InputError, match="no voxel of fibula"):
        check_labels_apart([AORTA / "templates/hra_male.nii.gz"], knee, whole=True)


@pytest.mark.parametrize(("cells", "spacing_mm"), [(64, 2.0), (96, 1.5)])
def test_an_atlas_of_another_grid_is_an_error(cells, spacing_mm):
    heart, grid = read_anatomy(HEART / "anatomy.json")
    folder.check_atlas_of(ATLAS, heart, grid, HEART / "anatomy.json")
    other = f"{cells} x {cells} x {cells} voxels of {spacing_mm:g} mm"
    with pytest.raises(InputError, match=rf"on 96 x 96 x 96 voxels of 2 mm; .*json has {other}\. Make"):
        folder.check_atlas_of(ATLAS, heart, Grid((cells,) * 3, spacing_mm), HEART / "anatomy.json")


@pytest.mark.parametrize(
    "content", [b"", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}", b"no atlas of hearts"]
)
def test_a_file_that_is_no_atlas_is_an_error(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    heart, grid = read_anatomy(HEART / "anatomy.json")
    with pytest.raises(InputError, match=r"'k': .*a\.safetensors is no atlas .*`snakemake atlas` makes one"):
        folder.check_atlas_of(tmp_path / "a.safetensors", heart, grid, HEART / "anatomy.json", "k")


@pytest.mark.parametrize("shape", [(60, 60, 60), (64, 64, 48)])
def test_a_grid_that_no_prior_takes_is_an_error(shape):
    with pytest.raises(InputError, match="multiple of 16"):
        folder.check_grid(Grid(shape, 3.0), AORTA)


def test_what_is_made_for_hearts_is_refused_for_others():
    settings = complete({"anatomy": str(AORTA)})
    with pytest.raises(InputError, match=r"'biventricular' is of hearts only.*domain: labels"):
        check_hearts_only(settings, ("ascending_aorta",))
    check_hearts_only(complete({"meshing": {"domain": "labels"}}), ("ascending_aorta",))
    check_hearts_only(settings, folder.OF_HEARTS)
    chambers = complete({"anatomy": str(AORTA), "meshing": {"domain": "four_chamber"}})
    with pytest.raises(InputError, match=r"'four_chamber' needs aorta, left_atrium.*domain: labels"):
        check_hearts_only(chambers, ("ascending_aorta",))
    check_hearts_only(chambers, tuple(CHAMBERS))


def test_an_error_of_the_default_table_says_so_for_another_anatomy():
    others = {"anatomy": str(AORTA)}
    said = of_default_table(complete(others))
    assert "config/cohort.tsv is the default of the config key 'cohort_table', and of hearts" in said
    assert of_default_table(complete({})) == ""
    assert of_default_table(complete(others | {"cohort_table": "mine.tsv"})) == ""


def test_an_anatomy_of_a_stage_is_an_old_key():
    with pytest.raises(InputError, match=r"'prior.anatomy' is now anatomy, a folder"):
        complete({"prior": {"anatomy": "resources/anatomies/heart.json"}})
