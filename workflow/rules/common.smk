# Config, settings, batches and paths of the workflow: all Python of the rules files. No rules.
#
# Everything that a rule needs is made here once, from plain values. Every cluster job reads this file again, so
# nothing slow may be imported. A user's mistake ends the run here with one message.

import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cardiocohort.anatomy import bundle_metadata
from cardiocohort.cohort import plan, table
from cardiocohort.cohort.target_arms import refuse_other_arms
from cardiocohort.evaluation import arms as evaluation_arms
from cardiocohort.label_maps import cases, folder as label_map_folder
from cardiocohort.label_maps.folder import CONVENTION_TABLES
from cardiocohort.runtime import artifacts, stale_lock
from cardiocohort.runtime.code_digest import library_digest
from cardiocohort.config.check import check_refinement, check_together, complete
from cardiocohort.config.check import locate, with_edges
from cardiocohort.runtime.errors import InputError

# not workflow.basedir, which is that of a Snakefile that includes this workflow
WORKFLOW = Path(workflow.current_basedir).parent
REPOSITORY = WORKFLOW.parent


configfile: str(locate("config/config.yaml", "configfile", Path.cwd(), REPOSITORY))


@contextmanager
def plain_errors():
    """Show the message of a user's mistake without a traceback."""
    try:
        yield
    except InputError as error:
        raise WorkflowError(str(error)) from None


# ---- paths


def place(path, key, kind=None):
    """Where the `kind` (file, folder) is that config key `key` names; None where the key is null."""
    with plain_errors():
        return str(locate(path, key, Path.cwd(), REPOSITORY, kind)) if path else None


def located(key, kind="file"):
    """The file or folder that a top-level config key names."""
    return place(SETTINGS[key], key, kind)


@cache
def warn(message):
    """A warning, once per run: jobs read this file too."""
    if message and workflow.is_main_process:
        logger.warning(message)


def requested(target):
    """Whether the command line names a target. What its rules need is then checked before anything runs: an
    error in an input function would come with Snakemake's traceback."""
    return target in sys.argv


def tables(stage, suffix):
    """A stage's tables of all batches."""
    return expand(f"<cohort>/{stage}/{{batch}}.{suffix}", batch=BATCHES)


def figure(name, suffix="png"):
    """A figure of the report, which `snakemake --report` shows too."""
    return report(
        f"<cohort>/report/{name}.{suffix}",
        category="Figures",
        labels={"figure": name.replace("_", " ")},
    )


# ---- resources and digests


def library(script):
    """Digest of the library code that a script uses: a change of it reruns the rule."""
    return library_digest(WORKFLOW / "scripts" / script)


def more_each_attempt(mem_mb):
    """Memory of a rule. A job that died may have had too little, so each attempt gets that much more."""
    return lambda wildcards, attempt: mem_mb * attempt


def all_cores(wildcards):
    """Threads of a job that uses the whole machine. A function, since on a cluster there is no number of
    cores and Snakemake refuses to name one."""
    return workflow.cores or 1


# ---- batches


def planned_batches():
    """Every batch by name, from the folder `label_maps` or from the cohort table."""
    if SETTINGS["label_maps"]:
        folder = located("label_maps", "folder")
        label_maps = label_map_folder.find_label_maps(folder)
        warn(label_map_folder.ignored(folder))
        return plan.batches_of_label_maps(
            SETTINGS["cohort"], label_maps, SETTINGS["batch_size"]
        )
    arms = table.read_cohort(located("cohort_table"), ANATOMY)
    base_maps = {}
    for arm in arms:
        if arm.base and not arm.base_arm:
            path = place(arm.base, f"cohort_table, arm {arm.name}, base")
            base_maps[arm.name] = (path, artifacts.sha256(path))
    return plan.batches_of_arms(
        arms, SETTINGS["batch_size"], SETTINGS["seed"], base_maps
    )


def batch_of(wildcards):
    """The batch of a job."""
    with plain_errors():
        return plan.batch_named(wildcards.batch, BATCHES, SETTINGS["cohort"])


def of_batch(key):
    """A params function: the value under `key` of a job's batch."""
    return lambda wildcards: batch_of(wildcards)[key]


def reading_of_base(wildcards):
    """How the label map of a base is read, where there is one."""
    if not batch_of(wildcards)["base_map"]:
        return None
    return {"sha256": CONVENTION_SHA256, "geometry": SETTINGS["nifti_geometry"]}


def verified_index(wildcards):
    return plan.verified_index(wildcards.batch, batch_of(wildcards))


