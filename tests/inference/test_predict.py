"""Test-time augmentation on made-up networks whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.common.errors import UserError
from pipeline.inference.predict import Predictor
from pipeline.inference.tta import TTA
from pipeline.keypoints import geometry
from pipeline.models.codecs import Regression
from pipeline.models.device import Runtime

RUNTIME = Runtime(device=torch.device("cpu"), dtype=torch.float32)
FLIP_INDICES = np.array([1, 0, 2])
CODEC = Regression(size=32)


class Brightest(nn.Module):
    """Finds the left ear at the brightest pixel, the right one at the darkest, the nose at the middle of the input."""

    stride = 1

    def forward(self, images):
        flat = images.float().flatten(1)
        found = [torch.stack([index % 32, index // 32], -1) for index in (flat.argmax(1), flat.argmin(1))]
        middle = torch.full_like(found[0], 0) + 15.5
        return CODEC.encode(torch.stack([*map(torch.Tensor.float, found), middle], 1))


class Constant(nn.Module):
    """The same input pixels for every image: a network with a bias to one side."""

    stride = 1

    def forward(self, images):
        return CODEC.encode(torch.tensor([[[10.0, 4.0], [20.0, 4.0], [16.0, 9.0]]]).expand(len(images), -1, -1))


def predict(network, store, rows=range(8), flip_indices=FLIP_INDICES, **tta):
    """Points and spread."""
    predictor = Predictor(network=network, codec=CODEC, flip_indices=flip_indices, runtime=RUNTIME,
                          tta=TTA(**{"batch_size": 5, "flip": False} | tta))
    found = predictor.predict(store, rows)
    return found.points, found.spread


def test_predict_returns_image_pixels(store):
    points, spread = predict(Constant(), store)
    points_input = geometry.transform(store.input_affines[:8], points)
    np.testing.assert_allclose(points_input, np.broadcast_to([[10, 4], [20, 4], [16, 9]], (8, 3, 2)), atol=1e-3)
    assert (spread == 0).all() and points.dtype == np.float32


def test_predict_no_faces_returns_empty_arrays(store):
    points, spread = predict(Constant(), store, [], flip=True)
    assert points.shape == (0, 3, 2) and spread.shape == (0, 3) and points.dtype == spread.dtype == np.float32


def test_predict_flip_averages_mirrored_points_with_names_swapped(store):
    """Mirrored, (20, 4) is the left ear's place: 31 − 20 = 11; the mean of 10 and 11 is 10.5, each half a pixel off."""
    points, spread = predict(Constant(), store, flip=True)
    points_input = geometry.transform(store.input_affines[:8], points)
    np.testing.assert_allclose(points_input[0], [[10.5, 4], [20.5, 4], [15.5, 9]], atol=1e-3)
    scale = store.input_affines[:8, 0, 0]
    np.testing.assert_allclose(spread, 0.5 / np.repeat(scale[:, None], 3, 1), rtol=1e-3)


def test_predict_flip_of_exact_network_changes_nothing(store):
    """Without names to swap, what is found in the picture is found at the same place in its mirror image."""
    plain, _ = predict(Brightest(), store, flip_indices=np.arange(3))
    both, spread = predict(Brightest(), store, flip_indices=np.arange(3), flip=True)
    unique = spread.max(1) < 1e-3  # faces whose brightest and darkest pixel is the only one
    assert unique.sum() >= 4
    np.testing.assert_allclose(both[unique], plain[unique], atol=1e-3)


class Coarse(Brightest):
    """With heatmap cells of four pixels."""

    stride = 4


def test_predict_shift_tta_averages_shifted_input(store):
    """A constant answer on the shifted input is as far from that on the centred one as the inputs are apart."""
    network = Constant()
    network.stride = 4
    points, spread = predict(network, store, shift_tta=True)
    points_input = geometry.transform(store.input_affines[:8], points)
    np.testing.assert_allclose(points_input[0], [[11, 5], [21, 5], [17, 10]], atol=1e-3)
    np.testing.assert_allclose(spread[0], 2**0.5 / store.input_affines[0, 0, 0], rtol=1e-3)


def test_predict_shift_tta_maps_points_back(store):
    """A white and a black spot of nine pixels, found at the same image pixels in both inputs."""
    crops, border = np.clip(store.crops, 5, 250), store.border
    crops[:, border + 9 : border + 12, border + 11 : border + 14] = 255
    crops[:, border + 19 : border + 22, border + 8 : border + 11] = 0
    points, spread = predict(Coarse(), replace(store, crops=crops), shift_tta=True)
    points_input = geometry.transform(store.input_affines[:8], points)
    np.testing.assert_allclose(points_input[:, :2] - [[11, 9], [8, 19]], 0, atol=1e-3)  # the first of the nine
    assert (spread[:, 2] > 0).all()  # the middle of the input moves with it


def test_predict_shift_tta_without_cells_changes_nothing(store):
    plain, halved = predict(Constant(), store), predict(Constant(), store, shift_tta=True)
    np.testing.assert_array_equal(plain[0], halved[0])


def test_predict_shift_tta_beyond_border_is_refused(store):
    network = Constant()
    network.stride = 2 * store.border + 2
    with pytest.raises(UserError, match=f"border of {store.border + 1} pixels, the crops have {store.border}"):
        predict(network, store, shift_tta=True)


def test_predict_other_batch_size_changes_nothing(store):
    np.testing.assert_array_equal(predict(Brightest(), store)[0], predict(Brightest(), store, batch_size=3)[0])
