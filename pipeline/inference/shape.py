"""What a blend gets wrong in the same way on all faces of one shape.

Legend: N faces, K points. Points are (N, K, 2) photo pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import solve

from pipeline.common.errors import UserError
from pipeline.common.files import read_arrays, write_arrays
from pipeline.common.pieces import pieces
from pipeline.keypoints.geometry import SMALLEST, flip_points
from pipeline.keypoints.geometry import normalize_shape as normalise


@dataclass(frozen=True, kw_only=True)
class ShapeCorrection:
    """A linear map from the shape of the predicted points to what is to be added to them.

    A shape is the points without their mean and in units of their root mean square distance to it. The map is a ridge
    regression (Hoerl & Kennard, Technometrics 1970) of the error on the shape. It is fitted on each face and on its
    mirror image, so that it treats left and right alike.

    Attributes:
        weights: (2K, 2K), a row for each coordinate of the correction; offset: (2K,). In units of the shape.
    """

    weights: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, truth: np.ndarray, flip_indices: np.ndarray, ridge: float) -> "ShapeCorrection":
        """Fit on predictions by models that were not trained on these faces.

        Args:
            truth: the points as they are; a face that lacks one is left out.
            flip_indices: (K,) each point's partner in the mirror image.
            ridge: strength of the penalty on the weights, above 0.

        Raises:
            UserError: fewer than two faces are left.
        """
        count, sums = 0, 0.0
        for piece in pieces(len(points)):
            found, real = points[piece].astype(np.float64), truth[piece].astype(np.float64)
            usable = np.isfinite(real).all((1, 2)) & (normalise(found)[1] > SMALLEST)
            count += usable.sum()
            found, real = (np.concatenate([part[usable], flip_points(part[usable], 1, flip_indices)])
                           for part in (found, real))
            shape, size = normalise(found)
            error = ((real - found) / size[:, None, None]).reshape(shape.shape)
            terms = np.hstack([np.ones((len(shape), 1)), shape, error])
            sums = sums + terms.T @ terms
        if count < 2:
            raise UserError(f"ensemble.ridge learns from faces of several points that have them all, which are "
                            f"{count} of {len(truth)}; set it to null")
        return cls(**_solve_ridge(sums, ridge))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """The points with what is to be added to them."""
        shape, size = normalise(points.astype(np.float64))
        return points + (shape @ self.weights.T + self.offset).reshape(points.shape) * size[:, None, None]

    def save(self, path: Path) -> None:
        """Write an npz file, whole or not at all."""
        write_arrays(path, weights=self.weights, offset=self.offset)

    @classmethod
    def load(cls, path: Path) -> "ShapeCorrection":
        """Read what `save` wrote; a UserError names the file where it is missing or broken."""
        return cls(**read_arrays(path, ["weights", "offset"], "run the ensemble stage again"))


def _solve_ridge(sums: np.ndarray, ridge: float) -> dict[str, np.ndarray]:
    """`weights` and `offset` of a ridge regression with an intercept, by its normal equations.

    Args:
        sums: (1 + 2D, 1 + 2D) ZᵀZ of the rows Z = [1, D inputs, D outputs].
    """
    count, total = sums[0, 0], sums[0, 1:]
    centred = sums[1:, 1:] - np.outer(total, total) / count
    inputs = len(total) // 2
    weights = solve(centred[:inputs, :inputs] + ridge * np.eye(inputs), centred[:inputs, inputs:], assume_a="pos").T
    mean = total / count
    return {"weights": weights, "offset": mean[inputs:] - weights @ mean[:inputs]}
