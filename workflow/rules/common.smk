# Config, settings, batches and paths that rules need, made here once. No rules; logic is in the library. Each
# cluster job reads this file too: nothing slow may be imported. A user's mistake ends the run with one message.

import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cardiocohort.anatomy import bundle_metadata, folder as anatomy_folder
from cardiocohort.anatomy.domains import read_domains
from cardiocohort.cohort import covariates, people, plan, subject_columns, table
from cardiocohort.cohort import target_arms
from cardiocohort.cohort.ignored_edits import idle
from cardiocohort.evaluation import arms as evaluation_arms
from cardiocohort.evaluation import real_hearts as evaluated_hearts
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.label_maps import cases, folder as label_map_folder
from cardiocohort.label_maps.folder import CONVENTION_TABLES
from cardiocohort.runtime import artifacts, stale_lock
from cardiocohort.runtime.code_digest import library_digest
from cardiocohort.runtime.content_digests import ContentDigests
from cardiocohort.runtime.run_progress import RunProgress
from cardiocohort.config.arms import calibrated_as, check_arms, section_of, unlike_bases
from cardiocohort.config.arms import check_calibrations, check_contractions
from cardiocohort.config.check import check_atlas, check_biventricular
from cardiocohort.config.check import check_body_surface
from cardiocohort.config.check import check_hearts_only
from cardiocohort.config.check import check_refinement
from cardiocohort.config.check import check_together, complete, of_default_table
from cardiocohort.config.check import exporters, locate, with_edges
from cardiocohort.config.idle_keys import idle_keys
from cardiocohort.config.typed_text import typed_text
from cardiocohort.runtime.errors import InputError
from cardiocohort.trial import endpoints

if workflow.is_main_process:
    logger.addHandler(RunProgress(logger))

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


def warn(message):
    """A warning of the main process: jobs read this file too."""
    if message and workflow.is_main_process:
        logger.warning(message)


def requested(target):
    """Whether the command line names a target; Snakemake has not read its targets yet. What its rules need is
    then checked here: an error in an input function would come with a traceback."""
    return target in sys.argv


def tables(stage, suffix):
    """A stage's tables of all batches."""
    return expand(f"<cohort>/{stage}/{{batch}}.{suffix}", batch=BATCHES)


# ---- resources and digests


def library(script):
    """Digest of the library code that a script uses: a change of it reruns the rule."""
    path = WORKFLOW / "scripts" / script  # a job needs only that of its own script
    if workflow.is_main_process:
        return library_digest(path)
    return lambda wildcards: library_digest(path)


def more_each_attempt(mem_mb):
    """Memory of a rule. A job that died may have had too little, so each attempt gets that much more."""
    return lambda wildcards, attempt: mem_mb * attempt


# A file that replaces another one may be older, so users' files are ancient() inputs and params hold digests of
# their content, by functions of wildcards alone: Snakemake does not compare params made from `input`. Jobs need
# no digests; the main process alone compares them.
content_of = (
    ContentDigests(".snakemake/content_digests.json").of
    if workflow.is_main_process
    else lambda paths: None
)


@cache
def label_maps_of(section=None):
    """Label maps by subject of the config key `label_maps`, of a section or not; none where it is null.

    They are digested here, before any job reads them. A section's folder is not looked for before a job is
    planned: the target `label_maps` may have to fill it first."""
    folder = (SETTINGS[section] if section else SETTINGS)["label_maps"]
    key = f"{section}.label_maps" if section else "label_maps"
    if not folder:
        return {}
    with plain_errors():
        folder = place(folder, key, "folder")
        found = label_map_folder.find_label_maps(folder)
        warn(label_map_folder.ignored(folder))
        content_of(found.values())
    return {name: str(path) for name, path in found.items()}


def real_hearts(section, key):
    """Label maps by subject of the folder that a key of a section of the config names; an error for null."""
    with plain_errors():
        folder = place(section[key.rsplit(".", 1)[1]], key, "folder")
        if not folder:
            raise InputError(f"config key '{key}' is null: name a folder of label maps")
        return {
            name: str(path)
            for name, path in label_map_folder.find_label_maps(folder).items()
        }


