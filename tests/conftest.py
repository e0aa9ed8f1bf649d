"""Fixtures that tests of several rooms share."""

import pytest


@pytest.fixture
def changed():
    """`changed(path, edit)`: a file whose text is edited until the test ends; the edit must change it."""
    before = {}

    def change(path, edit):
        before[path] = path.read_text()
        path.write_text(edit(before[path]))
        assert path.read_text() != before[path]

    yield change
    for path, text in before.items():
        path.write_text(text)
