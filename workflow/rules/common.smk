# All Python of the workflow: config and settings, who is in which batch, where files are. No rules.
#
# Everything a rule needs is made here once, from plain values; nothing slow may be imported, since
# every cluster job reads this file again. A user's mistake ends the run here with one message.

import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

# not workflow.basedir, which is that of a Snakefile that includes this workflow
WORKFLOW = Path(workflow.current_basedir).parent
REPOSITORY = WORKFLOW.parent
from cardiocohort.anatomy import bundle_metadata
from cardiocohort.cohort import table as cohort_table
from cardiocohort.cohort.target_arms import refuse_other_arms
from cardiocohort.evaluation import arms as evaluation_arms
from cardiocohort.label_maps import cases, folder as label_map_folder
from cardiocohort.runtime import artifacts, stale_lock
from cardiocohort.runtime.code_digest import library_digest
from cardiocohort.runtime.config import check_refinement, check_together, complete
from cardiocohort.runtime.config import locate, read_schema, with_edges
from cardiocohort.runtime.errors import InputError


configfile: str(locate("config/config.yaml", "configfile", Path.cwd(), REPOSITORY))


@contextmanager
def plain_errors():
    """A user's mistake is told by its message alone."""
    try:
        yield
    except InputError as error:
        raise WorkflowError(str(error)) from None


def located(key):
    """The file or folder that a config key names, as a string; None where the key is null."""
    if not SETTINGS[key]:
        return None
    kind = "folder" if key in ("bundle", "label_maps") else "file"
    return str(locate(SETTINGS[key], key, Path.cwd(), REPOSITORY, kind))


def located_in_bundle(name):
    return str(locate(f"{SETTINGS['bundle']}/{name}", "bundle", Path.cwd(), REPOSITORY))


def library(script):
    """Digest of the library code that a script uses: a change of it reruns the rule."""
    return library_digest(WORKFLOW / "scripts" / script)


def batches_of_arms():
    """Params of every batch by its name, from the cohort table."""
    arms = cohort_table.read_cohort(located("cohort_table"), ANATOMY)
    plain = {arm.name: arm.to_dict() for arm in arms}
    maps = {
        arm.name: located_base(arm) for arm in arms if arm.base and not arm.base_arm
    }
    digests = {name: artifacts.sha256(path) for name, path in maps.items()}
    return {
        batch.name: {
            "arm": plain[arm.name],
            "first": batch.first,
            "last": batch.last,
            "seed": SETTINGS["seed"] if arm.seed is None else arm.seed,
            # batch k of siblings depends on batch k of their base
            "base_batch": arm.base_arm
            and f"{arm.base}-{batch.name.rpartition('-')[2]}",
            "base_map": maps.get(arm.name),
            "base_sha256": digests.get(arm.name),
        }
        for arm in arms
        for batch in cohort_table.batches(arm, SETTINGS["batch_size"])
    }


def plain_arms():
    """The arms of the cohort table as plain values; none where label maps replace generation."""
    if SETTINGS["label_maps"]:
        return []
    return list({b["arm"]["name"]: b["arm"] for b in BATCHES.values()}.values())


def located_base(arm):
    """The label map file whose siblings an arm's subjects are, as a string."""
    key = f"cohort_table, arm {arm.name}, base"
    return str(locate(arm.base, key, Path.cwd(), REPOSITORY))


def batch_of(wildcards):
    """The batch that a job is of; an error in words for a file of a batch that the trial does not have."""
    if wildcards.batch not in BATCHES:
        known = list(BATCHES)
        more = f" ... {known[-1]}, {len(known)} in all" if len(known) > 8 else ""
        raise WorkflowError(
            f"{wildcards.batch!r} is no batch of cohort {SETTINGS['cohort']!r}; its batches: "
            + ", ".join(known[:8])
            + more
        )
    return BATCHES[wildcards.batch]


def base_of(*stages):
    """An input function: tables of the base's batch (`base_<stage>`), or the base's label map (`base_map`)."""
    suffixes = {"targets": "parquet", "anatomies": "parquet", "topology": "tsv"}

    def found(wildcards):
        batch = batch_of(wildcards)
        if batch["base_map"]:
            return {"base_map": ancient(batch["base_map"])}
        if not batch["base_batch"]:
            return {}
        return {
            f"base_{stage}": f"<cohort>/{stage}/{batch['base_batch']}.{suffixes[stage]}"
            for stage in stages
        }

    return found


def batches_of_label_maps():
    """Subjects and their files of every batch by its name, from the folder `label_maps`."""
    found = sorted(label_map_folder.find_label_maps(located("label_maps")).items())
    batches = label_map_folder.label_map_batches(
        SETTINGS["cohort"], len(found), SETTINGS["batch_size"]
    )
    return {batch.name: dict(found[batch.first : batch.last + 1]) for batch in batches}


