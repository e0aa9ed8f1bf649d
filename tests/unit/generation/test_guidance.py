"""Moment guidance: per-sample gradients, the two rules, constraints from target rows."""

import numpy as np
import pandas as pd
import pytest
import torch

from cardiocohort.anatomy import attributes, moments
from cardiocohort.diffusion import edm
from cardiocohort.diffusion.bundle import load_prior, load_sampler
from cardiocohort.diffusion.device import number_format
from cardiocohort.diffusion.networks import CERTAIN
from cardiocohort.generation import sampling
from cardiocohort.generation.constraints import make_constraints
from cardiocohort.generation.decoding import full_axes_mm, full_occupancy
from cardiocohort.generation.guidance import (
    Constraint,
    damped,
    guided,
    label_moments,
    standardised_loss,
    unit_cube_loss,
    with_momentum,
)
from cardiocohort.generation.settings import DpsSettings, GuidanceSettings
from tiny_prior import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def prior(bundle):
    return load_prior(bundle, "cpu")


def target_rows(subject, volume, constrained="size,position,shape", structure="wall"):
    target = moments.from_ellipsoid([3.0, -2.0, 1.0], [20.0, 15.0, 12.0], np.eye(3))
    row = {name: float(value) for name, value in moments.to_columns(target).items()}
    return pd.DataFrame(
        [{"subject": subject, "structure": structure, "constrained": constrained, **row, "volume_ml": volume}]
    )


def constraints_of(bundle, prior, rows):
    """Constraints of one subject per frame of rows."""
    return make_constraints(rows, prior, bundle)


def constraint(volumes, attributes=("size", "position", "shape")):
    """Constraints of the wall for samples with these volumes; spreads are the tiny prior's of the three."""
    spread = {"size": 0.2, "position": 5.0, "shape": 0.03}
    wanted = moments.from_columns(pd.concat([target_rows("a-0", v) for v in volumes]))
    parts = (wanted.volume_ml, wanted.centroid_mm, wanted.covariance_mm2)
    as_torch = moments.Moments(*(torch.tensor(t, dtype=torch.float32) for t in parts))
    return [Constraint(a, ((1,),), (as_torch,), torch.ones(len(volumes)), spread[a]) for a in attributes]


