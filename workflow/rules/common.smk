# Config, settings, batches and paths of the workflow: all Python of the rules files. No rules.
#
# Everything that a rule needs is made here once, from plain values. Every cluster job reads this file again, so
# nothing slow may be imported. A user's mistake ends the run here with one message.

import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from cardiocohort.anatomy import bundle_metadata
from cardiocohort.cohort import plan, table
from cardiocohort.cohort.target_arms import refuse_other_arms
from cardiocohort.evaluation import arms as evaluation_arms
from cardiocohort.label_maps import cases, folder as label_map_folder
from cardiocohort.runtime import artifacts, stale_lock
from cardiocohort.runtime.code_digest import library_digest
from cardiocohort.runtime.content_digests import ContentDigests
from cardiocohort.config.check import check_refinement, check_together, complete
from cardiocohort.config.check import locate, with_edges
from cardiocohort.config.typed_text import typed_text
from cardiocohort.runtime.errors import InputError

# not workflow.basedir, which is that of a Snakefile that includes this workflow
WORKFLOW = Path(workflow.current_basedir).parent
REPOSITORY = WORKFLOW.parent


CONFIG_FILE = str(locate("config/config.yaml", "configfile", Path.cwd(), REPOSITORY))


configfile: CONFIG_FILE


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
    path = WORKFLOW / "scripts" / script
    if workflow.is_main_process:
        return library_digest(path)
    return lambda wildcards: library_digest(path)  # a job needs that of its own script


def more_each_attempt(mem_mb):
    """Memory of a rule. A job that died may have had too little, so each attempt gets that much more."""
    return lambda wildcards, attempt: mem_mb * attempt


def all_cores(wildcards):
    """Threads of a job that uses the whole machine. A function, since on a cluster there is no number of
    cores and Snakemake refuses to name one."""
    return workflow.cores or 1


# ---- content of users' files

# A file that replaces another one may be older. So users' files are ancient() inputs, and params hold the
# digest of their content. It must not come from a params function of `input`: Snakemake does not compare those.
CONTENTS = ContentDigests(".snakemake/content_digests.json")


@cache
def label_maps_of(folder, key):
    """Label maps by subject of the folder that config key `key` names; none where it is null.

    They are digested here, before any job reads them."""
    if not folder:
        return {}
    with plain_errors():
        found = label_map_folder.find_label_maps(place(folder, key, "folder"))
        if workflow.is_main_process:
            CONTENTS.of(found.values())
    return {name: str(path) for name, path in found.items()}


def prior_label_maps():
    """Label maps that a prior is trained on. Not looked for before the job is planned: the target `label_maps`
    of the same config may have to make them first."""
    return label_maps_of(SETTINGS["prior"]["label_maps"], "prior.label_maps")


def prior_covariates():
    """The table of covariates of a prior's label maps, if any."""
    return place(SETTINGS["prior"]["covariates"], "prior.covariates", "file") or []


@cache
def segmented_files():
    """The files of all cases of `segmentations.folder` that a source names, digested like label maps."""
    folder, *sources = map(
        SETTINGS["segmentations"].get, ("folder", "sources", "whole_heart")
    )
    with plain_errors():
        anatomy, _ = bundle_metadata.read_anatomy(SEGMENTATION_TABLES["anatomy"])
        folder = place(folder, "segmentations.folder", "folder")
        files = cases.files_of_data_set(folder, *sources, anatomy.structures)
        CONTENTS.of(files)
    return files


# ---- batches


def planned_batches():
    """Every batch by name, from the folder `label_maps` or from the cohort table."""
    if SETTINGS["label_maps"]:
        label_maps = label_maps_of(SETTINGS["label_maps"], "label_maps")
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


def verified_index(wildcards):
    return plan.verified_index(wildcards.batch, batch_of(wildcards))


def verified_subject(wildcards):
    return plan.verified_subject(wildcards.batch, batch_of(wildcards))


def base_of(*stages):
    """An input function: what a batch of siblings takes from its base."""

    def base_inputs(wildcards):
        batch = batch_of(wildcards)
        if batch["base_map"]:
            return {"base_map": ancient(batch["base_map"])}
        return plan.base_tables(batch, stages)

    return base_inputs


@cache
def simulation_batches():
    """Simulation batches by name. Made on demand: with one subject per batch there are many."""
    return plan.simulation_batches(BATCHES, SETTINGS["simulation"]["batch_size"])


# ---- bundles


def bundle_files(folder, key="bundle"):
    """The three files of the bundle in `folder`, which config key `key` names."""
    names = bundle_metadata.FILES.items()
    return {part: place(f"{folder}/{name}", key) for part, name in names}


def bundle_of_arm(wildcards):
    """Files of the bundle that an arm is sampled from: the config's, or that of the implicit baseline."""
    if ARMS[wildcards.arm].method == evaluation_arms.IMPLICIT:
        return bundle_files(SETTINGS["evaluation"]["implicit"], "evaluation.implicit")
    return BUNDLE_FILES


def evaluation_label_maps():
    """Hearts that the bundle has not seen, by subject; none where its templates are deformed anew."""
    folder = SETTINGS["evaluation"]["label_maps"]
    with plain_errors():
        evaluation_arms.check_unseen(folder, TRAINED_ON, BUNDLE)
    return label_maps_of(folder, "evaluation.label_maps")


def deformed_templates(which):
    """Templates (path: share) that hearts are deformed from: `alike` what is sampled, or `left_out`."""
    if SETTINGS["evaluation"]["label_maps"]:
        return {}
    shares = evaluation_arms.template_shares(TRAINED_ON, which)
    return {place(path, "templates of the bundle"): n for path, n in shares.items()}


# ---- settings, read once

EXPORTERS = (WORKFLOW / "scripts/cardiocohort/exporters").glob("[!_]*.py")

with plain_errors():
    given = workflow.config_settings
    SETTINGS = complete(
        config, typed_text([CONFIG_FILE, *given.configfiles], given.config_args)
    )
    check_together(SETTINGS, sorted(path.stem for path in EXPORTERS))

# Sampling and training take a GPU where the config insists on one.
WITH_GPU = SETTINGS["device"] == "cuda"
SAMPLING_ENV = f"../../envs/generation{'_gpu' if WITH_GPU else ''}.yaml"
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
