"""The proposed batch size: from benchmark files to jobs of 10 to 60 minutes."""

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import propose_batch_size
from cardiocohort.cohort.batch_size import COLUMNS, LONGEST_S, SHORTEST_S, propose, read_pilot
from cardiocohort.report.manifest import COLUMNS as MANIFEST
from cardiocohort.runtime import tables
from cardiocohort.runtime.errors import InputError

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"


def write_benchmark(path, seconds, peak_mb="100.5"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}\n{seconds}\t0:00:01\t{peak_mb}\t1\t1\t1\t0\t0\t98\t1\n")


def pilot(**stages):
    rows = [
        (stage, f"a-{i:04d}", subjects, seconds, 100.0)
        for stage, jobs in stages.items()
        for i, (subjects, seconds) in enumerate(jobs)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize(
    ("jobs", "size"),
    [
        ([(4, 120.0)], 48),  # 30 s a subject; sqrt(600 x 3600) = 1469.7 s
        ([(4, 120.0), (2, 60.0), (1, 30.0)], 48),
        ([(4, 80.0)] * 3 + [(4, 400.0)], 36),  # one batch at 100 s a subject: an hour at most
        ([(1, 5000.0)], 1),
    ],
)
def test_the_slowest_stage_decides(jobs, size):
    found, table = propose(pilot(generation=jobs, inputs=[(4, 4.0)]))
    assert found == size
    assert list(table["stage"]) == ["generation", "inputs"]
    assert table.loc[1, "job_minutes"] == pytest.approx(size / 60)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(1, 1e5)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 50), st.floats(1, 1e5)), min_size=1, max_size=8),
)
def test_no_job_is_longer_than_an_hour_and_none_needlessly_short(one, other):
    found, table = propose(pilot(generation=one, meshing=other))
    longest = table["worst_seconds_per_subject"].max() * found
    assert longest <= LONGEST_S * (1 + 1e-9) or found == 1
    median = table["seconds_per_subject"].max()
    more = found + 1
    assert median * more > SHORTEST_S or table["worst_seconds_per_subject"].max() * more > LONGEST_S


def test_benchmark_files_of_the_cohorts_batches_are_read(tmp_path):
    write_benchmark(tmp_path / "generation/a-0000.tsv", 40.0, 900.0)
    write_benchmark(tmp_path / "meshing/a-0001.tsv", 10.0, "-")  # too short for Snakemake to see its memory
    write_benchmark(tmp_path / "meshing/gone-0000.tsv", 10.0)
    write_benchmark(tmp_path / "report.tsv", 9.0)
    # simulations have batches of their own, of another size and under the same names
    write_benchmark(tmp_path / "simulations/a-0000.tsv", 1200.0)
    found = read_pilot(tmp_path, {"a-0000": 4, "a-0001": 2})
    assert found[["stage", "batch", "subjects", "seconds"]].to_numpy().tolist() == [
        ["generation", "a-0000", 4, 40.0],
        ["meshing", "a-0001", 2, 10.0],
    ]
    assert found["peak_mb"].iloc[0] == 900.0
    assert np.isnan(found["peak_mb"].iloc[1])


@pytest.mark.parametrize("text", ["", "x\ty\n1\t2\n", f"{HEADER}\n0\t0\t1\n", f"{HEADER}\n-\t-\t-\n"])
def test_what_is_no_benchmark_file_is_told(tmp_path, text):
    (tmp_path / "meshing").mkdir()
    (tmp_path / "meshing/a-0000.tsv").write_text(text)
    with pytest.raises(InputError, match=r"a-0000\.tsv"):
        read_pilot(tmp_path, {"a-0000": 4})


def test_no_pilot_run_is_told(tmp_path):
    with pytest.raises(InputError, match="run the pilot cohort first"):
        read_pilot(tmp_path, {"a-0000": 4})


def test_the_rule_writes_and_tells_the_size(tmp_path, caplog):
    row = dict.fromkeys(MANIFEST, "") | {"batch": "a-0000", "seed": 1, "attempts": 1}
    row |= {name: np.nan for name, kind in MANIFEST.items() if kind == "float64"}
    rows = [row | {"subject": f"a-{i:05d}"} for i in range(4)]
    tables.write_table(tmp_path / "manifest.tsv", pd.DataFrame(rows), MANIFEST)
    write_benchmark(tmp_path / "benchmarks/generation/a-0000.tsv", 120.0)
    job = SimpleNamespace(
        input=SimpleNamespace(manifest=str(tmp_path / "manifest.tsv")),
        params=SimpleNamespace(benchmarks=str(tmp_path / "benchmarks")),
        output=SimpleNamespace(table=str(tmp_path / "batch_size.tsv")),
    )
    with caplog.at_level(logging.INFO):
        propose_batch_size.main(job)
    assert "batch_size: 48 (generation: 24 minutes a job" in caplog.text
    table = pd.read_csv(tmp_path / "batch_size.tsv", sep="\t")
    assert (table["batch_size"].item(), table["subjects"].item()) == (48, 4)
