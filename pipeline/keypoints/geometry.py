"""Pixel convention, affine maps between image, crop and input, and shapes of faces.

The centre of the top-left pixel is (0, 0) and the order is (x, y). A box (left, top, width, height) covers whole
pixels, so its centre is left + (width − 1)/2. Affines are (…, 2, 3) float64: [x', y'] = A @ [x, y, 1].

Legend: N faces, K points.
"""

import numpy as np

SMALLEST = 1.0  # pixels: a face whose points lie nearer to each other has no shape


def crop_affine(boxes: np.ndarray, *, size: int, margin: float, shift_y: float = 0.0) -> np.ndarray:
    """Compute the affine image → crop of each box: the box made square, widened and moved down.

    Args:
        boxes: (N, 4) left, top, width, height in image pixels; width and height above 0.
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
    """Return the (2, 3) affine that moves points by x and y."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the (…, 2, 3) affine that does `first`, then `second`; leading axes broadcast."""
    linear = second[..., :2] @ first[..., :2]
    shift = second[..., :2] @ first[..., 2:] + second[..., 2:]
    return np.concatenate([linear, shift], axis=-1)


def invert(affine: np.ndarray) -> np.ndarray:
    """Invert each (…, 2, 3) affine."""
    linear = np.linalg.inv(affine[..., :2])
    return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def transform(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply affines (…, 2, 3) to points (…, K, 2); returns float64, NaN stays NaN."""
    points = np.asarray(points, np.float64)
    return points @ np.swapaxes(affine[..., :2], -1, -2) + np.swapaxes(affine[..., 2:], -1, -2)


def flip_points(points: np.ndarray, width: int, flip_indices: np.ndarray) -> np.ndarray:
    """Mirror points (…, K, 2) of an image of `width`, left and right names swapped."""
    return (points * [-1.0, 1.0] + [width - 1.0, 0.0])[..., flip_indices, :]


def normalize_shape(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split faces (N, K, 2) without missing points into shape and size.

    Returns:
        (N, 2K) shapes: the points around their mean, in units of their root mean square distance to it; zeros where
        all points coincide. (N,) that distance, in pixels.
    """
    centred = points - points.mean(1, keepdims=True)
    size = np.sqrt(np.square(centred).sum(-1).mean(-1))
    shapes = centred / np.maximum(size, np.finfo(np.float64).tiny)[:, None, None]
    return shapes.reshape(len(points), 2 * points.shape[1]), size


def mean_face(points: np.ndarray, flip_indices: np.ndarray | None = None) -> np.ndarray:
    """Average the shapes of the faces that have all points which any one face has.

    Args:
        points: (N, K, 2) image pixels, NaN where missing, N above 0.
        flip_indices: (K,) indices of the points in the mirror image; with them the mean face is symmetric.

    Returns:
        (K, 2) around (0, 0), in units of its root mean square distance to it; NaN for a point that no such face has;
        zeros where no face has two points apart.
    """
    present = np.isfinite(points).all(-1)
    common = present[present.sum(1).argmax()]
    faces = points[present[:, common].all(1)][:, common]
    shapes, size = normalize_shape(np.array(faces, np.float64, order="C"))
    shape = np.full(points.shape[1:], np.nan)
    shape[common] = shapes[size > SMALLEST].mean(0).reshape(-1, 2) if (size > SMALLEST).any() else 0
    if flip_indices is not None:
        shape = (shape + flip_points(shape, 1, flip_indices)) / 2
    radius = np.sqrt(np.square(shape[np.isfinite(shape).all(-1)]).sum(-1).mean())
    return shape / radius if radius > 0 else shape


def similarity(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Fit the rotation, scale and shift that lay each face on the reference with the least squared error.

    Umeyama, Least-Squares Estimation of Transformation Parameters Between Two Point Patterns (PAMI 1991).

    Args:
        points: (N, K, 2), NaN where missing.
        reference: (K, 2), NaN where missing.

    Returns:
        (N, 2, 3) float64; NaN for a face that has no two points apart which the reference has apart, too.
    """
    first, second = np.asarray(points, np.float64) @ [1, 1j], np.asarray(reference, np.float64) @ [1, 1j]
    present = np.isfinite(first) & np.isfinite(second)
    count = np.maximum(present.sum(1), 1)
    origin, target = (np.where(present, part, 0).sum(1) / count for part in (first, second))
    first, second = np.where(present, first - origin[:, None], 0), np.where(present, second - target[:, None], 0)
    spread, fit = np.square(np.abs(first)).sum(1), (first.conj() * second).sum(1)
    apart = (spread > count * SMALLEST**2) & (np.abs(fit) > 0)
    turn = np.where(apart, fit, np.nan) / np.where(apart, spread, 1)
    shift = target - turn * origin
    rows = [turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag]
    return np.stack(rows, axis=-1).reshape(-1, 2, 3)


def finite_mean(values: np.ndarray, axis: int | None = -1) -> np.ndarray:
    """Average what is finite; NaN where nothing is, without a warning."""
    finite = np.isfinite(values)
    count = finite.sum(axis)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0).sum(axis) / np.where(count, count, np.nan)
