"""Distributed data-parallel training, started by `torchrun`: each process takes its shard of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.common.errors import UserError
from pipeline.models.backbone import KeypointNetwork


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """Rank of this process and world size; a single process is rank 0 of 1 and exchanges nothing."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def shard(self, batch_size: int) -> slice:
        """Return this process's part of a batch; a UserError if there are fewer faces than processes."""
        if batch_size < self.world_size:
            raise UserError(f"batch_size {batch_size} is less than the {self.world_size} processes; start fewer, "
                            "or raise it")
        return slice(batch_size * self.rank // self.world_size, batch_size * (self.rank + 1) // self.world_size)

    def sync_batch_norm(self, network: KeypointNetwork) -> KeypointNetwork:
        """On several GPUs, take batch norm over the whole batch; torch cannot on CPUs, where it is over each shard."""
        on_gpu = next(network.parameters()).device.type == "cuda"
        return convert_sync_batchnorm(network) if self.world_size > 1 and on_gpu else network

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """Wrap the network so that its gradients become the mean over all processes."""
        return network if self.world_size == 1 else DistributedDataParallel(network)

    def scale_loss(self, loss: Tensor, mask: Tensor) -> Tensor:
        """Scale a mean over this shard's known points (mask (B, K) bool): its mean over processes is the batch's."""
        if self.world_size == 1:
            return loss
        known = mask.sum().float()
        total = known.clone()
        distributed.all_reduce(total)
        return loss * (known * self.world_size / total.clamp(min=1))

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """Average a scalar over all processes."""
        if self.world_size > 1:
            distributed.all_reduce(value)
        return value / self.world_size

    def broadcast(self, value: dict) -> dict:
        """Return rank 0's value on every rank."""
        values = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(values)
        return values[0]


SINGLE = Distributed()


@contextmanager
def init_distributed(device: torch.device) -> Iterator[Distributed]:
    """Join the process group that `torchrun`'s environment describes; NCCL on GPUs, else Gloo."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield SINGLE
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(rank=distributed.get_rank(), world_size=world_size)
    finally:
        distributed.destroy_process_group()
