"""Manifest and report of 10,000 subjects: within 1 GB of memory, and a page that a browser opens."""

import pandas as pd
import pytest

import large_cohort

N = 10_000


@pytest.mark.long
def test_manifest_and_report_of_ten_thousand_subjects(tmp_path):
    paths = large_cohort.write_tables(tmp_path, N, 50)
    assert len(paths["targets"]) == N // 50
    for what in ("manifest", "report"):
        _, peak_mb = large_cohort.run_script(what, tmp_path, paths)
        assert peak_mb < 1000, what
    found = pd.read_csv(tmp_path / "manifest.tsv", sep="\t", usecols=["subject", "status"])
    assert found["subject"].nunique() == N
    assert set(found["status"]) == {"accepted", "rejected", "failed"}
    page = tmp_path / "report/cohort.html"
    assert page.stat().st_size < 10e6
