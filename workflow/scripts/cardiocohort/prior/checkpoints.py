"""Checkpoints of a training run: weights, their moving average, optimiser moments, history (prior stage).

Safetensors with a JSON header, written whole or not at all, by the first of several processes.
"""

import json
import logging
from dataclasses import asdict, dataclass, field

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..runtime import artifacts
from .distributed import share

log = logging.getLogger(__name__)


@dataclass
class History:
    """Loss of every step of a run, and that of held-out hearts by the steps done before it was measured."""

    losses: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)


def digest_of(network: torch.nn.Module, *data: torch.Tensor) -> str:
    """Of the network's form and of what it is trained on: a checkpoint serves no other."""
    form = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    return artifacts.digest([form, artifacts.digest_of_arrays(tensor.cpu().numpy() for tensor in data)])


def save(path, network, ema, optimiser, s, history: History, minutes, made_of: str) -> None:
    """Write what a run of settings `s` needs to go on after len(history.losses) steps.

    made_of: the `digest_of` what is trained.
    """
    if not share().first:
        return
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{k}": v for k, v in state.items()}
    header = {"settings": json.dumps(asdict(s)), "history": json.dumps(asdict(history))}
    header |= {"minutes": str(minutes), "made_of": made_of}
    with artifacts.atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata=header)


def resume(path, network, ema, optimiser, s, history: History, made_of: str) -> tuple[int, float]:
    """Load a checkpoint of the same settings and `made_of`, if there is one; next step and minutes spent.

    More cycles after those of the checkpoint, or more minutes, are no other settings: they train a run on.
    """
    try:
        with safe_open(path, framework="pt") as checkpoint:
            header = checkpoint.metadata()
            saved, wanted = json.loads(header["settings"]), asdict(s)
            cycles = tuple(saved["cycles"])
            if s.cycles[: len(cycles)] != cycles:
                return 0, 0.0
            for settings in (saved, wanted):
                del settings["cycles"], settings["max_minutes"]
            if saved != wanted:
                return 0, 0.0
            if header["made_of"] != made_of:
                log.warning("%s is of other hearts or another network: training begins anew", path)
                return 0, 0.0
            minutes, past = float(header["minutes"]), json.loads(header["history"])
            tensors = {k: checkpoint.get_tensor(k) for k in checkpoint.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0, 0.0
    history.losses.extend(past["losses"])
    history.validation.update({int(step): loss for step, loss in past["validation"].items()})
    for name, module in (("network.", network), ("ema.", ema)):
        module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
    state = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    log.info("going on from step %d", len(history.losses))
    return len(history.losses), minutes
