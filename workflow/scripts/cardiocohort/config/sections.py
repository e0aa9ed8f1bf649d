"""Every config key, once: type, default, bounds, description. Stages' sections are the stages' settings."""

from dataclasses import dataclass

from ..anatomy.domains import NAME
from ..anatomy.domains import SCHEMA as DOMAIN
from ..generation.settings import GuidanceSettings
from ..mechanics.decks import DeckSettings
from ..mechanics.settings import Mechanics
from ..meshing.settings import MeshSettings
from ..microstructure.settings import FibreAngles
from ..runtime.keys import key, section
from ..simulation.settings import SimulationSettings
from ..trial.settings import Endpoints
from .arms import OF_AN_ARM


@dataclass(frozen=True)
class Refinement:
    """The config section `refinement`."""

    edge_lengths_mm: list = key(
        [3.4, 2.8, 2.2],
        "Edge lengths in place of `meshing.edge_length_mm`; those of the septum and the RV, where "
        "they are set, change in proportion (mm).",
        minItems=2,
        uniqueItems=True,
        items={"type": "number", "minimum": 0.5, "maximum": 6, "description": "edge length (mm)"},
    )
    simulate: bool = key(False, "Whether every mesh is inflated too, as `simulate` does it.")


@dataclass(frozen=True)
class Threads:
    """The config section `threads`."""

    generation: int = key(1, "Subjects of a batch sampled side by side.", minimum=1, maximum=256)
    meshing: int = key(1, "Subjects of a batch meshed side by side.", minimum=1, maximum=256)
    simulation: int = key(
        1,
        "Cores of the solver, which simulates one heart of a batch after the other.",
        minimum=1,
        maximum=256,
    )
    segmentations: int = key(
        1,
        "Cases of a data set made label maps side by side; each takes up to 3 GB.",
        minimum=1,
        maximum=256,
    )
    atlas: int = key(
        2, "Hearts of an atlas registered side by side; each takes up to 1.5 GB.", minimum=1, maximum=256
    )


SOURCE = {
    "description": "file (.nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd) below the case's folder, with labels or "
    "the name of a segment after a colon if any",
    "type": "string",
    "pattern": "^[^:/\\\\][^:\\\\]*(:[^\\n]+)?(?!\\n)$",
}


@dataclass(frozen=True)
class MeshSource:
    """The config section `segmentations.mesh`: cases that are four-chamber meshes with a tag per tissue."""

    file: str | None = key(
        None,
        "Mesh (.vtk, .vtu, or .elem with the .pts beside it) below a case's folder, the source of every "
        "structure; `{case}` stands for the case. null reads `sources`.",
        minLength=1,
    )
    tags: str = key(
        "resources/segmentations/tags_rodero2021.tsv",
        "Table of tags (TSV): tag, part, role (wall, tube, lid), structures, tissue.",
        minLength=1,
    )
    arrays: list = key(
        [],
        "Cell arrays of a VTK file with the tags: of tetrahedra, and of triangles that are lids if there are "
        "any. Empty takes the only array.",
        minItems=0,
        maxItems=2,
        items={"description": "name of a cell array", "type": "string", "minLength": 1},
    )
    unit: str = key(
        "auto", "Unit of the coordinates; auto: by the heart's size.", enum=["auto", "um", "mm", "cm", "m"]
    )
    axes: str = key(
        "RAS",
        "Where x, y and z point: one of R L, one of A P, one of S I, in any order.",
        pattern="^(?=.*[RL])(?=.*[AP])(?=.*[SI])[RLAPSI]{3}(?!\\n)$",
    )


