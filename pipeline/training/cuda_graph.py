"""Training steps as one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.training.loader import Batch

WARM_UP = 3  # steps before the capture, in which cuDNN chooses its kernels and the optimizer makes its state


class GraphedStep:
    """A training step that is launched at once: kernel by kernel, a small batch takes longer to launch than to compute.

    The first steps run as they are; then one is captured, which computes nothing, and replayed from there on. All
    batches must have the shape of the first, and `step` must not wait for the GPU or read numbers that change.
    """

    def __init__(self, step: Callable[[Batch], Tensor]) -> None:
        self.step, self.warm_up, self.stream = step, WARM_UP, torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Do one step and return its loss, a scalar."""
        if self.warm_up:
            self.warm_up -= 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss = self.step(batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return loss
        if self.graph is None:
            images, points, masks = (part.cuda(non_blocking=True).clone() for part in batch)
            self.batch = images, points, masks
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.loss = self.step(self.batch)
        for captured, part in zip(self.batch, batch, strict=True):
            captured.copy_(part, non_blocking=True)
        self.graph.replay()
        return self.loss.clone()
