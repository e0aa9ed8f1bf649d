"""A cohort of seconds for runs of the whole workflow: the tiny prior, a population and gate of its own.

Hearts of random weights are noise: every one is refused at the gate, so that meshing and inputs have
batches without work. `with_hearts` adds a cohort of real hearts, which go the rest of the way.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cardiocohort.anatomy.moments import MOMENT_COLUMNS
from cardiocohort.cohort.verification import OF_A_RUN
from cardiocohort.runtime.artifacts import sha256
from tiny_prior import ANATOMY, write_anatomy, write_tiny_bundle
from workflow_runs import COLUMNS, REPOSITORY

TEMPLATE = REPOSITORY / "resources/templates"
RULES = """rule\tkind\tscope\tstructure\tother\topenings\topenings_mm\tpercentile\tmin\tmax\tunit\treason
volume\tvolume\tany\tcavity\t\t\t\t\t1000000\t\tmL\tnone is as large: random weights make no hearts
"""
COARSE = {"edge_length_mm": 5, "rv_wall_mm": 5.5}  # 20,000 tetrahedra of a real heart, not 120,000
GUIDANCE = {"steps": 4, "max_miss": 1000.0}  # random weights meet no target


def make_project(folder: Path, arms: dict[str, int] | None = None, **settings) -> Path:
    """A working directory with bundle, table, rules and config; `settings` go into the config."""
    arms = arms or {"small": 2, "large": 1}
    write_tiny_bundle(folder / "bundle")
    write_anatomy(folder / "anatomy", RULES)
    _reference().to_parquet(folder / "bundle/reference_moments.parquet", index=False)
    (folder / "rules.tsv").write_text(RULES)
    rows = [f"{arm}\t{n}\tany\t\t\t\t\tcavity: size position shape\t" for arm, n in arms.items()]
    (folder / "trial.tsv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    config = {
        "cohort": "tiny",
        "cohort_table": "trial.tsv",
        "bundle": "bundle",
        "anatomy": "anatomy",
        "topology_rules": "rules.tsv",
        "meshing": {"domain": "labels"},
    }
    config |= {"batch_size": 2, "max_attempts": 1, "guidance": GUIDANCE, "device": "cpu"} | settings
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _reference(n: int = 60) -> pd.DataFrame:
    """A reference population of the tiny anatomy: moments of ellipsoids, some larger, some smaller."""
    rng, rows = np.random.default_rng(0), []
    for subject in range(n):
        volumes = np.array([60.0, 40.0]) * np.exp(0.2 * rng.standard_normal(2))
        offset = rng.standard_normal(3)
        centroids = (offset, -offset * volumes[0] / volumes[1])  # together they are centred on the origin
        for structure, volume, centroid in zip(ANATOMY.structures, volumes, centroids, strict=True):
            variance = (volume * 1000 / (4 / 3 * np.pi)) ** (2 / 3) / 5
            diagonal = variance * np.exp(0.1 * rng.standard_normal(3))
            values = [volume, *centroid, *diagonal, *(0.02 * variance * rng.standard_normal(3))]
            rows.append([f"r{subject:03d}", structure, *values])
    return pd.DataFrame(rows, columns=["subject", "structure", *MOMENT_COLUMNS])


def make_heart_project(folder: Path, template: str = "T2") -> Path:
    """A working directory whose cohort is one real heart, given as label map and meshed coarsely."""
    (folder / "maps").mkdir(parents=True)
    for path in TEMPLATE.glob(f"{template}*.nii.gz"):
        shutil.copy(path, folder / "maps" / f"{template}.nii.gz")
    config = {"cohort": "mine", "label_maps": "maps", "bundle": str(REPOSITORY / "resources/priors/people")}
    config["meshing"] = COARSE
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    return folder


def results(project: Path, only_whole: bool = False) -> dict[str, str]:
    """Contents of what the stages made: tables by value, other files by digest.

    With `only_whole`, of a run that was killed: without what is not claimed to be whole, which is what has a
    temporary name, and decks without a sidecar.
    """
    found = {}
    for folder in (project / "results/cohorts").glob("*"):
        for stage in ("targets", "anatomies", "topology", "meshes", "inputs"):
            for path in sorted((folder / stage).rglob("*")):
                if path.is_file() and path.suffix not in (".lock", ".json"):
                    if only_whole and not _claimed(path, folder / stage):
                        continue
                    found[path.relative_to(folder).as_posix()] = _content(path)
        if (folder / "manifest.tsv").exists():
            found["manifest.tsv"] = _content(folder / "manifest.tsv")
    return found


def _claimed(path: Path, stage: Path) -> bool:
    """Whether a file is claimed to be whole: by its name, or its deck by the sidecar of the README."""
    inside = path.relative_to(stage).parts
    deck = stage.name == "inputs" and len(inside) > 3
    return not path.name.startswith(".tmp-") and (
        not deck or stage.joinpath(*inside[:3], "README.txt.json").is_file()
    )


def _content(path: Path) -> str:
    if path.suffix == ".tsv":
        frame = pd.read_csv(path, sep="\t")
        return frame.loc[:, ~frame.columns.str.startswith(OF_A_RUN)].to_csv(index=False)
    return sha256(path)
