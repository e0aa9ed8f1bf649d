"""Every benchmark of benchmarks/Snakefile runs, with the smallest counts, on the tiny prior."""

import pandas as pd
import pytest
import yaml

from tiny_cohort import make_project
from workflow_runs import snakemake

SMALLEST = {
    "planned_subjects": [4],
    "tensor_sizes": [1],
    "targets": 1,
    "sensitivity_targets": 1,
    "levels": [2],
    "factors": [2.0],
}
TABLES = {"bench": ("sampling", "planning"), "guidance_bench": ("guidance_frontier", "guidance_sensitivity")}


@pytest.mark.parametrize("target", TABLES)
def test_a_benchmark_runs_and_writes_its_tables(tmp_path, target):
    make_project(tmp_path)
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(SMALLEST))
    run = snakemake(tmp_path, target, "--cores", "1", snakefile="benchmarks/Snakefile")
    assert run.returncode == 0, run.stdout
    for name in TABLES[target]:
        table = pd.read_csv(tmp_path / f"results/bench/{name}.tsv", sep="\t")
        assert len(table)
        assert (table.filter(regex="seconds").to_numpy() > 0).all()