@dataclass(frozen=True)
class Segmentations:
    """The config section `segmentations`."""

    name: str = key(
        "mine",
        "Name of the data set; its label maps lie in results/label_maps/<name>/. Letters, digits "
        "and underscores.",
        pattern="^[A-Za-z0-9][A-Za-z0-9_]{0,63}(?!\\n)$",
    )
    folder: str | None = key(
        None,
        "Folder of the data set, with one folder per case in it; null where there is none.",
        minLength=1,
    )
    sources: dict = key(
        {
            "myocardium": ["heart_myocardium.nii.gz"],
            "left_ventricle": ["heart_ventricle_left.nii.gz"],
            "right_ventricle": ["heart_ventricle_right.nii.gz"],
            "left_atrium": ["heart_atrium_left.nii.gz"],
            "right_atrium": ["heart_atrium_right.nii.gz"],
            "aorta": ["aorta.nii.gz"],
            "pulmonary_artery": ["pulmonary_artery.nii.gz"],
            "superior_vena_cava": ["superior_vena_cava.nii.gz"],
            "inferior_vena_cava": ["inferior_vena_cava.nii.gz"],
            "pulmonary_vein": ["pulmonary_vein.nii.gz"],
        },
        "Files of each structure in a case's folder, or labels (`labels.nrrd:7+8`) or a segment "
        "(`heart.seg.nrrd:Aorta`) of files. The first that has the structure wins; `{case}` stands for the "
        "case. The default is TotalSegmentator's naming of masks.",
        additionalProperties={
            "description": "sources of a structure",
            "type": "array",
            "minItems": 1,
            "items": SOURCE,
        },
    )
    mesh: MeshSource = section(MeshSource, "Cases that are four-chamber meshes with a tag per tissue.")
    whole_heart: list = key(
        ["heart.nii.gz"],
        "Sources of a mask of the whole heart, looked at only to see whether the field cuts it.",
        minItems=0,
        items=SOURCE,
    )
    covariates: str | None = key(
        None,
        "TSV with case and any covariates (resources/covariates.tsv, `covariates_table`); null knows none.",
        minLength=1,
    )
    vessels: str | None = key(
        "resources/segmentations/heart_vessels.tsv",
        "Table of the vessels' lengths beyond the chambers that they join; null leaves them as they are.",
        minLength=1,
    )


@dataclass(frozen=True)
class NetworkWidths:
    """The config section `prior.networks`."""

    latent_channels: int = key(8, "Channels of the latent.", minimum=1, maximum=64)
    fine_width: int = key(
        48,
        "Autoencoder channels at 8 mm (multiple of 8).",
        minimum=8,
        multipleOf=8,
        maximum=512,
    )
    coarse_width: int = key(
        112,
        "Autoencoder channels at 16 mm (multiple of 8).",
        minimum=8,
        multipleOf=8,
        maximum=1024,
    )
    detail_width: int = key(
        16,
        "Channels from which mixed 4 mm cells are refined to voxels.",
        minimum=4,
        maximum=512,
    )
    denoiser_width: int = key(
        96,
        "Denoiser channels of the upper level (multiple of 8).",
        minimum=8,
        multipleOf=8,
        maximum=1024,
    )
    denoiser_depth: int = key(2, "Residual blocks per level.", minimum=1, maximum=16)


@dataclass(frozen=True)
class AutoencoderTraining:
    """The config section `prior.autoencoder`."""

    cycles: list = key(
        [1000],
        "Optimiser steps of each cosine cycle of the learning rate; a second cycle trains on, "
        "none keeps the network of `warm_start`.",
        items={"type": "integer", "minimum": 1, "maximum": 10000000, "description": "steps of a cycle"},
    )
    batch: int = key(6, "Hearts per step.", minimum=1, maximum=4096)
    learning_rate: float = key(0.002, "Largest learning rate.", exclusiveMinimum=0, maximum=1)
    max_minutes: float | None = key(
        None,
        "Training ends early after so many minutes; null does not.",
        exclusiveMinimum=0,
        maximum=1000000,
    )


@dataclass(frozen=True)
class LeftOutTraining:
    """The config section `prior.autoencoder_left_out`."""

    cycles: list = key(
        [400],
        "Optimiser steps of each cosine cycle of the learning rate; a second cycle trains on.",
        minItems=1,
        items={"type": "integer", "minimum": 1, "maximum": 10000000, "description": "steps of a cycle"},
    )
    batch: int = key(6, "Hearts per step.", minimum=1, maximum=4096)
    learning_rate: float = key(0.002, "Largest learning rate.", exclusiveMinimum=0, maximum=1)
    max_minutes: float | None = key(
        None,
        "Training ends early after so many minutes; null does not.",
        exclusiveMinimum=0,
        maximum=1000000,
    )


@dataclass(frozen=True)
class DenoiserTraining:
    """The config section `prior.denoiser`."""

    cycles: list = key(
        [1700, 560],
        "Optimiser steps of each cosine cycle of the learning rate; a second cycle trains on, "
        "none keeps the network of `warm_start`.",
        items={"type": "integer", "minimum": 1, "maximum": 10000000, "description": "steps of a cycle"},
    )
    batch: int = key(8, "Latents per step.", minimum=1, maximum=4096)
    learning_rate: float = key(0.001, "Largest learning rate.", exclusiveMinimum=0, maximum=1)
    max_minutes: float | None = key(
        None,
        "Training ends early after so many minutes; null does not.",
        exclusiveMinimum=0,
        maximum=1000000,
    )


