"""Rule write_provenance: what the cohort was made with, so that it can be made again."""

import json
from pathlib import Path

import cardiocohort
from cardiocohort import files, provenance, script


def main(snakemake):
    inputs, params = snakemake.input, snakemake.params
    record = {
        "workflow": {
            "version": cardiocohort.__version__,
            "commit": provenance.commit(Path(__file__).resolve().parents[2]),
        },
        "config_sha256": files.sha256(inputs.config),
        "bundle_sha256": files.sha256(inputs.bundle),
        "weights_sha256": params.weights_sha256,
        "reference_sha256": params.reference_sha256,
        "topology_rules_sha256": params.rules_sha256,
        "manifest_sha256": files.sha256(inputs.manifest),
        "environments": {Path(path).name: files.sha256(path) for path in inputs.environments},
        "platform": provenance.machine(),
        "packages": provenance.packages(),
    }
    files.write_text(snakemake.output.provenance, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    script.run(main, snakemake)
