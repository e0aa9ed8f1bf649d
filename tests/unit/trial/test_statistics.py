"""The trial's statistics against published worked examples, and against pandas and statsmodels directly."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln
from statsmodels.stats.multitest import multipletests

from cardiocohort.cohort import subject_columns
from cardiocohort.cohort.subject_columns import Column
from cardiocohort.runtime.errors import InputError
from cardiocohort.trial import baseline, correlations, figures, missing, power
from cardiocohort.trial.contrasts import contrasts, p_value
from cardiocohort.trial.endpoints import Endpoint
from cardiocohort.trial.pairing import comparisons, remarks

# Student, "The probable error of a mean", Biometrika 6:1 (1908): hours of sleep gained by ten patients with
# each of two drugs, the data set `sleep` of R. The results are what R prints for `t.test(extra ~ group, data
# = sleep)` (t = -1.8608, df = 17.776) and for the same with `paired = TRUE` (t = -4.0621, df = 9).
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
LOSS = Endpoint("x", "mL", True)


def subjects(siblings: bool = False, **arms) -> pd.DataFrame:
    """A subject table of these arms' values of `x`; NaN for a heart that was not accepted."""
    first = next(iter(arms))
    rows = [
        {"subject": f"{arm}-{k}", "arm": arm, "cluster": f"{first if siblings else arm}-{k}",
         "status": "rejected" if np.isnan(x) else "accepted", "x": x}
        for arm, values in arms.items() for k, x in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def exact(n: int, mean: float, sd: float) -> np.ndarray:
    """n values with exactly this mean and standard deviation."""
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


def compared(frame: pd.DataFrame, endpoint: Endpoint = LOSS, reference: str = "a"):
    return comparisons(frame, [endpoint], reference)


def row(frame: pd.DataFrame, endpoint: Endpoint = LOSS, reference: str = "a") -> pd.Series:
    return contrasts(compared(frame, endpoint, reference), frame, [], 0.05).iloc[0]


def test_a_heart_that_was_not_accepted_is_missing_though_its_target_is_known():
    frame = subjects(a=[1.0, 2.0, 3.0, 4.0], b=[2.0, 3.0, 5.0, 9.0])
    frame.loc[[1, 4, 5], "status"] = ["rejected", "failed", "base_rejected"]
    (found,) = compared(frame)
    assert found.missing == (2, 1)
    assert sorted(found.arm_values) == [5.0, 9.0]
    assert missing.target_shift(frame.assign(target_x=frame["x"]), "b", "x") < 0


def test_paired_sleep_data_of_student_1908():
    found = row(subjects(siblings=True, b=SLEEP[1], a=SLEEP[0]), reference="b")
    assert found["design"] == "paired"
    assert found["p"] == pytest.approx(0.002833, abs=1e-6)
    difference = found[["difference", "difference_low", "difference_high"]].to_numpy(float)
    np.testing.assert_allclose(difference, [-1.58, -2.4598858, -0.7001142], atol=1e-7)
    assert found["conclusion"] == "shown"


def test_unpaired_sleep_data_of_student_1908():
    found = row(subjects(a=SLEEP[1], b=SLEEP[0]))
    assert found["design"] == "unpaired"
    assert found["p"] == pytest.approx(0.07939, abs=1e-5)
    difference = found[["difference_low", "difference_high"]].to_numpy(float)
    np.testing.assert_allclose(difference, [-3.3654832, 0.2054832], atol=1e-7)
    assert np.isnan(found["ratio"])  # some values are not above 0
    assert found["conclusion"] == "not shown"


def test_equivalence_as_in_lakens_2017():
    """Lakens, Soc Psychol Personal Sci 8:355 (2017), and the page of TOSTtwo in his R package TOSTER:
    5.25 +- 0.95 (n 95) and 5.22 +- 0.83 (n 89), bounds d = -0.43 and 0.43: t = -2.69, p = 0.004.
    """
    pooled = np.sqrt((0.95**2 + 0.83**2) / 2)
    endpoint = Endpoint("x", "1", True, "equivalence", 0.43 * pooled)
    frame = subjects(a=exact(89, 5.22, 0.83), b=exact(95, 5.25, 0.95))
    found = row(frame, endpoint)
    assert found["p"] == pytest.approx(0.0039, abs=1e-4)
    assert found["equivalence_high"] < endpoint.margin
    assert stats.t.ppf(found["p"], 181.13) == pytest.approx(-2.69, abs=0.005)


def test_hedges_g_recomputed_from_its_definition():
    """The exact correction is of Hedges, J Educ Stat 6:107 (1981). The variance of large samples is of Hedges
    and Olkin, Statistical methods for meta-analysis (1985), with n1 + n2 - 3.94 instead of n1 + n2.
    """
    n, sd = 50, (4.5, 5.5)
    found = row(subjects(a=exact(n, 100, sd[0]), b=exact(n, 103, sd[1])))
    d, freedom = 3 / np.sqrt((sd[0] ** 2 + sd[1] ** 2) / 2), 2 * n - 2
    g = d * np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    assert found["standardised"] == pytest.approx(g, abs=1e-5)
    half = stats.norm.ppf(0.975) * np.sqrt(2 / n + g**2 / (2 * (2 * n - 3.94)))
    assert found["standardised_high"] - found["standardised_low"] == pytest.approx(2 * half, abs=1e-5)


def test_the_standardised_interval_of_pairs_agrees_with_their_test():
    """Three pairs: the interval is that of the difference over the corrected pooled deviation, by hand."""
    a, b = np.array([141.6, 100.3, 169.0]), np.array([242.9, 143.1, 342.6])
    found = row(subjects(siblings=True, a=a, b=b))
    assert found["design"] == "paired"
    unit = (1 - 3 / (4 * 4 - 1)) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    for end in ("", "_low", "_high"):
        # Hedges' correction is exact there, its usual approximation here
        assert found[f"standardised{end}"] == pytest.approx(unit * found[f"difference{end}"], rel=0.005)
    assert (found["standardised_low"] < 0) == (found["p"] > 0.05)
    equal = row(subjects(siblings=True, a=[1.0, 1.0, 1.0], b=[2.0, 2.0, 2.0]))
    assert np.isnan(equal[["standardised", "standardised_low", "standardised_high"]].to_numpy(float)).all()


@pytest.mark.parametrize(("d", "n"), [(0.2, 393), (0.5, 64), (0.8, 26)])
def test_sample_sizes_of_cohen_1992(d, n):
    """Cohen, "A power primer", Psychol Bull 1992, table 2: mean difference, power 0.80, alpha 0.05."""
    (c,) = compared(subjects(a=exact(30, 0, 1), b=exact(30, d, 1)))
    # the table rounds to the nearest integer, and so may be one below the fewest that reach the power
    assert power.sample_size(c, 0.05, 0.8) in (n, n + 1)


def test_sample_size_of_the_help_page_of_r():
    """`power.t.test(power = .90, delta = 1)`, an example of its help page in R: n = 22.02110."""
    (c,) = compared(subjects(a=exact(30, 0, 1), b=exact(30, 1, 1)))
    assert power.sample_size(c, 0.05, 0.9) == 23
    assert power.formula_power(c, 0.05, 22.02110) == pytest.approx(0.9, abs=1e-6)


def test_a_superiority_margin_moves_the_hypothesis():
    frame = subjects(a=exact(40, 10, 2), b=exact(40, 15, 2))
    (c,) = compared(frame, Endpoint("x", "mL", True, "superiority", 3.0))
    shifted = stats.ttest_ind(frame["x"][40:] - 3.0, frame["x"][:40], equal_var=False)
    assert p_value(c) == pytest.approx(shifted.pvalue)
    (less,) = compared(frame, Endpoint("x", "mL", True, "superiority", -3.0))
    assert p_value(less) == 1.0  # the arm is larger, not smaller


def trial_frame() -> pd.DataFrame:
    """Three arms: a reference, another population, and siblings of the reference; some hearts are missing."""
    rng = np.random.default_rng(5)
    n = 24
    frame = pd.DataFrame({
        "subject": [f"{arm}-{k}" for arm in ("ref", "ph", "sib") for k in range(n)],
        "arm": np.repeat(["ref", "ph", "sib"], n),
        "cluster": [f"{arm}-{k}" for arm in ("ref", "ph", "ref") for k in range(n)],
        "age_years": rng.uniform(40, 70, 3 * n),
        "bsa_m2": rng.normal(1.8, 0.15, 3 * n),
        "sex": rng.choice(["female", "male"], 3 * n),
    })  # fmt: skip
    for name, shift in (("x", 12.0), ("y", 1.0)):
        frame[name] = 60 + 40 * frame["bsa_m2"] + rng.normal(0, 9, 3 * n) + shift * (frame["arm"] == "ph")
        own = frame.loc[frame["arm"] == "ref", name].to_numpy() - 0.3 * shift + rng.normal(0, 3, n)
        frame.loc[frame["arm"] == "sib", name] = own
    lost = [1, 5, 30, 31, 32, 60]
    frame.loc[lost, ["x", "y"]] = np.nan
    return frame.assign(status=np.where(frame["x"].isna(), "rejected", "accepted"))


def test_the_whole_table_recomputed_with_pandas_and_statsmodels():
    frame = trial_frame()
    endpoints = [Endpoint("x", "mL", True), Endpoint("y", "mL", True), Endpoint("z", "mL", False)]
    frame["z"] = frame["x"] ** 2
    found = contrasts(comparisons(frame, endpoints, "ref"), frame, ["age_years", "bsa_m2", "sex"], 0.05)
    found = found.set_index(["endpoint", "arm"])
    ps = {}
    for name in ("x", "y", "z"):
        two = (
            frame[frame["arm"] != "sib"]
            .dropna(subset=[name])
            .assign(in_ph=lambda f: 1.0 * (f["arm"] == "ph"))
        )
        groups = two.groupby("arm")[name]
        mean, se2 = groups.mean(), groups.var() / groups.count()
        t = (mean["ph"] - mean["ref"]) / np.sqrt(se2.sum())
        df = se2.sum() ** 2 / (se2**2 / (groups.count() - 1)).sum()  # Welch and Satterthwaite
        own = found.loc[name, "ph"]
        assert own["difference"] == pytest.approx(mean["ph"] - mean["ref"])
        assert own["p"] == pytest.approx(2 * stats.t.sf(abs(t), df))
        logs = two.assign(log=np.log(two[name])).groupby("arm")["log"].mean()
        assert own["ratio"] == pytest.approx(np.exp(logs["ph"] - logs["ref"]))
        fit = smf.ols(f"{name} ~ in_ph + age_years + bsa_m2 + C(sex)", two).fit(cov_type="HC3", use_t=True)
        assert own["adjusted_difference"] == pytest.approx(fit.params["in_ph"])
        assert own["adjusted_p"] == pytest.approx(fit.pvalues["in_ph"])
        np.testing.assert_allclose(
            own[["adjusted_low", "adjusted_high"]].to_numpy(float), fit.conf_int().loc["in_ph"]
        )
        ps[name, "ph"] = own["p"]

        wide = frame[frame["arm"] != "ph"].assign(pair=frame["subject"].str.split("-").str[1])
        wide = wide.pivot(index="pair", columns="arm", values=name).dropna()
        fit = smf.ols("d ~ 1", pd.DataFrame({"d": wide["sib"] - wide["ref"]})).fit()
        own = found.loc[name, "sib"]
        assert (own["n_arm"], own["missing_arm"]) == (len(wide), 24 - len(wide))
        assert own["difference"] == pytest.approx(fit.params["Intercept"])
        assert own["p"] == pytest.approx(fit.pvalues["Intercept"])
        np.testing.assert_allclose(
            own[["difference_low", "difference_high"]].to_numpy(float), fit.conf_int().loc["Intercept"]
        )
        assert np.isnan(own["adjusted_difference"])
        ps[name, "sib"] = own["p"]
    primary = {key: p for key, p in ps.items() if key[0] != "z"}
    holm = dict(zip(primary, multipletests(list(primary.values()), method="holm")[1], strict=True))
    for key in ps:
        expected = holm.get(key, np.nan)
        assert found.loc[key, "p_holm"] == pytest.approx(expected, nan_ok=True)


def test_holm_by_hand():
    """Holm, Scand J Stat 1979: the k-th smallest of m p values times m - k + 1, never below one before it."""
    frame = trial_frame()
    endpoints = [Endpoint("x", "mL", True), Endpoint("y", "mL", True)]
    found = contrasts(comparisons(frame, endpoints, "ref"), frame, [], 0.05).sort_values("p")
    expected = np.minimum(1, np.maximum.accumulate(found["p"].to_numpy() * np.arange(4, 0, -1)))
    np.testing.assert_allclose(found["p_holm"], expected)


def test_two_arms_of_siblings_are_pairs_of_each_other():
    both = subjects(siblings=True, a=[1, 2, 3], b=[2, 4, 5], c=[0, 1, 4])
    by_arm = {c.arm: c for c in comparisons(both, [LOSS], "b")}
    assert by_arm["c"].paired
    np.testing.assert_allclose(by_arm["c"].differences, [-2, -3, -1])


# ---- hearts that are not independent


def clustered(hearts: int, **arms) -> pd.DataFrame:
    """Arms of cluster means, each with as many hearts; single hearts lie off the mean of their cluster."""
    rng = np.random.default_rng(2)
    parts = []
    for arm, values in arms.items():
        off = rng.normal(0, 0.2, (len(values), hearts))
        off -= off.mean(axis=1, keepdims=True)
        x = (np.asarray(values)[:, None] + off).ravel()
        names = [f"{arm}-{k}" for k in range(len(x))]
        cluster = np.repeat([f"{arm}-{k}.nii.gz" for k in range(len(values))], hearts)
        parts.append(pd.DataFrame({"subject": names, "arm": arm, "cluster": cluster, "x": x}))
    return pd.concat(parts, ignore_index=True).assign(status="accepted")


def test_hearts_of_one_cluster_count_once():
    """More siblings of the same hearts give the same row, except for the number of hearts."""
    values = {"a": exact(6, 10, 2), "b": exact(7, 13, 3)}
    single, many = (row(clustered(n, **values)) for n in (1, 5))
    assert (many["n_arm"], many["n_reference"], many["hearts_arm"], many["hearts_reference"]) == (
        7,
        6,
        35,
        30,
    )
    welch = stats.ttest_ind(values["b"], values["a"], equal_var=False)
    assert many["p"] == pytest.approx(welch.pvalue)
    low, high = welch.confidence_interval()
    assert (many["difference_low"], many["difference_high"]) == pytest.approx((low, high))
    numbers = single.drop(["hearts_arm", "hearts_reference"])
    pd.testing.assert_series_equal(numbers, many[numbers.index])


def test_siblings_of_one_file_alone_have_no_spread():
    frame = clustered(4, a=exact(5, 10, 2), b=[12.0])
    found = row(frame)
    assert found["conclusion"] == "too few hearts"
    assert (found["n_arm"], found["hearts_arm"]) == (1, 4)
    assert found[["difference_low", "p"]].isna().all()
    (said,) = [text for text in remarks(compared(frame)) if text.startswith("b:")]
    assert "4 hearts count as 1" in said


def test_the_error_rate_holds_for_clustered_hearts():
    """Equal arms of ten clusters of four hearts: hearts that count singly are wrong too often."""
    rng = np.random.default_rng(11)
    trials, wrong, naive = 400, 0, 0
    frame = clustered(4, a=np.zeros(10), b=np.zeros(10))
    for _ in range(trials):
        x = np.repeat(rng.normal(size=20), 4) + rng.normal(0, 0.5, 80)
        (c,) = compared(frame.assign(x=x))
        wrong += p_value(c) <= 0.05
        naive += stats.ttest_ind(x[:40], x[40:], equal_var=False).pvalue <= 0.05
    assert wrong / trials == pytest.approx(0.05, abs=0.033)  # three standard errors
    assert naive / trials > 0.2


def test_hearts_without_a_partner_are_left_out_and_named():
    frame = subjects(siblings=True, a=[1.0, 2.0, 3.0, 5.0, 9.0], b=[2.0, 4.0, 5.0])
    (c,) = compared(frame)
    assert (c.paired, c.requested, c.missing, c.left_out) == (True, (3, 3), (0, 0), 2)
    np.testing.assert_allclose(c.differences, [1, 2, 2])
    assert "2 hearts of x have no partner" in remarks([c])[0]


def test_an_endpoint_without_values_or_with_one_alone_is_an_error():
    with pytest.raises(InputError, match="no heart has a value"):
        compared(subjects(a=[np.nan] * 3, b=[np.nan] * 3))
    with pytest.raises(InputError, match="all 4 hearts have the value 3"):
        compared(subjects(a=[3.0, 3.0], b=[3.0, 3.0]))


def test_too_few_hearts_leave_a_row_without_figures():
    found = row(subjects(a=[1.0, 2.0, 3.0], b=[1.0, np.nan, np.nan]))
    assert found["conclusion"] == "too few hearts"
    assert found[["difference", "p", "p_holm", "ratio"]].isna().all()
    assert (found["n_arm"], found["missing_arm"]) == (1, 2)


# ---- power


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    "endpoint",
    [LOSS, Endpoint("x", "mL", True, "superiority", 0.4), Endpoint("x", "mL", True, "equivalence", 1.9)],
    ids=["difference", "margin", "equivalence"],
)
def test_formula_and_resampling_agree_for_normal_hearts(endpoint, paired):
    rng = np.random.default_rng(3)
    a = exact(400, 0, 1)
    b = 0.9 + (a + rng.normal(0, 0.9, 400) if paired else exact(400, 0, 1.1))
    (c,) = compared(subjects(siblings=paired, a=a, b=b), endpoint)
    assert c.paired is paired
    n = int(power.sample_size(c, 0.05, 0.8))
    shown = power.resampled_power(c, 0.05, n, 2000, rng)
    # four standard errors of 2000 trials
    assert shown / 2000 == pytest.approx(power.formula_power(c, 0.05, n), abs=0.036)
    assert power.formula_power(c, 0.05, n) >= 0.8 > power.formula_power(c, 0.05, n - 1)


