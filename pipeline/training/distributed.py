"""One training on several processes, one a GPU, as `torchrun` starts them: each does its share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.common.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """This process among all: `rank` of `world_size`. One process alone is rank 0 of 1, and nothing is exchanged."""

    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, faces: int) -> slice:
        """The part of a batch of `faces` that this process works on."""
        if faces < self.world_size:
            raise UserError(f"batch_size {faces} is less than the {self.world_size} processes; start fewer, or raise it")
        return slice(faces * self.rank // self.world_size, faces * (self.rank + 1) // self.world_size)

    def prepare(self, network: nn.Module) -> nn.Module:
        """On several GPUs, batch norm over the whole batch; on CPUs torch has none, and each share is its own."""
        on_gpu = next(network.parameters()).device.type == "cuda"
        return convert_sync_batchnorm(network) if self.world_size > 1 and on_gpu else network

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as each step calls it: its gradients become the mean over all processes."""
        return network if self.world_size == 1 else DistributedDataParallel(network)

    def weigh(self, loss: Tensor, mask: Tensor) -> Tensor:
        """A mean over this share's known points (mask (B, K) bool), scaled so that the mean over all processes is the
        mean over the known points of the whole batch."""
        if self.world_size == 1:
            return loss
        known = mask.sum().float()
        everywhere = known.clone()
        distributed.all_reduce(everywhere)
        return loss * (known * self.world_size / everywhere.clamp(min=1))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over all processes."""
        if self.world_size > 1:
            distributed.all_reduce(value)
        return value / self.world_size

    def from_first(self, value: dict) -> dict:
        """The first process's value."""
        box = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(box)
        return box[0]


SINGLE = Distributed()


@contextmanager
def init_distributed(device: torch.device) -> Iterator[Distributed]:
    """This process's place, as the environment that `torchrun` sets tells it; NCCL on GPUs, else Gloo."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield SINGLE
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(rank=distributed.get_rank(), world_size=world_size)
    finally:
        distributed.destroy_process_group()
