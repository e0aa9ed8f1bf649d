"""The cohort in the terms that archives and registries read: an RO-Crate (report stage).

RO-Crate 1.1 with the profile Process Run Crate 0.5 (Leo et al., PLOS ONE 2024): one action, the workflow's
run, made the tables from config and bundle. What lies behind a table is listed in it with size and sha256, so
the crate names tables only and stays small for any number of hearts.
"""

from pathlib import Path

from ..runtime import artifacts

CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
FORMATS = {
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
}


def describe(
    folder: Path, cohort: str, record: dict, given: list[str], tables: dict[str, list[str]], date: str
) -> dict:
    """The content of `ro-crate-metadata.json` for the cohort in `folder`.

    record: that of provenance.json, which lies in the folder with config and manifest. given: paths in the
    folder of the cohort table, if there was one. tables: what a stage's tables hold -> their paths.
    date: the run's end, ISO 8601.
    """
    results = [_file(folder, path, what) for what, paths in tables.items() for path in paths]
    inputs = [_file(folder, "config.resolved.yaml", "the configuration with its defaults, seeds included")]
    inputs += [_file(folder, path, "the cohort table: arms, constraints, edits") for path in given]
    provenance = _file(folder, "provenance.json", "versions, digests and platform of the run")
    bundle = {
        "@id": f"urn:sha256:{record['weights_sha256']}",
        "@type": "CreativeWork",
        "name": "bundle of the generative prior",
        "sha256": record["weights_sha256"],
    }
    workflow = {
        "@id": "#workflow",
        "@type": "SoftwareApplication",
        "name": "cardiocohort",
        "softwareVersion": record["workflow"]["version"],
        "identifier": record["workflow"]["commit"] or "no commit known",
    }
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"run of the workflow for cohort {cohort}",
        "endTime": date,
        "instrument": _refer(workflow),
        "object": [_refer(entity) for entity in [*inputs, bundle]],
        "result": [_refer(entity) for entity in [*results, provenance]],
    }
    licence = {
        "@id": "#licence",
        "@type": "CreativeWork",
        "name": "not stated",
        "description": "Whoever publishes the cohort states its licence here; a prior's templates have "
        "licences of their own.",
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"virtual heart cohort {cohort}",
        "description": "Hearts generated, or taken from given label maps, meshed and written as inputs of "
        "solvers. Each table lists its subjects' files with size and sha256.",
        "datePublished": date,
        "license": _refer(licence),
        "conformsTo": {"@id": PROFILE},
        "hasPart": [_refer(entity) for entity in [*inputs, provenance, *results]],
        "mentions": _refer(run),
    }
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    descriptor = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": _refer(root),
        "conformsTo": {"@id": CRATE},
    }
    graph = [descriptor, root, *inputs, provenance, *results, run, workflow, bundle, licence, profile]
    return {"@context": CONTEXT, "@graph": graph}


def _refer(entity: dict) -> dict:
    return {"@id": entity["@id"]}


def _file(folder: Path, path: str, what: str) -> dict:
    place = folder / path
    return {
        "@id": path,
        "@type": "File",
        "name": what,
        "encodingFormat": FORMATS[place.suffix],
        "contentSize": str(place.stat().st_size),
        "sha256": artifacts.sha256(place),
    }
