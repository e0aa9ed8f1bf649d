"""Attacks on every reader of files that users bring, one a name in TARGETS.

`TARGETS[name](folder)` writes what it needs into a folder and returns an attack: a function that draws a
hostile file (`draw(strategy)`, as hypothesis' `data.draw`) and reads it. It may be read, or refused by our
own error that names the file; anything else is raised. `test_fuzz_readers` and `fuzz_with_atheris` call them.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from hypothesis import strategies as st

import hostile_files as hostile
import tiny_cohort
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.anatomy.moments import MOMENT_COLUMNS
from cardiocohort.cohort import batch_size, stage_tables
from cardiocohort.cohort.table import read_cohort
from cardiocohort.cohort.target_arms import refuse_other_arms
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.label_maps.covariates import read_covariates
from cardiocohort.label_maps.positions import load_positions
from cardiocohort.label_maps.vessels import load_vessels
from cardiocohort.label_maps.volumes import read_volume
from cardiocohort.population.explicit import ELLIPSOID_COLUMNS, read_targets
from cardiocohort.population.reference import read_reference
from cardiocohort.runtime import artifacts, tables
from cardiocohort.runtime.config import check_together, complete, read_schema
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import load_rules
from heart_anatomy import HEART
from tiny_prior import ANATOMY, write_tiny_bundle
from workflow_runs import COLUMNS, REPOSITORY

Attack = Callable[[Callable], None]
RESOURCES = REPOSITORY / "resources"
SCHEMA = read_schema(REPOSITORY / "workflow/schemas/config.schema.yaml")


def refuses_or_reads(read, path: Path, named: str | None = None):
    """What `read(path)` returns; None if it refused, by a message that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy tells of overflows
            return read(path)
    except InputError as error:
        message = str(error)
    assert (named or path.name) in message
    return None


def small_nifti(dtype=np.uint8) -> bytes:
    labels = np.random.default_rng(0).integers(0, 11, (6, 5, 4)).astype(dtype)
    image = nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.set_sform(image.affine, 1)
    return image.to_bytes()


# ---- volumes


def label_maps(folder: Path) -> Attack:
    def attack(draw):
        content = small_nifti(draw(st.sampled_from((np.uint8, np.int16, np.float32))))
        make = draw(st.sampled_from((hostile.hostile_nifti, hostile.hostile_nifti, hostile.damaged)))
        if draw(st.booleans()):
            path = hostile.write(folder / "x.nii.gz", hostile.packed(draw, content, make))
        else:
            path = hostile.write(folder / "x.nii", make(draw, content))
        read = refuses_or_reads(lambda p: read_label_map(p, HEART), path)
        if read is not None:
            assert read.labels.dtype == np.uint8
            assert read.labels.max() <= 10
            assert np.isfinite(read.affine).all()
            assert min(read.spacing_mm) > 0

    return attack


def scans(folder: Path) -> Attack:
    def attack(draw):
        make = draw(st.sampled_from((hostile.hostile_nifti, hostile.damaged)))
        path = hostile.write(folder / "x.nii.gz", hostile.packed(draw, small_nifti(), make))
        read = refuses_or_reads(read_volume, path)
        assert read is None or (read.values.ndim == 3 and np.isfinite(read.affine).all())

    return attack


NRRD_WORDS = (
    "sizes: 99999 99999 99999", "sizes: -1 5 6", "sizes: nan 5 6", "sizes: 1e3 1e3 1e3", "type: double",
    "type: block", "encoding: gzip", "encoding: raw", "space directions: (nan,0,0) (0,1,0) (0,0,1)",
    "space directions: none none none", "space origin: (1e999,0,0)", "dimension: 99999999999999",
    "endian: big", "data file: /etc/passwd", "space: ras", "byte skip: -1",
)  # fmt: skip


def nrrd_scans(folder: Path) -> Attack:
    def attack(draw):
        name = draw(st.sampled_from(("pynrrd_raw.nrrd", "pynrrd_gzip.nrrd")))
        content = (REPOSITORY / "tests/data/nrrd" / name).read_bytes()
        if draw(st.booleans()):
            head, _, body = content.partition(b"\n\n")
            lines = head.split(b"\n")
            lines.insert(draw(st.integers(1, len(lines))), draw(st.sampled_from(NRRD_WORDS)).encode())
            content = b"\n".join(lines) + b"\n\n" + body
        else:
            content = hostile.damaged(draw, content)
        read = refuses_or_reads(read_volume, hostile.write(folder / "x.nrrd", content))
        assert read is None or (read.values.ndim == 3 and np.isfinite(read.affine).all())

    return attack


