"""Training-time augmentation of stored crops, by albumentations: the picture and its points together."""

import os
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from pipeline.training.batch_augment import HOLE, HOLES, NOISE, PHOTOMETRIC, SIGMA

Transform = A.Compose


class HorizontalFlipKeypoints(A.HorizontalFlip):
    """A horizontal flip after which left and right points have swapped their names."""

    def __init__(self, flip_indices: Sequence[int], p: float) -> None:
        super().__init__(p=p)
        self.flip_indices = list(flip_indices)

    def apply_to_keypoints(self, keypoints: np.ndarray, **params: object) -> np.ndarray:
        """(K, …) → (K, …)."""
        return super().apply_to_keypoints(keypoints, **params)[self.flip_indices]


def build(
    *, size: int, flip_indices: Sequence[int], rotate: float, scale: float, shift: float, flip: float,
    brightness: float, contrast: float, blur: float, noise: float, dropout: float,
) -> Transform:
    """The pipeline from a stored crop to the network's view of it.

    Args:
        size: side of the view in pixels.
        flip_indices: each point's partner in the mirror image.
        rotate: largest angle, in degrees, either way.
        scale: largest enlargement; 0.2 draws the factor between 1/1.2 and 1.2.
        shift: largest shift, in sides of the view.
        flip: probability of mirroring.
        brightness, contrast: largest change, as a share.
        blur, noise, dropout: probability of a Gaussian blur, of Gaussian noise, of blanked patches.
    """
    pixels = shift * size
    affine = A.Affine(
        rotate=(-rotate, rotate), scale=(1 / (1 + scale), 1 + scale), balanced_scale=True, keep_ratio=True,
        translate_px={"x": (-round(pixels), round(pixels)), "y": (-round(pixels), round(pixels))},
        interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0,
    )
    steps = [
        affine,
        A.CenterCrop(size, size),
        HorizontalFlipKeypoints(flip_indices, p=flip),
        A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=contrast, p=PHOTOMETRIC),
        A.GaussianBlur(sigma_limit=SIGMA, blur_limit=0, p=blur),
        A.GaussNoise(std_range=NOISE, p=noise),
        A.CoarseDropout(num_holes_range=(1, HOLES), hole_height_range=HOLE, hole_width_range=HOLE,
                        fill="random_uniform", p=dropout),
    ]
    return A.Compose(steps, keypoint_params=A.KeypointParams(format="xy", remove_invisible=False))
