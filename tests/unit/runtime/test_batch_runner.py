"""The loop over a batch and the files behind it: whole or absent, reused or remade, kept apart."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from cardiocohort.runtime import artifacts, batch_runner, provenance
from cardiocohort.runtime.errors import InputError, KilledError, SubjectError


def double(path, payload):
    """Work of the tests: writes twice the number, counts its calls beside the batch."""
    (number,) = payload
    with (path.parent.parent / "calls").open("a") as calls:
        calls.write(f"{number}\n")
    if number < 0:
        raise SubjectError("negative", f"{number} is below zero")
    artifacts.write_text(path, str(2 * number))
    return {"verdict": "done", "reason": "", "value": 2 * number}


def double_all(paths, payloads):
    (paths[0].parent.parent / "groups").open("a").write(f"{len(paths)}\n")
    out = []
    for path, payload in zip(paths, payloads, strict=True):
        try:
            out.append(double(path, payload))
        except SubjectError as error:
            out.append(error)
    return out


def tasks_of(numbers, inputs="v1"):
    return [batch_runner.Task(f"s{n}", f"s{n}.txt", artifacts.digest([inputs, n]), (n,)) for n in numbers]


def calls(tmp_path):
    path = tmp_path / "calls"
    return sorted(int(line) for line in path.read_text().split()) if path.exists() else []


@pytest.mark.parametrize("threads", [1, 2])
def test_every_subject_is_made_and_listed_in_order(tmp_path, threads):
    records = batch_runner.run_batch(tmp_path / "batch", tasks_of([3, 1, 2]), double, threads)
    assert [r["subject"] for r in records] == ["s3", "s1", "s2"]
    for record in records:
        artifacts.check_file(tmp_path / "batch" / record["file"], record["size"], record["sha256"])


def open_factor(factor):
    return {"factor": factor}


def multiply(opened, path, payload):
    artifacts.write_text(path, str(opened["factor"] * payload[0]))
    return {"verdict": "done", "reason": ""}


@pytest.mark.parametrize("threads", [1, 2])
def test_what_the_initializer_returns_is_the_first_argument_of_work(tmp_path, threads):
    folder = tmp_path / "batch"
    batch_runner.run_batch(folder, tasks_of([1, 2]), multiply, threads, open_factor, (5,))
    assert [(folder / f"s{n}.txt").read_text() for n in (1, 2)] == ["5", "10"]


def cannot_open(error):
    raise error


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [InputError("atlas.safetensors: of another grid"), ValueError("a fault")])
def test_an_error_of_the_initializer_reaches_the_caller_as_itself(tmp_path, threads, error):
    """Not as a process that was killed, which asks for more memory."""
    with pytest.raises(type(error), match=str(error)):
        batch_runner.run_batch(
            tmp_path / "batch", tasks_of([1, 2, 3]), multiply, threads, cannot_open, (error,)
        )
    assert not list((tmp_path / "batch").glob("*.txt"))


def end_its_process(error):
    os.kill(os.getpid(), signal.SIGKILL)


def blas_threads(path, payload):
    """Of the libraries that are loaded, beside Snakemake's number for the whole job."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.dot(np.ones(2), np.ones(2))
    found = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    artifacts.write_text(path, "")
    return {"verdict": "done", "reason": "", "threads": sorted(found)}


def test_subjects_side_by_side_have_one_thread_of_a_blas_each(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    records = batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2, 3]), blas_threads, 2)
    assert [record["threads"] for record in records] == [[1]] * 3
    assert os.environ["OPENBLAS_NUM_THREADS"] == "4"


def test_an_initializer_that_is_killed_ends_the_job(tmp_path):
    with pytest.raises(KilledError, match="killed"):
        batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), multiply, 2, end_its_process, ("",))


def test_a_failing_subject_ends_alone(tmp_path):
    records = batch_runner.run_batch(tmp_path / "batch", tasks_of([1, -5, 2]), double)
    assert [(r["verdict"], r["reason"]) for r in records] == [
        ("done", ""),
        ("failed", "negative"),
        ("done", ""),
    ]
    assert records[1]["file"] == ""
    assert not (tmp_path / "batch/s-5.txt").exists()


