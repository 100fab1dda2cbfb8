"""Batch augmentation by torch against albumentations."""

from dataclasses import asdict, replace

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from pipeline.keypoints.skeleton import SKELETONS
from pipeline.training.augment import build
from pipeline.training.batch_augment import BatchAugment
from pipeline.training.settings import Augmentation

FLIP_INDICES = SKELETONS["ibug68"].flip
STRONG = Augmentation(backend="auto", rotate=40.0, scale=0.3, shift=0.1, flip=0.5, brightness=0.3, contrast=0.3,
                      blur=0.5, noise=0.5, dropout=0.5)
NONE = Augmentation(backend="auto", rotate=0.0, scale=0.0, shift=0.0, flip=0.0, brightness=0.0, contrast=0.0, blur=0.0,
                    noise=0.0, dropout=0.0)
SIZE, STORED = 64, 90


@pytest.fixture
def image():
    """A smooth random grey image."""
    noise = np.random.default_rng(0).normal(size=(STORED, STORED))
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def by_torch(images, points, seed=0, **changes):
    augment = BatchAugment(SIZE, FLIP_INDICES, replace(NONE, **changes))
    images = torch.from_numpy(np.ascontiguousarray(images))
    draw = augment.draw(np.random.default_rng(seed), len(images), images.shape[-1], images.shape[1])
    drawn, moved = augment.apply(images, torch.from_numpy(points).float(), draw)
    return drawn.numpy(), moved.numpy(), draw


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_augment_same_affine_matches_albumentations(image, channels):
    points = np.random.default_rng(1).uniform(-20, STORED + 20, (40, 68, 2)).astype(np.float32)
    images = np.broadcast_to(image, (40, channels, STORED, STORED))
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
        error = np.abs(drawn[row] - np.atleast_3d(theirs["image"]).transpose(2, 0, 1).astype(int))
        assert error.mean() < 1 and np.quantile(error, 0.99) <= 3


def test_blur_same_sigma_matches_albumentations(image):
    drawn, _, draw = by_torch(np.repeat(image[None, None], 8, 0), np.zeros((8, 68, 2), np.float32), blur=1.0)
    border = (STORED - SIZE) // 2
    center = image[border : border + SIZE, border : border + SIZE]
    for row in range(8):
        sigma = draw.sigma[row]
        theirs = A.GaussianBlur(sigma_limit=(sigma, sigma), blur_limit=0, p=1.0)(image=center)["image"]
        assert np.abs(drawn[row, 0].astype(int) - theirs).max() <= 1


def test_batch_augment_all_zero_gives_the_centre_of_the_crop():
    images = np.random.default_rng(0).integers(0, 255, (5, 3, STORED, STORED), np.uint8)
    points = np.random.default_rng(0).uniform(-5, STORED, (5, 68, 2)).astype(np.float32)
    drawn, moved, _ = by_torch(images, points)
    np.testing.assert_array_equal(drawn, images[:, :, 13:77, 13:77])
    np.testing.assert_allclose(moved, points - 13, atol=1e-4)


def test_batch_flip_with_missing_points_swaps_names_and_keeps_them_missing():
    points = np.random.default_rng(0).uniform(0, STORED, (2, 68, 2)).astype(np.float32)
    points[0, 36] = np.nan
    _, moved, _ = by_torch(np.zeros((2, 1, STORED, STORED), np.uint8), points, flip=1.0)
    assert np.argwhere(np.isnan(moved).any(-1)).tolist() == [[0, 45]]


def statistics(images, points, center):
    """Describe each augmented face by a few numbers."""
    images, middle, arm = images.astype(float), points.mean(1), points[:, 45] - points[:, 36]
    return {
        "x": middle[:, 0], "y": middle[:, 1], "size": np.linalg.norm(arm, axis=-1),
        "turn": np.arctan2(arm[:, 1], np.abs(arm[:, 0])), "mirrored": (arm[:, 0] < 0) * 1.0,
        "brightness": images.mean((1, 2)), "contrast": images.std((1, 2)),
        "roughness": np.abs(np.diff(images, axis=1)).mean((1, 2)),
        "changed": (np.abs(images - center) > 30).mean((1, 2)),
    }


@pytest.mark.parametrize("effect", [
    {"rotate": 40.0}, {"scale": 0.3}, {"shift": 0.1}, {"flip": 0.3}, {"brightness": 0.3}, {"contrast": 0.3},
    {"blur": 0.5}, {"noise": 0.5}, {"dropout": 0.7}, asdict(STRONG),
], ids=lambda effect: next(iter(effect)) if len(effect) == 1 else "all")
def test_batch_augment_800_draws_have_the_distribution_of_albumentations(image, effect):
    """No statistic tells them apart (two-sample Kolmogorov–Smirnov)."""
    count, border = 800, (STORED - SIZE) // 2
    shape = np.random.default_rng(3).uniform(25, 65, (68, 2)).astype(np.float32)
    shape[36], shape[45] = (30, 40), (60, 42)
    noisy = cv2.add(image // 2, np.random.default_rng(4).integers(0, 60, image.shape, np.uint8))
    center = noisy[border : border + SIZE, border : border + SIZE]
    images, points, _ = by_torch(np.repeat(noisy[None, None], count, 0), np.repeat(shape[None], count, 0), **effect)
    transform = build(SIZE, FLIP_INDICES, replace(NONE, **effect))
    transform.set_random_seed(0)
    theirs = [transform(image=noisy, keypoints=shape) for _ in range(count)]
    ours = statistics(images[:, 0], points, center)
    drawn, moved = (np.stack([one[name] for one in theirs]) for name in ("image", "keypoints"))
    theirs = statistics(drawn, moved, center)
    for name, values in ours.items():
        assert ks_2samp(values.round(3), theirs[name].round(3), method="asymp").pvalue > 0.002, name
