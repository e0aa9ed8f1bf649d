"""How sampling is steered: the config section `guidance`, described in its schema (generation stage)."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DpsSettings:
    """Rule `dps`: `weight` is the paper's w, lambda_* weigh the attributes' errors in the unit cube.

    The paper states none; how these were found is in docs/generation.md.
    """

    weight: float = 32.0
    lambda_size: float = 8000.0
    lambda_position: float = 4000.0
    lambda_shape: float = 700.0
    lambda_scale: float = 50000.0
    lambda_orientation: float = 600.0
    lambda_aspect: float = 900.0
    lambda_volume_ratio: float = 8.0
    lambda_distance: float = 2400.0
    lambda_direction: float = 170.0

    def weight_of(self, attribute: str) -> float:
        return getattr(self, f"lambda_{attribute}")


@dataclass(frozen=True)
class SiblingSettings:
    """Digital siblings: noise level that their base is brought to, and how far an edit's traces may reach.

    They are steered at each of their few levels, by `fraction` of a Polyak step and without momentum.
    """

    sigma: float = 1.0
    steps: int = 24
    fraction: float = 1.0
    reach_mm: float = 12.0


@dataclass(frozen=True)
class GuidanceSettings:
    """lambda_*, fraction, trust, momentum, every, sigma_from, sigma_to: rule `fast`.

    It acts on every `every`-th level, counted back from the last, with sigma_to <= sigma <= sigma_from.
    max_miss: an attribute that misses its target by more reference standard deviations than this is
    outside the prior.
    """

    method: str = "fast"
    steps: int = 30
    sigma_max: float = 30.0
    sigma_min: float = 0.02
    lambda_size: float = 1.0
    lambda_position: float = 1.0
    lambda_shape: float = 1.0
    lambda_scale: float = 1.0
    lambda_orientation: float = 1.0
    lambda_aspect: float = 1.0
    lambda_volume_ratio: float = 1.0
    lambda_distance: float = 1.0
    lambda_direction: float = 1.0
    fraction: float = 1.4
    trust: float = 0.1
    momentum: float = 0.5
    every: int = 3
    sigma_from: float = 30.0
    sigma_to: float = 0.02
    max_miss: float = 1.5
    dps: DpsSettings = field(default_factory=DpsSettings)
    sibling: SiblingSettings = field(default_factory=SiblingSettings)

    @classmethod
    def from_config(cls, section: dict) -> "GuidanceSettings":
        """From the config's section, whose subsections are dicts; keys may be missing."""
        parts = {"dps": DpsSettings, "sibling": SiblingSettings}
        made = {key: parts[key](**value) if key in parts else value for key, value in section.items()}
        return cls(**made)

    def weight_of(self, attribute: str) -> float:
        return getattr(self, f"lambda_{attribute}")
