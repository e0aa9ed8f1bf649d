"""How sampling is steered: the config section `guidance` (generation stage)."""

from dataclasses import dataclass

from ..runtime.keys import from_section, key, section


@dataclass(frozen=True)
class DpsSettings:
    """Rule `dps`: `weight` is the paper's w; lambda_* weigh the errors of attributes in the unit cube.

    The paper states no values; docs/generation.md says how these were found.
    """

    weight: float = key(32.0, "The rule's w.", minimum=0, maximum=1000000000.0)
    lambda_size: float = key(
        8000.0,
        "Weight of the squared errors of volumes, as shares of the field.",
        minimum=0,
        maximum=1000000000.0,
    )
    lambda_position: float = key(
        4000.0,
        "Weight of the squared errors of centroids, as shares of the field's edge.",
        minimum=0,
        maximum=1000000000.0,
    )
    lambda_shape: float = key(
        700.0, "Weight of the squared errors of S / tr S.", minimum=0, maximum=1000000000.0
    )
    lambda_scale: float = key(
        50000.0,
        "Weight of the squared errors of tr S over the squared edge.",
        minimum=0,
        maximum=1000000000.0,
    )
    lambda_orientation: float = key(
        600.0, "Weight of the squared errors of the principal axes.", minimum=0, maximum=1000000000.0
    )
    lambda_aspect: float = key(
        900.0, "Weight of the squared errors of the eigenvalues of S / tr S.", minimum=0, maximum=1000000000.0
    )
    lambda_volume_ratio: float = key(
        8.0, "Weight of the squared errors of ratios of volumes.", minimum=0, maximum=1000000000.0
    )
    lambda_distance: float = key(
        2400.0,
        "Weight of the squared errors of distances, as shares of the field's edge.",
        minimum=0,
        maximum=1000000000.0,
    )
    lambda_direction: float = key(
        170.0, "Weight of the squared errors of unit vectors.", minimum=0, maximum=1000000000.0
    )
    lambda_thickness: float = key(
        2400.0,
        "Weight of the squared errors of wall thicknesses, as shares of the field's edge.",
        minimum=0,
        maximum=1000000000.0,
    )

    def weight_of(self, attribute: str) -> float:
        return getattr(self, f"lambda_{'size' if attribute == 'area' else attribute}")


@dataclass(frozen=True)
class SiblingSettings:
    """Digital siblings: they are steered at each of their few levels, without momentum."""

    sigma: float = key(
        1.0,
        "Noise level that the base is brought to; higher lets more of it change.",
        exclusiveMinimum=0,
        maximum=100,
    )
    steps: int = key(24, "Noise levels from there.", minimum=2, maximum=1000)
    step_fraction: float = key(
        1.0, "Share of the Polyak step that is taken at each of them.", minimum=0, maximum=2
    )
    reach_mm: float = key(
        12.0,
        "Latent cells farther than this from an edited structure are held at the base's values.",
        minimum=0,
        maximum=200,
    )


@dataclass(frozen=True)
class RestartSettings:
    """Samples of `polyak` that fail are noised a little and steered once more, at each of few levels."""

    most: int = key(2, "Most restarts of an attempt; 0 for none.", minimum=0, maximum=100)
    sigma: float = key(
        2.0,
        "Noise level that a sample is brought back to (of a sibling at most `sibling.sigma`).",
        exclusiveMinimum=0,
        maximum=100,
    )
    steps: int = key(15, "Noise levels from there.", minimum=2, maximum=1000)
    residual: float = key(
        0.2,
        "A sample that the gate accepts is restarted too where a constrained attribute is off by more "
        "standard deviations of the reference population than this.",
        minimum=0,
        maximum=1000,
    )