def test_hearts_to_request_allow_for_rejections():
    frame = subjects(a=exact(20, 0, 1), b=[*exact(10, 1, 1), *[np.nan] * 10])
    curves, sizes = power.power_tables(compared(frame), 0.05, 0.8, 200, 1)
    size = sizes.iloc[0]
    assert size["accepted_share"] == 0.5
    assert size["request_formula"] == 2 * size["n_formula"]
    again = power.power_tables(compared(frame), 0.05, 0.8, 200, 1)[0]
    pd.testing.assert_frame_equal(curves, again)  # the same seed, the same curve
    assert 0.5 < size["n_resampled"] / size["n_formula"] < 2.0


def test_an_effect_of_the_wrong_sign_has_no_sample_size():
    (c,) = compared(
        subjects(a=exact(9, 0, 1), b=exact(9, -1, 1)), Endpoint("x", "mL", True, "superiority", 2.0)
    )
    assert np.isnan(power.sample_size(c, 0.05, 0.8))


# ---- missing hearts


@settings(deadline=None, max_examples=8)
@given(
    shift=st.floats(0.5, 6), lost=st.tuples(st.integers(1, 5), st.integers(0, 5)),
    how=st.sampled_from([("superiority", 0.0), ("superiority", 1.0), ("equivalence", 4.0)]),
)  # fmt: skip
def test_imputing_hearts_beyond_the_tipping_point_changes_the_conclusion(shift, lost, how):
    """The interval of the accepted hearts, moved as hearts imputed at shifted means move the difference."""
    a, b = exact(18, 10, 2), exact(15, 10 + shift, 3)
    frame = subjects(a=[*a, *[np.nan] * lost[0]], b=[*b, *[np.nan] * lost[1]])
    (c,) = compared(frame, Endpoint("x", "mL", True, *how))
    tipping = missing.tipping_shift(c, 0.05)
    shown = p_value(c) <= 0.05
    observed = b.mean() - a.mean()

    def conclusion(delta: float) -> bool:
        """With the missing of b higher by delta and those of a lower by delta."""
        full = [np.append(v, [v.mean() + s * delta] * n) for v, s, n in ((b, 1, lost[1]), (a, -1, lost[0]))]
        moved = full[0].mean() - full[1].mean() - observed
        shifted = subjects(a=a, b=b + moved)
        return p_value(compared(shifted, c.endpoint)[0]) <= 0.05

    ends = [conclusion(sign * 1.001 * tipping) for sign in (1, -1)]
    inside = [conclusion(sign * 0.999 * tipping) for sign in (1, -1)]
    assert inside == [shown, shown]
    assert (not shown) in ends