@dataclass(frozen=True)
class Atlas:
    """The config section `atlas`."""

    name: str = key(
        "mine",
        "Name of the atlas; everything lies in results/atlas/<name>/. Letters, digits and underscores.",
        pattern="^[A-Za-z0-9][A-Za-z0-9_]{0,63}(?!\\n)$",
    )
    label_maps: str | None = key(
        None, "Folder of label maps in the convention, one per heart; 3 or more.", minLength=1
    )
    leave_out: list = key(
        [],
        "Hearts (names of label maps) that are registered but are in no mean and no mode, to measure on.",
        items={"type": "string", "minLength": 1, "description": "name of a label map"},
    )
    cut_vessels: list = key(
        [],
        "Hearts whose vessels end elsewhere than those of most: matched only near the chambers.",
        items={"type": "string", "minLength": 1, "description": "name of a label map"},
    )
    vessel_reach_mm: float = key(
        14.0,
        "How far from the chambers the vessels of `cut_vessels` are matched.",
        minimum=2.0,
        maximum=100.0,
    )
    weights: dict = key(
        {
            "myocardium": 1.2,
            "superior_vena_cava": 1.5,
            "inferior_vena_cava": 1.5,
            "pulmonary_vein": 1.5,
        },
        "Weights of structures in the registration; 1 for those that are not named.",
        additionalProperties={"type": "number", "minimum": 0, "maximum": 100, "description": "weight"},
    )
    least_overlap: float = key(
        0.85,
        "Mean Dice of the chambers after registration, below which a heart is left out of the atlas.",
        minimum=0.0,
        maximum=1.0,
    )
    cell_voxels: int = key(4, "Voxels of a cell of the modes along an axis.", minimum=2, maximum=8)
    samples: int = key(100, "Random hearts that specificity is measured on.", minimum=2, maximum=10000)
    seed: int = key(1, "Seed of these random hearts.", minimum=0, maximum=9007199254740991)


@dataclass(frozen=True)
class Prior:
    """The config section `prior`."""

    name: str = key(
        "mine",
        "Name of the prior; everything lies in results/prior/<name>/. Letters, digits and underscores.",
        pattern="^[A-Za-z0-9][A-Za-z0-9_]{0,63}(?!\\n)$",
    )
    label_maps: str | None = key(
        None,
        "Folder of label maps in the convention to train on; null deforms the templates.",
        minLength=1,
    )
    covariates: str | None = key(
        None,
        "TSV with subject and any covariates (resources/covariates.tsv, `covariates_table`) of the label "
        "maps; null knows none.",
        minLength=1,
    )
    templates: dict = key(
        {"resources/atlas/heart.safetensors": 1.0},
        "Atlases (.safetensors) or template label maps, and the share of the population drawn from each.",
        additionalProperties={"type": "number", "exclusiveMinimum": 0, "description": "share"},
    )
    n: int = key(1000, "Hearts in the deformed population.", minimum=10, maximum=100000)
    seed: int = key(1, "Seed of deformations and training.", minimum=0, maximum=9007199254740991)
    held_out_share: float = key(
        0.05,
        "Share of the hearts kept from training for the card's figures.",
        minimum=0.01,
        maximum=0.5,
    )
    leave_out: list = key(
        [],
        "Templates (names) that the second autoencoder does not see, for the card.",
        items={"type": "string", "minLength": 1, "description": "name of a template"},
    )
    card_samples: int = key(50, "Unguided samples drawn for the card.", minimum=1, maximum=10000)
    machine: str = key(
        "machine and time not stated",
        "What the training ran on and how long, for the card.",
        minLength=1,
    )
    warm_start: str | None = key(
        None,
        "Folder of a bundle whose weights training starts from, null for random ones. The "
        "networks must be the same; the new bundle records where it came from. The left-out "
        "autoencoder never starts from it.",
        minLength=1,
    )
    conditioning: str = key(
        "none",
        "What the denoiser is conditioned on in training. none: nothing, guidance steers it later. "
        "heat_maps: moments, as the baseline `guidance.method: implicit` needs.",
        enum=["none", "heat_maps"],
    )
    processes: int = key(
        1,
        "Processes that share each training step, on one machine: one per GPU with `device: cuda`. "
        "Batches must be multiples of it; results are those of one process, up to rounding.",
        minimum=1,
        maximum=64,
    )
    networks: NetworkWidths = section(NetworkWidths, "Widths of the networks.")
    autoencoder: AutoencoderTraining = section(AutoencoderTraining, "Training run of the autoencoder.")
    autoencoder_left_out: LeftOutTraining = section(
        LeftOutTraining,
        "Training run of the autoencoder without the left-out templates.",
    )
    denoiser: DenoiserTraining = section(DenoiserTraining, "Training run of the denoiser.")