def test_gradient_of_a_sample_does_not_depend_on_its_neighbours(prior):
    z = torch.randn(3, *prior.latent_shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    volumes = [20.0, 60.0, 200.0]
    together = standardised_loss(prior, z, constraint(volumes), GuidanceSettings())
    gradient = torch.autograd.grad(together.sum(), z)[0]
    for i, volume in enumerate(volumes):
        alone = z[i : i + 1].detach().requires_grad_(True)
        loss = standardised_loss(prior, alone, constraint([volume]), GuidanceSettings())
        own = torch.autograd.grad(loss.sum(), alone)[0]
        torch.testing.assert_close(loss[0], together[i], rtol=1e-3, atol=0)
        assert torch.nn.functional.cosine_similarity(own.flatten(), gradient[i].flatten(), dim=0) > 0.999


def test_nothing_constrained_is_the_denoiser_itself(prior):
    z = torch.randn(1, *prior.latent_shape)
    sigma = torch.tensor([2.0])
    unguided = guided(prior, [], GuidanceSettings(), [2.0, 1.0, 0.0])
    assert torch.equal(unguided(z, sigma), prior.denoise(z, sigma))


def test_what_samples_lack_steers_from_its_level_on_alone(prior):
    z, levels = torch.randn(2, *prior.latent_shape), [4.0, 2.0, 1.0, 0.0]

    def lacking(occupancy):
        """The first sample lacks some of its wall, the second nothing."""
        return (1.0 - occupancy[:, 1].mean((1, 2, 3))) * torch.tensor([1.0, 0.0])

    def moved(level, settings):
        sigma = torch.full((2,), level)
        steered = guided(prior, [], settings, levels, lacking=lacking)
        return (steered(z, sigma) - prior.denoise(z, sigma)).abs().amax((1, 2, 3, 4)) > 0

    always = GuidanceSettings(guide_every=1, topology_from=3.0)
    assert moved(2.0, always).tolist() == [True, False]
    assert moved(4.0, always).tolist() == [False, False]
    assert moved(2.0, GuidanceSettings(guide_every=1, topology_from=0.0)).tolist() == [False, False]
    assert (
        moved(2.0, GuidanceSettings(guide_every=1, topology_from=3.0, method="dps")).tolist() == [False] * 2
    )


def test_a_sample_that_lacked_something_is_measured_once_per_level_until_it_does_not(prior):
    z, levels = torch.randn(1, *prior.latent_shape), [2.0, 1.5, 1.0, 0.5, 0.25, 0.0]
    short_of, measured = iter([0, 1, 1, 1, 0, 0]), []

    def lacking(occupancy):
        measured.append(torch.is_grad_enabled())
        return (1.0 - occupancy[:, 1].mean((1, 2, 3))) * next(short_of)

    steered = guided(prior, [], GuidanceSettings(guide_every=1), levels, lacking=lacking)
    moved = []
    for level in levels[:-1]:
        sigma = torch.full((1,), level)
        moved.append(not torch.equal(steered(z, sigma), prior.denoise(z, sigma)))
    assert moved == [False, True, True, False, False]
    # without gradients at 2, 1.5 and, since nothing was lacking at 0.5, at 0.25
    assert measured == [False, False, True, True, True, False]


def test_paper_rule_steps_by_weight_times_variance(prior):
    z, sigma = torch.randn(1, *prior.latent_shape), torch.tensor([2.0])
    steps = []
    settings = {w: GuidanceSettings(method="dps", dps=DpsSettings(weight=w)) for w in (0.0, 1.0, 3.0)}
    out = {
        w: guided(prior, constraint([50.0]), s, [2.0, 1.0, 0.0], steps.append)(z, sigma)
        for w, s in settings.items()
    }
    torch.testing.assert_close(out[3.0] - out[0.0], 3 * (out[1.0] - out[0.0]), rtol=1e-3, atol=1e-6)
    moved = (out[1.0] - out[0.0]).norm()
    assert float(moved) == pytest.approx(4.0 * float(steps[0].gradient[0]), rel=1e-3)


@pytest.mark.parametrize(
    ("level", "trust_from", "counts"), [(2.0, 0.5, 2.0), (2.0, 5.0, 5.0), (2.0, 0.0, 2.0)]
)
def test_fast_rule_stays_within_its_trust_region(prior, level, trust_from, counts):
    sigmas = [level, 1.5, 0.0]
    z, sigma = torch.randn(2, *prior.latent_shape), torch.full((2,), level)
    settings = GuidanceSettings(
        trust_radius=0.05, trust_from=trust_from, step_fraction=100.0, guide_every=1, label_levels=0
    )
    steered = guided(prior, constraint([1.0, 900.0]), settings, sigmas)(z, sigma)
    shift = (steered - prior.denoise(z, sigma)) * (level - 1.5) / level
    bound = 0.05 * counts * np.sqrt(z[0].numel())
    np.testing.assert_allclose(shift.flatten(1).norm(dim=1), bound, rtol=1e-3)


def test_fast_rule_acts_only_inside_its_window(prior):
    sigmas = [20.0, 5.0, 0.01, 0.0]
    z = torch.randn(1, *prior.latent_shape)
    steered = guided(
        prior, constraint([50.0]), GuidanceSettings(sigma_from=10.0, sigma_to=1.0, guide_every=1), sigmas
    )
    for level, acts in ((20.0, False), (5.0, True), (0.01, False)):
        sigma = torch.tensor([level])
        assert torch.equal(steered(z, sigma), prior.denoise(z, sigma)) != acts


def test_fast_rule_on_every_other_level_includes_the_last(prior):
    sigmas = [20.0, 5.0, 1.0, 0.1, 0.02, 0.0]
    z, acted = torch.randn(1, *prior.latent_shape), []
    steered = guided(
        prior, constraint([50.0]), GuidanceSettings(guide_every=2), sigmas, lambda s: acted.append(s.sigma)
    )
    for level in sigmas[:-1]:
        steered(z, torch.tensor([level]))
    assert acted == [20.0, 1.0, 0.02]


def test_steps_shorten_where_a_gradient_turns_back():
    share = torch.tensor([1.0, 1.0, 0.4, 0.9])
    gradient = torch.tensor([[1.0, 1.0]] * 4)
    before = torch.tensor([[-2.0, 1.0], [2.0, -1.0], [3.0, 0.0], [3.0, 0.0]])
    torch.testing.assert_close(damped(share, gradient, before), torch.tensor([0.5, 1.0, 0.5, 1.0]))


def test_shorter_steps_end_a_way_back_and_forth_above_a_loss_that_is_never_zero():
    """2 (x - 1)^2 + 0.01 y^2 + 0.5 by Polyak's steps of at most 0.4, as `guided` takes them."""
    stiffness = torch.tensor([2.0, 0.01])

    def steps(shorten: bool) -> torch.Tensor:
        at, before, share, errors = torch.tensor([[3.0, 1.0]]), None, torch.ones(1), []
        for _ in range(24):
            off = at - torch.tensor([1.0, 0.0])
            loss, gradient = (stiffness * off**2).sum() + 0.5, 2.0 * stiffness * off
            if shorten and before is not None:
                share = damped(share, gradient, before)
            before = gradient
            step = share * (loss / gradient.norm()).clamp_max(0.4)
            at = at - step * gradient / gradient.norm()
            errors.append(abs(float(at[0, 0]) - 1.0))
        return torch.tensor(errors[-8:])

    assert steps(shorten=False).mean() > 0.15
    assert steps(shorten=True).mean() < 0.01


def test_momentum_keeps_a_share_of_each_samples_direction():
    gradient = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    before = torch.tensor([[0.0, 5.0], [0.0, 7.0]])
    direction, slope = with_momentum(gradient, gradient.norm(dim=1), before, 0.5)
    torch.testing.assert_close(direction, torch.tensor([[3.0, 1.5], [0.0, 3.0]]))
    torch.testing.assert_close(slope, torch.tensor([9.0 / 11.25**0.5, 2.0]))


def test_momentum_never_turns_a_step_uphill():
    gradient, before = torch.randn(200, 30), torch.randn(200, 30)
    before[:100] -= 3 * gradient[:100]
    length = gradient.norm(dim=1)
    _, slope = with_momentum(gradient, length, before, 0.9)
    assert (slope > 0.43 * length).all()


def test_momentum_acts_from_the_second_step_of_each_sampling(prior):
    sigmas = [2.0, 1.5, 1.0, 0.0]
    z = torch.randn(1, *prior.latent_shape, generator=torch.Generator().manual_seed(1))

    def estimates(momentum):
        settings = GuidanceSettings(guide_every=1, momentum=momentum)
        steered = guided(prior, constraint([50.0]), settings, sigmas)
        return [steered(z, torch.tensor([level])) for level in (2.0, 1.5)]

    (first, second), (same, other) = estimates(0.0), estimates(0.5)
    assert torch.equal(first, same)
    assert not torch.equal(second, other)
    again = estimates(0.5)
    assert torch.equal(again[0], same)
    assert torch.equal(again[1], other)


def test_weights_prepared_for_sampling_give_the_same_results(tmp_path):
    bundle = write_tiny_bundle(tmp_path, cells=24)  # the denoiser's lower level has three cells an axis
    prior, sampler = load_prior(bundle, "cpu"), load_sampler(bundle, "cpu")
    if number_format("cpu") == torch.bfloat16:
        kinds = {p.dtype for p in sampler.denoiser.parameters()}
        assert kinds == {torch.bfloat16, torch.float32}  # normalisation stays as it is
    z, sigma = torch.randn(1, *prior.latent_shape), torch.tensor([2.0])
    assert torch.equal(prior.denoise(z, sigma), sampler.denoise(z, sigma))
    assert torch.equal(prior.logits(z), sampler.logits(z))
    assert torch.equal(prior.labels(z), sampler.labels(z))


def test_constraints_follow_the_target_rows(prior, bundle):
    one = pd.concat([target_rows("a-0", 50.0, "size"), target_rows("a-0", 40.0, "", "cavity")])
    two = pd.concat([target_rows("a-1", 70.0, "position"), target_rows("a-1", 40.0, "shape", "cavity")])
    made = {(c.attribute, c.labels): c for c in constraints_of(bundle, prior, [one, two])}
    assert {key: c.active.tolist() for key, c in made.items()} == {
        ("size", ((1,),)): [1, 0], ("position", ((1,),)): [0, 1], ("shape", ((2,),)): [0, 1],
    }  # fmt: skip
    assert made["size", ((1,),)].wanted[0].volume_ml.tolist() == [50.0, 70.0]


def test_a_relation_constrains_two_structures_by_their_targets(prior, bundle):
    rows = pd.concat(
        [target_rows("a-0", 60.0, "volume_ratio/cavity"), target_rows("a-0", 40.0, "", "cavity")]
    )
    (ratio,) = constraints_of(bundle, prior, [rows])
    assert (ratio.attribute, ratio.labels) == ("volume_ratio", ((1,), (2,)))
    z = torch.randn(1, *prior.latent_shape)
    volume = prior.logits(z).softmax(1).sum((2, 3, 4))[0]
    loss = standardised_loss(prior, z, [ratio], GuidanceSettings())
    expected = (volume[1] / volume[2] / 1.5).log() / ratio.spread
    assert float(loss) == pytest.approx(float(expected) ** 2, rel=1e-3)


def test_union_constraint_measures_the_union(prior, bundle):
    rows = target_rows("a-0", 80.0, "size", "wall+cavity")
    (union,) = constraints_of(bundle, prior, [rows])
    assert union.labels == ((1, 2),)
    z = torch.randn(1, *prior.latent_shape)
    occupancy = prior.logits(z).softmax(1)
    expected = (occupancy[:, 1:].sum() * 8.0**3 / 1000.0 / 80.0).log() / union.spread
    loss = standardised_loss(prior, z, [union], GuidanceSettings())
    assert float(loss) == pytest.approx(float(expected) ** 2, rel=1e-3)


def test_what_a_sample_does_not_constrain_counts_for_nothing(prior, bundle):
    """A neighbour's constraints change neither a sample's loss nor its gradient, in both rules."""
    own = pd.concat([target_rows("a-0", 50.0, "size"), target_rows("a-0", 40.0, "", "cavity")])
    other = pd.concat([target_rows("a-1", 70.0), target_rows("a-1", 40.0, "size,orientation", "cavity")])
    z = torch.randn(2, *prior.latent_shape, requires_grad=True)
    for loss_of in (standardised_loss, unit_cube_loss):
        alone = loss_of(prior, z[:1], constraints_of(bundle, prior, [own]), GuidanceSettings())
        together = loss_of(prior, z, constraints_of(bundle, prior, [own, other]), GuidanceSettings())
        torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=0)
        gradients = [torch.autograd.grad(loss[0], z)[0][0].flatten() for loss in (alone, together)]
        assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999
        assert float(gradients[0].norm() / gradients[1].norm()) == pytest.approx(1.0, rel=0.02)


