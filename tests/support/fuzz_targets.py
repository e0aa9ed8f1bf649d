"""Every reader of files that users bring, as one table: a good file, how it is damaged, how it is read.

`attack_on(name, folder)` writes the good file and returns an attack. The attack draws a damaged file
(`draw(strategy)`, as hypothesis' `data.draw`) and reads it. The reader may read it, or refuse it with our own
error that names the file; anything else is raised. `test_fuzz_readers` and `fuzz_with_atheris` run them.
"""

import gzip
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from cardiocohort.cohort.covariates import known
from cardiocohort.cohort.table import read_cohort
from cardiocohort.cohort.target_arms import refuse_other_arms
from cardiocohort.config.check import check_together, complete
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.label_maps.covariates import read_covariates
from cardiocohort.label_maps.mesh_files import read_mesh
from cardiocohort.label_maps.positions import load_positions
from cardiocohort.label_maps.vessels import load_vessels
from cardiocohort.label_maps.volumes import read_volume
from cardiocohort.population.explicit import ELLIPSOID_COLUMNS, read_targets
from cardiocohort.population.reference import read_reference
from cardiocohort.runtime import artifacts, tables
from cardiocohort.runtime.errors import InputError
from cardiocohort.topology import load_rules
from heart_anatomy import HEART
from tagged_meshes import cup, joined
from tagged_meshes import write as write_mesh
from tiny_prior import ANATOMY, write_tiny_bundle
from workflow_runs import COLUMNS, REPOSITORY

RESOURCES = REPOSITORY / "resources"
NRRD = REPOSITORY / "tests/data/nrrd"
SIDECAR = {"verdict": "accepted", "mL": [1.5, 2]}


@dataclass(frozen=True)
class Target:
    """One reader. `holds` is true of all that it may return; `named` is what its errors must contain."""

    write: Callable[[Path], Path]
    damage: Callable[[Callable, bytes], bytes]
    read: Callable[[Path], Any]
    holds: Callable[[Any], bool] = lambda read: read is not None
    named: Callable[[Path], str] = lambda path: path.name


def attack_on(name: str, folder: Path) -> Callable[[Callable], None]:
    target = TARGETS[name]
    path = target.write(folder)
    good = path.read_bytes()
    assert target.holds(target.read(path)), "the file is not even good before it is damaged"

    def attack(draw):
        hostile.write(path, target.damage(draw, good))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy warns of overflows
                read = target.read(path)
        except InputError as error:
            message = str(error)
        else:
            assert read is None or target.holds(read)
            return
        assert target.named(path) in message

    return attack


# ---- good files


def nifti(name: str):
    return lambda folder: hostile.write(folder / name, small_nifti(name))


def small_nifti(name: str = "x.nii", dtype=np.uint8) -> bytes:
    labels = np.random.default_rng(0).integers(0, 11, (6, 5, 4)).astype(dtype)
    image = nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.set_sform(image.affine, 1)
    return gzip.compress(image.to_bytes()) if name.endswith(".gz") else image.to_bytes()


def copied(source: Path):
    return lambda folder: hostile.write(folder / f"x{source.suffix}", source.read_bytes())


def tagged_mesh(name: str):
    return lambda folder: write_mesh(folder / name, *joined([(1, cup((0.0, 0, 0), 30, 1))]))


def is_mesh(mesh) -> bool:
    inside = (mesh.tets >= 0).all() and (mesh.tets < len(mesh.points)).all()
    return bool(inside and np.isfinite(mesh.points).all() and len(mesh.tags) == len(mesh.tets))


def bundle_file(name: str):
    return lambda folder: write_tiny_bundle(folder / "bundle") / name


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
    return written(folder, frame)


def targets_table(folder: Path) -> Path:
    frame = pd.read_csv(reference_table(folder), sep="\t")[["structure", *MOMENT_COLUMNS]].head(2)
    return written(folder, frame.assign(arm="small", subject=["small-00000", "small-00000"]))


def ellipsoid_table(folder: Path) -> Path:
    row = dict.fromkeys(ELLIPSOID_COLUMNS, 10.0) | {"arm": "small", "structure": "cavity", "volume_ml": 20.0}
    return written(folder, pd.DataFrame([row, row | {"structure": "wall"}]))


def stage_table(folder: Path) -> Path:
    row = {name: {"str": "x", "float64": 1.5}.get(kind, 3) for name, kind in stage_tables.ANATOMIES.items()}
    tables.write_table(folder / "x.tsv", pd.DataFrame([row] * 3), stage_tables.ANATOMIES)
    return folder / "x.tsv"


