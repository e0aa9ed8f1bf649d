"""Files that promise more than they hold, and names with more in them than a name."""

import gzip
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile_files as hostile
from cardiocohort.anatomy.bundle_metadata import FORMAT, NAME, STRUCTURE_NAME, read_card
from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.cohort.table import ARM_NAME, read_cohort
from cardiocohort.config.check import SCHEMA, locate
from cardiocohort.label_maps.cases import SUBJECT_NAME, find_cases, parse_source
from cardiocohort.label_maps.folder import find_label_maps
from cardiocohort.runtime import artifacts
from cardiocohort.runtime.errors import InputError
from heart_anatomy import HEART
from tiny_prior import write_tiny_bundle
from workflow_runs import COLUMNS, REPOSITORY, make_bundle, snakemake

# ---- bombs: a reader may not need much more memory than the file it refuses

MOST_MB = 60


def nifti_header(shape, dtype=np.uint8, offset=352) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    header["vox_offset"] = offset
    header["magic"] = b"n+1"
    return header.binaryblock + bytes(4)


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 1)


def zeros(n: int) -> bytes:
    """Gzip streams, one after the other, of `n` zero bytes together."""
    return packed(bytes(2**24)) * (n // 2**24)


def gzip_bomb_in_an_extension(path: Path) -> None:
    """Four flag bytes, then an extension of zeros before the volume."""
    head = nifti_header((4, 4, 4), offset=2**30)[:348] + b"\1\0\0\0" + struct.pack("<ii", 2**30, 6)
    path.write_bytes(packed(head) + zeros(2**28))


def nrrd(path: Path, sizes: str, data: bytes) -> None:
    head = (
        "NRRD0004\ntype: double\ndimension: 3\nspace: right-anterior-superior\n"
        f"sizes: {sizes}\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
        "endian: little\nencoding: gzip\n\n"
    )
    path.write_bytes(head.encode() + data)


def metaimage(path: Path, sizes: str, data: bytes) -> None:
    fields = {
        "ObjectType": "Image", "NDims": "3", "CompressedData": "True", "DimSize": sizes,
        "ElementSpacing": "1 1 1", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
        "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL",
    }  # fmt: skip
    head = "".join(f"{name} = {value}\n" for name, value in fields.items())
    path.write_bytes(head.encode() + data)


def bundle_with(folder: Path, **networks) -> None:
    write_tiny_bundle(folder)
    card = json.loads((folder / "bundle.json").read_text())
    card["networks"] |= networks
    (folder / "bundle.json").write_text(json.dumps(card))


def bundle_with_a_giant(folder: Path) -> None:
    """The header of its weights tells of a tensor of a terabyte."""
    write_tiny_bundle(folder)
    told = {"latent.mean": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    head = json.dumps(told).encode()
    (folder / "weights.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(64))
    card = json.loads((folder / "bundle.json").read_text())
    card["weights_sha256"] = artifacts.sha256(folder / "weights.safetensors")
    (folder / "bundle.json").write_text(json.dumps(card))


def parquet_of_many_rows(path: Path) -> None:
    """A constant column packs 40 million rows into some kilobytes."""
    pd.DataFrame({"subject": pd.Categorical(["x"]).repeat(40_000_000)}).to_parquet(path)


def many_cells(path: Path) -> None:
    path.write_text("a" + "\t" * 900 + "\n" + "x\n" * 200_000)


def wide(path: Path) -> None:
    path.write_text("a" + "\t" * 2_000_000 + "\n" + "x\n" * 100)


LABEL_MAP, SCAN, PRIOR, CARD, COHORT, TABLE, RULES = range(7)
READERS = """
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.label_map import read_label_map
from cardiocohort.cohort.table import read_cohort
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.label_maps.volumes import read_volume
from cardiocohort.runtime import tables
from cardiocohort.topology import load_rules
from heart_anatomy import HEART
READERS = [
    lambda p: read_label_map(p, HEART), read_volume, lambda p: load_prior(p, "cpu"), read_anatomy,
    lambda p: read_cohort(p, HEART), lambda p: tables.read_table(p, {"subject": "str"}),
    lambda p: load_rules(p, HEART),
]
"""
CHILD = """
import json, sys, time
import numpy, pandas, pyarrow.parquet
from cardiocohort.runtime.errors import InputError
from cardiocohort.runtime.peak_memory import peak_mb
from pathlib import Path

for reader, path in json.loads(sys.argv[1]):
    before, begun = peak_mb(), time.process_time()
    try:
        READERS[reader](path)
        verdict = "read"
    except InputError as error:
        verdict = "refused" if Path(path).name in str(error) else str(error)
    print(json.dumps([verdict, peak_mb() - before, time.process_time() - begun]))
"""

N = 2**28
BOMBS = {
    "dimensions": (LABEL_MAP, "x.nii", lambda p: p.write_bytes(nifti_header((32767,) * 3, np.float64))),
    "dimensions, packed": (LABEL_MAP, "x.nii.gz", lambda p: p.write_bytes(packed(nifti_header((800,) * 3)))),
    "zeros": (SCAN, "x.nii.gz", lambda p: p.write_bytes(packed(nifti_header((1024,) * 3)) + zeros(N))),
    "extension": (LABEL_MAP, "x.nii.gz", gzip_bomb_in_an_extension),
    "far away": (
        SCAN,
        "x.nii.gz",
        lambda p: p.write_bytes(packed(nifti_header((4,) * 3, offset=N)) + zeros(N)),
    ),
    "NRRD sizes": (SCAN, "x.nrrd", lambda p: nrrd(p, "500 500 500", packed(bytes(100)))),
    "NRRD zeros": (SCAN, "x.nrrd", lambda p: nrrd(p, "800 800 800", zeros(N))),
    "MetaImage zeros": (SCAN, "x.mha", lambda p: metaimage(p, "200 200 200", zlib.compress(bytes(N), 1))),
    "deep card": (CARD, "bundle.json", lambda p: p.write_text("[" * 10**6)),
    "giant tensor": (PRIOR, "bundle", bundle_with_a_giant),
    "giant networks": (PRIOR, "bundle", lambda p: bundle_with(p, denoiser_width=10**9)),
    "endless networks": (PRIOR, "bundle", lambda p: bundle_with(p, denoiser_depth=10**9)),
    "no number of channels": (PRIOR, "bundle", lambda p: bundle_with(p, condition_channels=None)),
    "many rows": (TABLE, "x.parquet", parquet_of_many_rows),
    "many cells": (COHORT, "x.tsv", many_cells),
    "wide rules": (RULES, "x.tsv", wide),
    # nobody looks at what is behind a volume
    "behind a volume": (
        SCAN,
        "whole.nii.gz",
        lambda p: p.write_bytes(packed(nifti_header((4,) * 3) + bytes(64)) + zeros(N)),
    ),
}


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """Verdict, MB and CPU seconds of each bomb, met by one process that has all readers imported.

    It reads a good bundle before, since loading one imports some of torch.
    """
    good = tmp_path_factory.mktemp("good") / "bundle"
    write_tiny_bundle(good)
    paths = [(PRIOR, str(good))]
    for reader, name, make in BOMBS.values():
        paths.append((reader, str(tmp_path_factory.mktemp("bomb") / name)))
        make(Path(paths[-1][1]))
    run = subprocess.run(
        [sys.executable, "-c", READERS + CHILD, json.dumps(paths)],
        text=True, capture_output=True, check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    (verdict, *_), *bombs = map(json.loads, run.stdout.splitlines())
    assert verdict == "read"
    return dict(zip(BOMBS, bombs, strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(met, name):
    verdict, megabytes, seconds = met[name]
    assert verdict == ("read" if name == "behind a volume" else "refused")
    assert megabytes < MOST_MB
    assert seconds < 10.0


# ---- volumes that lie oddly


@pytest.mark.parametrize("affine", [np.diag([-2.0, 2, 2, 1]), np.diag([-2.0, -2, -2, 1])])
def test_negative_spacing_is_a_direction(tmp_path, affine):
    labels = np.random.default_rng(0).integers(0, 11, (6, 5, 4)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "x.nii")
    read = read_label_map(tmp_path / "x.nii", HEART)
    assert read.spacing_mm == (2.0, 2.0, 2.0)
    turned = labels[tuple(slice(None, None, int(np.sign(affine[i, i]))) for i in range(3))]
    np.testing.assert_array_equal(read.labels, turned)


@pytest.mark.parametrize("spacing", [1e-6, 1e4])
def test_voxels_of_no_hearts_size_are_refused(tmp_path, spacing):
    nib.save(
        nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([spacing] * 3 + [1.0])), tmp_path / "x.nii"
    )
    with pytest.raises(InputError, match=r"x\.nii: (voxels of .* mm; allowed: 0\.05 to 20|its affine)"):
        read_label_map(tmp_path / "x.nii", HEART)


def test_a_volume_whose_checksum_is_wrong_is_refused(tmp_path):
    content = gzip.compress(nifti_header((4, 4, 4)) + bytes(64))
    (tmp_path / "x.nii.gz").write_bytes(content[:-8] + bytes(4) + content[-4:])
    with pytest.raises(InputError, match=r"x\.nii\.gz: .* corrupt .*CRC"):
        read_label_map(tmp_path / "x.nii.gz", HEART)


# ---- names

BAD_NAMES = (
    "../up",
    "a/b",
    "..",
    ".",
    "-rf",
    "$(id)",
    "`id`",
    "a b",
    "a;b",
    "a|b",
    "a\nb",
    "",
    "é",
    "a" * 200,
    "{x}",
)
PATTERNS = {
    "arm": ARM_NAME.pattern,
    "subject": SUBJECT_NAME.pattern,
    "structure": STRUCTURE_NAME.pattern,
    "bundle": NAME.pattern,
    "cohort": SCHEMA["properties"]["cohort"]["pattern"],
    "prior": SCHEMA["properties"]["prior"]["properties"]["name"]["pattern"],
    "data set": SCHEMA["properties"]["segmentations"]["properties"]["name"]["pattern"],
}


def is_safe(name: str, folder: Path = Path("/results/cohorts")) -> bool:
    """Whether a name stays in its folder, and is one word of a shell, no option and no pattern."""
    inside = Path(folder, name).resolve()
    return inside.parent == folder and shlex.quote(name) == name and not name.startswith("-")


@pytest.mark.parametrize("kind", PATTERNS)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_what_a_pattern_of_names_lets_through_is_safe(kind, data):
    pattern = PATTERNS[kind]
    words = st.one_of(st.text(max_size=30), st.sampled_from(BAD_NAMES), st.from_regex(pattern))
    name = data.draw(words)
    # the schema's patterns are searched for, the library's must match as a whole
    accepted = re.search(pattern, name) if pattern.startswith("^") else re.fullmatch(pattern, name)
    assert not accepted or is_safe(name), name


@pytest.mark.parametrize(
    "name", [name for name in BAD_NAMES if not {"/", "\n", "", ".", ".."} & {name, *name}]
)
def test_files_and_cases_of_such_names_are_refused(tmp_path, name):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / f"{name}.nii.gz").touch()
    with pytest.raises(InputError, match="cannot name a subject"):
        find_label_maps(tmp_path / "maps")
    (tmp_path / "cases" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="cannot name a case"):
        find_cases(tmp_path / "cases")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bundles_of_such_names_are_refused(tmp_path, name):
    """The evaluation of a bundle lies in a folder of its name."""
    hostile.write(tmp_path / "bundle.json", json.dumps({"format": FORMAT, "name": name}))
    with pytest.raises(InputError, match="its 'name' is"):
        read_card(tmp_path / "bundle.json")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_arms_of_such_names_are_refused(tmp_path, name):
    hostile.write(tmp_path / "t.tsv", f"{COLUMNS}\n{name}\t4\t\t\t\t\t\t\t\n")
    with pytest.raises(InputError, match=r"t\.tsv"):
        read_cohort(tmp_path / "t.tsv", HEART)


@pytest.mark.parametrize(
    "text", ["../x.nii.gz", "/etc/x.nii.gz", "a/../../x.nii.gz", "x.nii.gz:1;id", "x.sh"]
)
def test_a_source_stays_below_its_case(text):
    with pytest.raises(InputError, match="is not a source"):
        parse_source(text)


@pytest.mark.parametrize("name", ["maps {batch}", "<cohort>", "a\nb", "{0}"])
def test_paths_with_a_meaning_in_workflows_are_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="means something else"):
        locate(name, "label_maps", tmp_path, tmp_path)


def test_shell_words_in_the_names_of_folders_are_only_names(tmp_path):
    project = tmp_path / "a $(touch pwned); touch pwned & {x}"
    maps = project / "maps `touch pwned` | touch pwned 'é"
    maps.mkdir(parents=True)
    shutil.copy(REPOSITORY / "resources/templates/T1_totalsegmentator_s0327.nii.gz", maps / "T1.nii.gz")
    make_bundle(project / "bundle")
    (project / "config").mkdir()
    config = {"cohort": "mine", "bundle": "bundle", "label_maps": maps.name}
    (project / "config/config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(project, "results/cohorts/mine/topology/mine-0000.tsv", "--cores", "1")
    assert run.returncode == 0, run.stdout
    assert "accepted" in (project / "results/cohorts/mine/topology/mine-0000.tsv").read_text()
    assert not list(tmp_path.rglob("pwned"))
