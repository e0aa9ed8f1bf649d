"""Implicit conditioning (`guidance.method: implicit`), the baseline of guidance (generation stage).

The denoiser is told the wanted moments as heat maps (`prior/conditioning`), which it was trained to follow;
no gradient is taken. It takes whole structures, all of their moments at once.
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
    """The denoiser, told what the constraints want of each sample.

    Raises InputError for a prior that was not trained so, for unions, relations and siblings.
    """
    structures = prior.anatomy.structures
    if base:
        raise InputError(f"{KEY}, which cannot hold a base; set method: fast")
    if prior.denoiser.condition_channels != len(structures):
        raise InputError(
            f"{KEY}, but the denoiser of the bundle is not told moments; train one with "
            "prior.conditioning: heat_maps, or set method: fast or dps"
        )
    maps = None
    for c in constraints:
        labels = [label for group in c.labels for label in group]
        if len(labels) != 1:
            names = "+".join(structures[label - 1] for label in labels)
            raise InputError(
                f"{KEY}, which cannot be asked for {c.attribute} of {names}: it knows single structures; "
                "constrain these, or set method: fast or dps"
            )
        told = heat_maps(c.wanted[0], prior.grid)
        if maps is None:
            maps = torch.zeros(len(c.active), len(structures), *told.shape[1:], device=prior.device)
        asked = c.active > 0
        maps[asked, labels[0] - 1] = told[asked]

    def denoise(z, sigma):
        with torch.no_grad():
            return prior.denoise(z, sigma, maps)

    return denoise
