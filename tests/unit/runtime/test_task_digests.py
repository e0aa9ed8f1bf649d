"""What a script's results depend on is in the digest by which a restart takes them again."""

from types import SimpleNamespace

import pytest

import make_evaluation_hearts
import make_reference_population
import measure_whole_hearts
from cardiocohort.anatomy.folder import Variation
from heart_anatomy import HEART, HEART_GRID

COMMON = {"library": "l", "nifti_geometry": "agree", "subjects": ["p1"]}
POPULATION = {"seed": 1, "anatomy": "a", "digests": ["d"], "shares": [1.0], "n": 3, "held_out_share": 0.1}
WHOLE = {
    "weights_sha256": "w", "rules_sha256": "r", "guidance": {"steps": 3}, "attempts": 2, "others_sha256": "o",
    "convention_sha256": "c", "device": "cpu", "seeds": 2,
}  # fmt: skip
EVALUATION = {
    "rules_sha256": "r", "digests": ["d"], "seed": 1, "shares": [1.0], "left_out_shares": [1.0],
    "anatomy": "a", "anatomy_sha256": "b", "constrained": {}, "targets": 2,
    "counts": {"reference": 2, "left_out": 1},
}  # fmt: skip
SEEN = {  # by the names of the tasks or by other files, not by the digest
    make_reference_population: {"subjects", "n", "held_out_share"},
    measure_whole_hearts: {"subjects", "seeds"},
    make_evaluation_hearts: {"subjects", "constrained", "targets", "counts"},
}
PARAMS = {
    make_reference_population: POPULATION, measure_whole_hearts: WHOLE, make_evaluation_hearts: EVALUATION,
}  # fmt: skip


class Inputs(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


class Reached(Exception):
    """The tasks' digest."""


@pytest.fixture
def digest_of(monkeypatch, tmp_path):
    """A function: the digest of the tasks of a script with these params, which no task is worked for."""

    def reached(*args, **_):
        tasks = next((arg for arg in args if isinstance(arg, list) and arg), None)
        raise Reached(tasks[0].inputs if tasks and hasattr(tasks[0], "inputs") else args[-2])

    for script in PARAMS:
        monkeypatch.setattr(script, "read_anatomy", lambda *_: (HEART, HEART_GRID))
        if hasattr(script, "batch_runner"):
            monkeypatch.setattr(script.batch_runner, "run_batch", reached)
    for script in (make_reference_population, make_evaluation_hearts):
        monkeypatch.setattr(script, "read_variation", lambda *_: Variation())
    monkeypatch.setattr(make_evaluation_hearts.hearts, "deformed", reached)
    monkeypatch.setattr(make_evaluation_hearts.hearts, "check_constrained", lambda *_: None)
    monkeypatch.setattr(measure_whole_hearts, "check_weights", lambda *_: None)
    monkeypatch.setattr(measure_whole_hearts, "read_card", lambda *_: None)
    monkeypatch.setattr(measure_whole_hearts, "resolve_device", str)
    for script in (make_reference_population, measure_whole_hearts):
        monkeypatch.setattr(script.reading, "open_convention", lambda *_: None)
    heart = tmp_path / "p1.nii"
    heart.touch()
    inputs = Inputs(
        anatomy="", bundle=str(tmp_path / "bundle.json"), rules="", values="", convention=(), atlas="",
        training="", templates=["T1.nii.gz"], left_out=["T2.nii.gz"],
    )  # fmt: skip

    def found(script, params):
        output = SimpleNamespace(
            **dict.fromkeys(("hearts", "reference", "samples", "summary", "table"), "x/y.z")
        )
        maps = {"label_maps": [str(heart)]} if script is measure_whole_hearts else {}
        given = Inputs(**vars(inputs), **maps)
        with pytest.raises(Reached) as caught:
            script.main(
                SimpleNamespace(input=given, params=SimpleNamespace(**params), output=output, threads=1)
            )
        return caught.value.args[0]

    return found


@pytest.mark.parametrize("script", PARAMS, ids=lambda script: script.__name__)
def test_every_param_that_matters_makes_other_tasks(digest_of, script):
    params = COMMON | PARAMS[script]
    first = digest_of(script, params)
    assert first == digest_of(script, dict(params))
    for name, value in params.items():
        changed = value | {"more": 1} if isinstance(value, dict) else value * 2
        if isinstance(value, list):
            changed = [2 * one for one in value]
        other = digest_of(script, params | {name: changed})
        assert (other != first) == (name not in SEEN[script]), name