@cache
def simulation_batches():
    """Subjects, and the mesh batches that they are in, of every simulation batch by its name.

    They are numbered within an arm, as other batches are, but are of another size. Made when they are asked
    for: one a subject is many.
    """
    arms = {}
    for name, batch in BATCHES.items():
        if SETTINGS["label_maps"]:
            members = list(batch)
        else:
            indices = range(batch["first"], batch["last"] + 1)
            members = [
                cohort_table.subject_name(batch["arm"]["name"], i) for i in indices
            ]
        arm = name.rpartition("-")[0]
        arms.setdefault(arm, []).extend((member, name) for member in members)
    size = SETTINGS["simulation"]["batch_size"]
    return {
        f"{arm}-{number:04d}": {
            "subjects": [subject for subject, _ in members[first : first + size]],
            "meshes": sorted({name for _, name in members[first : first + size]}),
        }
        for arm, members in arms.items()
        for number, first in enumerate(range(0, len(members), size))
    }


def all_simulations(wildcards):
    """The tables of every simulation batch."""
    return expand("<cohort>/simulations/{batch}.tsv", batch=simulation_batches())


def refined_simulations(wildcards):
    """The tables of every simulation batch at every edge length, if the study is to simulate."""
    if not SETTINGS["refinement"]["simulate"]:
        return []
    return expand(
        "<cohort>/refinement/{edge}mm/simulations/{batch}.tsv",
        edge=REFINED_EDGES,
        batch=simulation_batches(),
    )


def arms_of_siblings():
    """Names of each arm that has another arm for a base, of that base, and the structure that the arm edits
    first, by the arm's name."""
    arms = {batch["arm"]["name"]: batch["arm"] for batch in BATCHES.values()}
    return {
        name: {
            "base": arm["base"],
            "structure": arm["edits"][0]["structure"].split("/")[0],
        }
        for name, arm in arms.items()
        if arm["base"] in arms
    }


def all_comparisons(wildcards):
    """The tables of every arm of siblings beside its base."""
    with plain_errors():
        if not SIBLING_ARMS:
            raise InputError(
                f"{SETTINGS['cohort_table']}: no arm has another arm as its base, so there are no pairs to "
                "compare; fill in the column 'base' (docs/cohort-table.md)"
            )
    return expand("<cohort>/comparisons/{arm}.tsv", arm=SIBLING_ARMS)


def compared(wildcards):
    """Tables of an arm of siblings and of its base."""
    found = {}
    for prefix, arm in (
        ("base_", SIBLING_ARMS[wildcards.arm]["base"]),
        ("", wildcards.arm),
    ):
        for name, stage, batches, suffix in (
            ("simulations", "simulations", simulation_batches(), "tsv"),
            ("anatomies", "anatomies", BATCHES, "parquet"),
        ):
            own = [batch for batch in batches if batch.rpartition("-")[0] == arm]
            found[prefix + name] = [
                f"<cohort>/{stage}/{batch}.{suffix}" for batch in own
            ]
    return found


def meshes_of_simulation(wildcards):
    """The mesh tables that hold the subjects of a simulation batch."""
    names = simulation_batches()[wildcards.batch]["meshes"]
    return expand("<cohort>/meshes/{name}.tsv", name=names)


def segmented_scans(wildcards):
    """The folder of the data set that is to be made label maps."""
    with plain_errors():
        folder = SETTINGS["segmentations"]["folder"]
        if folder is None:
            raise InputError(
                "config key 'segmentations.folder' is null; name the folder that holds one folder a case"
            )
        return str(locate(folder, "segmentations.folder", Path.cwd(), REPOSITORY))


def segmented_files(wildcards):
    """The files of all its cases that a source names."""
    settings = SETTINGS["segmentations"]
    with plain_errors():
        anatomy, _ = bundle_metadata.read_anatomy(SEGMENTATION_TABLES["anatomy"])
        sources = cases.parse_sources(settings["sources"], anatomy.structures)
        sources[""] = [cases.parse_source(text) for text in settings["whole_heart"]]
        return [
            str(path)
            for case in cases.find_cases(segmented_scans(wildcards))
            for path in cases.source_files(case, sources)
        ]


