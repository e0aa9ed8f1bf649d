"""The result of an arm's calibration, as a file. Owned by the simulation stage; light, for the report."""

import json
import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ..runtime.artifacts import readable_json, write_text
from ..runtime.errors import InputError
from .scaling import Scaling
from .targets import ANSWERED_BY

log = logging.getLogger(__name__)

REACHED, NOT_REACHED, FAILED = "reached", "not reached", "failed"


@dataclass(frozen=True)
class Run:
    """One simulation of a heart.

    figures: columns of the simulation table, none where it failed for the reason `detail`.
    """

    heart: str
    scaling: Scaling
    figures: dict[str, float]
    periodic: bool
    detail: str
    seconds: float

    @classmethod
    def of(cls, values: dict) -> "Run":
        return cls(**{**values, "scaling": Scaling(**values["scaling"])})


@dataclass(frozen=True)
class Calibration:
    """What the hearts of an arm take: the factors, and how they were found.

    verdict: REACHED, NOT_REACHED (the factors are those of the best run) or FAILED (all factors are 1).
    heart: the one that was simulated, "" for none. reached: of the best run, by target. runs: all, in order.
    """

    arm: str
    verdict: str
    detail: str
    heart: str
    targets: dict[str, float]
    reached: dict[str, float]
    tolerance: float
    scaling: Scaling
    runs: list[Run] = field(default_factory=list)

    @property
    def warning(self) -> str:
        """What a reader must know, one sentence; "" where all targets were reached."""
        if self.verdict == REACHED:
            return ""
        return f"Arm {self.arm}: the calibration's targets were not reached: {self.detail}."

    def rows(self) -> list[dict]:
        """One per target: arm, heart, target, wanted, reached, scalar, factor, runs, verdict."""
        return [
            {
                "arm": self.arm,
                "heart": self.heart,
                "target": name,
                "wanted": wanted,
                "reached": self.reached.get(name, float("nan")),
                "scalar": ANSWERED_BY[name],
                "factor": getattr(self.scaling, ANSWERED_BY[name]),
                "runs": len(self.runs),
                "verdict": self.verdict,
            }
            for name, wanted in self.targets.items()
        ]


def factors(path: str | Path) -> Scaling:
    """The factors that an arm's hearts take; a warning in the log where they do not reach the targets."""
    found = read(path)
    if found.warning:
        log.warning("%s", found.warning)
    return found.scaling


def write(path: str | Path, calibration: Calibration) -> None:
    write_text(path, readable_json(asdict(calibration)))


def read(path: str | Path) -> Calibration:
    """InputError naming the file where it is not what `write` wrote."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        runs = [Run.of(run) for run in values["runs"]]
        known = {f.name: values[f.name] for f in fields(Calibration)}
        return Calibration(**known | {"scaling": Scaling(**values["scaling"]), "runs": runs})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a calibration ({error}); delete it to calibrate again") from error
