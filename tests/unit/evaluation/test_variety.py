"""variety.tsv: ratios of spreads, by structure and entry."""

import numpy as np
import pytest

from cardiocohort.anatomy.moments import Moments
from cardiocohort.evaluation import variety
from cardiocohort.runtime.errors import InputError


def hearts(n: int, spread: float, seed: int) -> Moments:
    """Hearts of two structures whose centroids, volumes and half-axes vary by `spread` units."""
    rng = np.random.default_rng(seed)
    log_axes = np.log([10.0, 20.0, 40.0]) + 0.02 * spread * rng.standard_normal((n, 2, 3))
    covariance = np.zeros((n, 2, 3, 3))
    covariance[..., range(3), range(3)] = np.exp(2 * log_axes)
    return Moments(
        np.exp(4 + 0.1 * spread * rng.standard_normal((n, 2))),
        3 * spread * rng.standard_normal((n, 2, 3)),
        covariance,
    )


def test_ratios_are_those_of_the_spreads():
    """Twice the spread in every entry is a ratio of 2, up to what 2,000 hearts leave (2 SE: 6 %)."""
    rows = variety.table(hearts(2000, 2.0, 0), hearts(2000, 1.0, 1), hearts(2000, 4.0, 9), ("a", "b"), 50, 0)
    # off-diagonal entries of these axis-parallel hearts do not vary
    varied = rows[rows["sd_real"] > 1e-9]
    assert len(varied) == 2 * (3 + 3 + 2 + 1)
    assert varied["ratio"].to_numpy() == pytest.approx(2.0, rel=0.1)
    assert varied["of_population"].to_numpy() == pytest.approx(0.5, rel=0.1)
    assert not varied["within"].any()
    assert ((varied["low"] < varied["ratio"]) & (varied["ratio"] < varied["high"])).all()


def test_principal_axes_are_logs_of_half_lengths():
    found = variety.entries(hearts(4000, 1.0, 2)[:, 0])
    for name in variety.GROUPS["principal axes"]:
        assert found[name].std() == pytest.approx(0.02, rel=0.1)
    assert found["longest"].mean() == pytest.approx(np.log(40.0), abs=0.005)


def test_hearts_without_a_structure_are_left_out_of_its_rows():
    samples, real = hearts(10, 1.0, 3), hearts(10, 1.0, 4)
    samples.volume_ml[:8, 1] = 0.0
    rows = variety.table(samples, real, samples, ("a", "b"), 20, 0)
    assert set(rows["structure"]) == {"a"}  # two samples of b have no spread worth the name
    samples.volume_ml[:8, 1] = 50.0
    samples.volume_ml[:3, 1] = 0.0
    rows = variety.table(samples, real, samples, ("a", "b"), 20, 0)
    assert set(rows.loc[rows["structure"] == "b", "n_samples"]) == {7}


def test_the_groups_are_summed_up():
    samples, real = hearts(500, 1.0, 5), hearts(500, 1.0, 6)
    rows = variety.table(samples, real, samples, ("a", "b"), 20, 0)
    groups = variety.by_group(rows[rows["sd_real"] > 1e-9]).set_index("group")
    assert list(groups.index) == list(variety.GROUPS)
    assert (groups["within"] == 1.0).all()


def test_a_structure_without_a_spread_is_named_and_none_at_all_is_an_error(caplog):
    samples, real = hearts(10, 1.0, 7), hearts(3, 1.0, 8)
    real.volume_ml[0, 1] = 0.0
    assert set(variety.table(samples, real, samples, ("a", "b"), 20, 0)["structure"]) == {"a"}
    assert "b: 10 samples and 2 real hearts have it" in caplog.text
    with pytest.raises(InputError, match=r"no structure has a spread.*'evaluation\.real_hearts'"):
        variety.table(samples, real[:2], samples, ("a", "b"), 20, 0)
