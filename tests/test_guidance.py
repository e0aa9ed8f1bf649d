"""Moment guidance: per-sample gradients, the two rules, constraints from target rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_prior import write_tiny_bundle

from cardiocohort import moments
from cardiocohort.generation import anatomies
from cardiocohort.generation.guidance import Constraint, GuidanceSettings, guided, standardised_loss
from cardiocohort.prior.bundle import load_prior


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return load_prior(write_tiny_bundle(tmp_path_factory.mktemp("bundle")), "cpu")


def target_rows(subject, volume, constrained="size,position,shape", structure="wall"):
    target = moments.from_ellipsoid([3.0, -2.0, 1.0], [20.0, 15.0, 12.0], np.eye(3))
    row = {name: float(value) for name, value in moments.to_columns(target).items()}
    return pd.DataFrame(
        [{"subject": subject, "structure": structure, "constrained": constrained, **row, "volume_ml": volume}]
    )


def constraint(volumes):
    rows = [target_rows("a-0", v) for v in volumes]
    target = moments.from_columns(pd.concat(rows))
    as_tensor = [
        torch.tensor(t, dtype=torch.float32)
        for t in (target.volume_ml, target.centroid_mm, target.covariance_mm2)
    ]
    spread = {"log_volume": 0.2, "centroid_mm": 5.0, "shape": 0.03}
    return Constraint((1,), moments.Moments(*as_tensor), torch.ones(len(volumes), 3), spread)


def test_gradient_of_a_sample_does_not_depend_on_its_neighbours(prior):
    z = torch.randn(3, *prior.latent_shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    volumes = [20.0, 60.0, 200.0]
    together = standardised_loss(prior, z, [constraint(volumes)], GuidanceSettings())
    gradient = torch.autograd.grad(together.sum(), z)[0]
    for i, volume in enumerate(volumes):
        alone = z[i : i + 1].detach().requires_grad_(True)
        loss = standardised_loss(prior, alone, [constraint([volume])], GuidanceSettings())
        own = torch.autograd.grad(loss.sum(), alone)[0]
        torch.testing.assert_close(loss[0], together[i], rtol=1e-3, atol=0)
        assert torch.nn.functional.cosine_similarity(own.flatten(), gradient[i].flatten(), dim=0) > 0.999


def test_nothing_constrained_is_the_denoiser_itself(prior):
    z = torch.randn(1, *prior.latent_shape)
    sigma = torch.tensor([2.0])
    unguided = guided(prior, [], GuidanceSettings(), [2.0, 1.0, 0.0])
    assert torch.equal(unguided(z, sigma), prior.denoise(z, sigma))


def test_paper_rule_moves_the_estimate_against_the_gradient_by_weight_times_variance(prior):
    z, sigma = torch.randn(1, *prior.latent_shape), torch.tensor([2.0])
    steps = []
    settings = {w: GuidanceSettings(method="dps", weight=w) for w in (0.0, 1.0, 3.0)}
    out = {
        w: guided(prior, [constraint([50.0])], s, [2.0, 1.0, 0.0], steps.append)(z, sigma)
        for w, s in settings.items()
    }
    torch.testing.assert_close(out[3.0] - out[0.0], 3 * (out[1.0] - out[0.0]), rtol=1e-3, atol=1e-6)
    moved = (out[1.0] - out[0.0]).norm()
    assert float(moved) == pytest.approx(4.0 * float(steps[0].gradient[0]), rel=1e-3)


def test_fast_rule_never_moves_the_latent_further_than_its_trust_region(prior):
    sigmas = [2.0, 1.5, 0.0]
    z, sigma = torch.randn(2, *prior.latent_shape), torch.full((2,), 2.0)
    settings = GuidanceSettings(trust=0.05, fraction=100.0, every=1)
    steered = guided(prior, [constraint([1.0, 900.0])], settings, sigmas)(z, sigma)
    shift = (steered - prior.denoise(z, sigma)) * (2.0 - 1.5) / 2.0
    bound = 0.05 * 2.0 * np.sqrt(z[0].numel())
    np.testing.assert_allclose(shift.flatten(1).norm(dim=1), bound, rtol=1e-3)


def test_fast_rule_acts_only_inside_its_window(prior):
    sigmas = [20.0, 5.0, 0.01, 0.0]
    z = torch.randn(1, *prior.latent_shape)
    steered = guided(
        prior, [constraint([50.0])], GuidanceSettings(sigma_from=10.0, sigma_to=1.0, every=1), sigmas
    )
    for level, acts in ((20.0, False), (5.0, True), (0.01, False)):
        sigma = torch.tensor([level])
        assert torch.equal(steered(z, sigma), prior.denoise(z, sigma)) != acts


def test_fast_rule_can_act_on_every_other_level_and_always_on_the_last(prior):
    sigmas = [20.0, 5.0, 1.0, 0.1, 0.02, 0.0]
    z, acted = torch.randn(1, *prior.latent_shape), []
    steered = guided(
        prior, [constraint([50.0])], GuidanceSettings(every=2), sigmas, lambda s: acted.append(s.sigma)
    )
    for level in sigmas[:-1]:
        steered(z, torch.tensor([level]))
    assert acted == [20.0, 1.0, 0.02]


def test_constraints_follow_the_target_rows(prior):
    one = pd.concat([target_rows("a-0", 50.0, "size"), target_rows("a-0", 40.0, "", "cavity")])
    two = pd.concat([target_rows("a-1", 70.0, "position"), target_rows("a-1", 40.0, "shape", "cavity")])
    made = anatomies.make_constraints([one, two], prior)
    by_labels = {c.labels: c for c in made}
    assert by_labels[(1,)].active.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert by_labels[(2,)].active.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert by_labels[(1,)].moments.volume_ml.tolist() == [50.0, 70.0]


def test_union_constraint_measures_the_union(prior):
    rows = target_rows("a-0", 80.0, "size", "wall+cavity")
    (union,) = anatomies.make_constraints([rows], prior)
    assert union.labels == (1, 2)
    z = torch.randn(1, *prior.latent_shape)
    occupancy = prior.logits(z).softmax(1)
    expected = (occupancy[:, 1:].sum() * 8.0**3 / 1000.0 / 80.0).log() / 0.2
    loss = standardised_loss(prior, z, [union], GuidanceSettings())
    assert float(loss) == pytest.approx(float(expected) ** 2, rel=1e-3)


def test_subject_alone_or_in_a_batch_has_the_same_targets_noise_and_label_map(prior):
    """On the CPU the workflow samples one by one; this bounds what true batching would change."""
    settings = GuidanceSettings(steps=12)
    rows = [target_rows(f"a-{i}", 60.0 + 20 * i) for i in range(4)]
    seeds = [np.random.SeedSequence(i) for i in range(4)]
    together, _ = anatomies.sample_labels(prior, rows, seeds, settings)
    for i in range(4):
        alone, _ = anatomies.sample_labels(prior, rows[i : i + 1], seeds[i : i + 1], settings)
        assert np.mean(alone[0] == together[i]) > 0.97
