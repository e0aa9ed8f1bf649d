# All Python of the workflow: config and settings, who is in which batch, where files are. No rules.
#
# Everything a rule needs is made here once, from plain values; nothing slow may be imported, since
# every cluster job reads this file again. A user's mistake ends the run here with one message.

import sys
from contextlib import contextmanager
from pathlib import Path

from snakemake.exceptions import WorkflowError

WORKFLOW = Path(workflow.basedir)
REPOSITORY = WORKFLOW.parent
sys.path.insert(0, str(WORKFLOW / "scripts"))

from cardiocohort import bundle_card, cohort, files, label_map_folder, run_owner
from cardiocohort.code_digest import library_digest
from cardiocohort.config import check_together, complete, locate, read_schema
from cardiocohort.errors import InputError
from cardiocohort.segmentations import cases


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
    return (
        str(locate(SETTINGS[key], key, Path.cwd(), REPOSITORY))
        if SETTINGS[key]
        else None
    )


def located_in_bundle(name):
    return str(locate(f"{SETTINGS['bundle']}/{name}", "bundle", Path.cwd(), REPOSITORY))


def library(script):
    """Digest of the library code that a script uses: a change of it reruns the rule."""
    return library_digest(WORKFLOW / "scripts" / script)


def batches_of_arms():
    """Params of every batch by its name, from the cohort table."""
    arms = cohort.read_cohort(located("cohort_table"), ANATOMY)
    plain = {arm.name: arm.to_dict() for arm in arms}
    return {
        batch.name: {
            "arm": plain[arm.name],
            "first": batch.first,
            "last": batch.last,
            "seed": SETTINGS["seed"] if arm.seed is None else arm.seed,
        }
        for arm in arms
        for batch in cohort.batches(arm, SETTINGS["batch_size"])
    }


def batches_of_label_maps():
    """Subjects and their files of every batch by its name, from the folder `label_maps`."""
    found = sorted(label_map_folder.find_label_maps(located("label_maps")).items())
    batches = label_map_folder.label_map_batches(
        SETTINGS["cohort"], len(found), SETTINGS["batch_size"]
    )
    return {batch.name: dict(found[batch.first : batch.last + 1]) for batch in batches}


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
        anatomy, _ = bundle_card.read_anatomy(SEGMENTATION_TABLES["anatomy"])
        sources = cases.parse_sources(settings["sources"], anatomy.structures)
        sources[""] = [cases.parse_source(text) for text in settings["whole_heart"]]
        return [
            str(path)
            for case in cases.find_cases(segmented_scans(wildcards))
            for path in cases.source_files(case, sources)
        ]


def of_batch(key):
    """A params function: what the batch of a job holds under `key`."""
    return lambda wildcards: BATCHES[wildcards.batch][key]


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
        ANATOMY, GRID = bundle_card.read_anatomy(BUNDLE)
        WEIGHTS_SHA256 = bundle_card.read_card(BUNDLE).get("weights_sha256")
        REFERENCE = located("reference_table") or located_in_bundle(
            "reference_moments.parquet"
        )
        RULES = located("topology_rules")
        TARGETS_TABLE = located("targets_table")
        BATCHES = (
            batches_of_label_maps() if SETTINGS["label_maps"] else batches_of_arms()
        )

    # Bundle and tables are ancient() inputs, since a checkout's file times say nothing; these digests
    # of their content, in params, rerun what depends on them.
    ANATOMY_DIGEST = files.digest(
        [ANATOMY.structures, ANATOMY.centred_on, GRID.shape, GRID.spacing_mm]
    )
    REFERENCE_SHA256 = files.sha256(REFERENCE)
    RULES_SHA256 = files.sha256(RULES)
    TARGETS_SHA256 = files.sha256(TARGETS_TABLE) if TARGETS_TABLE else None

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
    REPORT_CHARTS = ["acceptance", "distributions"]
    if not SETTINGS["label_maps"]:
        REPORT_CHARTS += ["targets_and_achieved", "requested_and_accepted"]
    REPORT_FIGURES = {name: figure(name) for name in REPORT_CHARTS}
    REPORT_FIGURES["gallery"] = figure("gallery", "jpg")
    PAGE_TEMPLATE = WORKFLOW / "scripts/cardiocohort/report/cohort.html.j2"
    REFERENCE_VALUES = str(REPOSITORY / "resources/reference/reference_values.tsv")
    ENVIRONMENTS = sorted(map(str, (REPOSITORY / "envs").glob("*.yaml")))
