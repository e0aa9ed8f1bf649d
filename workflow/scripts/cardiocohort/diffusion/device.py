"""Which device and number format networks run in (prior and generation stages)."""

import contextlib

import torch

from ..runtime.errors import InputError


def resolve_device(device: str) -> str:
    """`auto`, `cpu` or `cuda` -> `cpu` or `cuda`; InputError if a GPU is wanted and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "config key 'device' is 'cuda' but this machine offers no CUDA device to PyTorch; "
            "set device: auto or device: cpu, or run where a GPU is"
        )
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def autocast(device: str):
    """bfloat16 around networks where the hardware multiplies it natively (elsewhere it is slower)."""
    in_bfloat16 = number_format(device) == torch.bfloat16
    return torch.autocast(device, torch.bfloat16) if in_bfloat16 else contextlib.nullcontext()


def number_format(device: str) -> torch.dtype:
    """What networks compute in on `cpu` or `cuda`: bfloat16, or float32 where the hardware lacks it."""
    native = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def describe(device: str) -> str:
    """Device and number format of networks, for records: both decide about a sample's last bits."""
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return f"{name}, {str(number_format(device)).removeprefix('torch.')}"
