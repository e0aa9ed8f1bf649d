"""Topology guidance: rules of the gate as differentiable terms, and steps that make a map keep them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.generation.topology_guidance import (
    MARGIN,
    TERMS,
    WHILE_DRAWN,
    lacking,
    topology_loss,
    topology_steps,
)
from cardiocohort.topology import Rules, examine
from cardiocohort.topology.guided import CLOSING, DRAWN, STEPPED, stepped, unguided
from cardiocohort.topology.measures import KINDS
from cardiocohort.topology.rules import Rule

N, CELL = 14, 4.0
ANATOMY = Anatomy(("blood", "wall", "vessel"), ("blood", "wall"))
PLACES = np.stack(np.meshgrid(*[np.arange(N)] * 3, indexing="ij"), -1)


def rule(
    kind, structure, other, minimum=-np.inf, maximum=np.inf, openings=(), openings_mm=0.0, percentile=0.2
):
    return Rule(
        f"{kind}.a",
        kind,
        "any",
        structure,
        other,
        openings,
        openings_mm,
        percentile,
        minimum,
        maximum,
        "",
        "",
    )


class Cells:
    """A decoder that is known exactly: the latent holds the logits of the cells, each of 2^3 equal voxels."""

    device = "cpu"
    anatomy = ANATOMY
    grid = SimpleNamespace(spacing_mm=CELL / 2)
    cell_axes_mm = tuple(torch.arange(N) * CELL for _ in range(3))

    def logits(self, z):
        return z

    def labels(self, z):
        labels = z.argmax(1).to(torch.uint8)
        for axis in (1, 2, 3):
            labels = labels.repeat_interleave(2, axis)
        return labels


def latent(labels, second=0, certain=6.0, doubt=5.5):
    """Logits (1, 4, N, N, N) of a map (N, N, N). Second choices: `second` of background, else background."""
    z = certain * torch.nn.functional.one_hot(torch.as_tensor(labels), 4).permute(3, 0, 1, 2).float()
    choice = np.where(labels == 0, second, 0)
    for k in range(4):
        z[k, choice == k] = z[k, choice == k].clamp_min(doubt)
    return z[None]


def ball(centre, radius):
    return ((PLACES - centre) ** 2).sum(-1) <= radius**2


def steps_until_kept(labels, rules, second=0, free=None):
    z = latent(labels, second)
    found = Cells().labels(z)[0].numpy()
    verdict = examine(found, CELL / 2, ANATOMY, rules)
    assert not verdict.accepted
    for changed in topology_steps(Cells(), z, found, verdict, rules, 40, free):
        if examine(changed, CELL / 2, ANATOMY, rules).accepted:
            return found, changed
    return found, None


def loss_of(z, rules):
    return topology_loss(z.softmax(1)[0], Cells().labels(z)[0].numpy(), Cells(), rules)


def touching():
    """Blood and a vessel that share a face of 5 x 5 cells."""
    labels = np.zeros((N, N, N), int)
    labels[2:7, 4:9, 4:9], labels[7:12, 4:9, 4:9] = 1, 3
    return labels


def walled(hole):
    """Blood in a closed wall of two cells but for a hole of one cell's width, if there is one."""
    labels = np.zeros((N, N, N), int)
    labels[ball((6.5, 6.5, 6.5), 5.2)], labels[ball((6.5, 6.5, 6.5), 3.0)] = 2, 1
    if hole:
        labels[6:8, 6:8, 10:] = 0
    return labels


def test_what_must_not_touch_is_parted():
    apart = Rules((rule("contact", (1,), (3,), maximum=0.0),), ())
    before, after = steps_until_kept(touching(), apart)
    assert after is not None
    # neither is given up for it
    for structure in (1, 3):
        assert (after == structure).sum() > 0.7 * (before == structure).sum()


def test_an_allowed_contact_is_left_alone():
    area = 25 * CELL**2
    z = latent(touching(), 0, 9.0)
    assert loss_of(z, Rules((rule("contact", (1,), (3,), maximum=area),), ())) < 3
    assert loss_of(z, Rules((rule("contact", (1,), (3,), maximum=area / 2),), ())) > 100


def test_what_must_be_joined_is_joined():
    labels = touching()
    gap = (PLACES[..., 0] == 7) & (labels == 3)
    labels[gap] = 0
    _, after = steps_until_kept(
        labels, Rules((rule("contact", (1,), (3,), minimum=8 * CELL**2),), ()), np.where(gap, 3, 0)
    )
    assert after is not None


