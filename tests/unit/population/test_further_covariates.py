"""Covariates beyond sex, age, size and condition, from reference and cohort table to targets."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiocohort.anatomy.moments import from_vector
from cardiocohort.cohort import people
from cardiocohort.cohort.covariates import Covariate, Distribution, known
from cardiocohort.cohort.people import check_trial
from cardiocohort.cohort.table import read_cohort
from cardiocohort.population.covariates import draw_person
from cardiocohort.population.model import fit
from cardiocohort.population.plausibility import population_for, warnings_of
from cardiocohort.population.reference import Reference, read_reference
from cardiocohort.population.siblings import bases_of_tables, sibling_targets
from cardiocohort.population.targets import drawn_targets
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART, HEART_GRID
from synthetic_population import K, arm, fixed, reference_frame, structure_rows
from workflow_runs import COLUMNS

SD = 0.05  # of log volumes about their mean


def reference_of(covariates: list[Covariate], table: pd.DataFrame, log_volume: np.ndarray, rng) -> Reference:
    """A population of one structure whose log volume is given, with residuals."""
    vectors = SD * rng.standard_normal((len(table), 1, 10))
    vectors[:, 0, 0] += log_volume
    return Reference(("a",), from_vector(vectors), table, known() | {c.column: c for c in covariates})


def numeric(name: str, transform: str, low=1e-9, high=1e9) -> Covariate:
    return Covariate(name, name, "numeric", "", low, high, transform)


# the model


@given(
    seed=st.integers(0, 2**32 - 1),
    numbers=st.lists(
        st.tuples(st.sampled_from(["identity", "log"]), st.floats(-6, 6), st.floats(0.02, 0.4)), max_size=4
    ),
    levels=st.lists(st.integers(2, 4), max_size=2),
)
@settings(max_examples=40, deadline=None)
def test_the_model_finds_any_linear_relation(seed, numbers, levels):
    """Slopes of numbers of any unit and effects of levels, and the mean of everybody, within five errors."""
    rng, n = np.random.default_rng(seed), 200
    covariates, table, log_volume, slopes = [], pd.DataFrame(index=range(n)), np.full(n, 4.0), []
    for k, (transform, decade, spread) in enumerate(numbers):
        values = 10.0**decade * np.exp(spread * rng.standard_normal(n))
        covariates.append(numeric(f"x{k}", transform))
        table[f"x{k}"] = values
        slopes.append(rng.normal() / (1.0 if transform == "log" else 10.0**decade))
        log_volume += slopes[k] * _transformed(values, transform)
    for k, count in enumerate(levels):
        covariates.append(Covariate(f"c{k}", f"c{k}", "categorical"))
        index = np.r_[np.arange(count), rng.integers(count, size=n - count)]
        table[f"c{k}"] = np.array([f"level{i}" for i in index])
        log_volume += rng.normal(size=count)[index]
    reference = reference_of(covariates, table, log_volume, rng)
    model = fit(reference, ("a",))
    design = reference.regression.design(table, n)
    assert design.shape[1] == 1 + len(numbers) + sum(count - 1 for count in levels)
    leverage = np.sum(np.linalg.qr(design)[0] ** 2, axis=1)
    persons = table.to_dict("records")
    found = np.array([model.given(person).mean[0] for person in persons])
    assert np.abs((found - log_volume) / (SD * np.sqrt(leverage))).max() < 5.5
    for k, (transform, _, _) in enumerate(numbers):  # of a tenth more of one covariate, whoever has it
        person, more = persons[k], persons[k] | {f"x{k}": 1.1 * persons[k][f"x{k}"]}
        rows = [reference.regression.design({c: [v] for c, v in p.items()}, 1)[0] for p in (person, more)]
        step = rows[1] - rows[0]
        truth = slopes[k] * np.diff(_transformed([p[f"x{k}"] for p in (person, more)], transform))[0]
        error = SD * np.sqrt(step @ np.linalg.solve(design.T @ design, step))
        assert model.given(more).mean[0] - model.given(person).mean[0] == pytest.approx(truth, abs=5 * error)


def _transformed(values, transform: str) -> np.ndarray:
    return np.log(values) if transform == "log" else np.asarray(values)


BODY = [known()[name] for name in ("bsa_m2", "height_cm", "weight_kg", "bmi")]


@pytest.fixture(scope="module")
def bodies() -> Reference:
    """Body sizes rounded as they are written, of which a heart follows the area."""
    rng, n = np.random.default_rng(7), 400
    height = rng.normal(172.0, 9.0, n).round()
    weight = (25.0 * np.exp(0.15 * rng.standard_normal(n)) * (height / 100.0) ** 2).round(1)
    table = pd.DataFrame({
        "bsa_m2": np.sqrt(height * weight / 3600.0).round(2), "height_cm": height, "weight_kg": weight,
        "bmi": (weight / (height / 100.0) ** 2).round(1),
    })  # fmt: skip
    return reference_of(BODY, table, 1.3 * np.log(np.sqrt(height * weight / 3600.0)), rng)


def test_sizes_that_determine_each_other_leave_means_that_are_right(bodies):
    """Least squares on all four would give slopes of rounding; weight and body-mass index are derived."""
    regression, model = bodies.regression, fit(bodies, ("a",))
    assert [r.covariate.column for r in regression.kept] == ["bsa_m2", "height_cm"]
    assert [(d.regressor.covariate.column, d.others) for d in regression.derived] == [
        ("weight_kg", ("bsa_m2", "height_cm")), ("bmi", ("bsa_m2", "height_cm")),
    ]  # fmt: skip
    assert all(0 < d.own_variance < 1e-3 for d in regression.derived)
    error = 5 * SD * np.sqrt(6 / 400)
    for bsa, height in ((1.5, 160.0), (1.9, 175.0), (2.3, 185.0)):
        person = {"bsa_m2": bsa, "height_cm": height, "weight_kg": 50.0, "bmi": 50.0}
        assert model.given(person).mean[0] == pytest.approx(1.3 * np.log(bsa), abs=error)
        whole = regression.completed(person)
        assert (whole["bsa_m2"], whole["height_cm"]) == (bsa, height)
        assert whole["weight_kg"] == pytest.approx(3600.0 * bsa**2 / height, rel=0.01)
        assert whole["bmi"] == pytest.approx(whole["weight_kg"] / (height / 100.0) ** 2, rel=0.01)


def test_an_arm_that_gives_what_others_determine_is_refused(bodies):
    heavy = arm(constraints="", covariates={"weight_kg": 90.0})
    with pytest.raises(
        InputError, match=r"'weight_kg': bsa_m2 and height_cm determine .* give bsa and height"
    ):
        population_for(heavy, bodies)
    people = [draw_person(arm(covariates=c), bodies, np.random.default_rng(1)) for c in ({}, {"bsa_m2": 2.0})]
    rows = bodies.covariates.itertuples(index=False, name=None)
    assert tuple(people[0][name] for name in bodies.covariates) in set(rows)
    assert people[1]["weight_kg"] == pytest.approx(3600.0 * 2.0**2 / people[1]["height_cm"], rel=0.01)
    weight, _ = bodies.regression.remarks(bodies.covariates)
    assert weight.startswith("weight_kg is determined by bsa_m2 and height_cm (R2 0.999")


def test_levels_that_a_group_determines_keep_the_means_of_everybody():
    """Class I is had by the healthy and by no other: three classes, three means, and no fourth effect."""
    rng, n = np.random.default_rng(3), 300
    classes = np.array(["I", "II", "III"])[np.arange(n) % 3]
    table = pd.DataFrame({"condition": np.where(classes == "I", "healthy", "failure"), "nyha": classes})
    effects = pd.Series({"I": 0.0, "II": 0.4, "III": 0.7})
    reference = reference_of([known()[c] for c in table], table, effects[classes].to_numpy(), rng)
    model = fit(reference, ("a",))
    assert len(reference.regression.kept) == 2
    for person in table.drop_duplicates().to_dict("records"):
        mean = model.given(person).mean[0]
        assert mean == pytest.approx(effects[person["nyha"]], abs=5 * SD / np.sqrt(n / 3))
    with pytest.raises(InputError, match="no subject with condition healthy and nyha II"):
        population_for(arm(constraints="", covariates={"condition": "healthy", "nyha": "II"}), reference)


def test_a_constant_covariate_is_named_and_has_no_effect(bodies):
    table = bodies.covariates[["bsa_m2"]].assign(heart_rate_bpm=70.0)
    reference = dataclasses.replace(bodies, covariates=table, known=known())
    assert reference.regression.constant == ("heart_rate_bpm",)
    (remark,) = reference.regression.remarks(table)
    assert remark == "heart_rate_bpm is 70 for every subject, so hearts cannot depend on it"
    assert np.isfinite(fit(reference, ("a",)).coefficients).all()
    for rate in (80.0, Distribution("normal", (70.0, 5.0))):
        with pytest.raises(
            InputError, match=r"'heart_rate_bpm': every subject .* heart_rate_bpm 70, so it can"
        ):
            population_for(arm(constraints="", covariates={"heart_rate_bpm": rate}), reference)
    assert population_for(arm(constraints="", covariates={"heart_rate_bpm": 70.0}), reference)


# the whole way: reference table, cohort table, targets

EFFECT_OF_HEIGHT, EFFECT_OF_CLASS = 1.5, {"I": 0.0, "II": 0.2, "III": 0.5}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """A reference table with height and NYHA class, which the left ventricle follows."""
    frame, rng = reference_frame(300), np.random.default_rng(5)
    height = rng.normal(170.0, 8.0, 300).round()
    classes = np.where(frame["condition"][::K] == "healthy", "I", rng.choice(["II", "III"], 300))
    effect = EFFECT_OF_HEIGHT * np.log(height / 170.0) + pd.Series(EFFECT_OF_CLASS)[classes].to_numpy()
    frame = frame.assign(height_cm=np.repeat(height, K), nyha=np.repeat(classes, K))
    ventricle = (frame["structure"] == "left_ventricle").to_numpy()
    frame.loc[ventricle, "volume_ml"] *= np.exp(effect)
    path = tmp_path_factory.mktemp("clinic") / "reference.tsv"
    frame.to_csv(path, sep="\t", index=False)
    return path


HEADER = f"{COLUMNS}\theight_cm\tnyha\tbase\n"
FAILURE = "female\tdilated_cardiomyopathy\t50\t1.75\t\tleft_ventricle: size"


def trial(tmp_path, *rows):
    path = tmp_path / "trial.tsv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return {one.name: one for one in read_cohort(path, HEART)}


def test_height_and_class_reach_the_targets(tmp_path, clinic):
    arms = trial(
        tmp_path,
        f"ii\t60\t{FAILURE}\t\t160\tII\t",
        f"iii\t60\t{FAILURE}\t\t180\tIII\t",
        f"mixed\t60\t{FAILURE}\t\t165+-5\t70 % II, 30 % III\t",
        f"open\t60\t{FAILURE}\t\t\t\t",
    )
    assert (
        check_trial(arms.values(), "trial.tsv", clinic, tmp_path / "none.tsv", known(), HEART_GRID)[:-1] == []
    )
    reference = read_reference(clinic, HEART)
    targets = {
        name: drawn_targets(one, range(60), 0, population_for(one, reference), 0.95)
        for name, one in arms.items()
    }
    for name, height, level in (("ii", 160.0, "II"), ("iii", 180.0, "III")):
        assert set(targets[name][["height_cm", "nyha"]].itertuples(index=False, name=None)) == {
            (height, level)
        }
    log_volumes = {
        name: np.log(structure_rows(own, "left_ventricle")["volume_ml"]) for name, own in targets.items()
    }
    truth = EFFECT_OF_HEIGHT * np.log(180 / 160) + EFFECT_OF_CLASS["III"] - EFFECT_OF_CLASS["II"]
    # 100 patients say what height and class do, 60 subjects of each arm what is drawn
    error = 0.15 * 1.4 * np.sqrt(2 / 60 + 2 * 4 / 100)
    difference = log_volumes["iii"].mean() - log_volumes["ii"].mean()
    assert difference == pytest.approx(truth, abs=3 * error)
    hearts = targets["mixed"].drop_duplicates("subject")
    assert hearts["height_cm"].mean() == pytest.approx(165, abs=4 * 5 / np.sqrt(60))
    assert (hearts["nyha"] == "II").mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / 60))
    # what is open comes from one person of the reference, who has the arm's sex and condition
    known_rows = set(reference.covariates[["sex", "condition", "height_cm", "nyha"]].itertuples(index=False))
    drawn = set(targets["open"][["sex", "condition", "height_cm", "nyha"]].itertuples(index=False))
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in known_rows}
    assert len(drawn) > 10


def test_a_further_covariate_changes_no_other_that_the_arm_gives(tmp_path, clinic):
    reference = read_reference(clinic, HEART)
    ages = {"sex": "female", "condition": "healthy", "age_years": Distribution("uniform", (40.0, 60.0))}
    tall = ages | {"height_cm": Distribution("normal", (180.0, 4.0))}
    fewer = dataclasses.replace(reference, covariates=reference.covariates.drop(columns="nyha"))
    plain, given, without = (
        drawn_targets(arm(covariates=c), range(4), 0, population_for(arm(covariates=c), r), 0.95)
        for c, r in ((ages, reference), (tall, reference), (tall, fewer))
    )
    assert plain["age_years"].tolist() == given["age_years"].tolist() == without["age_years"].tolist()
    assert given["height_cm"].tolist() == without["height_cm"].tolist()
    assert "nyha" not in without
    classes = {"sex": "female", "nyha": Distribution("shares", (("II", 0.5), ("III", 0.5)))}
    of_tall = {"height_cm": 180.0} | classes
    rngs = ([np.random.default_rng(k) for k in range(40)] for _ in range(2))
    drawn = [
        [draw_person(arm(covariates=c), reference, rng)["nyha"] for rng in own]
        for c, own in zip((classes, of_tall), rngs, strict=True)
    ]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"II", "III"}
    assert list(given.columns[-6:]) == ["sex", "age_years", "bsa_m2", "condition", "height_cm", "nyha"]


def test_siblings_have_the_covariates_of_their_base(tmp_path, clinic):
    reference = read_reference(clinic, HEART)
    arms = trial(
        tmp_path,
        f"ii\t2\t{FAILURE}\t\t160\tII\t",
        "small\t2\t\t\t\t\t\t\tleft_ventricle.volume: x0.5\t\t\tii",
    )
    base = drawn_targets(arms["ii"], range(2), 0, population_for(arms["ii"], reference), 0.95)
    bases = bases_of_tables(arms["small"], range(2), base, base)
    found = sibling_targets(arms["small"], range(2), 0, bases, population_for(arms["small"], reference))
    assert set(found["nyha"]) == {"II"}
    assert set(found["height_cm"]) == {160.0}
    with pytest.raises(InputError, match="column 'nyha': siblings are who their base is"):
        trial(
            tmp_path,
            f"ii\t2\t{FAILURE}\t\t160\tII\t",
            "small\t2\t\t\t\t\t\t\tleft_ventricle.volume: x0.5\t\tII\tii",
        )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("\tIV", r"column 'nyha': 'IV' is not in the reference population; allowed: I, II, III"),
        ("\t50 % II, 50 % IV", "column 'nyha': 'IV' is not in"),
        ("\tI", "no subject with sex female and condition dilated_cardiomyopathy and nyha I"),
    ],
)
def test_what_no_subject_has_is_refused_before_any_job(tmp_path, clinic, cells, message):
    arms = trial(tmp_path, f"ii\t2\t{FAILURE}\t\t{cells}\t")
    with pytest.raises(InputError, match=rf"arm 'ii'.*{message}"):
        check_trial(arms.values(), "trial.tsv", clinic, tmp_path / "none.tsv", known(), HEART_GRID)


def test_heights_beyond_the_population_and_together_unlike_it_are_warned_of(tmp_path, clinic):
    arms = trial(tmp_path, f"tall\t3\t{FAILURE}\t\t230\tII\t")
    found = check_trial(arms.values(), "trial.tsv", clinic, tmp_path / "none.tsv", known(), HEART_GRID)
    assert any("height_cm reaches 230 to 230, outside the reference population's" in text for text in found)
    reference = read_reference(clinic, HEART)
    people = reference.covariates
    size, height = (fixed(people[name].max()) for name in ("bsa_m2", "height_cm"))
    age = fixed(people["age_years"].min())
    odd = arm(covariates={"sex": "female", "bsa_m2": size, "height_cm": height, "age_years": age})
    population = population_for(odd, reference)
    found = warnings_of(odd, drawn_targets(odd, range(3), 0, population, 0.95), population, HEART_GRID)
    assert any("of 3 subjects are together unlike those of anybody in the" in text for text in found)


def test_the_population_is_described_with_every_covariate(clinic):
    found = people.read_people(clinic, known())
    summary = people.described(found, known())
    assert list(summary.columns[:7]) == list(people.SUMMARY)
    whole = summary.iloc[-1]
    assert (whole["height_cm_min"], whole["height_cm_max"]) == (
        found["height_cm"].min(), found["height_cm"].max(),
    )  # fmt: skip
    counts = found["nyha"].value_counts()
    assert whole["nyha"] == f"I: {counts['I']}, II: {counts['II']}, III: {counts['III']}"
    assert "height, cm" in people.markdown(summary, known())