# ---- bundles


def bundle_cards(folder: Path) -> Attack:
    card = json.loads((write_tiny_bundle(folder / "bundle") / "bundle.json").read_text())

    def attack(draw):
        if draw(st.booleans()):
            content = json.dumps(hostile.hostile_json(draw, card)).encode()
        else:
            content = hostile.damaged(draw, json.dumps(card).encode())
        read = refuses_or_reads(read_anatomy, hostile.write(folder / "bundle.json", content))
        if read is not None:
            anatomy, grid = read
            assert set(anatomy.centred_on) <= set(anatomy.structures)
            assert all(name.isidentifier() and name.isascii() for name in anatomy.structures)
            assert np.prod([float(n) for n in grid.shape]) <= 512**3

    return attack


def bundle_weights(folder: Path) -> Attack:
    bundle = write_tiny_bundle(folder / "bundle")
    whole_card = (bundle / "bundle.json").read_text()
    whole = (bundle / "weights.safetensors").read_bytes()

    def attack(draw):
        card, weights = json.loads(whole_card), whole
        if draw(st.booleans()):
            card["networks"] = hostile.hostile_json(draw, card["networks"])
        else:
            make = draw(st.sampled_from((hostile.hostile_safetensors, hostile.damaged)))
            weights = make(draw, weights)
        path = hostile.write(folder / "weights.safetensors", weights)
        card["weights_sha256"] = artifacts.sha256(path)  # an enemy would state it rightly
        hostile.write(folder / "bundle.json", json.dumps(card))
        prior = refuses_or_reads(lambda p: load_prior(p.parent, "cpu"), path, named=str(folder))
        assert prior is None or np.isfinite(prior.spread.numpy()).all()

    return attack


# ---- tables


def cohort_table(folder: Path) -> Path:
    constraints = "left_ventricle: size position; aorta+left_atrium: size; aorta/left_atrium: distance"
    edits = "right_ventricle.volume: x0.5; aorta.rotation_z: +3 deg"
    rows = [
        f"a\t5\tfemale\thealthy\t40..65\t1.7+-0.1\t7\t{constraints}\t",
        f"b\t3\t60 % female\t\t61\t\t\t\t{edits}",
        "# of a comment",
    ]
    return hostile.write(folder / "x.tsv", "\n".join([COLUMNS, *rows]) + "\n")


def reference_table(folder: Path) -> Path:
    frame = tiny_cohort._reference(4).assign(sex="female", age_years=50.0, bsa_m2=1.7, condition="healthy")
    frame.to_csv(folder / "x.tsv", sep="\t", index=False)
    return folder / "x.tsv"


def targets_table(folder: Path) -> Path:
    reference_table(folder)
    frame = pd.read_csv(folder / "x.tsv", sep="\t")[["structure", *MOMENT_COLUMNS]].head(2)
    frame.assign(arm="small", subject=["small-00000", "small-00000"]).to_csv(
        folder / "x.tsv", sep="\t", index=False
    )
    return folder / "x.tsv"


def ellipsoid_table(folder: Path) -> Path:
    row = dict.fromkeys(ELLIPSOID_COLUMNS, 10.0) | {"arm": "small", "structure": "cavity", "volume_ml": 20.0}
    pd.DataFrame([row, row | {"structure": "wall"}]).to_csv(folder / "x.tsv", sep="\t", index=False)
    return folder / "x.tsv"


def stage_table(folder: Path) -> Path:
    row = {name: {"str": "x", "float64": 1.5}.get(kind, 3) for name, kind in stage_tables.ANATOMIES.items()}
    tables.write_table(folder / "x.tsv", pd.DataFrame([row] * 3), stage_tables.ANATOMIES)
    return folder / "x.tsv"


def covariates_table(folder: Path) -> Path:
    text = "case\tsex\tage_years\tbsa_m2\tcondition\np1\tfemale\t50\t1.7\thealthy\np2\tmale\t\t\t\n"
    return hostile.write(folder / "x.tsv", text)