def test_unit_cube_loss_is_the_papers(prior):
    """lambda0 MSE(M) + lambda1 MSE(C) + lambda2 MSE(S^n) of the decoded voxels, field edge 1."""
    s = GuidanceSettings(dps=DpsSettings(lambda_size=3.0, lambda_position=5.0, lambda_shape=7.0))
    z = torch.randn(1, *prior.latent_shape)
    (found,) = [moments.measure(full_occupancy(prior, z)[:, 1], full_axes_mm(prior))]
    wanted = constraint([50.0])[0].wanted[0]
    edge = 32 * 4.0
    expected = (
        3.0 * ((found.volume_ml - wanted.volume_ml) * 1000.0 / edge**3).square().mean()
        + 5.0 * ((found.centroid_mm - wanted.centroid_mm) / edge).square().mean()
        + 7.0 * (found.shape - wanted.shape).square().mean()
    )
    assert float(unit_cube_loss(prior, z, constraint([50.0]), s)) == pytest.approx(float(expected), rel=1e-4)


def test_full_decoding_is_the_label_map_and_has_a_gradient(prior):
    z = torch.randn(2, *prior.latent_shape, requires_grad=True)
    occupancy = full_occupancy(prior, z)
    assert occupancy.shape == (2, 3, 32, 32, 32)
    torch.testing.assert_close(occupancy.sum(1), torch.ones(2, 32, 32, 32))
    assert (occupancy.argmax(1).to(torch.uint8) == prior.labels(z.detach())).float().mean() > 0.999
    cells = prior.logits(z).softmax(1)
    within = occupancy.detach().unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).flatten(5)
    uncertain = cells.detach().amax(1) < CERTAIN
    assert uncertain.any()
    assert within.std(-1)[:, 1][uncertain].max() > 1e-3  # voxels of a cell differ
    assert torch.autograd.grad(occupancy[:, 1].sum(), z)[0].abs().max() > 0