def bundle_of_arm(wildcards):
    """Files of the bundle that an arm is sampled from: the config's, or that of the implicit baseline."""
    if ARMS[wildcards.arm].method != evaluation_arms.IMPLICIT:
        files_of = {"bundle": BUNDLE, "weights": WEIGHTS, "moments": BUNDLE_MOMENTS}
    else:
        folder = SETTINGS["evaluation"]["implicit"]
        names = {
            "bundle": "bundle.json",
            "weights": "weights.safetensors",
            "moments": "reference_moments.parquet",
        }
        with plain_errors():
            files_of = {
                key: str(
                    locate(
                        f"{folder}/{name}",
                        "evaluation.implicit",
                        Path.cwd(),
                        REPOSITORY,
                    )
                )
                for key, name in names.items()
            }
    return {key: ancient(path) for key, path in files_of.items()}


def label_maps_of(folder, key):
    """Label maps by subject of the folder that config key `key` names; none where it is null."""
    if not folder:
        return {}
    with plain_errors():
        found = locate(folder, key, Path.cwd(), REPOSITORY, "folder")
        return {
            name: str(path)
            for name, path in label_map_folder.find_label_maps(found).items()
        }


def prior_label_maps():
    """Label maps that a prior is trained on, by subject. Not looked for before the job is planned: the
    target `label_maps` of the same config may have to make them first."""
    return label_maps_of(SETTINGS["prior"]["label_maps"], "prior.label_maps")


def prior_covariates(wildcards):
    """The table of covariates of a prior's label maps, if any."""
    path = SETTINGS["prior"]["covariates"]
    with plain_errors():
        return (
            str(locate(path, "prior.covariates", Path.cwd(), REPOSITORY, "file"))
            if path
            else []
        )


def evaluation_label_maps():
    """Hearts that the bundle has not seen, by subject; none where its templates are deformed anew."""
    with plain_errors():
        if folder := SETTINGS["evaluation"]["label_maps"]:
            return label_maps_of(folder, "evaluation.label_maps")
        if trained_on()["label_maps"]:
            raise InputError(
                f"config key 'evaluation.label_maps' is null, but {BUNDLE} was trained on label maps; name a folder "
                "of others, which it has not seen"
            )
    return {}


def trained_on():
    """Record of the bundle's training: label maps or templates, shares, focus, what was left out."""
    return SETTINGS["prior"] | bundle_metadata.read_card(BUNDLE).get("training", {})


def deformed_templates(which):
    """Templates (path: share) that hearts are deformed from: `alike` what is sampled, or `left_out`."""
    training = trained_on()
    if SETTINGS["evaluation"]["label_maps"] or training["label_maps"]:
        return {}
    focus = training["focus"][-1] if training["focus"] else []
    chosen = {
        path: share
        for path, share in training["templates"].items()
        if (
            Path(path).name.split(".")[0] in training["leave_out"]
            if which == "left_out"
            else not focus or Path(path).name.split(".")[0] in focus
        )
    }
    with plain_errors():
        return {
            str(locate(path, "templates of the bundle", Path.cwd(), REPOSITORY)): share
            for path, share in chosen.items()
        }


def more_each_attempt(mem_mb):
    """Memory of a rule: a job that died may have had too little, so each further attempt asks for as much more."""
    return lambda wildcards, attempt: mem_mb * attempt


def all_cores(wildcards):
    """Threads of a job that wants the machine for itself. Asked for such jobs only: where every job goes to
    a cluster there is no number of cores, and Snakemake refuses to name one."""
    return workflow.cores or 1


def of_batch(key):
    """A params function: what the batch of a job holds under `key`."""
    return lambda wildcards: batch_of(wildcards)[key]


def index_to_verify(wildcards):
    """Index of the subject of a batch that `verify` recomputes: any, but always the same."""
    batch = batch_of(wildcards)
    n = batch["last"] - batch["first"] + 1
    return batch["first"] + int(artifacts.digest(wildcards.batch)[:8], 16) % n


def subject_to_verify(wildcards):
    """Name of the subject of a batch that `verify` recomputes."""
    batch = batch_of(wildcards)
    if SETTINGS["label_maps"]:
        return sorted(batch)[
            int(artifacts.digest(wildcards.batch)[:8], 16) % len(batch)
        ]
    return cohort_table.subject_name(batch["arm"]["name"], index_to_verify(wildcards))


def tables(stage, suffix):
    """A stage's tables of all batches."""
    return expand(f"<cohort>/{stage}/{{batch}}.{suffix}", batch=BATCHES)


def figure(name, suffix="png"):
    """A figure of the report, shown by `snakemake --report` too."""
    return report(
        f"<cohort>/report/{name}.{suffix}",
        category="Figures",
        labels={"figure": name.replace("_", " ")},
    )


EXPORTERS = (WORKFLOW / "scripts/cardiocohort/exporters").glob("[!_]*.py")

with plain_errors():
    SETTINGS = complete(config, read_schema(WORKFLOW / "schemas/config.schema.yaml"))
    check_together(SETTINGS, sorted(path.stem for path in EXPORTERS))

