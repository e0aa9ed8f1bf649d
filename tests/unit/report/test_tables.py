"""Manifest, comparison of targets and achieved, selection, reference values and the page."""

import base64
import json
import re
import shutil
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import analyse_trial
import pdf_text
import report_cohort
import write_manifest
import write_report
from cardiocohort.anatomy import domains, moments
from cardiocohort.anatomy.bundle_metadata import read_anatomy, trained_on
from cardiocohort.cohort import stage_tables, subject_columns
from cardiocohort.cohort.covariates import known
from cardiocohort.cohort.grammar import Edit
from cardiocohort.cohort.table import Arm
from cardiocohort.config.check import complete
from cardiocohort.metrics.agreement import agreement, error_table, errors_by_subject
from cardiocohort.plotting import pages
from cardiocohort.report import acceptance, gallery, reference_values
from cardiocohort.report import page as report_page
from cardiocohort.report.baseline_table import baseline_table
from cardiocohort.report.cohort_tables import CohortTables, read_cohort_tables, requests
from cardiocohort.report.further_attributes import further_attributes
from cardiocohort.report.manifest import COLUMNS, manifest
from cardiocohort.report.summary import summarise
from cardiocohort.report.trial_section import Trial, read_trial
from cardiocohort.runtime import tables
from cardiocohort.runtime.artifacts import sha256
from cardiocohort.runtime.errors import InputError
from cardiocohort.simulation import calibration
from cardiocohort.simulation.calibration import Calibration
from cardiocohort.simulation.pairs import QUANTITIES, summary
from cardiocohort.simulation.scaling import Scaling
from headless_chromium import SOFTWARE_GL, Chromium, needs_chromium
from heart_anatomy import HEART
from simulated_runs import failed_run, write_run, write_table
from workflow_runs import REPOSITORY, make_bundle

