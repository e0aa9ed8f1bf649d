"""Topology guidance: rules of the gate as differentiable terms, and steps that make a map keep them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cardiocohort.anatomy.labels import Anatomy
from cardiocohort.generation.topology_guidance import (
    MARGIN,
    TREATED,
    WHILE_DRAWN,
    lacking,
    topology_loss,
    topology_steps,
)
from cardiocohort.topology import Rules, examine
from cardiocohort.topology.measures import KINDS, ONLY_JUDGED
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


def test_every_kind_of_rule_steers_or_is_said_to_judge_only():
    assert set(KINDS) - TREATED - set(WHILE_DRAWN) == ONLY_JUDGED


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


@pytest.mark.parametrize("kind", ["contact", "leak", "wall_thickness"])
def test_terms_push_probabilities_and_not_only_labels(kind):
    """A hole that is not yet one, since its cells are wall by a hair, is pushed already."""
    z = latent(walled(hole=True))
    z[0, 2, 6:8, 6:8, 10:] += 6.01
    z.requires_grad_(True)
    limit = {"contact": {"maximum": 0.0}, "leak": {"maximum": 0.0}, "wall_thickness": {"minimum": 2.4}}[kind]
    outside = (0,) if kind == "contact" else (2,)
    loss = loss_of(z, Rules((rule(kind, (1,), outside, **limit),), ()))
    (gradient,) = torch.autograd.grad(loss, z)
    assert (gradient[0, 0, 6:8, 6:8, 10] > 0).all()  # descent makes background less likely there


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
