"""A rule's script outside a run of Snakemake, as in a debugger: it makes the same file."""

import subprocess
import sys

import pandas as pd
import pytest

from cardiocohort.runtime.errors import InputError
from cardiocohort.runtime.mock_snakemake import mock_snakemake
from tiny_cohort import make_project
from workflow_runs import REPOSITORY, environment, snakemake

CHILD = """
import os, sys
from cardiocohort.runtime.mock_snakemake import mock_snakemake
sys.path.insert(0, sys.argv[1])
import draw_targets
job = mock_snakemake("draw_targets", workdir=sys.argv[2], batch="small-0000")
os.chdir(sys.argv[2])
draw_targets.main(job)
"""


def test_a_script_runs_for_one_batch(tmp_path):
    project = make_project(tmp_path)
    scripts = str(REPOSITORY / "workflow/scripts")
    subprocess.run([sys.executable, "-c", CHILD, scripts, str(project)], check=True, env=environment())
    table = project / "results/cohorts/tiny/targets/small-0000.parquet"
    by_hand = pd.read_parquet(table)
    table.unlink()
    run = snakemake(project, "--cores", "1", str(table.relative_to(project)))
    assert run.returncode == 0, run.stdout
    pd.testing.assert_frame_equal(pd.read_parquet(table), by_hand)


@pytest.mark.parametrize(
    ("rule", "wildcards", "message"),
    [("simulate", {}, "allowed: .*build_meshes"), ("build_meshes", {}, "'batch' is missing")],
)
def test_a_wrong_call_says_what_is_allowed(tmp_path, rule, wildcards, message):
    with pytest.raises(InputError, match=message):
        mock_snakemake(rule, workdir=make_project(tmp_path), **wildcards)