def test_groups_are_passed_together_and_failures_stay_single(tmp_path):
    records = batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2, -3, 4, 5]), double_all, group=2)
    assert (tmp_path / "groups").read_text().split() == ["2", "2", "1"]
    assert [r["verdict"] for r in records] == ["done", "done", "failed", "done", "done"]


def test_finished_subjects_are_reused(tmp_path):
    first = batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), double)
    again = batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2, 3]), double)
    assert calls(tmp_path) == [1, 2, 3]
    assert again[:2] == first


def test_the_machine_in_a_sidecar_does_not_decide_about_reuse(tmp_path):
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1]), double)
    path = tmp_path / "batch/s1.txt.json"
    content = json.loads(path.read_text())
    assert content["made_on"] == provenance.machine()
    assert content["made_on"]["processor"]
    path.write_text(json.dumps(content | {"made_on": {"processor": "another"}}))
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1]), double)
    assert calls(tmp_path) == [1]


@pytest.mark.parametrize("damage", ["edit", "truncate", "delete", "sidecar", "half sidecar", "record"])
def test_a_damaged_subject_is_remade_and_no_other(tmp_path, damage):
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), double)
    path = tmp_path / "batch/s1.txt"
    sidecar = artifacts.sidecar_path(path)
    if damage == "edit":
        path.write_text("9")
    elif damage == "truncate":
        path.write_text("")
    elif damage == "delete":
        path.unlink()
    elif damage == "sidecar":
        sidecar.unlink()
    elif damage == "record":
        content = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps(content | {"record": {"verdict": "accepted", "files": 1}}))
    else:
        sidecar.write_text(sidecar.read_text()[:20])
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), double)
    assert calls(tmp_path) == [1, 1, 2]
    assert path.read_text() == "2"


def test_changed_inputs_remake_the_subject(tmp_path):
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), double)
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1]) + tasks_of([2], "v2"), double)
    assert calls(tmp_path) == [1, 2, 2]


def test_what_no_row_lists_is_removed(tmp_path):
    batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), double)
    (tmp_path / "batch/.tmp-left-behind").write_text("half")
    batch_runner.run_batch(tmp_path / "batch", tasks_of([2]), double)
    assert sorted(p.name for p in (tmp_path / "batch").iterdir()) == ["s2.txt", "s2.txt.json"]


def end_itself(path, payload):
    """Work whose process the kernel ends, for lack of memory for instance."""
    if payload[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return double(path, payload)


def test_a_killed_worker_ends_the_job_and_no_subject(tmp_path):
    """It says nothing about the heart: no verdict may be written that a later run would keep."""
    with pytest.raises(KilledError, match="finished subjects are kept"):
        batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), end_itself, 2)
    records = batch_runner.run_batch(tmp_path / "batch", tasks_of([1, 2]), double)
    assert [r["verdict"] for r in records] == ["done", "done"]


def slow(path, payload):
    time.sleep(30)


def _hold(folder):
    batch_runner.run_batch(folder, tasks_of([1]), slow)


def test_two_runs_share_no_batch_and_a_killed_owner_frees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "LOCK_PATIENCE_S", 0.5)
    owner = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "batch",))
    owner.start()
    while not (tmp_path / ".batch.lock").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    with pytest.raises(InputError, match="another process is working on this batch"):
        batch_runner.run_batch(tmp_path / "batch", tasks_of([1]), double)
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    assert batch_runner.run_batch(tmp_path / "batch", tasks_of([1]), double)[0]["value"] == 2


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "table.tsv"
    artifacts.write_text(path, "old")

    def interrupted():
        with artifacts.atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_check_file_names_what_is_missing_or_changed(tmp_path):
    path = tmp_path / "heart.nii.gz"
    with pytest.raises(InputError, match=r"heart\.nii\.gz: listed in its batch table but missing"):
        artifacts.check_file(path, 3, "0")
    path.write_text("abc")
    digest = artifacts.sha256(path)
    assert artifacts.check_file(path, 3, digest) == path
    path.write_text("abd")
    with pytest.raises(InputError, match="changed since its batch table was written"):
        artifacts.check_file(path, 3, digest)


def test_digest_ignores_key_order_and_tells_values_apart():
    assert artifacts.digest({"a": 1, "b": [1.0, 2]}) == artifacts.digest(
        json.loads('{"b": [1.0, 2], "a": 1}')
    )
    assert artifacts.digest([1, 2]) != artifacts.digest([2, 1])
