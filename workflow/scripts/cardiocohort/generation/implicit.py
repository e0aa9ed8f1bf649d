"""Implicit conditioning (`guidance.method: implicit`), the baseline of guidance (generation stage).

The denoiser gets the target moments as heat maps (`diffusion/conditioning`), which it was trained to follow.
No gradient is taken. A constraint is on a whole structure, on all of its moments at once.
"""

from collections.abc import Callable

import torch

from ..diffusion.bundle import Prior
from ..diffusion.conditioning import heat_maps
from ..runtime.errors import InputError
from .guidance import Constraint
from .siblings import Base

KEY = "config key 'guidance.method' is 'implicit'"


def conditioned(prior: Prior, constraints: list[Constraint], base: Base | None = None) -> Callable:
    """The denoiser with the heat maps of the constraints of each sample.

    Raises InputError for a prior that was not trained so, for unions, relations and siblings.
    """
    structures = prior.anatomy.structures
    if base:
        raise InputError(f"{KEY}, which cannot hold a base; set method: polyak")
    if prior.denoiser.condition_channels != len(structures):
        raise InputError(
            f"{KEY}, but the bundle's denoiser takes no heat maps of moments; train one "
            "with prior.conditioning: heat_maps, or set method: polyak or dps"
        )
    maps = None
    for c in constraints:
        labels = [label for group in c.labels for label in group]
        if len(labels) != 1 or any(c.within):
            names = "+".join(structures[label - 1] for label in labels)
            names = f"{names} in a domain" if any(c.within) else names
            raise InputError(
                f"{KEY}, which cannot constrain the {c.attribute} of {names}, only single "
                "structures; constrain these, or set method: polyak or dps"
            )
        heat_map = heat_maps(c.wanted[0], prior.grid)
        if maps is None:
            maps = torch.zeros(len(c.active), len(structures), *heat_map.shape[1:], device=prior.device)
        active = c.active > 0
        maps[active, labels[0] - 1] = heat_map[active]

    def denoise(z, sigma):
        with torch.no_grad():
            return prior.denoise(z, sigma, maps)

    return denoise