def test_nothing_missing_has_no_tipping_point_and_lost_targets_are_compared():
    frame = subjects(a=[1.0, 2.0, 3.0, 4.0], b=[2.0, 4.0, np.nan, np.nan])
    frame = frame.rename(columns={"x": "lv_volume_ml"}).assign(lv_target_volume_ml=[1, 2, 3, 4, 2, 4, 9, 9])
    own = comparisons(frame, [Endpoint("lv_volume_ml", "mL", True)], "a")
    table = missing.tipping_points(own, contrasts(own, frame, [], 0.05), frame, 0.05).iloc[0]
    assert table["target_shift_arm_sd"] == pytest.approx((9 - 3) / np.sqrt(2))
    assert np.isnan(table["target_shift_reference_sd"])
    whole = compared(subjects(a=[1.0, 2.0, 4.0], b=[2.0, 3.0, 4.5]))
    assert np.isnan(missing.tipping_shift(whole[0], 0.05))


def test_targets_of_measures_that_follow_from_volumes_and_people():
    """Two of four hearts are lost; areas differ, so that an index shifts otherwise than its volume."""
    area, volume, distance = [1.5, 2.0, 1.6, 1.8], [100.0, 110.0, 150.0, 170.0], [40.0, 42.0, 50.0, 55.0]
    frame = pd.DataFrame({
        "arm": "a", "bsa_m2": area, "myocardium_target_volume_ml": volume,
        "target_distance_aorta_to_myocardium_mm": distance,
    })  # fmt: skip
    targets = {
        "myocardium_volume_ml": volume,
        "myocardium_volume_index_ml_m2": np.divide(volume, area),
        "myocardium_mass_g": np.multiply(1.05, volume),
        "myocardium_mass_index_g_m2": 1.05 * np.divide(volume, area),
        "distance_aorta_to_myocardium_mm": distance,
    }
    for column, values in targets.items():
        measured = subjects(a=[1.0, 2.0, np.nan, np.nan])[["status"]].join(frame)
        measured[column] = [1.0, 2.0, np.nan, np.nan]
        np.testing.assert_allclose(missing.target_of(measured, column), values)
        kept, lost = np.asarray(values)[:2], np.asarray(values)[2:]
        expected = (lost.mean() - kept.mean()) / kept.std(ddof=1)
        assert missing.target_shift(measured, "a", column) == pytest.approx(expected)
    # the mesh has no target, nor has an index without areas, nor a structure that has none
    for column in ("rv_mass_index_g_m2", "lv_cavity_index_ml_m2", "aorta_volume_ml", "myocardium_sphericity"):
        assert missing.target_of(frame, column) is None
    assert missing.target_of(frame.drop(columns="bsa_m2"), "myocardium_mass_index_g_m2") is None
    # hearts of unknown area say nothing about an index
    unknown = measured.assign(bsa_m2=np.nan, myocardium_volume_index_ml_m2=[1.0, 2.0, np.nan, np.nan])
    assert np.isnan(missing.target_shift(unknown, "a", "myocardium_volume_index_ml_m2"))


