"""Errors relative to the size of the face: cumulative curve, and by region, source, box size and pose.

Legend: N faces, K points. Errors are in percent of a size of the face, NaN where a point is missing.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from pipeline.inference.intervals import face_size
from pipeline.keypoints import geometry
from pipeline.keypoints.geometry import finite_mean
from pipeline.keypoints.metrics import measurable, point_errors
from pipeline.keypoints.skeleton import Skeleton

LIMIT = 8.0  # percent: a face with a larger mean error is a failure, as in the tables of the 300-W papers
TILTS = [0, 5, 15, 30, 180]  # degrees: edges of the classes
MANY = 20  # sources that are shown, the largest


def error_scale(truth: np.ndarray, faces: pd.DataFrame, eyes: tuple[int, int] | None) -> tuple[np.ndarray, str]:
    """Choose what errors are divided by: (N,) in image pixels, and its name.

    It is the outer-eye distance, as in the NME, if every face has one, else the longer side of the box.
    """
    labelled = np.isfinite(truth).all(-1).any(-1)
    if eyes is not None and measurable(truth, eyes)[labelled].all() and labelled.any():
        return np.linalg.norm(truth[:, eyes[1]].astype(np.float64) - truth[:, eyes[0]], axis=-1), "outer-eye distance"
    return face_size(faces), "longer side of the box"


def relative_errors(points: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute the distance (N, K) of each point to the truth, in percent of the scale (N,)."""
    return 100 * point_errors(points, truth) / scale[:, None]


def cumulative_scores(errors: np.ndarray, limit: float = LIMIT) -> tuple[float, float]:
    """Compute the area under the cumulative error curve up to `limit`, and the failure rate beyond it, both shares.

    Errors (N,) are those of faces. The area of a step function is exact: the mean of 1 − error/limit, not below 0.
    """
    known = errors[np.isfinite(errors)]
    if not known.size:
        return float("nan"), float("nan")
    return float(np.maximum(1 - known / limit, 0).mean()), float((known > limit).mean())


def break_down(
    errors: Mapping[str, np.ndarray], truth: np.ndarray, faces: pd.DataFrame, skeleton: Skeleton
) -> dict[str, pd.DataFrame]:
    """Average errors, model → (N, K), by region of the face, source, box size, turn and tilt of the head, and point.

    Returns title → a table: a row a class, with the number of `faces` (but for regions and points) and each model.
    """
    found = {"region": _by_points(errors, {name: list(points) for name, points in skeleton.regions.items()})}
    by_face = pd.DataFrame({model: finite_mean(own) for model, own in errors.items()})
    for title, classes in face_classes(truth, faces, skeleton).items():
        grouped = by_face.groupby(classes.to_numpy(), sort=False)
        table = grouped.mean()
        table.insert(0, "faces", grouped.size())
        order = classes.cat.categories if isinstance(classes.dtype, pd.CategoricalDtype) else table.index
        found[title] = table.reindex([one for one in order if one in table.index])
    found["point"] = _by_points(errors, {name: [point] for point, name in enumerate(skeleton.names)})
    return {title: table for title, table in found.items() if len(table) > 1}


def _by_points(errors: Mapping[str, np.ndarray], points: Mapping[str, list[int]]) -> pd.DataFrame:
    return pd.DataFrame({model: {name: float(finite_mean(own[:, chosen], None)) for name, chosen in points.items()}
                         for model, own in errors.items()}, index=list(points))


def face_classes(truth: np.ndarray, faces: pd.DataFrame, skeleton: Skeleton) -> dict[str, pd.Series]:
    """Sort faces into classes: by source, box size in thirds, turn in thirds and tilt; NaN for a face without one."""
    source = faces.source.astype(str)
    common = source.value_counts().index[:MANY]
    turn, tilt = head_pose(truth, skeleton)
    return {
        "source": source.where(source.isin(common)).reset_index(drop=True),
        "box size": _thirds(face_size(faces), "{:.0f}–{:.0f} px"),
        "turn of the head": _thirds(np.abs(turn), "{:.2f}–{:.2f}"),
        "tilt of the head": pd.Series(pd.cut(np.abs(tilt), TILTS, include_lowest=True, labels=[
            f"{low}–{high}°" for low, high in pairwise(TILTS)])),
    }


def head_pose(truth: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Measure by the true points how far each head (N,) is turned sideways, and its tilt in the image in degrees.

    The turn is how far the points on the middle line lie beside the middles of the left/right pairs once the face is
    upright, in units of the mean face's root mean square radius; NaN for a point set without such points.
    """
    reference = geometry.mean_face(truth, skeleton.flip)
    affine = geometry.similarity(truth, reference)
    x = geometry.transform(affine, truth)[..., 0]
    own = np.arange(skeleton.num_points)
    middle, left = own == skeleton.flip, own < skeleton.flip
    pairs = (x[:, left] + x[:, skeleton.flip[left]]) / 2
    return finite_mean(x[:, middle]) - finite_mean(pairs), np.degrees(np.arctan2(-affine[:, 1, 0], affine[:, 0, 0]))


def _thirds(values: np.ndarray, label: str) -> pd.Series:
    """Cut values (N,) into thirds, each named by its edges."""
    if np.unique(values[np.isfinite(values)]).size < 3:
        return pd.Series(pd.Categorical([None] * len(values)))
    codes, edges = pd.qcut(values, 3, labels=False, retbins=True, duplicates="drop")
    names = [label.format(low, high) for low, high in pairwise(edges)]
    return pd.Series(pd.Categorical.from_codes(np.nan_to_num(codes, nan=-1).astype(int), names, ordered=True))