def test_the_last_steps_measure_the_label_map(prior):
    """The loss is that of the label map's own moments; the gradient comes from the cells."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, *prior.latent_shape, generator=generator, requires_grad=True)
    wanted, s = constraint([40.0, 90.0]), GuidanceSettings()
    of_labels = label_moments(prior, z.detach(), wanted)
    loss = standardised_loss(prior, z, wanted, s, of_labels=of_labels)
    labels = prior.labels(z.detach()).numpy()
    for i, own in enumerate(labels):
        found = moments.measure_labels(own, [(1,)], prior.grid.axes_mm())
        target = moments.of_each(lambda t, i=i: t[i : i + 1].double().numpy(), wanted[0].wanted[0])
        residuals = [attributes.differences(c.attribute, (found,), (target,))[0] / c.spread for c in wanted]
        assert float(loss[i].detach()) == pytest.approx(np.mean([np.mean(r**2) for r in residuals]), rel=1e-3)
    of_cells = standardised_loss(prior, z, wanted, s)
    assert (loss - of_cells).abs().min() > 1e-3  # the two differ in this prior
    assert torch.autograd.grad(loss.sum(), z)[0].abs().max() > 0


def test_a_label_map_without_the_structure_leaves_the_cells_values(prior):
    """Nothing is divided by an empty structure's volume."""
    z = torch.zeros(1, *prior.latent_shape, requires_grad=True)
    wanted = constraint([40.0])
    empty = moments.Moments(torch.zeros(1), torch.zeros(1, 3), torch.zeros(1, 3, 3))
    loss = standardised_loss(prior, z, wanted, GuidanceSettings(), of_labels={wanted[0].measured[0]: empty})
    torch.testing.assert_close(loss, standardised_loss(prior, z, wanted, GuidanceSettings()))


