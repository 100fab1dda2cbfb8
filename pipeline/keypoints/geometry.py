"""The pixel convention and the affine maps between photo, crop and network.

The centre of the top-left pixel is (0, 0) and the order is (x, y). A box (left, top, width, height) covers whole
pixels, so its centre is left + (width − 1)/2. Affines are (…, 2, 3) float64: [x', y'] = A @ [x, y, 1].

Legend: N faces, K points.
"""

import numpy as np


def crop_affine(boxes: np.ndarray, *, size: int, margin: float, shift_y: float = 0.0) -> np.ndarray:
    """The affine photo → crop of each box: the box made square, widened and moved down.

    Args:
        boxes: (N, 4) left, top, width, height in photo pixels; width and height above 0.
        size: side of the crop in pixels.
        margin: side of the square, in longer sides of the box.
        shift_y: how far the square's centre lies below the box's, in longer sides of the box.

    Returns:
        (N, 2, 3) float64.
    """
    boxes = np.asarray(boxes, np.float64)
    longer = boxes[:, 2:].max(axis=1)
    centre = boxes[:, :2] + (boxes[:, 2:] - 1) / 2 + np.stack([np.zeros_like(longer), shift_y * longer], axis=1)
    scale = size / (longer * margin)
    affine = np.zeros((len(boxes), 2, 3))
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = (size - 1) / 2 - scale[:, None] * centre
    return affine


def translation(x: float, y: float) -> np.ndarray:
    """(2, 3) affine that moves points by x and y."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(…, 2, 3) affine that does `first`, then `second`; leading axes broadcast."""
    linear = second[..., :2] @ first[..., :2]
    shift = second[..., :2] @ first[..., 2:] + second[..., 2:]
    return np.concatenate([linear, shift], axis=-1)


def invert(affine: np.ndarray) -> np.ndarray:
    """The inverse of each (…, 2, 3) affine."""
    linear = np.linalg.inv(affine[..., :2])
    return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def transform(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply affines (…, 2, 3) to points (…, K, 2); returns float64, NaN stays NaN."""
    points = np.asarray(points, np.float64)
    return points @ np.swapaxes(affine[..., :2], -1, -2) + np.swapaxes(affine[..., 2:], -1, -2)


def mean_known(values: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Average points (…, 2) over an axis (not the last), leaving out those with a NaN.

    Returns:
        mean (…, 2), 0 where no point is known, and the number of known points (…).
    """
    known = np.isfinite(values).all(-1)
    count = known.sum(axis)
    return np.where(known[..., None], values, 0).sum(axis) / np.maximum(count, 1)[..., None], count


def flip_points(points: np.ndarray, width: int, flip_indices: np.ndarray) -> np.ndarray:
    """Points (…, K, 2) in the mirror image of an image of `width`, left and right names swapped."""
    return (points * [-1.0, 1.0] + [width - 1.0, 0.0])[..., flip_indices, :]
