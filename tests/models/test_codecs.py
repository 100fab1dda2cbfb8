import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.models.codecs import Gaussian, Heatmap, Regression, Sigmoid, SimCC

SIZE = 64
pixel = st.floats(-8, SIZE - 1 + 8, width=32)  # the input and the padding of 8 px around it


def heatmaps(cls, sigma, stride=4, decoder="window"):
    return cls(size=SIZE, stride=stride, sigma=sigma, padding=8.0, decoder=decoder)


def round_trip(codec, points):
    target = codec.encode(points)
    inverse = {"cross_entropy": torch.log, "axis_cross_entropy": torch.log, "binary_cross_entropy": torch.logit}
    return codec.decode(inverse.get(codec.losses[0], torch.clone)(target))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(pixel, pixel), min_size=1, max_size=5))
def test_regression_round_trip_is_exact(places):
    points = torch.tensor(places)[None]
    assert (round_trip(Regression(size=SIZE), points) - points).abs().max() < 1e-4


# Bounds in pixels: inside the Gaussian's tail beyond the window, at the edge the part of it beyond the bins.
@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(pixel, pixel), min_size=1, max_size=5))
def test_simcc_round_trip_is_within_sub_pixel_bounds(places):
    codec = SimCC(size=SIZE, bins=2, sigma=1.5, padding=8.0)
    points = torch.tensor(places)[None]
    error = (round_trip(codec, points) - points).abs()
    deep = (points >= -8 + 5.25) & (points <= SIZE - 1 + 8 - 5.25)
    assert codec.point_shape == (2, 160)
    assert (error < torch.where(deep, 0.01, 1.25)).all()


def test_simcc_single_bin_is_its_documented_centre():
    codec = SimCC(size=64, bins=2, sigma=0.1, padding=4.0)
    output = torch.full((1, 1, 2, 144), -100.0)
    output[0, 0, 0, 8] = output[0, 0, 1, 143] = 100.0  # the first bin of the input, the last of the padding
    torch.testing.assert_close(codec.decode(output), torch.tensor([[[-0.25, 67.25]]]))


# Bounds in pixels. Inside, the error is the Gaussian's tail beyond the window; in the padding, beyond the grid.
@pytest.mark.parametrize("cls", [Heatmap, Gaussian, Sigmoid])
@pytest.mark.parametrize(
    ("stride", "sigma", "inside", "padding"), [(4, 1.0, 0.02, 0.25), (4, 1.5, 0.7, 1.6), (2, 1.0, 0.01, 0.13)]
)
def test_heatmap_round_trip_is_within_sub_pixel_bounds(cls, stride, sigma, inside, padding):
    codec = heatmaps(cls, sigma, stride)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(pixel, pixel), min_size=1, max_size=5))
    def check(places):
        points = torch.tensor(places)[None]
        error = (round_trip(codec, points) - points).abs().amax(-1)
        guard = 3.5 * sigma * stride - codec.pad * stride
        deep = ((points >= guard) & (points <= SIZE - 1 - guard)).all(-1)
        assert (error < torch.where(deep, inside, padding)).all()

    check()


@pytest.mark.parametrize("cls", [Heatmap, Gaussian, Sigmoid])
def test_argmax_round_trip_is_within_half_a_cell(cls):
    codec = heatmaps(cls, 1.0, decoder="argmax")
    points = torch.rand(3, 50, 2) * (SIZE - 1)
    assert (round_trip(codec, points) - points).abs().max() <= 2.0 + 1e-4


def test_decode_single_cell_gives_its_documented_centre():
    codec = Heatmap(size=64, stride=4, sigma=0.3, padding=4.0, decoder="argmax")
    assert (codec.pad, codec.cells) == (3, 22)
    heatmap = torch.zeros(1, 1, 22, 22)
    heatmap[0, 0, 3, 5] = 1  # row 3 is the input's first, column 5 its third
    torch.testing.assert_close(codec.decode(heatmap), torch.tensor([[[9.5, 1.5]]]))


@pytest.mark.parametrize("far", [False, True])
def test_window_reaches_an_eighth_of_the_input(far):
    heatmap = Heatmap(size=SIZE, stride=2, sigma=0.5, padding=0.0, decoder="window")
    simcc = SimCC(size=SIZE, bins=2, sigma=0.5, padding=0.0)
    output = torch.full((1, 1, heatmap.cells, heatmap.cells), -100.0)
    output[0, 0, 10, 20], output[0, 0, 10, 20 + 4 + far] = 1.0, 0.999  # 8 px to the right is 4 cells, 16 bins
    moved = heatmap.decode(output)[0, 0] - heatmap._to_pixels(torch.tensor([20.0, 10.0]))
    torch.testing.assert_close(moved, torch.tensor([0.0 if far else 8 / (1 + math.exp(0.001)), 0.0]))
    output = torch.full((1, 1, 2, 128), -100.0)
    output[..., 50], output[..., 50 + 16 + far] = 1.0, 0.999
    torch.testing.assert_close(simcc.decode(output)[0, 0, 0].item(), 24.75 + moved[0].item(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("cls", [Gaussian, Sigmoid])
def test_window_of_heights_is_the_gaussians_own(cls):
    codec = heatmaps(cls, 1.0, 1)
    output = torch.full((1, 1, codec.cells, codec.cells), -100.0)
    output[0, 0, 30, 20] = output[0, 0, 30, 20 + 5] = 1.0  # 3.5 sigma are 4 cells
    torch.testing.assert_close(codec.decode(output), codec._to_pixels(torch.tensor([[[20.0, 30.0]]])))


def test_heatmap_target_of_a_far_point_sums_to_one():
    target = heatmaps(Heatmap, 1.0).encode(torch.tensor([[[10.0, 20.0], [-400.0, 900.0]]]))
    torch.testing.assert_close(target.sum((-1, -2)), torch.ones(1, 2))
    assert target.isfinite().all()


def test_heatmap_normalized_is_what_the_target_is_made_of():
    codec = heatmaps(Heatmap, 1.0)
    target = codec.encode(torch.tensor([[[10.0, 20.0], [3.0, 5.0]]]))
    torch.testing.assert_close(codec.normalize(target.log() + 7), target)


def test_heatmap_size_no_multiple_of_stride_is_an_error():
    with pytest.raises(UserError, match=r"crop.size 30 is not a multiple of 4"):
        Heatmap(size=30, stride=4, sigma=1.0, padding=0.0, decoder="window")