@dataclass(frozen=True)
class SampleCounts:
    """The config section `evaluation.samples`."""

    unguided: int = key(200, "Unguided samples.", minimum=4, maximum=100000)
    polyak: int = key(
        200,
        "Samples of method `polyak` at each set of structures, and of each arm of the ablation.",
        minimum=4,
        maximum=100000,
    )
    dps: int = key(
        16,
        "Samples of method `dps` at each set of structures. Each costs as much as several of `polyak`.",
        minimum=0,
        maximum=100000,
    )
    cohort: int = key(
        100,
        "Attempts as a cohort makes them, with topology guidance and restarts, at no and at each set of "
        "structures.",
        minimum=0,
        maximum=100000,
    )
    implicit: int = key(
        100,
        "Samples of the baseline at no and at each set of structures.",
        minimum=0,
        maximum=100000,
    )
    strengths: int = key(
        20,
        "Samples of method `polyak` at each of the other strengths.",
        minimum=0,
        maximum=100000,
    )
    dps_strengths: int = key(
        10,
        "Samples of method `dps` at each of the other strengths, at most as many as `dps` has.",
        minimum=0,
        maximum=100000,
    )
    extremes: int = key(3, "Samples of each extreme target.", minimum=0, maximum=100000)


@dataclass(frozen=True)
class HeartCounts:
    """The config section `evaluation.hearts`."""

    reference: int = key(200, "Hearts of the bundle's own templates.", minimum=4, maximum=100000)
    left_out: int = key(
        50,
        "Hearts of the left-out template, if the bundle has one.",
        minimum=0,
        maximum=100000,
    )


@dataclass(frozen=True)
class EllipsoidBenchmark:
    """The config section `evaluation.known`."""

    hearts: int = key(300, "Ellipsoid hearts to train on.", minimum=10, maximum=100000)
    autoencoder_steps: int = key(1500, "Training steps of the autoencoder.", minimum=1, maximum=1000000)
    denoiser_steps: int = key(2500, "Training steps of the denoiser.", minimum=1, maximum=1000000)
    points: int = key(
        9,
        "Targets along each axis of a plane of the grid; 0 leaves this part out.",
        minimum=0,
        maximum=101,
    )
    reach: float = key(
        8.0,
        "Farthest target, in standard deviations of training.",
        exclusiveMinimum=0,
        maximum=100,
    )


@dataclass(frozen=True)
class WholeHearts:
    """The config section `evaluation.whole_hearts`."""

    label_maps: str | None = key(
        None,
        "Folder of label maps of hearts that no atlas, population or training has seen (target "
        "`whole_hearts`).",
        minLength=1,
    )
    seeds: int = key(5, "Guided samples of each heart, from its own moments.", minimum=1, maximum=1000)
    attempts: int = key(2, "Attempts of each sample.", minimum=1, maximum=100)
    atlas: str | None = key(
        None,
        "An atlas (.safetensors) whose best fit stands beside the samples; null leaves it out.",
        minLength=1,
    )
    training: str | None = key(
        None,
        "hearts.tsv of the prior's population: the nearest of its hearts, grown to the same volumes, stands "
        "beside the samples; null leaves it out.",
        minLength=1,
    )