@pytest.mark.parametrize(
    "closed",
    [
        rule("leak", (1,), (2,), maximum=0.0, openings=(3,)),
        rule("wall_thickness", (1,), (2,), minimum=2.4, openings=(3,)),
        rule("breach", (1,), (2,), maximum=0.0, openings=(3,)),
        rule("exposure", (1,), (2,), maximum=1.0, openings=(3,)),
    ],
    ids=lambda rule: rule.kind,
)
def test_a_hole_in_the_wall_is_closed_by_wall(closed):
    labels = walled(hole=True)
    labels[0, 0, 0] = 3  # a vessel, which is an opening nowhere
    before, after = steps_until_kept(labels, Rules((closed,), ()), second=2)
    assert after is not None
    changed = before != after
    assert changed.sum() < 0.05 * (before > 0).sum()
    assert set(np.unique(after[changed])) <= {1, 2}


def test_a_sound_wall_has_no_term():
    z = latent(walled(hole=False), 0, 9.0)
    assert loss_of(z, Rules((rule("leak", (1,), (2,), maximum=0.0),), ())) < 1e-3


def exposed(z, limit, openings=(3,)):
    return loss_of(z, Rules((rule("exposure", (1,), (2,), maximum=limit, openings=openings),), ()))


def test_an_allowed_exposure_is_left_alone():
    z = latent(walled(hole=True))
    rules = Rules((rule("exposure", (1,), (2,), maximum=0.0, openings=(3,)),), ())
    share = examine(Cells().labels(z)[0].numpy(), CELL / 2, ANATOMY, rules).measures["exposure.a"]
    assert share > 1
    assert exposed(z, share) == 0
    assert 0 < exposed(z, 0.9 * share) < exposed(z, 0.5 * share) < exposed(z, 0.0)
    # as for the gate, an opening in the hole covers it
    filled = walled(hole=True)
    filled[6:8, 6:8, 10:] = 3
    assert exposed(latent(filled), 0.0) == 0 < exposed(latent(filled), 0.0, ())


