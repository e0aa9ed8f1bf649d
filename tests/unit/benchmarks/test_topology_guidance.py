"""The table of what topology guidance and restarts change: attempts, errors of accepted hearts alone."""

import json

import pandas as pd

import topology_guidance


def cohort(folder, hearts: dict[str, tuple[list[list[str]], str, float]]):
    """Subject -> reasons of each attempt, repairs and volume, where 100 mL were requested."""
    for part in ("anatomies", "targets", "benchmarks/generation"):
        (folder / part).mkdir(parents=True)
    place = {f"centroid_{axis}_mm": 0.0 for axis in "xyz"}
    made, wanted = [], []
    for name, (tried, repairs, volume) in hearts.items():
        records = json.dumps([{"attempt": k, "reasons": reasons} for k, reasons in enumerate(tried)])
        for structure, found in (("wall", volume), ("free", 7.0)):
            row = {"subject": name, "arm": "arm", "structure": structure, **place}
            made.append(row | {"volume_ml": found, "tried": records, "repairs": repairs})
            wanted.append(row | {"volume_ml": 100.0, "constrained": "size" if structure == "wall" else ""})
    pd.DataFrame(made).to_parquet(folder / "anatomies/arm-0000.parquet")
    pd.DataFrame(wanted).to_parquet(folder / "targets/arm-0000.parquet")
    pd.DataFrame({"cpu_time": [12.0]}).to_csv(
        folder / "benchmarks/generation/arm-0000.tsv", sep="\t", index=False
    )
    return folder


HEARTS = {
    "arm-00000": ([[]], "", 101.0),
    "arm-00001": ([[]], "topology guidance, 2 steps; speck", 103.0),
    "arm-00002": ([["apart"], []], "", 100.0),
    "arm-00003": ([["apart"], ["apart"]], "restart 1", 150.0),
}


def test_attempts_and_steps_are_told_apart(tmp_path):
    found = topology_guidance.subjects(cohort(tmp_path / "guided", HEARTS)).set_index("subject")
    assert list(found["as_sampled"]) == [True, False, False, False]
    assert list(found["first"]) == [True, True, False, False]
    assert list(found["in_the_end"]) == [True, True, True, False]
    assert list(found["restarted"]) == [False, False, False, True]
    assert list(found["attempts"]) == [1, 1, 2, 2]
    assert list(found["volume"].round(6))[:3] == [1.0, 3.0, 0.0]  # of the constrained structure alone
    assert pd.isna(found.loc["arm-00003", "volume"])


def test_the_table_has_a_row_per_arm_and_cohort(tmp_path):
    folders = [cohort(tmp_path / name, HEARTS) for name in ("plain", "guided")]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in topology_guidance.table(folders).splitlines()
    ]
    shares = ["1 (25.0 %)", "2 (50.0 %)", "3 (75.0 %)"]
    assert [row[:6] for row in rows[2:]] == [["arm", name, "4", *shares] for name in ("guided", "plain")]
    assert rows[2][6:] == ["1", "1.50", "3.0", "1.00", "0.00"]


def test_a_sibling_without_a_base_is_no_sample(tmp_path):
    found = topology_guidance.subjects(cohort(tmp_path / "guided", HEARTS | {"arm-00004": ([], "", 1.0)}))
    assert "arm-00004" not in set(found["subject"])