def verified_subject(wildcards):
    return plan.verified_subject(wildcards.batch, batch_of(wildcards))


def base_of(*stages):
    """An input function: tables of the base's batch (`base_<stage>`), or the base's label map (`base_map`)."""
    suffixes = {"targets": "parquet", "anatomies": "parquet", "topology": "tsv"}

    def base_inputs(wildcards):
        batch = batch_of(wildcards)
        if batch["base_map"]:
            return {
                "base_map": ancient(batch["base_map"]),
                "convention": ancient(CONVENTION),
            }
        if not batch["base_batch"]:
            return {}
        return {
            f"base_{stage}": f"<cohort>/{stage}/{batch['base_batch']}.{suffixes[stage]}"
            for stage in stages
        }

    return base_inputs


# ---- simulations


@cache
def simulation_batches():
    """Simulation batches by name. Made on demand: with one subject per batch there are many."""
    return plan.simulation_batches(BATCHES, SETTINGS["simulation"]["batch_size"])


def all_simulations(wildcards):
    """The tables of every simulation batch."""
    return expand("<cohort>/simulations/{batch}.tsv", batch=simulation_batches())


def meshes_of_simulation(wildcards):
    """The mesh tables that hold the subjects of a simulation batch."""
    names = simulation_batches()[wildcards.batch]["meshes"]
    return expand("<cohort>/meshes/{name}.tsv", name=names)


def refined_simulations(wildcards):
    """The tables of every simulation batch at every edge length, if the study is to simulate."""
    if not SETTINGS["refinement"]["simulate"]:
        return []
    return expand(
        "<cohort>/refinement/{edge}mm/simulations/{batch}.tsv",
        edge=REFINED_EDGES,
        batch=simulation_batches(),
    )


def all_comparisons(wildcards):
    """The tables of every arm of siblings beside its base."""
    if not SIBLING_ARMS:
        raise WorkflowError(
            f"{SETTINGS['cohort_table']}: no arm has another arm as its base, so there are no pairs to "
            "compare; fill in the column 'base' (docs/cohort-table.md)"
        )
    return expand("<cohort>/comparisons/{arm}.tsv", arm=SIBLING_ARMS)


def compared(wildcards):
    """Tables of an arm of siblings and, with the prefix `base_`, of its base."""
    arms = {"": wildcards.arm, "base_": SIBLING_ARMS[wildcards.arm]["base"]}
    stages = {
        "simulations": (simulation_batches(), "tsv"),
        "anatomies": (BATCHES, "parquet"),
    }
    return {
        f"{prefix}{stage}": [
            f"<cohort>/{stage}/{batch}.{suffix}"
            for batch in batches
            if plan.arm_of(batch) == arm
        ]
        for prefix, arm in arms.items()
        for stage, (batches, suffix) in stages.items()
    }


# ---- folders of label maps and scans


def label_maps_of(folder, key):
    """Label maps by subject of the folder that config key `key` names; none where it is null."""
    if not folder:
        return {}
    with plain_errors():
        folder = place(folder, key, "folder")
        label_maps = label_map_folder.find_label_maps(folder)
        warn(label_map_folder.ignored(folder))
    return {name: str(path) for name, path in label_maps.items()}


def segmented_scans(wildcards):
    """The folder of the data set whose scans become label maps."""
    folder = place(SETTINGS["segmentations"]["folder"], "segmentations.folder")
    if folder is None:
        raise WorkflowError(
            "config key 'segmentations.folder' is null; name the folder that holds one folder per case"
        )
    return folder


def segmented_files(wildcards):
    """The files of all cases that a source names."""
    settings = SETTINGS["segmentations"]
    with plain_errors():
        anatomy, _ = bundle_metadata.read_anatomy(SEGMENTATION_TABLES["anatomy"])
        files = cases.files_of_data_set(
            segmented_scans(wildcards),
            settings["sources"],
            settings["whole_heart"],
            anatomy.structures,
        )
    warn(cases.ignored(segmented_scans(wildcards)))
    return files


def prior_label_maps():
    """Label maps that a prior is trained on, by subject. Not looked for before the job is planned: the
    target `label_maps` of the same config may have to make them first."""
    return label_maps_of(SETTINGS["prior"]["label_maps"], "prior.label_maps")


def prior_covariates(wildcards):
    """The table of covariates of a prior's label maps, if any."""
    return place(SETTINGS["prior"]["covariates"], "prior.covariates", "file") or []


# ---- the evaluated bundle