@dataclass(frozen=True)
class GuidanceSettings:
    """Rule `polyak` acts on every `guide_every`-th level, counted back from the last, with
    sigma_to <= sigma <= sigma_from.
    """

    method: str = key(
        "polyak",
        "`dps` follows the gradient through the denoiser, as published; `polyak` is the cheaper "
        "default. `implicit` takes no gradient: it is the baseline, for a bundle whose denoiser "
        "takes heat maps of moments (`prior.conditioning`).",
        enum=["polyak", "dps", "implicit"],
    )
    steps: int = key(30, "Noise levels of the sampler.", minimum=2, maximum=1000)
    sigma_max: float = key(
        30.0,
        "Noise level at which sampling starts, in standard deviations of the latents.",
        exclusiveMinimum=0,
        maximum=1000,
    )
    sigma_min: float = key(
        0.02, "Last noise level before zero; less than sigma_max.", exclusiveMinimum=0, maximum=10
    )
    lambda_size: float = key(
        1.0, "Weight of the volumes in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_position: float = key(
        1.0, "Weight of the centroids in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_shape: float = key(
        1.0, "Weight of the normalised covariances in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_scale: float = key(
        1.0, "Weight of the total scales in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_orientation: float = key(
        1.0, "Weight of the principal axes in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_aspect: float = key(
        1.0,
        "Weight of the eigenvalues of the normalised covariances in the loss of `polyak`.",
        minimum=0,
        maximum=1000000.0,
    )
    lambda_volume_ratio: float = key(
        1.0, "Weight of ratios of volumes in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_distance: float = key(
        1.0, "Weight of distances in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_direction: float = key(
        1.0, "Weight of directions in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    lambda_thickness: float = key(
        1.0, "Weight of wall thicknesses in the loss of `polyak`.", minimum=0, maximum=1000000.0
    )
    step_fraction: float = key(
        1.4,
        "Share of the Polyak step that `polyak` takes at each level where it steers.",
        minimum=0,
        maximum=2,
    )
    trust_radius: float = key(
        0.1, "Longest step of `polyak`, in standard deviations of the noise.", minimum=0, maximum=100
    )
    trust_from: float = key(
        0.1,
        "Below this noise level steps of `polyak` may still be as long as at it.",
        minimum=0,
        maximum=1000,
    )
    momentum: float = key(
        0.5,
        "What a step of `polyak` keeps of the direction of the one before, as a share of the "
        "gradient's length.",
        minimum=0,
        maximum=0.9,
    )
    guide_every: int = key(
        3, "`polyak` steers at every such level, counted back from the last.", minimum=1, maximum=1000
    )
    sigma_from: float = key(
        30.0, "Guidance of `polyak` acts at this noise level and below.", minimum=0, maximum=1000
    )
    sigma_to: float = key(
        0.02, "Guidance of `polyak` acts at this noise level and above.", minimum=0, maximum=1000
    )
    label_levels: int = key(
        4,
        "At so many of the last levels where it steers, `polyak` takes the values of the moments from the "
        "decoded label map; 0 for none.",
        minimum=0,
        maximum=1000,
    )
    max_miss: float = key(
        1.5,
        "An anatomy misses its target when an attribute is off by more standard deviations of the "
        "reference population than this; a subject all of whose attempts do so ends as `target "
        "outside the prior`.",
        exclusiveMinimum=0,
        maximum=1000,
    )
    topology_from: float = key(
        3.0,
        "Noise level from which restarts of samples that the gate rejects are held above the least volumes "
        "and contacts of the topology rules; 0 for never.",
        minimum=0,
        maximum=1000,
    )
    topology_steps: int = key(
        8,
        "Most steps of topology guidance on a sample of `polyak` that the gate rejects, before it is "
        "restarted; 0 for none.",
        minimum=0,
        maximum=100,
    )
    dps: DpsSettings = section(
        DpsSettings, "The published rule, D - sigma^2 w grad L, with L in the unit cube (docs/generation.md)."
    )
    sibling: SiblingSettings = section(
        SiblingSettings,
        "Subjects that are made from a base, by noising and steering it (docs/generation.md).",
    )

    restart: RestartSettings = section(
        RestartSettings,
        "Second tries from a sample that the gate rejects or that is off its targets (docs/generation.md).",
    )

    @classmethod
    def from_config(cls, values: dict) -> "GuidanceSettings":
        """From the config's section, whose subsections are dicts; keys may be missing."""
        return from_section(cls, values, "guidance")

    @property
    def follows_rules(self) -> bool:
        """Whether the gate's rules steer; `dps` and `implicit` stay as published."""
        in_restarts = self.topology_from > 0 and self.restart.most > 0
        return self.method == "polyak" and (self.topology_steps > 0 or in_restarts)

    def weight_of(self, attribute: str) -> float:
        return getattr(self, f"lambda_{'size' if attribute == 'area' else attribute}")