# ---- baseline, correlations, figures

ABOUT = {
    "sex": Column("sex", "", "sex", "population", "covariate", "text"),
    "age_years": Column("age_years", "years", "age", "population", "covariate"),
    "x": Column("x", "mL", "volume", "generation", "geometry"),
    "y": Column("y", "mL", "volume", "simulation", "function"),
}


def test_the_baseline_is_what_pandas_describes():
    frame = trial_frame()
    table = baseline.baseline(frame, ABOUT, ["sex", "age_years", "x"]).set_index(
        ["arm", "who", "column", "level"]
    )
    for arm, own in frame.groupby("arm"):
        for who, hearts in (("requested", own), ("accepted", own[own["status"] == "accepted"])):
            found = table.loc[arm, who, "age_years", ""]
            described = hearts["age_years"].describe()
            for name, wanted in (
                ("n", "count"),
                ("mean", "mean"),
                ("sd", "std"),
                ("median", "50%"),
                ("q1", "25%"),
            ):
                assert found[name] == pytest.approx(described[wanted])
            women = table.loc[arm, who, "sex", "female"]
            assert women["count"] == (hearts["sex"] == "female").sum()
        lost = table.loc[arm, "requested", "x", ""]
        assert lost["missing"] == own["x"].isna().sum()


def test_the_baseline_has_target_volumes_and_no_targets_of_relations():
    known = subject_columns.columns(("left_ventricle", "right_ventricle"), {}, {})
    names = baseline.names_of(known, ["distance_left_ventricle_to_right_ventricle_mm"])
    assert names == [
        "heart_plausibility", "left_ventricle_target_volume_ml", "right_ventricle_target_volume_ml",
        "distance_left_ventricle_to_right_ventricle_mm",
    ]  # fmt: skip