@dataclass(frozen=True)
class Evaluation:
    """The config section `evaluation`."""

    label_maps: str | None = key(
        None,
        "Folder of label maps that the bundle has not seen: the first are targets, half of them where they "
        "are few; null deforms the bundle's own templates anew. A bundle that was trained on label maps "
        "needs one.",
        minLength=1,
    )
    implicit: str | None = key(
        None,
        "Folder of a bundle whose denoiser is conditioned on the targets, the baseline of guidance; null "
        "leaves it out (docs/evaluation.md).",
        minLength=1,
    )
    constrained: list = key(
        [
            ["myocardium"],
            ["myocardium", "left_ventricle", "right_ventricle"],
            ["myocardium", "left_ventricle", "right_ventricle", "left_atrium", "right_atrium", "aorta"],
        ],
        "Sets of structures that are constrained; no two of the same number. The first is that of "
        "the ablation.",
        minItems=1,
        items={
            "description": "structures of a set",
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1, "description": "name of a structure"},
        },
    )
    whole_hearts: WholeHearts = section(
        WholeHearts, "Real hearts that the prior has not seen, each requested by its own moments."
    )
    real_hearts: str | None = key(
        None,
        "Folder of label maps of real hearts, whose variety unguided samples are compared with (target "
        "`variety`).",
        minLength=1,
    )
    samples: SampleCounts = section(SampleCounts, "Samples of an arm; 0 leaves its arms out.")
    hearts: HeartCounts = section(HeartCounts, "Deformed hearts that samples are compared with.")
    strengths: list = key(
        [0.25, 0.5, 2.0, 4.0],
        "Other strengths of guidance, as factors on the step of `polyak` and the weight of `dps`.",
        minItems=0,
        uniqueItems=True,
        items={"type": "number", "exclusiveMinimum": 0, "maximum": 1000, "description": "factor"},
    )
    extremes: list = key(
        [-8.0, -4.0, 4.0, 8.0],
        "Extreme targets, as standard deviations of the reference population from its mean, of "
        "volume and place of the first constrained structure.",
        minItems=0,
        uniqueItems=True,
        items={"type": "number", "minimum": -1000, "maximum": 1000, "description": "standard deviations"},
    )
    known: EllipsoidBenchmark = section(
        EllipsoidBenchmark,
        "A prior of ellipsoid hearts, whose moments are known exactly, and its grid of targets.",
    )
    resamples: int = key(
        1000,
        "Resamples behind every confidence interval.",
        minimum=20,
        maximum=100000,
    )
    seed: int = key(1, "Seed of hearts, noise and resamples.", minimum=0, maximum=9007199254740991)


