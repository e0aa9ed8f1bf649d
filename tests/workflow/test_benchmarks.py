"""Every benchmark of benchmarks/Snakefile runs, with the smallest counts, on the tiny prior."""

import pandas as pd
import pytest
import yaml

from tiny_cohort import make_project
from workflow_runs import snakemake

SMALLEST = {
    "planned_subjects": [4],
    "tensor_sizes": [1],
    "repeats": {"sampling": 1, "planning": 1},
    "targets": 1,
    "sensitivity_targets": 1,
    "levels": [2],
    "factors": [2.0],
}
TABLES = {"bench": ("sampling", "planning"), "guidance_bench": ("guidance_frontier", "guidance_sensitivity")}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A cohort of one batch, whose targets all benchmarks share."""
    folder = make_project(tmp_path_factory.mktemp("project"), {"small": 2})
    (folder / "bench.yaml").write_text(yaml.safe_dump(SMALLEST))
    return folder


@pytest.mark.parametrize("target", TABLES)
def test_a_benchmark_runs_and_writes_its_tables(project, target):
    run = snakemake(project, target, "--cores", "1", snakefile="benchmarks/Snakefile")
    assert run.returncode == 0, run.stdout
    for name in TABLES[target]:
        table = pd.read_csv(project / f"results/bench/{name}.tsv", sep="\t")
        assert len(table)
        assert (table.filter(regex="seconds").to_numpy() > 0).all()
