"""Point metrics: MAE, RMSE, NME, their spread over folds, the paired bootstrap, and the mean-shape baseline.

Legend: N faces, K points. Points and truth are (N, K, 2) in image pixels; a point whose truth is NaN is missing and
left out of every score. A score of nothing is NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.common.errors import UserError
from pipeline.keypoints.geometry import finite_mean


def mae(points: np.ndarray, truth: np.ndarray) -> float:
    """Compute the mean absolute error over x and y of every point, in image pixels: the contest's score."""
    errors = _present_errors(points, truth)
    return _mean(np.abs(errors, out=errors))


def rmse(points: np.ndarray, truth: np.ndarray) -> float:
    """Compute the root mean square error over x and y, in image pixels, as Kaggle's Facial Keypoints Detection."""
    errors = _present_errors(points, truth)
    return float(np.sqrt(_mean(np.square(errors, out=errors))))


def face_mae(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the `mae` (N,) of each face; NaN where all its points are missing."""
    errors = np.subtract(points, truth, dtype=np.float64)
    return _present_mean(np.abs(errors, out=errors).mean(-1), truth)


def point_errors(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the distance (N, K) of each point to the truth, in image pixels; NaN where missing."""
    errors = np.subtract(points, truth, dtype=np.float64)
    return np.sqrt(np.square(errors, out=errors).sum(-1))


def face_nme(points: np.ndarray, truth: np.ndarray, eyes: tuple[int, int] | None) -> np.ndarray:
    """Compute the mean distance (N,) of each face's points over its outer-eye distance, in percent.

    The normalised mean error of Sagonas et al., 300 Faces in-the-Wild Challenge (ICCV Workshops 2013).

    `eyes` are the two outer eye corners; NaN for a face where one of them is missing, and for all where it is None.
    """
    if eyes is None:
        return np.full(len(truth), np.nan)
    first, second = (truth[:, eye].astype(np.float64) for eye in eyes)
    distance = np.sqrt(np.square(second - first).sum(-1))
    return 100 * _present_mean(point_errors(points, truth), truth) / np.where(distance, distance, np.nan)


def nme(points: np.ndarray, truth: np.ndarray, eyes: tuple[int, int] | None) -> float:
    """Average `face_nme` over the faces that have one, in percent; NaN without eyes."""
    return _mean(face_nme(points, truth, eyes)[measurable(truth, eyes)])


def measurable(truth: np.ndarray, eyes: tuple[int, int] | None) -> np.ndarray:
    """Tell (N,) whether a face has both outer eye corners, and apart, which its NME needs."""
    if eyes is None:
        return np.zeros(len(truth), bool)
    first, second = truth[:, eyes[0]], truth[:, eyes[1]]
    return np.isfinite(first).all(-1) & np.isfinite(second).all(-1) & (first != second).any(-1)


def error_correlation(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> float:
    """Compute Pearson's correlation of two predictions' errors in x and y; NaN for fewer than two known points."""
    errors = np.stack([_present_errors(points, truth).ravel() for points in (first, second)])
    return float(np.corrcoef(errors)[0, 1]) if errors.shape[1] > 2 else float("nan")


def fold_summary(
    points: np.ndarray, truth: np.ndarray, fold: np.ndarray, folds: Sequence[int], eyes: tuple[int, int] | None
) -> dict:
    """Score OOF predictions: of all faces pooled, of each fold, and their mean and standard deviation over the folds.

    `fold` (N,) is that of each face. Returns `mae`, `mae_mean`, `mae_sd`, `mae_folds` (a list, in the order of `folds`)
    and the same for `nme` and `rmse`.
    """
    summary: dict = {}
    for name, score in (("mae", mae), ("nme", lambda p, t: nme(p, t, eyes)), ("rmse", rmse)):
        by_fold = [score(points[fold == one], truth[fold == one]) for one in folds]
        mean, deviation = mean_sd(by_fold)
        summary |= {name: score(points, truth), f"{name}_mean": mean, f"{name}_sd": deviation, f"{name}_folds": by_fold}
    return summary


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Compute mean and sample standard deviation (n − 1; NaN for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


class Difference(NamedTuple):
    """A difference of two mean errors with its 95% interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(
    errors_a: np.ndarray, errors_b: np.ndarray, group: np.ndarray, seed: int, n: int = 2000, *,
    weight: np.ndarray | None = None,
) -> Difference:
    """Compare the mean errors of a and b on the same faces by a paired bootstrap: how much larger is that of a?

    Whole groups are drawn with replacement, since the faces of a group are not independent (Efron & Tibshirani, An
    Introduction to the Bootstrap, 1993: percentile interval).

    Args:
        errors_a, errors_b: (N,) an error a face, NaN where it has none; such faces are left out.
        group: (N,) the group of each face.
        n: number of draws.
        weight: (N,) how much each face counts in the means, as its number of known points does in the MAE.

    Raises:
        UserError: no face has both errors.
    """
    weight = np.ones(len(group)) if weight is None else np.asarray(weight, np.float64)
    both = np.isfinite(errors_a) & np.isfinite(errors_b) & (weight > 0)
    if not both.any():
        raise UserError("no face has an error in both experiments; compare experiments on the same data")
    gap = (np.asarray(errors_a, np.float64) - np.asarray(errors_b, np.float64))[both]
    share, (_, member) = weight[both], np.unique(np.asarray(group)[both], return_inverse=True)
    sums, counts = np.bincount(member, share * gap), np.bincount(member, share)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(n, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(np.average(gap, weights=share)), float(low), float(high))


def mean_shape_points(keypoints_train: np.ndarray, boxes_train: np.ndarray, boxes_eval: np.ndarray) -> np.ndarray:
    """Predict without a network, as a baseline: the mean face, in coordinates of the box, put into each box.

    Keypoints (N, K, 2), NaN where missing, and boxes (N, 4), (M, 4) → (M, K, 2) float64, all in image pixels; a point
    missing everywhere is put in the middle.
    """
    boxes_train, boxes_eval = (np.asarray(boxes, np.float64)[:, None] for boxes in (boxes_train, boxes_eval))
    relative = keypoints_train - boxes_train[..., :2]
    relative /= boxes_train[..., 2:]
    mean = finite_mean(relative, axis=0)
    return boxes_eval[..., :2] + np.where(np.isnan(mean), 0.5, mean) * boxes_eval[..., 2:]


def mean_shape_oof(keypoints: np.ndarray, boxes: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Predict (N, K, 2) the mean shape of the *other* folds in the box of each face."""
    points = np.empty(keypoints.shape)
    for one in np.unique(fold):
        held_out = fold == one
        points[held_out] = mean_shape_points(keypoints[~held_out], boxes[~held_out], boxes[held_out])
    return points


def _present_errors(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Errors of x and y (n, 2) of the points that are present."""
    errors, present = np.subtract(points, truth, dtype=np.float64), np.isfinite(truth).all(-1)
    return errors if present.all() else errors[present]  # without a copy where that is possible


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _present_mean(errors: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) mean of errors (N, K) over the points that are present; NaN where none is."""
    present = np.isfinite(truth).all(-1)
    count = present.sum(-1)
    return np.where(present, errors, 0).sum(-1) / np.where(count, count, np.nan)
