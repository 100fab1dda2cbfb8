"""Face-by-face augmentation of stored crops and their points, by albumentations."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from pipeline.training.batch_augment import HOLE, HOLES, NOISE, PHOTOMETRIC, SIGMA
from pipeline.training.settings import Augmentation


class HorizontalFlipKeypoints(A.HorizontalFlip):
    """Horizontal flip that swaps the names of left and right points."""

    def __init__(self, flip_indices: np.ndarray, p: float) -> None:
        super().__init__(p=p)
        self.flip_indices = flip_indices

    def apply_to_keypoints(self, keypoints: np.ndarray, **params: object) -> np.ndarray:
        """(K, …) → (K, …)."""
        return super().apply_to_keypoints(keypoints, **params)[self.flip_indices]


def build(size: int, flip_indices: np.ndarray, augmentation: Augmentation) -> A.Compose:
    """Build the transform from a stored crop to the network's input of side `size`; `flip_indices` are (K,)."""
    rotate, scale, shift = augmentation.rotate, augmentation.scale, round(augmentation.shift * size)
    steps = [
        A.Affine(rotate=(-rotate, rotate), scale=(1 / (1 + scale), 1 + scale), balanced_scale=True, keep_ratio=True,
                 translate_px={"x": (-shift, shift), "y": (-shift, shift)},
                 interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0),
        A.CenterCrop(size, size),
        HorizontalFlipKeypoints(flip_indices, p=augmentation.flip),
        A.RandomBrightnessContrast(augmentation.brightness, augmentation.contrast, p=PHOTOMETRIC),
        A.GaussianBlur(sigma_limit=SIGMA, blur_limit=0, p=augmentation.blur),
        A.GaussNoise(std_range=NOISE, p=augmentation.noise),
        A.CoarseDropout(num_holes_range=(1, HOLES), hole_height_range=HOLE, hole_width_range=HOLE,
                        fill="random_uniform", p=augmentation.dropout),
    ]
    return A.Compose(steps, keypoint_params=A.KeypointParams(format="xy", remove_invisible=False))
