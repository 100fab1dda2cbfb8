"""Shape-dependent bias correction of predicted points by ridge regression.

Legend: N faces, K points. Points are (N, K, 2) image pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge

from pipeline.common.errors import UserError
from pipeline.common.files import read_arrays, write_arrays
from pipeline.keypoints.geometry import SMALLEST, flip_points, normalize_shape


@dataclass(frozen=True, kw_only=True)
class ShapeCorrection:
    """A linear map from the shape of the predicted points to their correction.

    A shape is the points without their mean, in units of their root mean square distance to it. The map is a ridge
    regression (Hoerl & Kennard, Technometrics 1970) of the error on the shape, fitted on each face and on its mirror
    image, so that it treats left and right alike.

    Attributes:
        weights: (2K, 2K), a row for each coordinate of the correction; offset: (2K,). In units of the shape.
    """

    weights: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, truth: np.ndarray, flip_indices: np.ndarray, ridge: float) -> "ShapeCorrection":
        """Fit on predictions by models that were not trained on these faces.

        Args:
            truth: the true points; a face that lacks one is left out, a UserError says that fewer than two are left.
            flip_indices: (K,) index of each point's counterpart in the mirror image.
            ridge: strength of the penalty on the weights, above 0.
        """
        points, truth = points.astype(np.float64), truth.astype(np.float64)
        usable = np.isfinite(truth).all((1, 2)) & (normalize_shape(points)[1] > SMALLEST)
        if usable.sum() < 2:
            raise UserError(f"ensemble.ridge learns from faces of several points that have them all, which are "
                            f"{usable.sum()} of {len(truth)}; set it to null")
        points, truth = (np.concatenate([part[usable], flip_points(part[usable], 1, flip_indices)])
                         for part in (points, truth))
        shape, size = normalize_shape(points)
        error = ((truth - points) / size[:, None, None]).reshape(shape.shape)
        fitted = Ridge(alpha=ridge, solver="cholesky").fit(shape, error)
        return cls(weights=fitted.coef_, offset=fitted.intercept_)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Add the correction to points (N, K, 2)."""
        shape, size = normalize_shape(points.astype(np.float64))
        weights = np.ascontiguousarray(self.weights.T)  # as `fit` leaves it; layout changes last digits
        return points + (shape @ weights + self.offset).reshape(points.shape) * size[:, None, None]

    def save(self, path: Path) -> None:
        """Write an npz file atomically."""
        write_arrays(path, weights=self.weights, offset=self.offset)

    @classmethod
    def load(cls, path: Path) -> "ShapeCorrection":
        """Read what `save` wrote; a UserError names the file where it is missing or broken."""
        return cls(**read_arrays(path, ["weights", "offset"], "run the ensemble stage again"))