def whole_hearts():
    """Label maps of real hearts that the prior has not seen."""
    return real_hearts(EVALUATION["whole_hearts"], "evaluation.whole_hearts.label_maps")


def varied_hearts():
    """Label maps of real hearts whose variety samples are compared with."""
    return real_hearts(EVALUATION, "evaluation.real_hearts")


def compared_with(key):
    """The file that a key of `evaluation.whole_hearts` names; no file for null."""
    path = EVALUATION["whole_hearts"][key]
    return place(path, f"evaluation.whole_hearts.{key}", "file") or []


def training_hearts():
    """hearts.tsv of the population that a prior was trained on."""
    return compared_with("training")


def fitted_atlas():
    """An atlas whose best fit stands beside the samples."""
    return compared_with("atlas")


def check_whole_hearts():
    """What the target `whole_hearts` needs: folder, atlas of the bundle's anatomy and grid, training hearts."""
    check_labels(whole_hearts().values(), whole=False)
    atlas, training = fitted_atlas(), training_hearts()
    with plain_errors():
        if atlas:
            anatomy_folder.check_atlas_of(
                atlas, ANATOMY, GRID, BUNDLE, "evaluation.whole_hearts.atlas"
            )
        if training:
            evaluated_hearts.training_hearts(
                training, "evaluation.whole_hearts.training"
            )


def measured_apart(target, table, hearts):
    """A table of a target beside `evaluate`, for the bars: where it is made in this run, or has been made.

    `hearts` is the folder that the target needs; null leaves the table out."""
    there = (Path(EVALUATION_FOLDER) / table).exists()
    return f"<evaluation>/{table}" if hearts and (requested(target) or there) else []


def card_of_bundle():
    """card.json beside the bundle, or in the folder where `prior` leaves it; "" where there is none.

    A param, and no input: the bars do not make a prior's card anew."""
    folder = Path(BUNDLE).parent
    places = (folder / "card.json", folder.parent / "card/card.json")
    return next((str(path) for path in places if path.exists()), "")


def check_variety():
    """What the target `variety` needs: enough real hearts."""
    hearts = varied_hearts()
    check_labels(hearts.values(), whole=False)
    with plain_errors():
        evaluated_hearts.check_variety(
            hearts, EVALUATION["real_hearts"], "evaluation.real_hearts"
        )


def prior_covariates():
    """The table of covariates of the label maps that a prior is trained on; no file for null."""
    return place(SETTINGS["prior"]["covariates"], "prior.covariates", "file") or []


def check_prior_covariates():
    """What the target `prior` needs of that table: a row per label map, without gaps."""
    # the folder before the table, which usually lies in it
    label_maps = label_maps_of("prior")
    if not prior_covariates():
        return
    if not label_maps:
        raise InputError(
            "config key 'prior.covariates': the table is of label maps, and 'prior.label_maps' is null; name "
            "their folder, or set 'prior.covariates' to null"
        )
    people.of_subjects(prior_covariates(), label_maps, COVARIATES)
    warn(people.unknown_columns(prior_covariates(), COVARIATES))


@cache
def segmented_files():
    """The files of all cases of the data set that a source names, digested like label maps."""
    folder = place(SEGMENTATIONS["folder"], "segmentations.folder", "folder")
    with plain_errors():
        files = cases.files_of_data_set(
            folder, SEGMENTATIONS, OWN_ANATOMY.structures, RULES
        )
        warn(cases.ignored(folder, files))
        content_of(files)
    return files


def check_labels(paths, whole):
    """An error for label maps of another anatomy, before any work; a convention says more, in the job."""
    if paths and workflow.is_main_process and (whole or not CONVENTION):
        from cardiocohort.anatomy.label_map import check_labels_apart

        check_labels_apart(paths, OWN_ANATOMY, whole)