VIEWER_LIBRARY = REPOSITORY / "resources/viewer/three.min.js"
REFERENCE = REPOSITORY / "resources/reference/reference_values.tsv"
HEALTHY, DILATED = report_cohort.ARMS
TRIAL_TABLES = ("baseline", "contrasts", "power", "sample_sizes", "missing", "correlations")
TRIAL_FIGURES = ("forest", "distributions", "power", "correlations")
SEEDS = {f"{HEALTHY}-0000": 7, f"{DILATED}-0000": 8}
ARM_SETTINGS = {DILATED: {"meshing": {"rv_wall_mm": 6.0, "rv_wall_segments_mm": {"mid_lateral": 7.0}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cohort")


@pytest.fixture(scope="module")
def paths(folder):
    return report_cohort.write_cohort(folder)


@pytest.fixture(scope="module")
def cohort(paths):
    return read_cohort_tables(**paths)


@pytest.fixture(scope="module")
def made(cohort):
    return manifest(cohort, SEEDS, ARM_SETTINGS)


def test_every_requested_subject_has_one_row_with_where_it_ended(made):
    ended = made.set_index("subject")[["status", "stage", "reason"]]
    assert len(ended) == 8
    assert ended.index.is_unique
    for arm in report_cohort.ARMS:
        assert tuple(ended.loc[f"{arm}-00000"]) == ("accepted", "inputs", "")
        assert tuple(ended.loc[f"{arm}-00003", ["status", "stage"]]) == ("rejected", "topology")
    assert ended.loc[f"{HEALTHY}-00003", "reason"].startswith("lv_leak: 5 mm2")
    assert tuple(ended.loc[f"{HEALTHY}-00002"]) == ("rejected", "meshing", "surface not closed")
    assert tuple(ended.loc[f"{DILATED}-00002"]) == ("failed", "generation", "sampling diverged")


def test_the_settings_of_an_arm_are_stated_for_its_subjects_alone(made):
    stated = made.groupby("arm")["arm_settings"].unique().map(list).to_dict()
    assert {arm: [json.loads(text or "{}") for text in texts] for arm, texts in stated.items()} == {
        HEALTHY: [{}],
        DILATED: [ARM_SETTINGS[DILATED]],
    }


def test_seeds_attempts_and_paths(made, folder):
    assert made.groupby("arm")["seed"].unique().map(list).to_dict() == {HEALTHY: [7], DILATED: [8]}
    anatomies = made.loc[made["anatomy"] != "", "anatomy"]
    assert len(anatomies) == 7
    assert all((folder / path).is_file() for path in anatomies)
    accepted = made["status"] == "accepted"
    assert (made["inputs"] != "").equals(accepted)
    assert made.loc[accepted, "n_tets"].notna().all()
    assert made.loc[~accepted, "n_tets"].isna().all()


def test_errors_of_known_targets(made, cohort):
    """Targets are the achieved volumes over 1.1 and centroids 3 mm away."""
    written = made[made["anatomy"] != ""]
    np.testing.assert_allclose(written["volume_error_median_percent"], 10.0)
    np.testing.assert_allclose(written["centroid_error_median_mm"], 3.0)
    np.testing.assert_allclose(written["shape_error_median"], 0.0, atol=1e-12)
    assert made.loc[made["anatomy"] == "", "volume_error_median_percent"].isna().all()


def _rows(structure, volume, rotation=0.0, constrained="size,position,shape"):
    """One subject's row with an ellipsoid turned about z by `rotation` degrees."""
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    found = moments.from_ellipsoid([1.0, 2.0, 3.0], [40.0, 20.0, 15.0], [[c, -s, 0], [s, c, 0], [0, 0, 1]])
    columns = {name: float(value) for name, value in moments.to_columns(found).items()}
    head = {"subject": "a-0", "arm": "a", "structure": structure, "constrained": constrained}
    return head | columns | {"volume_ml": volume, "plausibility": 0.5}


def test_the_worst_error_is_of_constrained_attributes_unsigned():
    targets = pd.DataFrame([
        _rows("aorta", 100.0), _rows("left_ventricle", 100.0),
        _rows("left_atrium", 100.0, constrained="position"), _rows("right_atrium", 100.0, constrained=""),
    ])  # fmt: skip
    achieved = pd.DataFrame([
        _rows("aorta", 80.0), _rows("left_ventricle", 104.0), _rows("left_atrium", 300.0),
        _rows("right_atrium", 500.0),
    ])  # fmt: skip
    errors = errors_by_subject(agreement(targets, achieved)).loc["a-0"]
    assert errors["volume_error_worst_percent"] == pytest.approx(20.0)
    assert errors["volume_error_median_percent"] == pytest.approx(12.0)


def test_a_turned_ellipsoid_has_its_angle_and_norm():
    rows = agreement(
        pd.DataFrame([_rows("aorta", 50.0)]), pd.DataFrame([_rows("aorta", 50.0, rotation=25.0)])
    )
    assert rows["axis_error_deg"][0] == pytest.approx(25.0)
    # eigenvalues a, b in the plane, turned by t: |S - S'| = sqrt(2) |a - b| sin t
    a, b, c = np.array([40.0, 20.0, 15.0]) ** 2
    expected = np.sqrt(2) * (a - b) / (a + b + c) * np.sin(np.radians(25.0))
    assert rows["shape_error"][0] == pytest.approx(expected)
    assert error_table(rows)["axis_error_deg_median"][0] == pytest.approx(25.0)


def test_tables_of_different_runs_are_an_error(paths, tmp_path):
    topology = tables.read_table(paths["topology"][0], stage_tables.TOPOLOGY)
    tables.write_table(tmp_path / "cut.tsv", topology.iloc[1:], stage_tables.TOPOLOGY)
    with pytest.raises(InputError, match=rf"'{HEALTHY}-00000' is not in the topology tables"):
        read_cohort_tables(**paths | {"topology": [str(tmp_path / "cut.tsv"), paths["topology"][1]]})


def _repeated(cohort: CohortTables, n: int) -> CohortTables:
    """The cohort `n` times over, with names of their own."""

    def again(frame):
        copies = pd.concat([frame] * n, ignore_index=True)
        number = np.repeat(np.arange(n), len(frame)).astype(str)
        return copies.assign(subject=copies["subject"] + "x" + number)

    return CohortTables(*(again(getattr(cohort, name)) for name in report_cohort.STAGES))


def test_ten_thousand_subjects_take_seconds(cohort):
    many = _repeated(cohort, 1250)
    start = time.process_time()
    found = manifest(many, SEEDS, {})
    summary = summarise(many, found, reference_values.read_reference_values(REFERENCE), [], HEART)
    chosen = gallery.chosen(found)
    assert time.process_time() - start < 20
    assert len(found) == 10_000
    assert summary.arms["accepted"].tolist() == [2500, 2500]
    assert len(chosen) <= gallery.MOST


def test_reasons_are_counted_by_rule_in_subjects_and_attempts(made, cohort):
    table = acceptance.by_reason(made, cohort.anatomies).set_index("reason")
    assert tuple(table.loc["lv_leak", ["stage", "subjects", "attempts"]]) == ("topology", 2, 2)
    assert tuple(table.loc["rv_pieces", ["subjects", "attempts"]]) == (2, 0)
    assert table.loc["sampling diverged", "stage"] == "generation"
    assert table["subjects"].sum() == 6


def test_selection_of_the_small_hearts_shows_and_is_warned_of():
    volumes = np.linspace(80.0, 120.0, 101)
    targets = pd.DataFrame(
        [_rows("left_ventricle", v) | {"subject": f"a-{i}"} for i, v in enumerate(volumes)]
    )
    status = np.where(volumes <= 100.0, "accepted", "rejected")
    rows = pd.DataFrame({"subject": targets["subject"], "arm": "a", "status": status, "attempts": 1})
    table = acceptance.selection(targets, rows)
    sd = volumes.std(ddof=1)
    assert table.loc[0, ["requested_n", "accepted_n"]].tolist() == [101, 51]
    assert table.loc[0, "shift"] == pytest.approx(-10.0 / sd)
    assert any("-0.85 SD" in text for text in acceptance.warnings([], targets, rows, table))
    fair = rows.assign(status="accepted")
    assert acceptance.warnings([], targets, fair, acceptance.selection(targets, fair)) == []


def test_far_targets_are_warned_of(made, cohort):
    far = cohort.targets.copy()
    far.loc[(far["arm"] == DILATED) & (far["structure"] == "aorta"), "plausibility"] = 1e-5
    found = [
        text
        for text in acceptance.warnings([], far, made, acceptance.selection(far, made))
        if "outside" in text
    ]
    assert len(found) == 1
    assert DILATED in found[0]
    assert "aorta" in found[0]


def test_published_values_fit_the_people_and_the_units():
    values = reference_values.read_reference_values(REFERENCE)
    women = reference_values.comparable(values, reference_values.Who(("healthy",), ("female",), 2.0))
    assert set(women["sex"]) == {"female", "both"}
    assert women["group"].str.startswith("healthy").all()
    mass = women[women["structure"].eq("myocardium") & women["source"].str.startswith("Kawel")]
    assert mass["mean_ml"].item() == pytest.approx(98 / 1.05)
    atrium = women[women["structure"] == "right_atrium"]
    assert atrium[["mean_ml", "sd_ml"]].to_numpy().tolist() == [[154.0, 22.0]]
    assert not women["structure"].str.contains("vena_cava|ascending").any()
    unknown = reference_values.comparable(values, reference_values.Who((), (), float("nan")))
    assert set(unknown["sex"]) == {"female", "male", "both"}
    assert "right_atrium" not in set(unknown["structure"])


def _manifest_of(statuses: dict[str, list[str]]) -> pd.DataFrame:
    rows = [
        {"subject": f"{arm}-{i}", "arm": arm, "status": status, "anatomy": "" if status == "failed" else "x"}
        for arm, own in statuses.items()
        for i, status in enumerate(own)
    ]
    return pd.DataFrame(rows)


def test_the_gallery_is_bounded_and_shares_places_fairly():
    many = _manifest_of({f"arm{k}": ["accepted"] * 9 + ["rejected"] * 9 + ["failed"] for k in range(40)})
    chosen = gallery.chosen(many)
    assert len(chosen) == len(set(chosen)) == gallery.MOST
    arms = [subject.split("-")[0] for subject in chosen]
    status = many.set_index("subject").loc[chosen, "status"]
    assert (status == "rejected").sum() == gallery.MOST // 4
    accepted = [arm for arm, s in zip(arms, status, strict=True) if s == "accepted"]
    assert len(set(accepted)) == len(accepted)

    few = _manifest_of({"a": ["accepted"] * 9 + ["rejected"], "b": ["rejected", "failed"]})
    assert gallery.chosen(few) == ["a-0", "a-1", "a-2", "a-3", "a-9", "b-0"]


class Checked(HTMLParser):
    """Collects what a page is made of; fails at a tag that closes what is not open."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], set(), []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids |= {value for key, value in attrs if key == "id"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


class Named(list):
    """Snakemake's list of files with names."""

    def __getattr__(self, name):
        return self.named[name]

    def __getitem__(self, key):
        return self.named[key]

    def get(self, name, default=None):
        return self.named.get(name, default)


def named(**entries):
    found = Named(entries.values())
    found.named = entries
    return found


def write_trial(folder: Path) -> list[str]:
    """Tables and figures of a trial of two arms of six hearts, as its script writes them."""
    hearts = pd.DataFrame({
        "subject": (names := [f"{arm}-{k}" for arm in (HEALTHY, DILATED) for k in range(6)]),
        "cluster": names, "arm": np.repeat([HEALTHY, DILATED], 6), "status": "accepted",
        "age_years": [44.0, 51, 60, 47, 55, 63, 49, 58, 45, 61, 66, 52],
        "left_ventricle_volume_ml": [100.0, 108, 111, 97, 104, 120, 190, 204, 180, 215, 220, np.nan],
    })  # fmt: skip
    hearts.to_parquet(folder / "subjects.parquet")
    covariates = {"age_years": known()["age_years"]}
    columns = subject_columns.columns(("left_ventricle",), covariates, {})
    columns = {name: columns[name] for name in hearts}
    (folder / "subjects.schema.json").write_text(json.dumps(subject_columns.dictionary(columns)))
    settings = {"primary": {"left_ventricle_volume_ml": {}}, "resamples": 100, "adjust_for": ["age_years"]}
    endpoints = complete({"endpoints": settings})
    output = {name: f"{folder}/trial/{name}.tsv" for name in TRIAL_TABLES}
    output |= {f"{name}_figure": f"{folder}/trial/{name}.png" for name in TRIAL_FIGURES}
    files = {"subjects": f"{folder}/subjects.parquet", "dictionary": f"{folder}/subjects.schema.json"}
    params = SimpleNamespace(endpoints=endpoints["endpoints"], reference=HEALTHY)
    analyse_trial.main(SimpleNamespace(input=named(**files), output=named(**output), params=params))
    return list(output.values())


def write_page(folder: Path, paths: dict, seeds: dict, arms=(), **further) -> Checked:
    """Run the two scripts as their rules do; the page, parsed. further: input files of the page."""
    bundle = make_bundle(folder / "bundle")
    record = {
        "workflow": {"version": "1", "commit": None},
        "platform": {"python": "3.11", "system": "Linux", "machine": "x86_64"},
        "packages": {"numpy": "2"},
    }
    (folder / "provenance.json").write_text(json.dumps(record))
    table = str(folder / "manifest.tsv")
    write_manifest.main(
        SimpleNamespace(
            input=named(**paths),
            output=named(table=table),
            params=SimpleNamespace(seeds=seeds, arms=ARM_SETTINGS),
        )
    )
    extra = {
        "manifest": table, "reference_values": str(REFERENCE), "bundle": str(bundle / "bundle.json"),
        "anatomy": str(REPOSITORY / "resources/anatomies/heart/anatomy.json"),
        "provenance": str(folder / "provenance.json"), "viewer": str(VIEWER_LIBRARY),
    } | further  # fmt: skip
    names = [
        "acceptance",
        "distributions",
        "wall_thickness",
        "targets_and_achieved",
        "requested_and_accepted",
    ]
    names = names if paths["targets"] else names[:3]
    output = {name: str(folder / "report" / f"{name}.png") for name in names}
    output |= {"gallery": str(folder / "report/gallery.jpg"), "page": str(folder / "report/cohort.html")}
    params = SimpleNamespace(config={"cohort": "trial <1>", "seed": 1, "arms": ARM_SETTINGS}, arms=list(arms))
    write_report.main(SimpleNamespace(input=named(**paths, **extra), output=named(**output), params=params))
    assert all(Path(path).stat().st_size > 3000 for path in output.values())
    return Checked(Path(output["page"]).read_text(encoding="utf-8"))


def test_who_was_not_accepted_is_named_with_the_place_of_the_reasons(paths, tmp_path, caplog):
    table = tmp_path / "manifest.tsv"
    write_manifest.main(
        SimpleNamespace(
            input=named(**paths), output=named(table=str(table)), params=SimpleNamespace(seeds=SEEDS, arms={})
        )
    )
    rows = pd.read_csv(table, sep="\t")
    ended = list(rows.loc[rows["status"] != "accepted", "subject"])
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert ended
    assert line == (
        f"{len(ended)} of {len(rows)} subjects not accepted: {', '.join(ended)}; the reasons are in {table}"
    )


@pytest.fixture(scope="module")
def page(folder, paths):
    """With a trial, with simulations, and the second arm as if it were of siblings of the first."""
    edits = (Edit("aorta", "volume", "multiply", 0.8),)
    siblings = Arm(DILATED, None, {}, None, (), edits, HEALTHY).to_dict()
    batch = folder / f"simulations/{HEALTHY}-0000"
    runs = [write_run(batch, f"{HEALTHY}-00000"), failed_run(f"{HEALTHY}-00001")]
    simulations = [write_table(batch.with_suffix(".tsv"), runs)]
    found = Calibration(
        HEALTHY, "not reached", "lv_ef is 0.5 for 0.6", f"{HEALTHY}-00000", {"lv_ef": 0.6}, {"lv_ef": 0.5},
        0.02, Scaling(tension=4.0),
    )  # fmt: skip
    calibration.write(folder / "calibrations.json", found)
    trial = write_trial(folder)
    comparisons = [f"{folder}/{DILATED}.summary.tsv", f"{folder}/{DILATED}.png"]
    nothing = pd.DataFrame({"verdict": [], **{f"{p}{q}": [] for p in ("", "base_") for q in QUANTITIES}})
    summary(nothing).to_csv(comparisons[0], sep="\t", index=False)
    shutil.copy(trial[-1], comparisons[1])
    table = folder / "cohort.tsv"
    rows = ["# who", "arm\tn\tage\tedits\tbase", f"{HEALTHY}\t4\t40..65\t", "", f"{DILATED}\t4"]
    table.write_text("\n".join(rows) + "\n")
    return write_page(
        folder, paths, SEEDS, [siblings], trial=trial, simulations=simulations, comparisons=comparisons,
        cohort_table=str(table), calibrations=[str(folder / "calibrations.json")],
    )  # fmt: skip


def test_names_that_pandas_takes_for_missing_values_stay(tmp_path):
    table = tmp_path / "cohort.tsv"
    table.write_text("arm\tn\tcondition\tage\nNA\t2\tNone\nnan\t3\tnull\t\n")
    assert requests(table).to_dict("list") == {
        "arm": ["NA", "nan"],
        "n": ["2", "3"],
        "condition": ["None", "null"],
    }


@pytest.fixture(scope="module")
def blank_page(cohort, made):
    """A function: the page's HTML with empty charts. Arguments: entries of the card, portraits, parts."""

    def write(card=None, portraits=(), anatomy=HEART, **parts):
        charts = dict.fromkeys(
            ("acceptance", "requested_and_accepted", "targets_and_achieved", "distributions"), Figure((1, 1))
        ) | {"wall_thickness": Figure((1, 1))}
        record = {"workflow": {"version": "1", "commit": None}, "packages": {}}
        record |= {"platform": dict.fromkeys(("python", "system", "machine"), "x")}
        about = {"bundle": {"name": None, "weights_sha256": None} | (card or {}), "config": {}, "seeds": []}
        values = reference_values.read_reference_values(REFERENCE)
        summary = summarise(cohort, made, values, [], HEART)
        drawn = gallery.Gallery(list(portraits), {})
        return report_page.html(
            "x", summary, charts, drawn, anatomy, about | {"provenance": record}, "", **parts
        )

    return write


def test_a_beat_moves_unless_the_reader_wants_a_still(blank_page, made):
    row = made.to_dict("records")[0]
    still = Image.new("RGB", (4, 2))
    portraits = [
        gallery.Portrait(row | {"subject": name}, {}, {}, beat)
        for name, beat in (("moves", gallery.Beat(b"RIFF", still)), ("rests", None))
    ]
    text = blank_page(portraits=portraits)
    assert text.count('<figure class="beat">') == 1
    assert 'class="moving" src="data:image/webp;base64,UklGRg=="' in text
    assert text.count('class="still" src="data:image/jpeg') == 1
    for name in ("moving", "still"):
        assert re.search(rf'<img class="{name}"[^>]* alt="[^"]*moves[^"]*"', text)
    rule = re.search(r"@media print, \(prefers-reduced-motion: reduce\) \{\n(.*?)\n\}", text, re.S).group(1)
    assert ".beat .moving { display: none; }" in rule
    assert ".beat .still { display: block; }" in rule


@pytest.mark.parametrize(
    ("label_maps", "templates", "words"),
    [
        (
            None,
            {"resources/templates/T1_x.nii.gz": 0.5, "b/T2.nrrd": 0.5},
            "was trained on random deformations of T1_x, T2: shapes vary as random smooth deformations do",
        ),
        (
            None,
            {"resources/atlas/heart.safetensors": 1.0},
            "was trained on hearts drawn from the atlas heart, turned, deformed a little and grown: shapes "
            "vary as the modes of the atlas do, volumes as published distributions do. Shapes beyond these",
        ),
        (
            "my_maps/",
            {"resources/atlas/heart.safetensors": 1.0},
            "was trained on the label maps in my_maps/: shapes and volumes vary as in these label maps.",
        ),
    ],
)
def test_the_page_says_what_the_prior_was_trained_on(blank_page, label_maps, templates, words):
    training = {"label_maps": label_maps, "templates": templates}
    text = " ".join(" ".join(Checked(blank_page({"training": training})).text).split())
    assert f"not a clinical population. The generative prior {words}" in text


def test_the_page_of_another_anatomy_speaks_of_no_published_volumes():
    training = {"label_maps": None, "templates": {"resources/anatomies/aorta/templates/a.nii.gz": 1.0}}
    source, variation = trained_on(training, hearts=False)
    assert source == "random deformations of a"
    assert "volumes log-normally about the templates'" in " ".join(variation.split())
    assert "published" not in variation


def test_the_page_of_another_anatomy_speaks_of_subjects_not_of_hearts(blank_page):
    knee, _ = read_anatomy(REPOSITORY / "resources/anatomies/knee/anatomy.json")
    text = " ".join(" ".join(Checked(blank_page(anatomy=knee)).text).split())
    assert "Subjects generated to meet target moments" in text
    assert "The subjects are not a clinical population" in text
    of_ventricles = "over the accepted hearts of an arm"  # the walls of the fixture's meshes
    assert not re.search(r"(?i)\bhearts?\b(?! frame)", text.replace(of_ventricles, ""))


def test_the_page_says_so_where_the_bundle_does_not_know_its_training(blank_page):
    assert "The bundle does not say what its generative prior was trained on." in blank_page()


def test_the_page_stands_alone_and_is_readable_without_scripts(page, folder):
    assert not any("src" in script for script in page.all("script"))
    assert not page.all("link")
    images = page.all("img")
    # charts, of trial, simulation and pairs too, views of anatomies, bull's-eyes of meshed hearts
    assert len(images) == 5 + 4 + 2 + 1 + 7 * 4 + 4
    assert all(image["src"].startswith("data:image/") and image["alt"].strip() for image in images)
    links = {a["href"] for a in page.all("a")}
    assert {link[1:] for link in links if link.startswith("#")} <= page.ids
    beside = {link for link in links if not link.startswith("#")}
    written = {"../manifest.tsv", "../cohort.tsv", "../provenance.json", "../config.resolved.yaml"}
    written |= {"../trial/contrasts.tsv", "../subjects.tsv", f"../comparisons/{DILATED}.tsv"}
    assert beside == written
    assert sum(len(image["src"]) for image in images) / len(images) * (4 + 24 * 5) < 10e6
    size = (folder / "report/cohort.html").stat().st_size
    assert VIEWER_LIBRARY.stat().st_size + size / 7 * 8 < 15e6


def test_the_page_says_who_was_requested_and_who_was_accepted(page, cohort, made):
    table = baseline_table(cohort, made, HEART).set_index(["arm", "column", "level"])
    women = table.loc[DILATED, "sex", "female"]
    assert (women["requested_count"], women["accepted_count"]) == (4, 2)
    volume = table.loc[HEALTHY, "left_ventricle", ""]
    rows = cohort.targets[
        (cohort.targets["arm"] == HEALTHY) & (cohort.targets["structure"] == "left_ventricle")
    ]
    assert volume["requested_median"] == pytest.approx(rows["volume_ml"].median())
    accepted = made.loc[(made["arm"] == HEALTHY) & (made["status"] == "accepted"), "subject"]
    achieved = cohort.anatomies.set_index(["structure", "subject"]).loc["left_ventricle"].loc[accepted]
    assert volume["accepted_mean"] == pytest.approx(achieved["volume_ml"].mean())
    assert (volume["requested_n"], volume["accepted_n"]) == (4, 2)
    text = " ".join(" ".join(page.text).split())
    assert "Who was requested and who was accepted" in text
    own = '{"rv_wall_mm": 6.0, "rv_wall_segments_mm": {"mid_lateral": 7.0}}'
    assert f"dilated cardiomyopathy meshing {own}" in text
    assert "sex: female 4 (100 %) – 4 2 (100 %) – 2" in text


def test_the_page_shows_the_arms_as_the_cohort_table_has_them(page):
    text = " ".join(" ".join(page.text).split())
    assert f"without its empty columns. arm n age {HEALTHY} 4 40..65 {DILATED} 4" in text


def test_the_page_has_a_section_for_a_trial_that_was_run(page, folder):
    text = " ".join(" ".join(page.text).split())
    assert (
        "left ventricle volume ml (primary) dilated cardiomyopathy healthy women unpaired 5, 6 1, 0" in text
    )
    (row,) = pd.read_csv(folder / "trial/contrasts.tsv", sep="\t").to_dict("records")
    low, mid, high = (report_page.figures(row[f"adjusted_{end}"]) for end in ("low", "difference", "high"))
    p = report_page.figures(row["adjusted_p"])
    assert f"{mid} [{low}, {high}] for age years {p} superiority" in text


@pytest.mark.parametrize("name", ["contrasts", "sample_sizes", "missing"])
def test_a_table_of_the_trial_that_is_cut_says_so(page, folder, blank_page, monkeypatch, name):
    monkeypatch.setattr(report_page, "MOST_ROWS", 2)
    found = read_trial(sorted(str(path) for path in (folder / "trial").iterdir()))
    long = {name: pd.concat([found.tables[name]] * 3)}
    shown = blank_page(trial=Trial(found.tables | long, found.figures))
    section = shown[shown.index('<section id="trial">') :]
    assert section[: section.index("</section>")].count("The first 2 rows are shown.") == 1


def test_numbers_are_written_with_a_minus_only_where_they_are_less_than_zero():
    assert [pages.number(v) for v in (-0.04, 0.04, -0.06, float("nan"))] == ["0.0", "0.0", "−0.1", "–"]


def test_the_page_has_sections_for_simulations_and_siblings(page):
    text = " ".join(" ".join(page.text).split())
    assert f"{HEALTHY}-00001 failed simulation did not converge step 3, J < 0 40" in text
    assert "healthy women 2 1 1 0 dilated cardiomyopathy 0 0 0 2" in text
    assert "healthy women LV volume, loaded mL 0.5 ± – 0.5 1" in text
    assert "healthy women 1 basal anterior 1 1.0 ± –" in text
    assert (
        f"Warnings Arm {HEALTHY}: the calibration's targets were not reached: lv_ef is 0.5 for 0.6." in text
    )
    assert f"healthy women LV ejection fraction % 60 50 tension 4 {HEALTHY}-00000 0 not reached" in text
    assert "dilated cardiomyopathy healthy women aorta: volume ×0.8 4" in text
    assert "left_ventricle" not in text


@needs_chromium
def test_a_browser_shows_the_page_on_a_phone_and_on_paper(page, folder, tmp_path):
    """Light, dark and printed: nothing is wider than the window, nothing is loaded, no error is logged."""
    file = folder / "report/cohort.html"
    with Chromium(tmp_path, *SOFTWARE_GL) as browser:
        for scheme in ("light", "dark"):
            browser.open(file, 390, 844, scheme=scheme)
            assert browser.run("document.documentElement.scrollWidth <= 390")
            assert contrast(browser) > 4.5
            seen = browser.picture("#viewer-canvas").reshape(-1, 3).astype(int)
            assert (np.ptp(seen, axis=1) > 60).mean() > 0.15  # hearts have colours, the background none
        browser.call("Emulation.setEmulatedMedia", media="print")
        for selector in ("#viewer", "nav", "button"):
            assert browser.run(f"getComputedStyle(document.querySelector('{selector}')).display") == "none"
        assert contrast(browser) > 4.5
        assert browser.errors == []
        assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}


@needs_chromium
def test_all_tables_are_printed_and_none_is_cut(page, folder, tmp_path):
    """Closed details too, which are closed again afterwards; each page is landscape."""
    file = folder / "report/cohort.html"
    with Chromium(tmp_path, *SOFTWARE_GL) as browser:
        browser.open(file)
        assert browser.run("document.querySelectorAll('details').length") == 3
        # a paper of US Letter size, the shorter of the two, without the margins, in pixels of 1/96 inch
        browser.open(file, width=int((11 - 2 * 12 / 25.4) * 96))
        browser.call("Emulation.setEmulatedMedia", media="print")
        browser.run("dispatchEvent(new Event('beforeprint'))")
        overflow = browser.run(
            "[...document.querySelectorAll('table, pre, figure, dl')]"
            ".map((e) => [e.textContent.trim().slice(0, 40), e.scrollWidth, e.getBoundingClientRect().right])"
            ".filter(([, own, right]) => Math.max(own, right) > innerWidth)"
        )
        assert overflow == []
        browser.run("dispatchEvent(new Event('afterprint'))")
        browser.call("Emulation.setEmulatedMedia", media="")
        pages_ = browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]
        assert browser.run("document.querySelectorAll('details[open]').length") == 0
        assert browser.errors == []
    pdf = base64.b64decode(pages_)
    assert len(pdf) > 100_000
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert boxes
    assert all(float(width) > float(height) for width, height in boxes)
    text = "".join(pdf_text.text_of(pdf).split())
    for hidden in ("anterolateral", "Green-Lagrangestrain", "rv_wall_mm:6.0"):
        assert hidden in text


def contrast(browser) -> float:
    """The least contrast ratio (WCAG 2) of a text in the page against what it stands on."""
    return browser.run("""(() => {
      const parts = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
        const v = c[i] / 255;
        return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      }, 0);
      const ground = (e) => {
        for (; e; e = e.parentElement) {
          const c = parts(getComputedStyle(e).backgroundColor);
          if (c.length === 3 || c[3] === 1) return c;
        }
        return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
      };
      const texts = [...document.querySelectorAll("h1, h2, h3, p, li, th, td, caption, figcaption, dt, dd, "
        + "a, button, label, legend, summary, code, strong, span, pre")];
      return Math.min(...texts.filter((e) => e.textContent.trim() && e.checkVisibility()).map((e) => {
        const [a, b] = [light(parts(getComputedStyle(e).color)), light(ground(e))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      }));
    })()""")


def test_the_page_tells_counts_errors_limits_and_refusals(page):
    text = " ".join(" ".join(page.text).split())
    headline = text[text.index("How it was made") : text.index("Errors are medians")]
    words = (
        "8 requested 4 accepted, with solver inputs 3 rejected by a gate 1 failed 10.0 % median volume error"
    )
    assert words in headline
    assert "3.0 mm median centroid error" in headline
    assert "not for clinical use" in text
    assert "trial <1>" in text
    assert "surface not closed" in text
    assert "2 of 4 subjects were not accepted" in text


def test_the_page_of_the_users_own_label_maps(tmp_path):
    """No targets: the page says so by leaving out what needs them."""
    own = tmp_path / "own"
    page = write_page(own, report_cohort.write_cohort(own, n=2) | {"targets": []}, {})
    assert "trial" not in page.ids
    text = " ".join(" ".join(page.text).split())
    assert "the user's own label maps" in text
    assert "targets" not in page.ids
    assert "Bundle" not in text
    rows = tables.read_table(own / "manifest.tsv", COLUMNS)
    assert rows["seed"].isna().all()
    assert rows["status"].tolist() == ["rejected", "rejected", "failed", "rejected"]


def test_a_cohort_of_which_nobody_is_accepted(tmp_path):
    paths = report_cohort.write_cohort(tmp_path, n=1)
    page = write_page(tmp_path, paths, SEEDS)
    assert "No subject has a mesh." in " ".join(page.text)
    assert (tables.read_table(tmp_path / "manifest.tsv", COLUMNS)["status"] == "rejected").all()


def test_a_label_map_that_changed_is_not_drawn(tmp_path):
    paths = report_cohort.write_cohort(tmp_path, n=1)
    changed = next((tmp_path / "anatomies").rglob("*.nii.gz"))
    before = sha256(changed)
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    assert sha256(changed) != before
    with pytest.raises(InputError, match=changed.name):
        write_page(tmp_path, paths, SEEDS)


def test_what_is_edited_in_vain_is_warned_of(made, cohort):
    edits = tuple(Edit(name, "volume", "multiply", 1.2) for name in ("aorta", "myocardium"))
    arm = Arm(DILATED, 1, {}, None, constraints=(("myocardium", ("size",)),), edits=edits)
    found = acceptance.warnings([arm], cohort.targets, made, acceptance.selection(cohort.targets, made))
    assert sum("aorta.volume is edited" in text for text in found) == 1
    assert not any("myocardium.volume is edited" in text for text in found)


def test_hearts_that_are_far_as_a_whole_are_warned_of(made, cohort):
    far = cohort.targets.assign(heart_plausibility=np.where(cohort.targets["arm"] == DILATED, 1e-9, 0.5))
    found = acceptance.warnings([], far, made, acceptance.selection(far, made))
    assert [text.split(":")[0] for text in found if "together" in text] == [f"Arm {DILATED}"]


def test_relations_and_partial_attributes_have_their_units():
    """A ratio of 1 became 2, a distance of 10 mm 15, a long axis turned by 25 degrees."""
    wanted = pd.DataFrame([
        _rows("aorta", 50.0) | {"constrained": "volume_ratio/left_atrium,orientation,distance/left_atrium"},
        _rows("left_atrium", 50.0) | {"constrained": "size"},
    ])  # fmt: skip
    wanted.loc[1, "centroid_x_mm"] += 10.0
    found = pd.DataFrame([_rows("aorta", 100.0, rotation=25.0), _rows("left_atrium", 50.0)])
    found.loc[1, "centroid_x_mm"] += 15.0
    table = further_attributes(wanted, found).set_index("attribute")
    assert table.loc["volume_ratio", "structure"] == "aorta/left_atrium"
    assert table.loc["volume_ratio", ["target", "achieved", "error_median"]].tolist() == pytest.approx(
        [1, 2, 100]
    )
    assert table.loc["distance", ["target", "achieved", "error_median"]].tolist() == pytest.approx(
        [10, 15, 5]
    )
    assert table.loc["orientation", "error_median"] == pytest.approx(25.0)
    assert np.isnan(table.loc["orientation", "target"])
    assert "size" not in table.index


def test_a_thickness_is_compared_in_mm():
    wanted = pd.DataFrame(
        [_rows("myocardium@front", 20.0) | {"constrained": "thickness", "thickness_mm": 18.0}]
    )
    found = pd.DataFrame([_rows("myocardium@front", 19.0) | {"thickness_mm": 17.5}])
    (row,) = further_attributes(wanted, found).to_dict("records")
    assert (row["attribute"], row["target"], row["achieved"], row["unit"]) == ("thickness", 18.0, 17.5, "mm")
    assert row["error_median"] == pytest.approx(0.5)


def test_an_area_is_compared_in_mm2():
    """Of the slab as it was placed: 10 mm thick."""
    slab = domains.Placed((((0.0, 0.0, 1.0), -4.0, 6.0),), None, 4.0, True)
    place = {"domain": domains.to_text(slab)}
    wanted = pd.DataFrame([_rows("aorta@slab", 6.0) | {"constrained": "area"} | place])
    (row,) = further_attributes(wanted, pd.DataFrame([_rows("aorta@slab", 6.3) | place])).to_dict("records")
    assert (row["attribute"], row["unit"]) == ("area", "mm2")
    assert (row["target"], row["achieved"]) == (pytest.approx(600.0), pytest.approx(630.0))
    assert row["error_median"] == pytest.approx(30.0)


def test_the_table_of_constrained_structures_omits_the_free_ones():
    rows = agreement(
        pd.DataFrame([_rows("aorta", 50.0) | {"constrained": "position"}]),
        pd.DataFrame([_rows("aorta", 80.0)]),
    )
    row = error_table(rows).loc[0]
    assert row["centroid_error_mm_median"] == pytest.approx(0.0)
    assert np.isnan(row["volume_error_percent_median"])
    assert np.isnan(row["axis_error_deg_median"])


def test_a_mesh_that_was_refused_has_its_figure(cohort):
    meshes = cohort.meshes.assign(
        reason=cohort.meshes["reason"].replace("surface not closed", "mesh gate: p1_scaled_jacobian"),
        detail=np.where(cohort.meshes["verdict"] == "rejected", "0.1996 is below 0.2", ""),
    )
    rows = manifest(replace(cohort, meshes=meshes), SEEDS, {})
    ended = rows.loc[rows["stage"] == "meshing", "reason"].tolist()
    assert ended == ["mesh gate: p1_scaled_jacobian (0.1996 is below 0.2)"]
    assert "mesh gate: p1_scaled_jacobian" in set(acceptance.by_reason(rows, cohort.anatomies)["reason"])
