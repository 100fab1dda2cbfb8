from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipeline.data.crops import store_size
from pipeline.data.store import center_input
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import SKELETONS
from pipeline.training.augment import build
from pipeline.training.settings import Augmentation

FLIP_INDICES = SKELETONS["ibug68"].flip
STRONG = Augmentation(backend="auto", rotate=40.0, scale=0.3, shift=0.1, flip=0.5, brightness=0.3, contrast=0.3,
                      blur=0.5, noise=0.5, dropout=0.5)
NONE = Augmentation(backend="auto", rotate=0.0, scale=0.0, shift=0.0, flip=0.0, brightness=0.0, contrast=0.0, blur=0.0,
                    noise=0.0, dropout=0.0)
coordinate = st.floats(-300, 300)
# inside, over the edge, negative, non-square and tiny boxes
boxes = st.tuples(coordinate, coordinate, st.floats(2, 400), st.floats(2, 400))


@settings(deadline=None, max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking took 5 GB
@given(boxes, st.integers(0, 2**31 - 1))
def test_points_image_to_augmented_input_and_back_are_the_same(box, seed):
    """Three more points measure the drawn affine, whose inverse then brings the 68 back within 1e-3 px."""
    size, corners = 64, np.array([[0.0, 0.0], [63.0, 0.0], [0.0, 63.0]])
    side = store_size(size, 1.4)
    affine = geometry.crop_affine(np.array([box]), size=size, margin=1.4, shift_y=0.1)[0]
    affine = geometry.compose(geometry.translation((side - size) / 2, (side - size) / 2), affine)
    places = np.random.default_rng(seed).uniform(-1, 1, (68, 2))
    points_image = np.array([box[0], box[1]]) + places * max(box[2:])
    transform = build(size, [*FLIP_INDICES, 68, 69, 70], STRONG)
    transform.set_random_seed(seed)
    points = np.concatenate([geometry.transform(affine, points_image), corners]).astype(np.float32)
    drawn = transform(image=np.zeros((side, side), np.uint8), keypoints=points)["keypoints"].astype(np.float64)
    assert drawn.shape == (71, 2)
    linear = np.linalg.solve(np.c_[corners, np.ones(3)], drawn[68:]).T  # 2 3
    names = FLIP_INDICES if np.linalg.det(linear[:, :2]) < 0 else np.arange(68)  # swapped by mirroring
    back = geometry.transform(geometry.invert(geometry.compose(linear, affine)), drawn[:68])[names]
    assert np.abs(back - points_image).max() < 1e-3


def test_points_augmented_stay_on_their_image_content():
    """A blob drawn at a point is found at the augmented point."""
    side, size = 90, 64
    y, x = np.mgrid[:side, :side]
    for seed in range(20):
        point = np.random.default_rng(seed).uniform(30, 60, 2)
        blob = (255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 18)).astype(np.uint8)
        transform = build(size, [0], replace(NONE, rotate=30.0, scale=0.2, shift=0.05, flip=0.5))
        transform.set_random_seed(seed)
        drawn = transform(image=blob, keypoints=point[None].astype(np.float32))
        image, (found,) = drawn["image"].astype(float), drawn["keypoints"]
        gy, gx = np.mgrid[:size, :size]
        centre = np.array([(image * gx).sum(), (image * gy).sum()]) / image.sum()
        assert np.abs(centre - found).max() < 0.1


def test_augmentation_all_zero_gives_the_centre_of_the_crop():
    crop = np.random.default_rng(0).integers(0, 255, (46, 46), np.uint8)
    points = np.random.default_rng(0).uniform(-5, 50, (68, 2)).astype(np.float32)
    drawn = build(32, FLIP_INDICES, NONE)(image=crop, keypoints=points)
    np.testing.assert_array_equal(drawn["image"], center_input(crop[None], 32)[0])
    np.testing.assert_allclose(drawn["keypoints"], points - 7, atol=1e-5)


def test_flip_with_missing_points_swaps_names_and_keeps_them_missing():
    points = np.random.default_rng(0).uniform(0, 32, (68, 2)).astype(np.float32)
    points[36] = np.nan
    points[0] = [-20, 90]  # outside the image, and kept
    transform = build(32, FLIP_INDICES, replace(NONE, flip=1.0))
    drawn = transform(image=np.zeros((32, 32), np.uint8), keypoints=points)
    np.testing.assert_allclose(drawn["keypoints"], geometry.flip_points(points, 32, FLIP_INDICES), atol=1e-5)
    assert np.isnan(drawn["keypoints"]).any(1).nonzero()[0].tolist() == [45]


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_same_seed_gives_the_same_image(channels):
    crop = np.random.default_rng(0).integers(0, 255, (46, 46, 3)[: 1 + channels], np.uint8)
    transform = build(32, FLIP_INDICES, STRONG)
    points = np.full((68, 2), 20, np.float32)

    def draw(seed):
        transform.set_random_seed(seed)
        return transform(image=crop, keypoints=points)["image"]

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()