def test_correlations_are_those_of_ranks_and_a_shift_of_an_arm_is_none():
    frame = trial_frame()
    table = correlations.correlations(frame, ABOUT)
    found = table.iloc[0]
    assert (found["function"], found["geometry"], len(table)) == ("y", "x", 1)
    assert found["rho"] == pytest.approx(frame["x"].corr(frame["y"], method="spearman"))
    rng = np.random.default_rng(0)
    apart = pd.DataFrame(
        {"arm": np.repeat(["a", "b"], 200), "cluster": range(400), **{c: rng.normal(size=400) for c in "xy"}}
    )
    apart[["x", "y"]] += np.where(apart["arm"] == "b", 5.0, 0.0)[:, None]
    found = correlations.correlations(apart, ABOUT).iloc[0]
    assert found["rho"] > 0.6
    assert abs(found["rho_within"]) < 0.2
    assert correlations.correlations(frame.assign(y=np.nan), ABOUT).empty


def test_p_values_of_correlations_count_clusters():
    """Without siblings they are scipy's; copies of the same hearts make nothing more significant."""
    frame = trial_frame()
    single = frame[frame["arm"] == "ph"]
    found = correlations.correlations(single, ABOUT).iloc[0]
    known = single.dropna(subset=["x", "y"])
    assert found["p"] == pytest.approx(stats.spearmanr(known["x"], known["y"]).pvalue)
    assert found["p_within"] == pytest.approx(found["p"])
    twice = correlations.correlations(pd.concat([single, single]), ABOUT).iloc[0]
    assert (twice["n"], twice["clusters"]) == (2 * found["n"], found["n"])
    assert twice["p"] == pytest.approx(found["p"])


def test_figures_are_drawn_with_and_without_hearts():
    frame = trial_frame()
    own = comparisons(frame, [Endpoint("x", "mL", True)], "ref")
    table = contrasts(own, frame, [], 0.05)
    forest = figures.forest(table).axes[0]
    assert [label.get_text() for label in forest.get_yticklabels()] == ["x\nph", "x\nsib"]
    curves, _ = power.power_tables(own, 0.05, 0.8, 100, 1)
    assert len(figures.power(curves, 0.8).axes[0].lines) > 1
    assert figures.distributions(own).axes[0].get_ylabel() == "mL"
    assert figures.correlations(correlations.correlations(frame, ABOUT)).axes[0].images
    few = contrasts(compared(subjects(a=[1.0, 2.0], b=[1.0])), frame, [], 0.05)
    assert "no contrast" in figures.forest(few).axes[0].texts[0].get_text()
    nothing = correlations.correlations(frame.assign(y=np.nan), ABOUT)
    assert "simulate" in figures.correlations(nothing).axes[0].texts[0].get_text()
    figures.power(power.power_tables([], 0.05, 0.8, 100, 1)[0], 0.8)
