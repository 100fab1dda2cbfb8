"""What a trained network holds and sees, as arrays to draw: its first filters, its heatmaps."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pipeline.data.store import CropStore, center_input
from pipeline.models.codecs import Heatmap
from pipeline.models.device import to_images


def first_filters(network: nn.Module) -> np.ndarray | None:
    """(F, C, h, w) float32 weights of the first convolution; None where a network has none."""
    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    return None if first is None else first.weight.detach().float().cpu().numpy()


@torch.inference_mode()
def heatmaps(
    network: nn.Module, codec: Heatmap, store: CropStore, rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (n, K, H, W) and decoded points (n, K, 2), in view pixels, of the un-augmented views of some faces.

    The heatmaps are probabilities where the codec learns a distribution (softmax over the cells), else heights, of
    which what is below 0 is cut off.
    """
    output = network.eval()(to_images(center_input(store.crops[np.asarray(rows)], store.size))).float()
    return codec.normalize(output).numpy(), codec.decode(output).numpy()


def cell_extent(codec: Heatmap) -> tuple[float, float]:
    """Where the cells start and end on either axis, in view pixels: outer edges, not centres."""
    start = -codec.pad * codec.stride - 0.5
    return start, start + codec.cells * codec.stride