def check_own_rules():
    """What can be known of a rules table of the user before any job.

    Rules that cannot guide are said of such a table alone: docs/generation.md says it of the shipped ones.
    """
    shipped = Path(RULES).resolve().is_relative_to((REPOSITORY / "resources").resolve())
    if shipped and not SETTINGS["topology_rules"]:
        return
    from cardiocohort.topology.table import only_judged_apart

    remark = only_judged_apart(RULES, ANATOMY)  # an error for rules of another anatomy
    if (
        not shipped
        and WITH_TABLE
        and GuidanceSettings.from_config(SETTINGS["guidance"]).follows_rules
    ):
        warn(remark)


# ---- batches


def planned_batches():
    """Every batch by name, from the folder `label_maps` or from the cohort table."""
    cohort, size, seed = map(SETTINGS.get, ("cohort", "batch_size", "seed"))
    if SETTINGS["label_maps"]:
        if workflow.is_main_process and not CONVENTION:
            from cardiocohort.population.planned_maps import check_label_maps_apart

            check_label_maps_apart(label_maps_of().values(), ANATOMY, GRID, RULES)
        return plan.batches_of_label_maps(cohort, label_maps_of(), size)
    domains = read_domains(SETTINGS["domains"], ANATOMY, GRID)
    defaults = anatomy_folder.read_constraints(ANATOMY_FILE)
    try:
        arms = table.read_cohort(
            located("cohort_table"), ANATOMY, COVARIATES, domains, defaults
        )
    except InputError as error:
        raise InputError(f"{error}{of_default_table(SETTINGS)}") from None
    if workflow.is_main_process:
        for arm in arms:
            for text in idle(arm):
                warn(f"arm {arm.name!r}: {text}")
        warn(plan.many_batches(arms, size))
    base_maps = {}
    for arm in arms:
        if arm.base and not arm.base_arm:
            path = place(arm.base, f"cohort_table, arm {arm.name}, base", "file")
            base_maps[arm.name] = (path, artifacts.sha256(path))
    if base_maps and workflow.is_main_process:
        from cardiocohort.population.planned_maps import check_bases_apart

        paths = {arm: path for arm, (path, _) in base_maps.items()}
        geometry = SETTINGS["nifti_geometry"]
        check_bases_apart(arms, paths, ANATOMY, GRID, RULES, CONVENTION, geometry)
    return plan.batches_of_arms(arms, size, seed, base_maps)


def batch_of(wildcards):
    """The batch of a job."""
    with plain_errors():
        return plan.batch_named(wildcards.batch, BATCHES, SETTINGS["cohort"])


def of_batch(key):
    """A params function: the value under `key` of a job's batch."""
    return lambda wildcards: batch_of(wildcards)[key]


def of_arm(section):
    """A params function: a section of the config as the arm of a job's batch has it."""
    return lambda wildcards: section_of(SETTINGS, plan.arm_of(wildcards.batch), section)


def reading_of_base(wildcards):
    """How the label map of a base is read, where there is one."""
    if not batch_of(wildcards)["base_map"]:
        return None
    return {"sha256": CONVENTION_SHA256, "geometry": SETTINGS["nifti_geometry"]}


def of_verified(what):
    """A params function: `what` (of `plan`) of the subject of a job's batch that is verified."""
    return lambda wildcards: what(wildcards.batch, batch_of(wildcards))


def base_of(*stages):
    """An input function: what a batch of siblings takes from its base; a label map comes with the convention."""

    def inputs(wildcards):
        files = plan.base_inputs(batch_of(wildcards), stages)
        if "base_map" not in files:
            return files
        return {
            "base_map": ancient(files["base_map"]),
            "convention": ancient(CONVENTION),
        }

    return inputs


@cache
def simulation_batches():
    """Simulation batches by name. Made on demand: with one subject per batch there are many."""
    return plan.simulation_batches(BATCHES, SETTINGS["simulation"]["batch_size"])


@cache
def simulations_of_meshes():
    """Simulation batches by the batch of meshes that they have hearts of."""
    return plan.simulations_of(simulation_batches())


