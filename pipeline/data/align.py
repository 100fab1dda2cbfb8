"""Aligned crops, upright and of one size, placed by the points of a locator: the second stage of a two-stage cascade.

Legend: N faces, K points.
"""

from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError
from pipeline.common.files import read_arrays, write_arrays
from pipeline.data.annotations import Annotations
from pipeline.data.crops import NO_OFFSET, CropGeometry, LabelOffset, write_store
from pipeline.keypoints.geometry import SMALLEST, transform
from pipeline.keypoints.geometry import mean_face as mean_shape

REFERENCE = "face.npz"


def mean_face(keypoints: np.ndarray, flip_indices: np.ndarray) -> np.ndarray:
    """Average the shapes of the faces that have all their points, and of their mirror images, so that it is upright.

    See `geometry.mean_face`; a UserError says where no face with at least two points apart has them all.
    """
    complete = keypoints[np.isfinite(keypoints).all((1, 2))]
    shape = mean_shape(complete, flip_indices) if len(complete) else np.zeros(keypoints.shape[1:])
    if not shape.any():
        raise UserError("align: no train face has all its points, and two of them apart; set align.locator and "
                        "align.models to []")
    return shape


def align_affine(points: np.ndarray, reference: np.ndarray, geometry: CropGeometry) -> np.ndarray:
    """Compute the affine image → input that lays each face on the reference: a rotation, a scale and a shift.

    The rotation is that of the least squares fit (Umeyama, PAMI 1991); the scale makes the points as large as those of
    the reference.

    Args:
        points: (N, K, 2) image pixels.
        reference: (K, 2), see `mean_face`; the box around it comes to lie in the middle of the crop.
        geometry: its `size`, and its `margin` in longer sides of the box around the reference.

    Returns:
        (N, 2, 3) float64.
    """
    points = np.asarray(points, np.float64)
    centre = points.mean(1)
    low, high = reference.min(0), reference.max(0)
    complex_points = (points - centre[:, None]) @ [1, 1j]
    fit = (complex_points.conj() * (reference @ [1, 1j])).sum(1)
    spread = np.maximum(np.sqrt(np.square(np.abs(complex_points)).mean(1)), SMALLEST)
    scale = geometry.size / (geometry.margin * (high - low).max())  # of the reference
    turn = scale / spread * np.exp(1j * np.angle(fit))
    linear = np.stack([turn.real, -turn.imag, turn.imag, turn.real], axis=-1).reshape(-1, 2, 2)
    middle = (geometry.size - 1) / 2 - (low + high) / 2 * scale
    shift = middle - np.einsum("nij,nj->ni", linear, centre)
    return np.concatenate([linear, shift[..., None]], axis=-1)


def save_reference(folder: Path, reference: np.ndarray) -> None:
    """Write what `mean_face` made into the folder of the aligned crops."""
    write_arrays(folder / REFERENCE, reference=reference)


def load_reference(folder: Path) -> np.ndarray:
    """Read what `save_reference` wrote; a UserError names the file where it is missing or broken."""
    return read_arrays(folder / REFERENCE, ["reference"], "run the align stage (`dvc repro align`) first")["reference"]


def write_aligned(
    annotations: Annotations, root: Path, folder: Path, points: np.ndarray, reference: np.ndarray,
    geometry: CropGeometry, labels: LabelOffset = NO_OFFSET,
) -> None:
    """Cut every face by points (N, K, 2) that are known of it: see `align_affine` and `crops.write_store`.

    The points are offset like the labels.

    Raises:
        UserError: these are not points of these faces.
    """
    if len(points) != len(annotations):
        raise UserError(f"{folder}: {len(annotations)} faces, but points of {len(points)}; run the crop, split, train "
                        "and predict stages again")
    points = transform(labels.affines(annotations.faces.image), points)
    write_store(annotations, root, folder, align_affine(points, reference, geometry), geometry, labels)