def test_descent_covers_what_is_exposed():
    z = latent(walled(hole=True)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(exposed(z, 1.0), z)
    at_hole = (..., slice(6, 8), slice(6, 8), 10)
    assert (gradient[0, 0][at_hole] > 0).all()  # background becomes less likely in the hole
    assert (gradient[0, 2][at_hole] < 0).all()  # wall more likely
    assert (gradient[0, 3][at_hole] < 0).all()  # an opening as well


# ---- which bounds guide


def test_what_a_dry_run_knows_of_terms_are_the_terms():
    assert set(TERMS) == STEPPED
    assert set(WHILE_DRAWN) == DRAWN
    assert CLOSING <= STEPPED


def broken():
    """A map of cells that breaks every bound of every kind: (kind, side) -> rule.

    Blood in a thin wall with a hole, and two pieces of a vessel: one that ends at the border, one apart.
    """
    labels = walled(hole=True)
    labels[:2, 6:8, 6:8] = labels[11:13, 1:3, 1:3] = 3
    own = {
        "volume": ((3,), ()), "components": ((3,), ()), "cavities": ((1,), ()), "holes": ((2,), ()),
        "border": ((3,), ()), "gap": ((3,), (2,)), "contact": ((1,), (0,)), "exposure": ((1,), (2,)),
        "opening": ((1,), (2,)), "breach": ((1,), (2,)), "leak": ((1,), (2,)), "wall_thickness": ((1,), (2,)),
    }  # fmt: skip
    low = {"minimum": 1e4}
    rows = {}
    for kind, (structure, other) in own.items():
        openings = (3,) if "openings" in KINDS[kind].needs else ()
        high = {"maximum": 1.0 if kind == "gap" else 0.0}
        for side, bound in (("min", low), ("max", high)):
            rows[kind, side] = rule(kind, structure, other, openings=openings, **bound)
    return labels, rows


def test_exactly_the_bounds_that_are_said_to_guide_do():
    """Of a broken bound the term is above zero and has a gradient, or the remark of the dry run names it."""
    labels, rows = broken()
    assert {kind for kind, _ in rows} == set(KINDS)
    for bound, row in rows.items():
        rules, z = Rules((row,), ()), latent(labels, 2, 6.0, 5.8).requires_grad_(True)
        occupancy = z.softmax(1)
        total = loss_of(z, rules) + lacking(occupancy, CELL, rules).sum()
        guides = total.requires_grad and bool(torch.autograd.grad(total, z)[0].abs().max() > 0)
        assert guides == (float(total.detach()) > 0)
        assert guides == (not unguided(rules)), bound


def test_a_hole_guides_where_the_structure_is_a_wall_that_a_term_covers():
    hole = rule("holes", (2,), (), maximum=0.0)
    other_hole = rule("holes", (3,), (), maximum=0.0)
    thin = rule("wall_thickness", (1,), (2,), minimum=2.4)
    thick = rule("wall_thickness", (1,), (2,), maximum=20.0)
    for row, wall, guides in ((hole, thin, True), (hole, thick, False), (other_hole, thin, False)):
        rules = Rules((row, wall), ())
        assert stepped(row, "max", rules) == guides
        assert ((row, "max") in unguided(rules)) == (not guides)
    assert unguided(Rules((thick,), ())) == [(thick, "max")]


def test_no_steps_are_made_for_a_bound_without_a_term():
    """A wall that is too thick is left to another attempt, also beside a contact that steps part."""
    labels = walled(hole=False)
    thick = rule("wall_thickness", (1,), (2,), maximum=1.0)
    apart = rule("contact", (1,), (2,), maximum=0.0)
    z = latent(labels)
    found = Cells().labels(z)[0].numpy()
    for rows, steps in (((apart,), True), ((apart, thick), False)):
        rules = Rules(rows, ())
        verdict = examine(found, CELL / 2, ANATOMY, rules)
        assert len(verdict.failures) == len(rows)
        assert bool(list(topology_steps(Cells(), z, found, verdict, rules, 1))) == steps


def test_held_cells_keep_their_values():
    free = torch.ones(1, 1, N, N, N)
    free[..., :7, :, :] = 0.0
    before, after = steps_until_kept(
        touching(), Rules((rule("contact", (1,), (3,), maximum=0.0),), ()), free=free
    )
    assert after is not None
    assert (before[:14] == after[:14]).all()


def test_violations_that_no_step_removes_are_left_to_another_attempt():
    volume = rule("volume", (1,), (), minimum=1e6)
    rules = Rules((volume, rule("contact", (1,), (3,), maximum=0.0)), ())
    z = latent(touching(), 0)
    found = Cells().labels(z)[0].numpy()
    verdict = examine(found, CELL / 2, ANATOMY, rules)
    assert set(verdict.failed_rules) == {"volume.a", "contact.a"}
    assert not list(topology_steps(Cells(), z, found, verdict, rules, 5))


@pytest.mark.parametrize("kind", ["contact", "leak"])
def test_terms_push_probabilities_and_not_only_labels(kind):
    """A hole that is not yet one, since its cells are wall by a hair, is pushed already."""
    z = latent(walled(hole=True))
    z[0, 2, 6:8, 6:8, 10:] += 6.01
    z.requires_grad_(True)
    outside = (0,) if kind == "contact" else (2,)
    loss = loss_of(z, Rules((rule(kind, (1,), outside, maximum=0.0),), ()))
    (gradient,) = torch.autograd.grad(loss, z)
    assert (gradient[0, 0, 6:8, 6:8, 10] > 0).all()  # descent makes background less likely there


# ---- thickness of a wall


def thin(minimum, percentile, openings_mm=0.0):
    row = rule("wall_thickness", (1,), (2,), minimum, openings=(3,), openings_mm=openings_mm)
    return Rules((replace(row, percentile=percentile),), ())


def measured(z, rules):
    (value,) = examine(Cells().labels(z)[0].numpy(), CELL / 2, ANATOMY, rules).measures.values()
    return value


def dented(depth):
    """Blood in a closed wall of two cells, without its outer `depth` cells in a spot; a vessel far away."""
    labels = walled(hole=False)
    labels[6:8, 6:8, 12 - depth :] = 0
    labels[0, 0, 0] = 3  # an opening nowhere
    return labels


@pytest.mark.parametrize("depth", [1, 2])
def test_a_wall_is_pushed_below_its_least_thickness_alone(depth):
    z = latent(dented(depth))
    found = measured(z, thin(1.0, 0.0))
    assert found == (2 - depth) * CELL
    assert loss_of(z, thin(found, 0.0)) == 0
    losses = [float(loss_of(z, thin(found + more, 0.0))) for more in (0.1, 2.0, 4.0)]
    assert 0 < losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize(("depth", "minimum"), [(2, 2.4), (2, 4.0), (1, 4.4)])
def test_steps_thicken_a_wall_to_its_least_thickness(depth, minimum):
    rules = thin(minimum, 0.0)
    assert measured(latent(dented(depth)), rules) < minimum
    before, after = steps_until_kept(dented(depth), rules, second=2)
    assert after is not None
    changed = before != after
    assert 0 < changed.sum() < 0.05 * (before > 0).sum()
    assert set(np.unique(after[changed])) == {2}  # wall, behind it or in place of blood


def test_bare_blood_is_the_limit_of_a_thin_wall():
    """Of a least thickness near 0 the term is the one of `leak`, but for sure contacts over edges."""
    z = latent(dented(2))
    leak = float(loss_of(z, Rules((rule("leak", (1,), (2,), maximum=0.0, openings=(3,)),), ())))
    assert 1 < leak <= float(loss_of(z, thin(0.01, 0.0))) < 1.1 * leak


def test_the_gradient_of_the_thickness_is_that_of_finite_differences():
    noise = torch.randn(1, 4, N, N, N, generator=torch.Generator().manual_seed(4)).double()
    z = latent(dented(1), 2).double() + 0.3 * noise
    labels = (
        Cells().labels(z)[0].numpy()
    )  # what the decoded map decides is held: the term is smooth beside it

    def loss(latent):
        return topology_loss(latent.softmax(1)[0], labels, Cells(), thin(9.0, 30.0))

    point = z.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(point), point)
    assert gradient.abs().max() > 1
    for seed in range(5):
        direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=z.dtype)
        with torch.no_grad():
            change = (loss(z + 1e-6 * direction) - loss(z - 1e-6 * direction)) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(change), rel=1e-4)