def followed_by_decks(wildcards):
    """An input function: simulations and calibration that the decks of a batch follow, if they follow any."""
    if not DECKS_FOLLOW_SIMULATIONS:
        return {}
    names = simulations_of_meshes().get(wildcards.batch, [])
    return {
        "simulations": plan.stage_tables("simulations", names),
        "calibration": calibration_of(wildcards),
    }


def simulation_of_decks(wildcards):
    """A params function: what decks need to know of the section `simulation`, if they follow simulations."""
    if not DECKS_FOLLOW_SIMULATIONS:
        return None
    known = ("reference", "fibres", "pericardium_kpa_per_mm")
    return {key: SETTINGS["simulation"][key] for key in known}


def in_results(path):
    """Whether a path of the cohort's folder exists."""
    folder = f"results/cohorts/{SETTINGS['cohort']}"
    return Path(str(path).replace(plan.COHORT, folder)).exists()


def trial_simulates():
    """Whether a trial is run whose endpoints are simulated."""
    return requested("trial") and bool(SIMULATED_ENDPOINTS)


@cache
def simulated():
    """The simulation tables that there are: once `simulate` has run, the subject table has its quantities.

    All of them where they are made in this run: for `simulate`, for decks that follow them, or for a trial
    whose endpoints are simulated.
    """
    if requested("simulate") or trial_simulates() or DECKS_FOLLOW_SIMULATIONS:
        return plan.stage_tables("simulations", simulation_batches())
    # with one subject per batch there are many: they are not listed where none has been simulated; those of
    # another domain, which were made before, are not made again
    if SETTINGS["meshing"]["domain"] != "biventricular" or not in_results(
        f"{plan.COHORT}/simulations"
    ):
        return []
    return list(
        filter(in_results, plan.stage_tables("simulations", simulation_batches()))
    )


def simulated_tables(wildcards):
    """An input function of the tables that `simulated` names."""
    return simulated()


@cache
def calibrations(arm):
    """The calibration whose factors the hearts of an arm take, in a list; an empty one without targets."""
    fitted_on = calibrated_as(SETTINGS, arm, SIBLING_BASES)
    return [f"{plan.COHORT}/calibrations/{fitted_on}.json"] if fitted_on else []


def calibration_of(wildcards):
    """An input function: the calibration of a batch's arm."""
    return calibrations(plan.arm_of(wildcards.batch))


def people_of(names):
    """The targets of batches, whose subjects' circulations are scaled by their body surface, if any are."""
    if not SETTINGS["simulation"]["cycle"]["reference_bsa_m2"]:
        return []
    return plan.stage_tables("targets", names)


def calibrated(wildcards):
    """An input function: the calibrations of all arms that `simulated` has hearts of."""
    arms = dict.fromkeys(plan.arm_of(Path(path).stem) for path in simulated())
    return list(dict.fromkeys(path for arm in arms for path in calibrations(arm)))


def trial_results(wildcards):
    """Tables and figures of the trial, for the report: where the trial is run, or has run."""
    paths = [*TRIAL_TABLES.values(), *TRIAL_FIGURES.values()]
    there = WITH_ENDPOINTS and all(map(in_results, paths))
    return paths if requested("trial") or there else []


def compared_results(wildcards):
    """Summaries and figures of the pairs, for the report: where they are compared, or have been."""
    arms = [f"{plan.COHORT}/comparisons/{arm}" for arm in SIBLING_ARMS]
    wanted = arms if requested("paired_comparison") else []
    there = [arm for arm in arms if in_results(f"{arm}.summary.tsv")]
    return [
        f"{arm}{end}" for arm in wanted or there for end in (".summary.tsv", ".png")
    ]


@cache
def arms_of_one_target():
    """Arms whose subjects all have the same explicit targets."""
    if not TARGETS_TABLE:
        return set()
    return target_arms.arms_of_one_target(TARGETS_TABLE)


def parts_table_of(wildcards):
    """The table of parts, where the arm of a job's batch names some."""
    if not REFERENCE_PARTS or plan.arm_of(wildcards.batch) not in ARMS_WITH_PARTS:
        return {}
    return {"reference_parts": ancient(REFERENCE_PARTS)}


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


