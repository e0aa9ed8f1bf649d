"""Processes that share each step of a training run, on several GPUs or on a CPU (prior stage).

Every process draws the same batch from (seed, step), takes its part of it, and the gradients are averaged:
a run is the same for any number of processes, up to rounding, and a checkpoint of one number is taken up
by another. PyTorch's elastic launcher (torchrun's) starts them, on one machine.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import distributed

from ..runtime import script
from ..runtime.errors import InputError


@dataclass(frozen=True)
class Share:
    """What this process has of a step: the `rank`-th of `world` equal parts."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def of(self, batch: int) -> slice:
        """This process's part of a batch; InputError if it cannot be divided."""
        if batch % self.world:
            raise InputError(
                f"config key 'prior': 'batch' is {batch}, which cannot be divided among {self.world} "
                "processes ('prior.processes'); make it a multiple"
            )
        size = batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.world == 1:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def agree(self, value: float) -> float:
        """The first process's value, for what each would measure differently."""
        if self.world == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]


def share() -> Share:
    """This process's share; the whole where there is no other process."""
    if not distributed.is_initialized():
        return Share()
    return Share(distributed.get_rank(), distributed.get_world_size())


def launch(processes: int, threads: int, log: str | None, function: Callable, job: dict) -> None:
    """Call `function(**job)` in each of `processes` processes, which divide `threads` among them.

    `function` is importable, what it needs is in `job` (plain values, with "device": "cpu" or "cuda"), and
    its first process writes what it makes. Each has a GPU of its own on "cuda". Raises InputError as
    `function` does, and if there are fewer GPUs than processes.
    """
    if processes == 1:
        torch.set_num_threads(threads)
        function(**job)
        return
    if job["device"] == "cuda" and torch.cuda.device_count() < processes:
        seen = torch.cuda.device_count()
        raise InputError(f"config key 'prior.processes' is {processes}, but PyTorch sees {seen} GPUs here")
    # slow to import, and of no use to a single process
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # all on this machine: nothing of a run goes over the network
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, start_method="spawn", max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", monitor_interval=0.5,
    )  # fmt: skip
    refusals = elastic_launch(config, _process)(max(1, threads // processes), log, function, job)
    for refusal in filter(None, refusals.values()):
        raise InputError(refusal)


def _process(threads: int, log: str | None, function: Callable, job: dict) -> str:
    """One process's life; returns the message of an InputError, or nothing."""
    torch.set_num_threads(threads)
    cuda = job["device"] == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        if share().first:
            script.start_logging(log, mode="a")
        function(**job)
    except InputError as error:
        return str(error)
    finally:
        distributed.destroy_process_group()
    return ""