def test_near_an_opening_a_wall_is_not_thickened():
    labels = dented(2)
    assert loss_of(latent(labels), thin(6.0, 0.0)) > 0
    labels[4:6, 6:8, 6:8] = 3  # a vessel that reaches into the blood
    far, near = (loss_of(latent(labels), thin(6.0, 0.0, reach)) for reach in (4.0, 100.0))
    assert far > 0 == near


def test_places_that_the_percentile_leaves_out_stay_thin():
    """The dent is thinner than half of the wall, so that a minimum of the median does not push it."""
    z = latent(dented(1), doubt=0.0).requires_grad_(True)
    under_dent = (0, 1, slice(6, 8), slice(6, 8), 9)
    for percentile, pushed in ((0.0, True), (50.0, False)):
        rules = thin(measured(z.detach(), thin(1.0, percentile)) + 1.0, percentile)
        (gradient,) = torch.autograd.grad(loss_of(z, rules), z)
        assert gradient.abs().max() > 0
        assert bool((gradient[under_dent] > 0).all()) == bool(gradient[under_dent].any()) == pushed


# ---- the border


def test_what_lies_at_the_border_is_drawn_in():
    labels = np.zeros((N, N, N), int)
    labels[:6, 5:9, 5:9] = 1
    at_border = 16 * CELL**2
    rules = Rules((rule("border", (1,), (), maximum=0.0),), ())
    assert loss_of(latent(labels), Rules((rule("border", (1,), (), maximum=at_border),), ())) == 0
    before, after = steps_until_kept(labels, rules)
    assert after is not None
    assert (after == 1).sum() > 0.6 * (before == 1).sum()


def test_a_leak_that_a_rule_allows_is_left_alone():
    z = latent(dented(2))
    area = measured(z, Rules((rule("leak", (1,), (2,), maximum=0.0, openings=(3,)),), ()))
    assert area > 0
    losses = [
        float(loss_of(z, Rules((rule(kind, (1,), (2,), maximum=share * area, openings=(3,)),), ())))
        for kind in ("leak", "breach")
        for share in (1.0, 0.5)
    ]
    assert losses[0] == losses[2] == 0 < min(losses[1], losses[3])


def test_a_row_that_does_not_steer_hides_none_that_does():
    z = latent(walled(hole=True))
    thick = rule("wall_thickness", (1,), (2,), maximum=25.0)
    leak = rule("leak", (1,), (2,), maximum=0.0)
    assert loss_of(z, Rules((thick,), ())) == 0
    assert loss_of(z, Rules((thick, leak), ())) == loss_of(z, Rules((leak,), ())) > 0


@pytest.mark.parametrize("second", [{"maximum": 0.5, "openings": (3,)}, {"maximum": 1.0}])
def test_rows_of_an_exposure_that_differ_both_count(second):
    """In their limit or in their openings."""
    z = latent(walled(hole=True))
    rows = [rule("exposure", (1,), (2,), maximum=1.0, openings=(3,)), rule("exposure", (1,), (2,), **second)]
    apart = [loss_of(z, Rules((row,), ())) for row in rows]
    assert float(loss_of(z, Rules(tuple(rows), ()))) == pytest.approx(float(sum(apart)))


# ---- while a sample is drawn

VESSEL = 3
LEAST = (rule("volume", (VESSEL,), (), minimum=2.0), rule("contact", (1,), (VESSEL,), minimum=100.0))