def deformed_templates(which):
    """Templates (path: share) that hearts are deformed from: `alike` what is sampled, or `left_out`."""
    with plain_errors():
        shares = evaluation_arms.template_shares(
            EVALUATION["label_maps"], TRAINED_ON, which, BUNDLE
        )
    return {place(path, "templates of the bundle"): n for path, n in shares.items()}


# ---- settings, read once

with plain_errors():
    CONFIG_FILES = [CONFIG_FILE, *workflow.config_settings.configfiles]
    TYPED = typed_text(CONFIG_FILES, workflow.config_settings.config_args)
    SETTINGS = complete(config, TYPED)
    check_together(SETTINGS, exporters())
    for text in idle_keys(SETTINGS):
        warn(text)

DECKS_FOLLOW_SIMULATIONS = SETTINGS["decks"]["follow"] == "simulations"
# Sampling and training take a GPU where the config insists on one.
WITH_GPU = SETTINGS["device"] == "cuda"
SAMPLING_ENV = f"../../envs/generation{'_gpu' if WITH_GPU else ''}.yaml"
# Factorisations by MKL need it in the environment.
SOLVER_ENV = f"../../envs/simulation{'_mkl' if SETTINGS['simulation']['solver'] == 'pardiso' else ''}.yaml"
# The anatomy: one folder for cohort, label maps, atlas and prior.
ANATOMY_FOLDER = located("anatomy", "folder")
with plain_errors():
    anatomy_folder.check_folder(ANATOMY_FOLDER)
    ANATOMY_FILE = f"{ANATOMY_FOLDER}/{anatomy_folder.LABELS}"
    OWN_ANATOMY, OWN_GRID = bundle_metadata.read_anatomy(ANATOMY_FILE)
ANATOMY_SHA256 = artifacts.sha256(ANATOMY_FILE)
RULES = located("topology_rules") or f"{ANATOMY_FOLDER}/{anatomy_folder.RULES}"
RULES_SHA256 = artifacts.sha256(RULES)
# What a user's own label maps and scans are held to: the tables of a folder.
CONVENTION_FOLDER = SETTINGS["convention"]
if CONVENTION_FOLDER == anatomy_folder.CONVENTION_OF_ANATOMY:
    CONVENTION_FOLDER = f"{ANATOMY_FOLDER}/{anatomy_folder.CONVENTION}"
    if not Path(CONVENTION_FOLDER).is_dir():
        CONVENTION_FOLDER = None
CONVENTION = [
    place(f"{CONVENTION_FOLDER}/{name}", "convention", "file")
    for name in (CONVENTION_TABLES if CONVENTION_FOLDER else ())
]
CONVENTION_SHA256 = [artifacts.sha256(path) for path in CONVENTION]
# The covariates that tables of people can have: those of every run, and the user's own.
COVARIATES_TABLE = located("covariates_table")
COVARIATES_SHA256 = [
    artifacts.sha256(path) for path in (covariates.SHIPPED, COVARIATES_TABLE) if path
]
with plain_errors():
    COVARIATES = covariates.known(COVARIATES_TABLE)
OWN_COVARIATES = (
    {"covariates_table": ancient(COVARIATES_TABLE)} if COVARIATES_TABLE else {}
)
REFERENCE_VALUES = str(REPOSITORY / "resources/reference/reference_values.tsv")
REFERENCE_RELATIONS = str(REPOSITORY / "resources/reference/relations.tsv")

# The cohort needs a bundle; the target `prior` makes one, `label_maps` and `atlas` need none. Jobs parse this file
# too, after a main process that has found nothing wrong.
WITHOUT_BUNDLE = any(map(requested, ("prior", "label_maps", "atlas"))) or any(
    argument.startswith(("results/atlas/", "results/prior/")) for argument in sys.argv
)
WITH_COHORT = (
    workflow.is_main_process
    and not WITHOUT_BUNDLE
    or any((base / SETTINGS["bundle"]).exists() for base in (Path.cwd(), REPOSITORY))
)