def bundle_files(folder, key="bundle"):
    """The three files of the bundle in `folder`, which config key `key` names."""
    names = {
        "bundle": "bundle.json",
        "weights": "weights.safetensors",
        "moments": "reference_moments.parquet",
    }
    return {part: place(f"{folder}/{name}", key) for part, name in names.items()}


def bundle_of_arm(wildcards):
    """Files of the bundle that an arm is sampled from: the config's, or that of the implicit baseline."""
    if ARMS[wildcards.arm].method != evaluation_arms.IMPLICIT:
        files = BUNDLE_FILES
    else:
        files = bundle_files(SETTINGS["evaluation"]["implicit"], "evaluation.implicit")
    return {part: ancient(path) for part, path in files.items()}


def trained_on():
    """Record of the bundle's training: label maps or templates, shares, focus, left-out templates."""
    return SETTINGS["prior"] | bundle_metadata.read_card(BUNDLE).get("training", {})


def evaluation_label_maps():
    """Hearts that the bundle has not seen, by subject; none where its templates are deformed anew."""
    folder = SETTINGS["evaluation"]["label_maps"]
    with plain_errors():
        evaluation_arms.check_unseen(folder, trained_on(), BUNDLE)
    return label_maps_of(folder, "evaluation.label_maps")


def deformed_templates(which):
    """Templates (path: share) that hearts are deformed from: `alike` what is sampled, or `left_out`."""
    if SETTINGS["evaluation"]["label_maps"]:
        return {}
    shares = evaluation_arms.template_shares(trained_on(), which)
    return {place(path, "templates of the bundle"): n for path, n in shares.items()}


# ---- settings, read once

EXPORTERS = (WORKFLOW / "scripts/cardiocohort/exporters").glob("[!_]*.py")

with plain_errors():
    SETTINGS = complete(config)
    check_together(SETTINGS, sorted(path.stem for path in EXPORTERS))

# Sampling and training take a GPU where the config insists on one.
WITH_GPU = SETTINGS["device"] == "cuda"
SAMPLING_ENV = f"../../envs/generation{'_gpu' if WITH_GPU else ''}.yaml"
# What a user's own label maps and scans are held to: the tables of a folder.
CONVENTION = [
    place(f"{SETTINGS['convention']}/{name}", "convention", "file")
    for name in (CONVENTION_TABLES if SETTINGS["convention"] else ())
]
CONVENTION_SHA256 = [artifacts.sha256(path) for path in CONVENTION]
REFERENCE_VALUES = str(REPOSITORY / "resources/reference/reference_values.tsv")

# The cohort needs a bundle; the target `prior` makes one, `label_maps` needs none. Jobs parse this file
# too, after a main process that has found nothing wrong.
WITH_COHORT = (
    workflow.is_main_process
    and not (requested("prior") or requested("label_maps"))
    or any((base / SETTINGS["bundle"]).exists() for base in (Path.cwd(), REPOSITORY))
)

if WITH_COHORT:
    BUNDLE_FILES = bundle_files(located("bundle", "folder"))
    BUNDLE, WEIGHTS, BUNDLE_MOMENTS = BUNDLE_FILES.values()
    with plain_errors():
        ANATOMY, GRID = bundle_metadata.read_anatomy(BUNDLE)
        WEIGHTS_SHA256 = bundle_metadata.read_card(BUNDLE).get("weights_sha256")
    REFERENCE = located("reference_table") or BUNDLE_MOMENTS
    RULES = located("topology_rules")
    TARGETS_TABLE = located("targets_table")
    WITH_TABLE = not SETTINGS["label_maps"]
    with plain_errors():
        BATCHES = planned_batches()
        # once: the table may be large, and every job reads this file
        if TARGETS_TABLE and workflow.is_main_process and WITH_TABLE:
            refuse_other_arms(TARGETS_TABLE, plan.arms_of(BATCHES))
    SIBLING_ARMS = plan.sibling_arms(BATCHES)

    # Bundle and tables are ancient() inputs, since a checkout's file times say nothing; these digests
    # of their content, in params, rerun what depends on them.
    ANATOMY_DIGEST = artifacts.digest(
        [ANATOMY.structures, ANATOMY.centred_on, GRID.shape, GRID.spacing_mm]
    )
    REFERENCE_SHA256 = artifacts.sha256(REFERENCE)
    BUNDLE_MOMENTS_SHA256 = artifacts.sha256(BUNDLE_MOMENTS)
    RULES_SHA256 = artifacts.sha256(RULES)
    TARGETS_SHA256 = artifacts.sha256(TARGETS_TABLE) if TARGETS_TABLE else None