def drawn(*edges):
    """Occupancies (B, 4, N, N, N): blood below, and on it a vessel of `edge`^3 cells of 0.064 mL each."""
    out = []
    for edge in edges:
        labels = np.zeros((N, N, N), int)
        labels[2:12, 2:12, 2:5] = 1
        labels[4 : 4 + edge, 4 : 4 + edge, 5 : 5 + edge] = VESSEL
        out.append(torch.nn.functional.one_hot(torch.as_tensor(labels), 4).permute(3, 0, 1, 2).float())
    return torch.stack(out)


def test_only_what_is_below_the_margin_counts_and_each_sample_by_itself():
    volumes = [0.064 * edge**3 for edge in (2, 3, 4, 5)]
    areas = [16.0 * edge**2 for edge in (2, 3, 4, 5)]
    short = lacking(drawn(2, 3, 4, 5), CELL, Rules(LEAST, ()))
    wanted = [
        sum(max(0.0, np.log(MARGIN * least / found) / 0.25) ** 2 for found, least in ((v, 2.0), (a, 100.0)))
        for v, a in zip(volumes, areas, strict=True)
    ]
    assert short.numpy() == pytest.approx(wanted, rel=1e-5)
    assert wanted[0] > wanted[1] > 0 == wanted[3]


def test_descending_what_is_lacking_saves_the_vessel():
    z = drawn(2).mul(12.0).requires_grad_(True)
    assert lacking(z.softmax(1), CELL, Rules(LEAST, ())) > 0
    for _ in range(40):
        loss = lacking(z.softmax(1), CELL, Rules(LEAST, ())).sum()
        if loss == 0:
            break
        (gradient,) = torch.autograd.grad(loss, z)
        z = (z - gradient * loss.detach() / gradient.square().sum()).detach().requires_grad_(True)
    found = z.detach().softmax(1)[0, VESSEL].sum() * CELL**3 / 1000
    assert found >= MARGIN * 2.0 * 0.999


def test_a_piece_that_lies_apart_counts_with_its_volume():
    labels = drawn(3)
    ends = Rules((rule("gap", (VESSEL,), (1,), maximum=4.0),), ())
    assert lacking(labels, CELL, ends) == 0
    labels[0, 0, 6:8, 6:8, 11:13] = 0
    labels[0, VESSEL, 6:8, 6:8, 11:13] = 1
    assert float(lacking(labels, CELL, ends)) == pytest.approx(8 * 0.064 / 0.5)


def test_structures_that_must_not_touch_count_where_they_do():
    apart = Rules((rule("contact", (1,), (VESSEL,), maximum=0.0),), ())
    touching, free = drawn(3), drawn(3)
    free[0, :, :, :, 5] = torch.tensor([1.0, 0, 0, 0])[:, None, None]
    assert lacking(free, CELL, apart) == 0 < lacking(touching, CELL, apart)


def test_a_volume_above_its_largest_counts_and_each_sample_by_itself():
    volumes = np.array([0.064 * edge**3 for edge in (2, 3, 4, 5)])
    large = lacking(drawn(2, 3, 4, 5), CELL, Rules((rule("volume", (VESSEL,), (), maximum=2.0),), ()))
    assert large.numpy() == pytest.approx((np.log(volumes / 2.0).clip(0) / 0.25) ** 2, rel=1e-5)
    assert large[1] == 0 < large[2]


def test_a_piece_as_near_as_its_rule_allows_does_not_count():
    labels = drawn(3)
    labels[0, 0, 6:8, 6:8, 11:13] = 0
    labels[0, VESSEL, 6:8, 6:8, 11:13] = 1  # six cells from the blood
    found = [
        lacking(labels, CELL, Rules((rule("gap", (VESSEL,), (1,), maximum=m),), ())) for m in (8.0, 30.0)
    ]
    assert found[1] == 0 < found[0]


def test_rules_that_are_kept_change_neither_loss_nor_gradient():
    apart = rule("contact", (1,), (VESSEL,), maximum=1e4)  # kept
    ends = rule("gap", (VESSEL,), (1,), maximum=4.0)  # kept
    found = []
    for rules in (LEAST, (*LEAST, apart, ends)):
        z = drawn(2, 5).mul(12.0).requires_grad_(True)
        loss = lacking(z.softmax(1), CELL, Rules(rules, ()))
        found.append((loss.detach(), *torch.autograd.grad(loss.sum(), z)))
    (loss, gradient), (same, alike) = found
    assert loss[0] > 0 == loss[1]
    assert torch.equal(loss, same)
    assert torch.equal(gradient, alike)
    assert gradient[0].any()
    assert not gradient[1].any()