if WITH_COHORT:
    BUNDLE_FILES = bundle_files(located("bundle", "folder"))
    BUNDLE, WEIGHTS, BUNDLE_MOMENTS = BUNDLE_FILES.values()
    REFERENCE = located("reference_table") or BUNDLE_MOMENTS
    TARGETS_TABLE = located("targets_table")
    # the table that this target makes need not be there yet
    try:
        REFERENCE_PARTS = (
            None if requested("reference_parts") else located("reference_parts")
        )
    except WorkflowError as error:
        raise WorkflowError(f"{error}; {target_arms.MAKE_IT}") from None
    WITH_TABLE = not SETTINGS["label_maps"]
    SIMULATED_ENDPOINTS = [
        column
        for kind in ("primary", "secondary")
        for column in SETTINGS["endpoints"][kind]
        if column.startswith(subject_columns.SIMULATION)
    ]
    WITH_ENDPOINTS = bool(
        SETTINGS["endpoints"]["primary"] or SETTINGS["endpoints"]["secondary"]
    )
    with plain_errors():
        ANATOMY, GRID = bundle_metadata.read_anatomy(BUNDLE)
        if workflow.is_main_process and not WITHOUT_BUNDLE:
            anatomy_folder.check_same(
                ANATOMY, OWN_ANATOMY, f"config key 'bundle': {BUNDLE}", ANATOMY_FOLDER
            )
            check_hearts_only(SETTINGS, ANATOMY.structures)
            check_own_rules()
        WEIGHTS_SHA256 = bundle_metadata.read_card(BUNDLE).get("weights_sha256")
        BATCHES = planned_batches()
        # once: the tables may be large, and every job reads this file; not for the target that shows what a
        # trial may name
        if (
            workflow.is_main_process
            and WITH_TABLE
            and not requested("describe_population")
        ):
            arms = plan.arms_of(BATCHES).values()
            for sentence in people.check_trial_apart(
                arms,
                located("cohort_table"),
                REFERENCE,
                RULES,
                COVARIATES,
                GRID,
                ANATOMY,
            ):
                warn(sentence)
            if TARGETS_TABLE:
                people.check_structures(TARGETS_TABLE, ANATOMY)
                target_arms.refuse_other_arms(
                    TARGETS_TABLE, plan.arms_without_base(BATCHES)
                )
            if not requested("reference_parts"):
                target_arms.check_parts(
                    plan.arms_of(BATCHES).values(),
                    located("cohort_table"),
                    TARGETS_TABLE,
                    REFERENCE_PARTS,
                    GRID,
                )
        if workflow.is_main_process:
            subjects_have = subject_columns.columns(
                ANATOMY.structures,
                COVARIATES,
                subject_columns.relations(plan.arms_of(BATCHES).values()),
                subject_columns.parts(plan.arms_of(BATCHES).values()),
            )
            check_arms(SETTINGS, plan.arms_of(BATCHES))
            if WITH_ENDPOINTS or requested("trial"):
                endpoints.check(
                    SETTINGS,
                    subjects_have,
                    plan.arms_of(BATCHES),
                    plan.sizes_of(BATCHES),
                    arms_of_one_target(),
                )
    SIBLING_ARMS = plan.sibling_arms(BATCHES)
    SIBLING_BASES = {arm: own["base"] for arm, own in SIBLING_ARMS.items()}
    if workflow.is_main_process:
        for text in unlike_bases(SETTINGS, SIBLING_BASES):
            logger.warning(text)
    ANATOMY_DIGEST = artifacts.digest(
        [ANATOMY.structures, ANATOMY.centred_on, GRID.shape, GRID.spacing_mm]
    )
    REFERENCE_SHA256 = artifacts.sha256(REFERENCE)
    BUNDLE_MOMENTS_SHA256 = artifacts.sha256(BUNDLE_MOMENTS)
    TARGETS_SHA256 = artifacts.sha256(TARGETS_TABLE) if TARGETS_TABLE else None
    PARTS_SHA256 = artifacts.sha256(REFERENCE_PARTS) if REFERENCE_PARTS else None
