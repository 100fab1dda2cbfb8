"""What is looked up in a trained network is what it computes with."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.codecs import Gaussian, Heatmap
from pipeline.plots.heatmaps import cell_extent, compute_heatmaps, first_filters

POINTS = torch.tensor([[9.0, 21.0], [33.0, -2.0]])  # the second outside the view


class Drawn(nn.Module):
    """Heatmaps of the same points for every face: logits for a distribution, heights for a map."""

    def __init__(self, codec: Heatmap) -> None:
        super().__init__()
        self.codec = codec
        self.stem = nn.Conv2d(1, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.codec.encode(POINTS.expand(len(images), -1, -1))
        return maps.log().clamp(min=-80) if not isinstance(self.codec, Gaussian) else maps - 0.25


@pytest.mark.parametrize("codec", [Heatmap, Gaussian])
def test_compute_heatmaps_of_a_codec_are_what_it_encodes(store, codec):
    codec = codec(size=32, stride=4, sigma=1.0, padding=4.0, decoder="window")
    found = compute_heatmaps(Drawn(codec).train(), codec, store, [3, 1])
    maps, points = found.maps, found.points
    assert found.extent == cell_extent(codec)
    assert maps.shape == (2, 2, codec.cells, codec.cells) and points.shape == (2, 2, 2)
    np.testing.assert_allclose(points[1], POINTS, atol=0.6)
    wanted = codec.encode(POINTS[None])[0].numpy()
    if not isinstance(codec, Gaussian):
        np.testing.assert_allclose(maps.sum((2, 3)), 1, rtol=1e-5)
        np.testing.assert_allclose(maps[0], wanted, atol=1e-5)
    else:
        np.testing.assert_allclose(maps[0], np.maximum(wanted - 0.25, 0), atol=1e-6)


def test_cell_extent_with_padding_covers_it():
    codec = Heatmap(size=32, stride=4, sigma=1.0, padding=4.0, decoder="argmax")
    start, end = cell_extent(codec)
    assert (start, end) == (-12.5, 43.5)  # three cells of four pixels around the pixels −0.5 to 31.5
    centres = start + 4 * (np.arange(codec.cells) + 0.5)
    diagonal = torch.full((1, codec.cells, codec.cells, codec.cells), -9.0)
    cells = torch.arange(codec.cells)
    diagonal[0, cells, cells, cells] = 9.0
    np.testing.assert_allclose(codec.decode(diagonal)[0, :, 0], centres)


def test_first_filters_of_a_network_are_its_first_weights():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 7), nn.Conv2d(5, 2, 3))
    np.testing.assert_array_equal(first_filters(network), network[1].weight.detach())
    assert first_filters(nn.Linear(2, 2)) is None
