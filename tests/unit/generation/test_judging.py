"""What speaks against a sample: names for tables, sentences for people."""

import numpy as np
import pytest

from cardiocohort import topology
from cardiocohort.generation.anatomies import Attempt
from cardiocohort.generation.constraints import OUTSIDE, missed
from cardiocohort.generation.judging import DIVERGED, Judged

LEAK = topology.Failure("lv_leak", 12.0, "max", 0.0, "mm2")
SOUND, LEAKING = topology.Verdict((), {}), topology.Verdict((LEAK,), {"lv_leak": 12.0})
MISS = missed({"aorta.size": 4.0}, 1.5)


def attempt(verdict, miss=None):
    return Attempt(0, [], Judged(np.zeros((2, 2, 2), np.uint8), (), verdict, None, {}, miss))


@pytest.mark.parametrize(
    ("one", "reasons", "causes"),
    [
        (attempt(SOUND), [], {}),
        (attempt(LEAKING), ["lv_leak: 12 mm2, max 0"], {"topology": ["lv_leak"]}),
        (
            attempt(LEAKING, MISS),
            [f"{OUTSIDE}: aorta.size missed by 4.0 SD, max 1.5", "lv_leak: 12 mm2, max 0"],
            {"generation": [OUTSIDE], "topology": ["lv_leak"]},
        ),
        (attempt(None, MISS), ["sampling diverged"], {"generation": [DIVERGED.reason]}),
    ],
)
def test_an_attempt_has_its_reasons_and_the_same_by_name(one, reasons, causes):
    assert one.record() == {"attempt": 0, "reasons": reasons}
    assert one.causes() == causes
