"""Files that are whole or absent: second names of the same content."""

import pytest

from cardiocohort.runtime import artifacts


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_replaces_what_was_there_or_becomes_a_copy(links, tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError("no hard links on this disk")

    if not links:
        monkeypatch.setattr(artifacts.os, "link", refuse)
    source, path = tmp_path / "a", tmp_path / "b"
    source.write_text("whole")
    path.write_text("old")
    for _ in range(2):  # also where it is one already
        artifacts.link_to(source, path)
        assert path.read_text() == "whole"
        assert path.samefile(source) == links
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
