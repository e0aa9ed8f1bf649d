"""The schema and the reference page are those of the keys."""

import pytest

from cardiocohort.config import documents


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.name)
def test_a_document_is_up_to_date(path):
    expected = documents.documents()[path]
    assert path.read_text() == expected, "run `python -m cardiocohort.config.documents`"