@dataclass(frozen=True)
class Config:
    """Every key that a config file may have.

    Paths are taken from the working directory if they exist there, else from the folder of the workflow.
    """

    cohort: str = key(
        "demo",
        "Name of the cohort; its results lie in results/cohorts/<cohort>/. Letters, digits and underscores.",
        pattern="^[A-Za-z0-9][A-Za-z0-9_]{0,63}(?!\\n)$",
    )
    anatomy: str = key(
        "resources/anatomies/heart",
        "Folder of the anatomy: labels and grid, topology rules, colours (docs/howto.md). `bundle`, label "
        "maps, atlas and prior have its labels.",
        minLength=1,
    )
    cohort_table: str = key(
        "config/cohort.tsv",
        "The table of the trial, one row per arm (docs/cohort-table.md).",
        minLength=1,
    )
    targets_table: str | None = key(
        None,
        "Explicit targets (moments or ellipsoids) that replace the draws from the population; null draws.",
        minLength=1,
    )
    reference_table: str | None = key(
        None,
        "The reference population, one row per subject and structure; null takes the bundle's own.",
        minLength=1,
    )
    reference_parts: str | None = key(
        None,
        "Moments of parts `structure@domain` in the hearts of a prior, which `snakemake reference_parts` "
        "writes to results/prior/<name>/reference_parts.parquet. Arms that draw parts need it; of siblings "
        "and explicit targets it gives spreads and plausibility of parts.",
        minLength=1,
    )
    covariates_table: str | None = key(
        None,
        "Covariates beyond those of resources/covariates.tsv, a TSV with the same columns; null adds none "
        "(docs/cohort-table.md).",
        minLength=1,
    )
    convention: str | None = key(
        "anatomy",
        "Folder with positions.tsv, layout.tsv and numberings.tsv; `anatomy` takes the folder `convention` "
        "of the anatomy, if it has one. Label maps and scans of your own are "
        "compared with these tables: which label is which structure, and how the heart lies. null checks "
        "nothing.",
        minLength=1,
    )
    nifti_geometry: str = key(
        "agree",
        "Which form of a NIfTI header gives voxel size and orientation. With `agree` a header whose "
        "sform, qform and pixdim contradict each other is an error.",
        enum=["agree", "sform", "qform"],
    )
    label_maps: str | None = key(
        None,
        "A folder of label maps (.nii, .nii.gz, .nrrd, .seg.nrrd, .mha) that replaces population and "
        "generation: each file becomes a subject of the same name. Needs a `cohort` name of its own, other "
        "than `demo`. null generates.",
        minLength=1,
    )
    bundle: str = key(
        "resources/priors/people",
        "Folder of the generative prior (bundle.json, weights.safetensors, reference_moments.parquet).",
        minLength=1,
    )
    topology_rules: str | None = key(
        None,
        "The table of anatomical rules that every heart must pass (docs/topology.md); null takes "
        "topology.tsv of the anatomy.",
        minLength=1,
    )
    batch_size: int = key(
        4,
        "Subjects in a job. Small for a laptop; tens for thousands of subjects on a cluster.",
        minimum=1,
        maximum=10000,
    )
    seed: int = key(
        1,
        "Seed of every arm that states none. The same seed gives the same cohort.",
        minimum=0,
        maximum=9007199254740991,
    )
    truncation: float = key(
        0.95,
        "Share of the reference population inside which targets are drawn (chi-square quantile).",
        exclusiveMinimum=0,
        exclusiveMaximum=1,
    )
    max_attempts: int = key(
        8,
        "Anatomies sampled for a subject, each with a seed of its own, until one passes the topology rules.",
        minimum=1,
        maximum=100,
    )
    device: str = key(
        "auto",
        "Where anatomies are sampled; `auto` takes a GPU if the job sees one, `cuda` insists on one.",
        enum=["auto", "cpu", "cuda"],
    )
    guidance: GuidanceSettings = section(
        GuidanceSettings,
        "How sampling is steered to the target moments (Kadry et al., CardioComposer, ICLR 2026).",
    )
    meshing: MeshSettings = section(
        MeshSettings,
        "From label map to biventricular tetrahedra (docs/meshing.md).",
    )
    microstructure: FibreAngles = section(
        FibreAngles,
        "Rule-based fibre and sheet angles in degrees (Bayer et al. 2012).",
    )
    mechanics: Mechanics = section(
        Mechanics,
        "The passive inflation that solver decks describe; units mm and kPa (docs/solvers.md).",
    )
    arms: dict = key(
        {},
        "Settings of single arms by name, which override the cohort's: sections `meshing`, `mechanics`, "
        "`microstructure`, and of `simulation` the parts `calibrate` and `cycle`, with the keys that differ, "
        "as in `ph: {meshing: {rv_wall_mm: 6}}`.",
        additionalProperties=OF_AN_ARM,
    )
    domains: dict = key(
        {},
        "Parts of structures by name, for `structure@name` in the cohort table (docs/cohort-table.md).",
        additionalProperties=DOMAIN,
        propertyNames={
            "description": "a name of lower-case letters, digits and underscores that does not begin with "
            "`outside_`",
            "pattern": NAME,
        },
    )
    simulation: SimulationSettings = section(
        SimulationSettings,
        "How the target `simulate` solves the inflation that `mechanics` describes (docs/simulation.md).",
    )
    refinement: Refinement = section(
        Refinement,
        "Target `refinement_study`, the same hearts at several edge lengths (docs/meshing.md).",
    )
    endpoints: Endpoints = section(
        Endpoints,
        "What a trial is about: endpoints, reference arm, tests (target `trial`, docs/trial.md).",
    )
    formats: list = key(
        ["vtu", "opencarp"],
        "Solver formats to write: vtu, opencarp, febio, svmultiphysics, fenicsx, calculix, surfaces "
        "(docs/solvers.md); "
        "of the domains `labels` and `four_chamber` vtu, opencarp, calculix, fenicsx, surfaces "
        "(docs/meshing.md).",
        items={
            "description": "Name of an exporter, which is a module of cardiocohort.exporters; lower-case "
            "letters, digits and underscores.",
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]*(?!\\n)$",
        },
        minItems=1,
        uniqueItems=True,
    )
    decks: DeckSettings = section(
        DeckSettings,
        "What solver decks are made from (docs/solvers.md).",
    )
    threads: Threads = section(Threads, "Cores of one job of a stage; results do not depend on them.")
    segmentations: Segmentations = section(
        Segmentations,
        "A data set of segmented scans, to be made label maps (target `label_maps`, docs/own-data.md).",
    )
    atlas: Atlas = section(
        Atlas, "A statistical shape model of a folder of hearts (target `atlas`, docs/atlas.md)."
    )
    prior: Prior = section(
        Prior,
        "Training of a generative prior (target `prior`); the cohort needs only the finished `bundle`.",
    )
    evaluation: Evaluation = section(
        Evaluation,
        "Target `evaluate`, whether hearts are realistic and meet their targets (docs/evaluation.md).",
    )
