"""Rule write_provenance: what the cohort was made with, so that it can be made again; as an RO-Crate too."""

import json
from datetime import UTC, datetime
from pathlib import Path

import cardiocohort
from cardiocohort.cohort import plan
from cardiocohort.report import ro_crate
from cardiocohort.runtime import artifacts, provenance, script

HOLDS = {
    "manifest": "one row per requested subject: status, reason, errors, files",
    "subjects": "one row per requested subject: covariates, targets, measurements, simulated quantities",
    "targets": "target moments",
    "anatomies": "label maps and their moments",
    "topology": "verdicts of the topology gate",
    "meshes": "meshes and their quality",
    "inputs": "input files of solvers",
}


def main(snakemake):
    inputs, params = snakemake.input, snakemake.params
    record = {
        "workflow": {
            "version": cardiocohort.__version__,
            "commit": provenance.commit(Path(__file__).resolve().parents[2]),
        },
        "config_sha256": artifacts.sha256(inputs.config),
        "bundle_sha256": artifacts.sha256(inputs.bundle),
        "weights_sha256": params.weights_sha256,
        "reference_sha256": params.reference_sha256,
        "topology_rules_sha256": params.rules_sha256,
        "cohort_table_sha256": _sha256_if_any(inputs.get("cohort_table")),
        "targets_table_sha256": params.targets_sha256,
        "reference_parts_sha256": params.parts_sha256,
        "bases_sha256": params.bases_sha256,
        "manifest_sha256": artifacts.sha256(inputs.manifest),
        "environments": {Path(path).name: artifacts.sha256(path) for path in inputs.environments},
        "platform": provenance.machine(),
        "packages": provenance.packages(),
    }
    artifacts.write_text(snakemake.output.provenance, json.dumps(record, indent=1) + "\n")
    folder = Path(snakemake.output.provenance).parent
    of_stages = {stage: plan.stage_tables(stage, params.batches, [str(folder)]) for stage in params.stages}
    tables = {what: _inside(folder, inputs.get(name) or of_stages.get(name)) for name, what in HOLDS.items()}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = _inside(folder, inputs.get("cohort_table"))
    crate = ro_crate.describe(folder, folder.name, record, given, tables, now)
    artifacts.write_text(snakemake.output.crate, json.dumps(crate, indent=1) + "\n")


def _sha256_if_any(path: str | None) -> str | None:
    return artifacts.sha256(path) if path else None


def _inside(folder: Path, paths) -> list[str]:
    """Paths of one table, several or none, seen from the folder."""
    paths = [paths] if isinstance(paths, str) else paths or []
    return [Path(path).relative_to(folder).as_posix() for path in paths]


if __name__ == "__main__":
    script.run(main, snakemake)