# Sampling and training take a GPU where the config insists on one.
WITH_GPU = SETTINGS["device"] == "cuda"
SAMPLING_ENV = f"../../envs/generation{'_gpu' if WITH_GPU else ''}.yaml"

# The cohort needs a bundle; the target `prior` makes one, `label_maps` needs none. Jobs parse this file
# too, after a main process that has found nothing wrong.
WITH_COHORT = (
    workflow.is_main_process
    and not {"prior", "label_maps"} & set(sys.argv)
    or any((place / SETTINGS["bundle"]).exists() for place in (Path.cwd(), REPOSITORY))
)

if WITH_COHORT:
    with plain_errors():
        located("bundle")
        BUNDLE = located_in_bundle("bundle.json")
        WEIGHTS = located_in_bundle("weights.safetensors")
        ANATOMY, GRID = bundle_metadata.read_anatomy(BUNDLE)
        WEIGHTS_SHA256 = bundle_metadata.read_card(BUNDLE).get("weights_sha256")
        BUNDLE_MOMENTS = located_in_bundle("reference_moments.parquet")
        REFERENCE = located("reference_table") or BUNDLE_MOMENTS
        RULES = located("topology_rules")
        TARGETS_TABLE = located("targets_table")
        BATCHES = (
            batches_of_label_maps() if SETTINGS["label_maps"] else batches_of_arms()
        )
        # once: the table may be large, and every job reads this file
        if TARGETS_TABLE and workflow.is_main_process and not SETTINGS["label_maps"]:
            refuse_other_arms(
                TARGETS_TABLE,
                dict.fromkeys(batch["arm"]["name"] for batch in BATCHES.values()),
            )

    SIBLING_ARMS = {} if SETTINGS["label_maps"] else arms_of_siblings()

    # Bundle and tables are ancient() inputs, since a checkout's file times say nothing; these digests
    # of their content, in params, rerun what depends on them.
    ANATOMY_DIGEST = artifacts.digest(
        [ANATOMY.structures, ANATOMY.centred_on, GRID.shape, GRID.spacing_mm]
    )
    REFERENCE_SHA256 = artifacts.sha256(REFERENCE)
    BUNDLE_MOMENTS_SHA256 = artifacts.sha256(BUNDLE_MOMENTS)
    RULES_SHA256 = artifacts.sha256(RULES)
    TARGETS_SHA256 = artifacts.sha256(TARGETS_TABLE) if TARGETS_TABLE else None

    # the user's own label maps need no cohort table
    with_table = not SETTINGS["label_maps"]
    COHORT_TABLE = (
        {"cohort_table": ancient(located("cohort_table"))} if with_table else {}
    )
    COHORT_TABLE_COPY = {"cohort_table": "<cohort>/cohort.tsv"} if with_table else {}
    COHORT_TABLE_SHA256 = (
        artifacts.sha256(located("cohort_table")) if with_table else None
    )
    # of the label map files that arms have as their base
    BASES_SHA256 = {
        batch["arm"]["base"]: batch["base_sha256"]
        for batch in (BATCHES.values() if with_table else ())
        if batch["base_sha256"]
    }

    TARGET_SOURCE = {"targets_table": ancient(TARGETS_TABLE)} if TARGETS_TABLE else {}
    STAGE_TABLES = {
        "targets": [] if SETTINGS["label_maps"] else tables("targets", "parquet"),
        "anatomies": tables("anatomies", "parquet"),
        "topology": tables("topology", "tsv"),
        "meshes": tables("meshes", "tsv"),
        "inputs": tables("inputs", "tsv"),
    }
    SEEDS = (
        {}
        if SETTINGS["label_maps"]
        else {name: batch["seed"] for name, batch in BATCHES.items()}
    )
    # the user's own label maps have no targets to compare with
    REPORT_CHARTS = ["acceptance", "distributions", "wall_thickness"]
    if not SETTINGS["label_maps"]:
        REPORT_CHARTS += ["targets_and_achieved", "requested_and_accepted"]
    REPORT_FIGURES = {name: figure(name) for name in REPORT_CHARTS}
    REPORT_FIGURES["gallery"] = figure("gallery", "jpg")
    PAGE_TEMPLATE = WORKFLOW / "scripts/cardiocohort/report/cohort.html.j2"
    REFERENCE_VALUES = str(REPOSITORY / "resources/reference/reference_values.tsv")
    PUBLISHED_LAND2015 = str(REPOSITORY / "resources/verification/land2015.tsv")
    ENVIRONMENTS = sorted(map(str, (REPOSITORY / "envs").glob("*.yaml")))
