"""First filters and heatmaps of a trained network, as arrays to draw."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.data.store import CropStore, center_input
from pipeline.models.codecs import Heatmap
from pipeline.models.device import to_images


def first_filters(network: nn.Module) -> np.ndarray | None:
    """Return the weights (F, C, h, w) float32 of the first convolution; None where a network has none."""
    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    return None if first is None else first.weight.detach().float().cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Heatmaps:
    """Heatmaps of n faces.

    Attributes:
        rows: the faces, as rows of the crop store.
        maps: (n, K, H, W), not negative; points: (n, K, 2) decoded, in input pixels.
        extent: see `cell_extent`.
    """

    rows: np.ndarray
    maps: np.ndarray
    points: np.ndarray
    extent: tuple[float, float]


@torch.inference_mode()
def compute_heatmaps(network: nn.Module, codec: Heatmap, store: CropStore, rows: np.ndarray) -> Heatmaps:
    """Run the network on the un-augmented inputs of some faces: maps as `codec.normalize` returns them."""
    output = network.eval()(to_images(center_input(store.crops[rows], store.size))).float()
    return Heatmaps(rows=rows, maps=codec.normalize(output).numpy(), points=codec.decode(output).numpy(),
                    extent=cell_extent(codec))


def cell_extent(codec: Heatmap) -> tuple[float, float]:
    """Return where the cells start and end on either axis, in input pixels: outer edges, not centres."""
    start = -codec.pad * codec.stride - 0.5
    return start, start + codec.cells * codec.stride