@pytest.mark.parametrize(("levels", "places"), [(0, []), (2, [-4, -2]), (1000, [-8, -6, -4, -2])])
def test_label_maps_are_decoded_at_the_last_guided_levels(prior, monkeypatch, levels, places):
    decoded, own = [], type(prior).labels
    monkeypatch.setattr(type(prior), "labels", lambda self, z: decoded.append(len(z)) or own(self, z))
    sigmas = [float(s) for s in edm.schedule(8, 0.02, 3.0)]
    steered = guided(prior, constraint([50.0]), GuidanceSettings(guide_every=2, label_levels=levels), sigmas)
    seen = []
    for sigma in sigmas[:-1]:
        before = len(decoded)
        steered(torch.randn(1, *prior.latent_shape), torch.full((1,), sigma))
        seen += [sigma] if len(decoded) > before else []
    assert seen == [sigmas[place] for place in places]


def test_a_subject_alone_or_in_a_batch_has_the_same_label_map(prior, bundle):
    """On the CPU the workflow samples one by one; this bounds what true batching would change."""
    settings = GuidanceSettings(steps=12)
    rows = [target_rows(f"a-{i}", 60.0 + 20 * i) for i in range(4)]
    seeds = [np.random.SeedSequence(i) for i in range(4)]
    together, _, _ = sampling.sample_labels(prior, constraints_of(bundle, prior, rows), seeds, settings)
    for i in range(4):
        own = constraints_of(bundle, prior, rows[i : i + 1])
        alone, _, _ = sampling.sample_labels(prior, own, seeds[i : i + 1], settings)
        assert np.mean(alone[0] == together[i]) > 0.97
