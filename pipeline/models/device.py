"""Device, precision and number of threads of a network."""

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from pipeline.common.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A device and how it is used. Tensors are channels last, which is as fast or faster on every device tried."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; float32 means no autocast
    threads: int = 0  # of the CPU, 0 for those that are free; their number changes the last digits of sums
    workers: int = 0  # processes that augment beside the training

    def place(self, network: AnyModule) -> AnyModule:
        """Move a network to the device, channels last."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def images(self, images: Tensor) -> Tensor:
        """Move uint8 images (B, C, H, W) to the device, channels last."""
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def forward(self, network: nn.Module, images: Tensor) -> Tensor:
        """Run `network` on uint8 images (B, C, H, W) from the host."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network(self.images(images))


def make_runtime(device: str, precision: str, threads: int = 0, workers: int = 0) -> Runtime:
    """Choose a device and precision; set torch's threads (0: `free_cores`, on a CPU) and, on a CPU, `keep_pages`.

    Args:
        device: "auto" (CUDA, then MPS, then CPU) or a torch device.
        precision: "float32", "bfloat16", "float16" or "auto": bfloat16 where the device has arithmetic for it.
        threads, workers: see `Runtime`.

    Raises:
        UserError: there is no such device.
    """
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    chosen = torch.device(device)
    if not {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(chosen.type, True):
        raise UserError(f"train.device {device!r}: torch finds no such device; use auto or cpu")
    if chosen.type == "cpu":
        keep_pages()
        if not threads:
            torch.set_num_threads(free_cores())
    if precision == "auto":
        precision = "bfloat16" if _has_bfloat16(chosen) else "float32"
    return Runtime(device=_local_device(chosen), dtype=getattr(torch, precision), threads=threads, workers=workers)


def make_deterministic() -> None:
    """Let torch take only algorithms that give the same bits each time: slower on a GPU, the same on a CPU.

    To be called before the GPU's first use. An operation that has no such algorithm raises a RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    torch.use_deterministic_algorithms(True)


def free_cores() -> int:
    """Count the cores that other processes leave free, from 1 to torch's threads: threads that share a core wait."""
    threads = torch.get_num_threads()
    if threads == 1:
        return 1
    busy = psutil.cpu_percent(interval=0.3) / 100
    return min(threads, max(1, round((os.cpu_count() or 1) * (1 - busy))))


def _local_device(device: torch.device) -> torch.device:
    """Choose this process's GPU where `torchrun` has started several; make a GPU with a number torch's current one."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def keep_pages() -> None:
    """Let glibc (mallopt(3)) keep the memory that this process frees: torch has no cache on a CPU; page faults cost."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # large blocks from the heap too
        mallopt(M_TRIM_THRESHOLD, -1)  # which never shrinks


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def to_images(crops: np.ndarray) -> Tensor:
    """(B, S, S[, C]) uint8 → (B, C, S, S) uint8."""
    crops = crops[..., None] if crops.ndim == 3 else crops
    return torch.from_numpy(np.array(crops.transpose(0, 3, 1, 2), order="C"))  # a copy, as a mapped file is read-only