def written(folder: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(folder / "x.tsv", sep="\t", index=False)
    return folder / "x.tsv"


def covariates_table(folder: Path) -> Path:
    text = "case\tsex\tage_years\tbsa_m2\tcondition\np1\tfemale\t50\t1.7\thealthy\np2\tmale\t\t\t\n"
    return hostile.write(folder / "x.tsv", text)


def benchmark(folder: Path) -> Path:
    (folder / "generation").mkdir(exist_ok=True)
    text = "s\th:m:s\tmax_rss\n12.5\t0:00:12\t310.2\n"
    return hostile.write(folder / "generation/x.tsv", text)


def parquet(write):
    def write_parquet(folder: Path) -> Path:
        pd.read_csv(write(folder), sep="\t").to_parquet(folder / "x.parquet", index=False)
        return folder / "x.parquet"

    return write_parquet


def sidecar(folder: Path) -> Path:
    artifacts.write_sidecar(hostile.write(folder / "heart.vtu", "whole"), "inputs", SIDECAR)
    return artifacts.sidecar_path(folder / "heart.vtu")


def config(folder: Path) -> Path:
    given = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    return hostile.write(folder / "config", json.dumps(complete(given)))


# ---- damage: one of the alternatives, drawn


def one_of(*kinds):
    return lambda draw, good: draw(st.sampled_from(kinds))(draw, good)


def volume(draw, good: bytes) -> bytes:
    good = small_nifti(dtype=draw(st.sampled_from((np.uint8, np.int16, np.float32))))
    return one_of(hostile.hostile_nifti, hostile.hostile_nifti, hostile.damaged)(draw, good)


def packed(draw, good: bytes) -> bytes:
    return hostile.packed(draw, small_nifti(), volume)


NRRD_WORDS = (
    "sizes: 99999 99999 99999", "sizes: -1 5 6", "sizes: nan 5 6", "sizes: 1e3 1e3 1e3", "type: double",
    "type: block", "encoding: gzip", "encoding: raw", "space directions: (nan,0,0) (0,1,0) (0,0,1)",
    "space directions: none none none", "space origin: (1e999,0,0)", "dimension: 99999999999999",
    "endian: big", "data file: /etc/passwd", "space: ras", "byte skip: -1",
)  # fmt: skip


METAIMAGE_WORDS = (
    "DimSize = 99999 99999 99999", "DimSize = -1 5 6", "NDims = 1000000", "ElementType = MET_DOUBLE",
    "ElementType = MET_STRING", "CompressedData = False", "CompressedDataSize = 999999999999999",
    "ElementSpacing = 0 0 0", "ElementSpacing = nan 1 1", "Offset = 1e999 0 0", "TransformMatrix = 1",
    "ElementNumberOfChannels = 999999999", "HeaderSize = -1", "BinaryDataByteOrderMSB = True",
    "ElementDataFile = /etc/passwd", "ElementDataFile = LIST",
)  # fmt: skip


def fields(words: tuple[str, ...], end: bytes):
    """One of `words` as a line somewhere in a header of text that `end` follows."""

    def with_a_field(draw, good: bytes) -> bytes:
        head, _, body = good.partition(end)
        lines = head.split(b"\n")
        lines.insert(draw(st.integers(1, len(lines))), draw(st.sampled_from(words)).encode())
        return b"\n".join(lines) + end + body

    return with_a_field


def json_parts(draw, good: bytes) -> bytes:
    return json.dumps(hostile.hostile_json(draw, json.loads(good))).encode()


def networks(draw, good: bytes) -> bytes:
    card = json.loads(good)
    return json.dumps(card | {"networks": hostile.hostile_json(draw, card["networks"])}).encode()


def cells(draw, good: bytes) -> bytes:
    return hostile.hostile_table(draw, good.decode()).encode("utf-8", "surrogatepass")


# ---- readers


def signed_prior(path: Path):
    """The prior of a bundle whose card states the checksum of its weights rightly, as an enemy would."""
    card = json.loads((path.parent / "bundle.json").read_text())
    card["weights_sha256"] = artifacts.sha256(path)
    hostile.write(path.parent / "bundle.json", json.dumps(card))
    return load_prior(path.parent, "cpu")


def read_config(path: Path) -> dict:
    settings = complete(json.loads(path.read_text()))
    check_together(settings, ["opencarp", "vtu"])
    return settings


def is_label_map(read) -> bool:
    labelled = read.labels.dtype == np.uint8 and read.labels.max() <= 10
    return labelled and np.isfinite(read.affine).all() and min(read.spacing_mm) > 0


def is_volume(read) -> bool:
    return read.values.ndim == 3 and np.isfinite(read.affine).all()


def is_anatomy(read) -> bool:
    anatomy, grid = read
    assert all(name.isidentifier() and name.isascii() for name in anatomy.structures)
    return (
        set(anatomy.centred_on) <= set(anatomy.structures)
        and np.prod([float(n) for n in grid.shape]) <= 512**3
    )


def in_bundle(path: Path) -> str:
    """Its errors name the folder of the bundle."""
    return str(path.parent)


def is_prior(read) -> bool:
    return np.isfinite(read.spread.numpy()).all()


TABLES = {
    "cohort": (cohort_table, lambda p: read_cohort(p, HEART)),
    "reference": (reference_table, lambda p: read_reference(p, ANATOMY)),
    "targets": (targets_table, lambda p: read_targets(p, ANATOMY)),
    "ellipsoids": (ellipsoid_table, lambda p: read_targets(p, ANATOMY)),
    "arms": (targets_table, lambda p: (refuse_other_arms(p, ["small"]), p)),
    "stage": (stage_table, lambda p: tables.read_table(p, stage_tables.ANATOMIES)),
    "covariates": (covariates_table, lambda p: read_covariates(p, known())),
    "known_covariates": (copied(RESOURCES / "covariates.tsv"), known),
    "benchmark": (benchmark, lambda p: batch_size.read_pilot(p.parents[1], {"x": 2})),
    "rules": (copied(RESOURCES / "anatomies/heart/topology.tsv"), lambda p: load_rules(p, HEART)),
    "vessels": (copied(RESOURCES / "segmentations/heart_vessels.tsv"), lambda p: load_vessels(p, HEART)),
    "positions": (
        copied(RESOURCES / "anatomies/heart/convention/positions.tsv"),
        lambda p: load_positions(p, HEART),
    ),
}
TARGETS: dict[str, Target] = {
    "label_map.nii": Target(nifti("x.nii"), volume, lambda p: read_label_map(p, HEART), is_label_map),
    "label_map.nii.gz": Target(nifti("x.nii.gz"), packed, lambda p: read_label_map(p, HEART), is_label_map),
    "scan.nii.gz": Target(nifti("x.nii.gz"), packed, read_volume, is_volume),
    **{
        name: Target(copied(NRRD / name), one_of(fields(words, end), hostile.damaged), read_volume, is_volume)
        for name, words, end in (
            ("pynrrd_raw.nrrd", NRRD_WORDS, b"\n\n"),
            ("pynrrd_gzip.nrrd", NRRD_WORDS, b"\n\n"),
            ("simpleitk.mha", METAIMAGE_WORDS, b"\nElementDataFile"),
        )
    },
    **{
        name: Target(tagged_mesh(name), hostile.damaged, lambda p: read_mesh(p, []), is_mesh)
        for name in ("mesh.vtk", "mesh.vtu", "mesh.elem")
    },
    "bundle_card": Target(
        bundle_file("bundle.json"), one_of(json_parts, hostile.damaged), read_anatomy, is_anatomy
    ),
    "bundle_networks": Target(
        bundle_file("bundle.json"), networks, lambda p: load_prior(p.parent, "cpu"), is_prior, in_bundle
    ),
    "bundle_weights": Target(
        bundle_file("weights.safetensors"), one_of(hostile.hostile_safetensors, hostile.damaged),
        signed_prior, is_prior, in_bundle,
    ),
    **{
        f"{name}.tsv": Target(write, one_of(cells, cells, cells, hostile.damaged), read)
        for name, (write, read) in TABLES.items()
    },
    **{
        f"{name}.parquet": Target(parquet(TABLES[name][0]), hostile.damaged, TABLES[name][1])
        for name in ("reference", "targets", "arms", "stage")
    },
    # a sidecar that is not whole means that its file is made again; no job is ended or misled by it
    "sidecar": Target(
        sidecar, one_of(json_parts, hostile.damaged),
        lambda p: artifacts.read_sidecar(p.with_name("heart.vtu"), "inputs"), lambda read: read == SIDECAR,
    ),
    "config": Target(config, json_parts, read_config, lambda read: f"a{read['cohort']}".isidentifier()),
}  # fmt: skip
