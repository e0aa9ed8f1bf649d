"""Bundles: what is written is read back, and what is wrong is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.diffusion.device import resolve_device
from cardiocohort.runtime.errors import InputError
from tiny_prior import ANATOMY, GRID, write_tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "tiny")


def rewrite(bundle, change):
    """Change the tensors of a bundle and state the digest of the result."""
    from cardiocohort.runtime import artifacts

    tensors = load_file(bundle / "weights.safetensors")
    change(tensors)
    save_file(tensors, bundle / "weights.safetensors")
    card = json.loads((bundle / "bundle.json").read_text())
    card["weights_sha256"] = artifacts.sha256(bundle / "weights.safetensors")
    (bundle / "bundle.json").write_text(json.dumps(card))


def test_round_trip(bundle):
    prior = load_prior(bundle, "cpu")
    assert (prior.anatomy, prior.grid) == (ANATOMY, GRID) == read_anatomy(bundle / "bundle.json")
    z = torch.randn(1, *prior.latent_shape)
    assert prior.logits(z).shape == (1, 3, 16, 16, 16)
    assert prior.labels(z).shape == (1, 32, 32, 32)


def test_wrong_digest(bundle):
    with (bundle / "weights.safetensors").open("ab") as handle:
        handle.write(b"\0")
    with pytest.raises(InputError, match=r"weights\.safetensors: its sha256 is .* bundle\.json states"):
        load_prior(bundle, "cpu")


def test_missing_tensor(bundle):
    rewrite(bundle, lambda tensors: tensors.pop("latent.mean"))
    with pytest.raises(InputError, match=r"'latent\.mean' is missing or not of shape"):
        load_prior(bundle, "cpu")


def test_misshapen_tensor(bundle):
    rewrite(bundle, lambda tensors: tensors.update({"latent.spread": torch.ones(7, 1, 1, 1)}))
    with pytest.raises(InputError, match=r"'latent\.spread' is missing or not of shape \(4, 1, 1, 1\)"):
        load_prior(bundle, "cpu")


def test_a_pickle_is_not_read(bundle):
    torch.save({"latent.mean": torch.zeros(1)}, bundle / "weights.safetensors")
    rewritten = json.loads((bundle / "bundle.json").read_text())
    from cardiocohort.runtime import artifacts

    rewritten["weights_sha256"] = artifacts.sha256(bundle / "weights.safetensors")
    (bundle / "bundle.json").write_text(json.dumps(rewritten))
    with pytest.raises(InputError, match="not a usable bundle"):
        load_prior(bundle, "cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no readable bundle.json"),
        ("{", "not valid JSON"),
        ("[]", "'format' is None"),
        ('{"format": "other/9"}', "'format' is 'other/9'"),
        ('{"format": "cardiocohort-bundle/1"}', "anatomy or grid is missing"),
    ],
)
def test_bad_card(tmp_path, content, message):
    path = tmp_path / "bundle.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_anatomy(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_asked_for_where_none_is():
    with pytest.raises(InputError, match="config key 'device' is 'cuda'"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"
