"""Every reader of files that users bring, on hostile ones: they are read, or refused with our own error.

The suite tries 40 cases per reader, the same ones every time. With FUZZ=10000 in the environment it tries
10,000, in half an hour. `fuzz_with_atheris` looks for more, guided by the code that they reach.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz_targets import TARGETS, attack_on

CASES = int(os.environ.get("FUZZ", "40"))
fuzzed = settings(
    max_examples=CASES, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_a_hostile_file_is_read_or_refused(name, tmp_path):
    attack, tried = attack_on(name, tmp_path), []

    @fuzzed
    @given(st.data())
    def attacked(data):
        tried.append(name)
        attack(data.draw)

    attacked()
    assert len(tried) >= CASES
