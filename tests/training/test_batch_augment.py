"""Whole batches by torch against face by face by albumentations: the same draw moves pictures and points alike."""

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from pipeline.keypoints.skeleton import SKELETONS
from pipeline.training.augment import build
from pipeline.training.batch_augment import BatchAugment

FLIP_INDICES = SKELETONS["ibug68"].flip
STRONG = {"rotate": 40.0, "scale": 0.3, "shift": 0.1, "flip": 0.5, "brightness": 0.3, "contrast": 0.3, "blur": 0.5,
          "noise": 0.5, "dropout": 0.5}
NONE = dict.fromkeys(STRONG, 0.0)
SIZE, STORED = 64, 90


@pytest.fixture
def picture():
    """A smooth random grey picture."""
    noise = np.random.default_rng(0).normal(size=(STORED, STORED))
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def by_torch(images, points, seed=0, **changes):
    augment = BatchAugment(size=SIZE, flip_indices=FLIP_INDICES, **NONE | changes)
    images = torch.from_numpy(np.ascontiguousarray(images))
    draw = augment.draw(np.random.default_rng(seed), len(images), images.shape[-1], images.shape[1])
    drawn, moved = augment.apply(images, torch.from_numpy(points).float(), draw)
    return drawn.numpy(), moved.numpy(), draw


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_draw_gives_what_albumentations_gives(picture, channels):
    points = np.random.default_rng(1).uniform(-20, STORED + 20, (40, 68, 2)).astype(np.float32)
    images = np.broadcast_to(picture, (40, channels, STORED, STORED))
    drawn, moved, draw = by_torch(images, points, rotate=40.0, scale=0.3, shift=0.1, flip=0.5)
    assert 0 < draw.mirror.sum() < 40
    for row in range(40):
        linear = draw.affine[row][:, :2]
        zoom, turn = np.sqrt(np.linalg.det(linear)), np.degrees(np.arctan2(linear[0, 1], linear[0, 0]))
        middle = np.full(2, (STORED - 1) / 2)
        x, y = draw.affine[row] @ [*middle, 1] - (SIZE - 1) / 2
        alone = A.Compose(
            [A.Affine(rotate=(turn, turn), scale=(zoom, zoom), p=1.0,
                      translate_px={"x": (round(x), round(x)), "y": (round(y), round(y))}),
             A.CenterCrop(SIZE, SIZE), A.HorizontalFlip(p=float(draw.mirror[row]))],
            keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
        )
        theirs = alone(image=images[row].transpose(1, 2, 0).squeeze(), keypoints=points[row])
        names = FLIP_INDICES if draw.mirror[row] else np.arange(68)
        assert np.abs(moved[row] - theirs["keypoints"][names]).max() < 1e-2
        image = np.atleast_3d(theirs["image"]).transpose(2, 0, 1).astype(int)
        assert np.abs(drawn[row] - image).mean() < 1 and np.quantile(np.abs(drawn[row] - image), 0.99) <= 3


def test_the_blur_is_theirs(picture):
    drawn, _, draw = by_torch(np.repeat(picture[None, None], 8, 0), np.zeros((8, 68, 2), np.float32), blur=1.0)
    border = (STORED - SIZE) // 2
    view = picture[border : border + SIZE, border : border + SIZE]
    for row in range(8):
        sigma = draw.sigma[row]
        theirs = A.GaussianBlur(sigma_limit=(sigma, sigma), blur_limit=0, p=1.0)(image=view)["image"]
        assert np.abs(drawn[row, 0].astype(int) - theirs).max() <= 1


def test_no_augmentation_is_the_view_bit_for_bit():
    images = np.random.default_rng(0).integers(0, 255, (5, 3, STORED, STORED), np.uint8)
    points = np.random.default_rng(0).uniform(-5, STORED, (5, 68, 2)).astype(np.float32)
    drawn, moved, _ = by_torch(images, points)
    np.testing.assert_array_equal(drawn, images[:, :, 13:77, 13:77])
    np.testing.assert_allclose(moved, points - 13, atol=1e-4)


def test_missing_points_stay_missing_and_change_names_with_the_flip():
    points = np.random.default_rng(0).uniform(0, STORED, (2, 68, 2)).astype(np.float32)
    points[0, 36] = np.nan
    _, moved, _ = by_torch(np.zeros((2, 1, STORED, STORED), np.uint8), points, flip=1.0)
    assert np.argwhere(np.isnan(moved).any(-1)).tolist() == [[0, 45]]


def statistics(images, points, view):
    """What each augmented face looks like, in a few numbers."""
    images, middle, arm = images.astype(float), points.mean(1), points[:, 45] - points[:, 36]
    return {
        "x": middle[:, 0], "y": middle[:, 1], "size": np.linalg.norm(arm, axis=-1),
        "turn": np.arctan2(arm[:, 1], np.abs(arm[:, 0])), "mirrored": (arm[:, 0] < 0) * 1.0,
        "brightness": images.mean((1, 2)), "contrast": images.std((1, 2)),
        "roughness": np.abs(np.diff(images, axis=1)).mean((1, 2)), "changed": (np.abs(images - view) > 30).mean((1, 2)),
    }


@pytest.mark.parametrize("effect", [
    {"rotate": 40.0}, {"scale": 0.3}, {"shift": 0.1}, {"flip": 0.3}, {"brightness": 0.3}, {"contrast": 0.3},
    {"blur": 0.5}, {"noise": 0.5}, {"dropout": 0.7}, STRONG,
], ids=lambda effect: next(iter(effect)) if len(effect) == 1 else "all")
def test_the_same_distribution(picture, effect):
    """800 draws of each: no statistic tells them apart (two-sample Kolmogorov–Smirnov)."""
    count, border = 800, (STORED - SIZE) // 2
    shape = np.random.default_rng(3).uniform(25, 65, (68, 2)).astype(np.float32)
    shape[36], shape[45] = (30, 40), (60, 42)
    noisy = cv2.add(picture // 2, np.random.default_rng(4).integers(0, 60, picture.shape, np.uint8))
    view = noisy[border : border + SIZE, border : border + SIZE]
    images, points, _ = by_torch(np.repeat(noisy[None, None], count, 0), np.repeat(shape[None], count, 0), **effect)
    transform = build(size=SIZE, flip_indices=FLIP_INDICES, **NONE | effect)
    transform.set_random_seed(0)
    theirs = [transform(image=noisy, keypoints=shape) for _ in range(count)]
    ours = statistics(images[:, 0], points, view)
    drawn, moved = (np.stack([one[name] for one in theirs]) for name in ("image", "keypoints"))
    theirs = statistics(drawn, moved, view)
    for name, values in ours.items():
        assert ks_2samp(values.round(3), theirs[name].round(3), method="asymp").pvalue > 0.002, name
