"""Digests of users' files: of the content, whatever the times say, and whatever became of the store."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardiocohort.runtime import content_digests
from cardiocohort.runtime.artifacts import digest
from cardiocohort.runtime.content_digests import ContentDigests
from cardiocohort.runtime.errors import InputError


@pytest.fixture
def settled(monkeypatch):
    """Files are stored at once, not only when they have been left alone for some seconds."""
    monkeypatch.setattr(content_digests, "SETTLED_NS", 0)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"p{i}.nii.gz" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(b"heart %d" % i)
    return paths


def of_contents(files):
    return digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])


def fake(store, file, sha256):
    """Put another digest of `file` into a whole store, so that a test sees whether the store counts."""
    states = json.loads(store.read_text().partition("\n")[2])
    states[str(file)][-1] = sha256
    text = json.dumps(states)
    store.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def rewrite(path, content):
    path.write_bytes(content)


def link(path, content):
    path.with_name("elsewhere").write_bytes(content)
    path.unlink()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("how", [replace, rewrite, link])
def test_other_content_of_the_same_size_and_time_is_another_digest(tmp_path, files, settled, how):
    store = tmp_path / "store"
    before = ContentDigests(store).of(files)
    assert before == of_contents(files)
    old = files[1].stat()
    how(files[1], b"HEART 1")
    os.utime(files[1], ns=(old.st_atime_ns, old.st_mtime_ns))
    assert files[1].stat().st_mtime_ns == old.st_mtime_ns
    assert ContentDigests(store).of(files) == of_contents(files) != before


def test_the_order_counts(tmp_path, files):
    contents = ContentDigests(tmp_path / "store")
    assert contents.of(files) != contents.of(files[::-1])


def test_a_stored_digest_counts_while_the_file_is_the_same(tmp_path, files, settled):
    store = tmp_path / "store"
    whole = ContentDigests(store).of(files)
    fake(store, files[0], "stored")
    assert ContentDigests(store).of(files[:1]) == digest(["stored"])
    os.utime(files[0], ns=(0, 0))
    assert ContentDigests(store).of(files) == whole
    shutil.copyfile(files[1], files[0])
    assert ContentDigests(store).of(files[:1]) == of_contents(files[:1])


def test_a_file_that_has_just_changed_is_not_stored(tmp_path, files):
    ContentDigests(tmp_path / "store").of(files)
    assert not (tmp_path / "store").exists()


def test_one_process_keeps_what_its_plan_was_made_from(tmp_path, files):
    contents = ContentDigests(tmp_path / "store")
    before = contents.of(files)
    files[0].write_bytes(b"new")
    assert contents.of(files) == before
    assert ContentDigests(tmp_path / "store").of(files) != before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_store_is_ignored(tmp_path, files, settled, data):
    store = tmp_path / "store"
    ContentDigests(store).of(files)
    fake(store, files[0], "0" * 64)
    content = bytearray(store.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    store.write_bytes(content)
    assert ContentDigests(store).of(files) == of_contents(files)


def test_files_that_are_gone_leave_the_store(tmp_path, files, settled):
    store = tmp_path / "store"
    ContentDigests(store).of(files[:2])
    files[0].unlink()
    ContentDigests(store).of(files[2:])
    assert set(json.loads(store.read_text().partition("\n")[2])) == {str(path) for path in files[1:]}


def test_without_a_store_the_digests_are_the_same(tmp_path, files, settled):
    (tmp_path / "file").touch()
    assert ContentDigests(tmp_path / "file/store").of(files) == of_contents(files)


def test_a_file_that_cannot_be_read_is_named(tmp_path, files):
    (tmp_path / "dangling.nii").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"dangling\.nii: cannot be read \(No such file"):
        ContentDigests(tmp_path / "store").of([*files, tmp_path / "dangling.nii"])


def digest_in_turn(store, files):
    content_digests.SETTLED_NS = 0
    return [ContentDigests(store).of([path]) for path in files]


def test_runs_share_a_store(tmp_path):
    files = [tmp_path / f"{i}.nii" for i in range(40)]
    for i, path in enumerate(files):
        path.write_bytes(b"%d" % i)
    store = tmp_path / "store"
    with ProcessPoolExecutor(4) as pool:
        found = list(pool.map(digest_in_turn, [store] * 4, [files, files[::-1], files[20:], files[:20]]))
    assert found[0] == found[1][::-1] == [of_contents([path]) for path in files]
    assert [path.name for path in tmp_path.glob("*store*")] == ["store"]
    assert ContentDigests(store).of(files) == of_contents(files)
