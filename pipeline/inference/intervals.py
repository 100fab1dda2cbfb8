"""Conformal prediction intervals: radii around the predicted points that hold a stated share of the true ones.

Legend: N faces, K points. Radii, spreads and errors are distances in image pixels; the size of a face is the longer
side of its box.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from pipeline.data.annotations import BOX
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.metrics import point_errors

BLOCK = 1024  # faces that are written at once, for the memory
FEW = 50  # faces of a source that get no factor of their own if they are fewer, or all there are
SMALLEST = 1e-6  # error that is to be expected at least, in sizes of the face


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Split conformal prediction intervals, scaled by the spread of the predictions.

    With locally scaled errors (Lei et al., Distribution-free predictive inference for regression, JASA 2018), point by
    point and then by source (Mondrian: Vovk, Lindsay, Nouretdinov & Gammerman, 2003): of all faces like the
    calibration faces, a share `coverage` has the point within `quantile` · `factor` times the expected error,
    `base` · size + `slope` · spread.

    Attributes:
        base, slope: (K,) neither negative, by least squares.
        quantile: (K,) of the errors in units of the expected one; infinite for a point that too few faces have.
        factor: source → how much larger its radii are; 1 for those with few faces.
        coverage: the share of the points that shall lie within.
    """

    base: np.ndarray
    slope: np.ndarray
    quantile: np.ndarray
    factor: Mapping[str, float]
    coverage: float

    @classmethod
    def fit(cls, predictions: Predictions, truth: np.ndarray, faces: pd.DataFrame, coverage: float) -> "Intervals":
        """Calibrate on predictions of N faces, with box and `source`, by models that were not trained on them."""
        size, num_points = face_size(faces), truth.shape[1]
        base, slope, quantile = np.ones(num_points), np.zeros(num_points), np.full(num_points, np.inf)
        ratio = np.empty(truth.shape[:2])  # of the error to the radius without a factor; NaN where missing
        for point in range(num_points):
            errors = point_errors(predictions.points[:, point], truth[:, point]) / size
            spread, known = predictions.spread[:, point].astype(np.float64) / size, np.isfinite(errors)
            found, seen = errors[known], spread[known]
            terms = nnls(np.stack([np.ones_like(seen), seen], axis=1), found)[0] if len(found) else np.array([1.0, 0.0])
            base[point], slope[point] = max(terms[0], SMALLEST), terms[1]
            expected = base[point] + slope[point] * spread
            quantile[point] = conformal_quantile(found / expected[known], coverage)
            ratio[:, point] = errors / (quantile[point] * expected) if np.isfinite(quantile[point]) else np.nan
        factor = {str(source): conformal_quantile(ratio[rows].ravel(), coverage)
                  for source, rows in faces.groupby("source").indices.items()
                  if FEW <= len(rows) < len(faces) and np.isfinite(ratio[rows]).any()}
        return cls(base=base, slope=slope, quantile=quantile, factor=factor, coverage=coverage)

    def radii(self, predictions: Predictions, faces: pd.DataFrame) -> np.ndarray:
        """(N, K) radius of each predicted point; infinite for a point that too few faces had to fit it on.

        `faces` have a box and may have a `source`, without which there is no factor.
        """
        radii = self.slope * predictions.spread
        radii += self.base * face_size(faces)[:, None]
        source = faces.get("source", pd.Series("", faces.index)).astype(str)
        factor = source.map(dict(self.factor)).fillna(1.0).to_numpy(np.float64)
        radii *= self.quantile * factor[:, None]
        return radii


def conformal_quantile(values: np.ndarray, coverage: float) -> float:
    """Sort n values without NaN; find the smallest that ⌈(n + 1) · coverage⌉ do not exceed, infinite if n is small."""
    values.sort()  # NaN last
    known = np.count_nonzero(~np.isnan(values))
    rank = math.ceil((known + 1) * coverage)
    return float(values[rank - 1]) if rank <= known else np.inf


def face_size(faces: pd.DataFrame) -> np.ndarray:
    """(N,) the longer side of each face's box, in image pixels."""
    return faces[BOX[2:]].to_numpy(np.float64).max(axis=1)


def interval_lines(faces: pd.DataFrame, predictions: Predictions, radii: np.ndarray) -> Iterator[str]:
    """Tabulate the points of N faces as CSV: `face`, `image`, `point`, `x`, `y` and `radius` in image pixels."""
    count = radii.shape[1]
    for start in range(0, max(len(faces), 1), BLOCK):
        block = slice(start, start + BLOCK)
        face, (x, y) = np.repeat(predictions.face[block], count), predictions.points[block].reshape(-1, 2).T
        yield pd.DataFrame({
            "face": face, "image": np.repeat(faces.image.to_numpy()[block], count),
            "point": np.arange(len(face)) % count, "x": x, "y": y, "radius": radii[block].ravel(),
        }).to_csv(index=False, header=not start, float_format="%.3f")