def benchmark(folder: Path) -> Path:
    (folder / "generation").mkdir(exist_ok=True)
    text = "s\th:m:s\tmax_rss\n12.5\t0:00:12\t310.2\n"
    return hostile.write(folder / "generation/x.tsv", text)


def copied(name: str):
    return lambda folder: hostile.write(folder / "x.tsv", (RESOURCES / name).read_bytes())


TABLES = {
    "cohort": (cohort_table, lambda p: read_cohort(p, HEART)),
    "reference": (reference_table, lambda p: read_reference(p, ANATOMY)),
    "targets": (targets_table, lambda p: read_targets(p, ANATOMY)),
    "ellipsoids": (ellipsoid_table, lambda p: read_targets(p, ANATOMY)),
    "arms": (targets_table, lambda p: (refuse_other_arms(p, ["small"]), p)),
    "stage": (stage_table, lambda p: tables.read_table(p, stage_tables.ANATOMIES)),
    "covariates": (covariates_table, read_covariates),
    "benchmark": (benchmark, lambda p: batch_size.read_pilot(p.parents[1], {"x": 2})),
    "rules": (copied("topology/heart.tsv"), lambda p: load_rules(p, HEART)),
    "vessels": (copied("segmentations/heart_vessels.tsv"), lambda p: load_vessels(p, HEART)),
    "positions": (copied("segmentations/heart_positions.tsv"), lambda p: load_positions(p, HEART)),
}
PARQUET = ("reference", "targets", "arms", "stage")


def text_table(name: str) -> Callable[[Path], Attack]:
    make, read = TABLES[name]

    def target(folder: Path) -> Attack:
        path = make(folder)
        whole = path.read_text()
        assert read(path) is not None, "the table is not even whole before it is changed"

        def attack(draw):
            if draw(st.integers(0, 3)):
                content = hostile.hostile_table(draw, whole)
            else:
                content = hostile.damaged(draw, whole.encode())
            refuses_or_reads(read, hostile.write(path, content))

        return attack

    return target


def parquet_table(name: str) -> Callable[[Path], Attack]:
    make, read = TABLES[name]

    def target(folder: Path) -> Attack:
        path = folder / "x.parquet"
        pd.read_csv(make(folder), sep="\t").to_parquet(path, index=False)
        whole = path.read_bytes()
        read(path)

        def attack(draw):
            refuses_or_reads(read, hostile.write(path, hostile.damaged(draw, whole)))

        return attack

    return target


# ---- the rest


def sidecars(folder: Path) -> Attack:
    """A sidecar that is not whole means that the file is made again; no job is ended or misled by it."""
    path, record = hostile.write(folder / "heart.vtu", "whole"), {"verdict": "accepted", "mL": [1.5, 2]}
    artifacts.write_sidecar(path, "inputs", record)
    sidecar = artifacts.sidecar_path(path)
    whole = sidecar.read_bytes()

    def attack(draw):
        if draw(st.booleans()):
            hostile.write(sidecar, json.dumps(hostile.hostile_json(draw, json.loads(whole))))
        else:
            hostile.write(sidecar, hostile.damaged(draw, whole))
        assert artifacts.read_sidecar(path, "inputs") in (None, record)

    return attack


def configs(folder: Path) -> Attack:
    own = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())

    def attack(draw):
        given_config = hostile.hostile_json(draw, complete(own, SCHEMA))
        try:
            settings = complete(given_config, SCHEMA)
            check_together(settings, ["opencarp", "vtu"])
        except InputError as error:
            message = str(error)
        else:
            message = "config"
            assert f"a{settings['cohort']}".isidentifier()
        assert "config" in message

    return attack


TARGETS: dict[str, Callable[[Path], Attack]] = {
    "label_maps": label_maps,
    "scans": scans,
    "nrrd_scans": nrrd_scans,
    "bundle_cards": bundle_cards,
    "bundle_weights": bundle_weights,
    **{f"{name}.tsv": text_table(name) for name in TABLES},
    **{f"{name}.parquet": parquet_table(name) for name in PARQUET},
    "sidecars": sidecars,
    "configs": configs,
}
