"""Conformal prediction intervals: radii around the predicted points that hold a stated share of the true ones.

Legend: N faces, K points. Radii, spreads and errors are distances in image pixels; the size of a face is the longer
side of its box.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from pipeline.common.errors import UserError, artefact
from pipeline.common.files import atomic_path, write_text
from pipeline.data.annotations import BOX
from pipeline.data.store import CropStore
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.geometry import finite_mean
from pipeline.keypoints.metrics import point_errors

BLOCK = 1024  # faces that are written at once, for the memory
FEW = 50  # faces of a source that get no factor of their own if they are fewer
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
    """

    base: np.ndarray
    slope: np.ndarray
    quantile: np.ndarray
    factor: Mapping[str, float]

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
                  if len(rows) >= FEW and np.isfinite(ratio[rows]).any()}
        return cls(base=base, slope=slope, quantile=quantile, factor=factor)

    def radii(self, predictions: Predictions, faces: pd.DataFrame) -> np.ndarray:
        """(N, K) radius of each predicted point; infinite for a point that too few faces had to fit it on."""
        radii = self.slope * predictions.spread
        radii += self.base * face_size(faces)[:, None]
        factor = faces.source.astype(str).map(dict(self.factor)).fillna(1.0).to_numpy(np.float64)
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


def cross_radii(
    predictions: Predictions, truth: np.ndarray, faces: pd.DataFrame, fold: np.ndarray, coverage: float
) -> np.ndarray:
    """(N, K) radii of out-of-fold predictions, those of each fold calibrated on the other folds."""
    radii = np.empty(predictions.spread.shape)
    for one in np.unique(fold):
        inside = fold == one
        fitted = Intervals.fit(predictions.rows(~inside), truth[~inside], faces[~inside], coverage)
        radii[inside] = fitted.radii(predictions.rows(inside), faces[inside])
    return radii


def measure_coverage(
    predictions: Predictions, store: CropStore, fold: np.ndarray, regions: Mapping[str, Sequence[int]], coverage: float
) -> dict:
    """Measure the share of the points that lie within their radius: of all, by region of the face and by source.

    Args:
        predictions: out of fold, of every face of the store, in its order; fold: (N,) of each face.

    Returns:
        `wanted`, `coverage`, `regions` and `sources` (name → share, None where there is no point), and `radius`, the
        mean in image pixels.
    """
    errors = point_errors(predictions.points, store.truth)
    radii = cross_radii(predictions, store.truth, store.faces, fold, coverage)
    source = store.faces.source.to_numpy()

    def share(rows: np.ndarray | slice, points: Sequence[int] | slice) -> float | None:
        found = errors[rows][:, points]
        known = np.isfinite(found)
        return float((found <= radii[rows][:, points])[known].mean()) if known.any() else None

    everything, finite = slice(None), radii[np.isfinite(radii)]
    return {
        "wanted": coverage,
        "coverage": share(everything, everything),
        "radius": float(finite.mean()) if finite.size else None,
        "regions": {name: share(everything, list(points)) for name, points in regions.items()},
        "sources": {str(name): share(source == name, everything) for name in np.unique(source)},
    }


def calibration(
    predictions: Predictions, store: CropStore, fold: np.ndarray, levels: Sequence[float]
) -> pd.DataFrame:
    """Measure, as `measure_coverage`, the share of points within and the mean radius, for each stated share."""
    errors = point_errors(predictions.points, store.truth)
    rows = []
    for level in levels:
        radii = cross_radii(predictions, store.truth, store.faces, fold, level)
        inside = (errors <= radii)[np.isfinite(errors)]
        rows.append({"stated": level, "within": inside.mean() if inside.size else np.nan,
                     "radius": float(finite_mean(radii, None))})
    return pd.DataFrame(rows)


def describe_coverage(found: dict) -> str:
    """Sum up what `measure_coverage` found in one line."""
    if found["coverage"] is None or found["radius"] is None:
        return "intervals: too few faces to fit them on"
    parts = [f"{what} {min(shares):.1%}–{max(shares):.1%}" for what in ("regions", "sources")
             if (shares := [share for share in found[what].values() if share is not None])]
    return (f"{found['wanted']:.0%} intervals hold {found['coverage']:.1%} of the out-of-fold points"
            f"{' (' + ', '.join(parts) + ')' if parts else ''}; mean radius {found['radius']:.2f} px")


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


def review_table(faces: pd.DataFrame, radius: np.ndarray, usual: np.ndarray) -> pd.DataFrame:
    """List the faces that a person should look at, the least certain first.

    They are those whose mean radius (N,), in sizes of the face (`of_size`), is larger than that of all but one in
    twenty train faces, whose own are `usual` (M,).
    """
    table = faces[["image", *BOX]].reset_index(drop=True).rename_axis("face").reset_index()
    table["radius"] = radius
    table["of_size"] = table.radius / face_size(faces)
    bound = np.nanquantile(usual, 0.95) if np.isfinite(usual).any() else np.inf
    return table[table.of_size > bound].sort_values("of_size", ascending=False)


def read_review(path: Path) -> pd.DataFrame:
    """Read the `review_table` that `write_intervals` wrote; a UserError says what is wrong with the file."""
    if not path.is_file():
        raise UserError(f"{path}: not found; run `dvc repro submit` (or `python -m stages.submit`) first")
    with artefact(path, "run the submit stage again"):
        table = pd.read_csv(path, dtype={"image": str})
        return table.astype({"face": np.int64} | dict.fromkeys([*BOX, "radius", "of_size"], np.float64))


def write_intervals(
    intervals: Path, review: Path, *, oof: Predictions, test: Predictions, train: CropStore, faces: pd.DataFrame,
    coverage: float,
) -> str:
    """Write both tables of the test faces, calibrated on all train faces, and sum up in a line what was written.

    Predictions are the ensemble's, in the order of the crop store; `faces` is its test part's table.
    """
    fitted = Intervals.fit(oof, train.truth, train.faces, coverage)
    usual, radii = finite_mean(fitted.radii(oof, train.faces)), fitted.radii(test, faces)
    with atomic_path(intervals) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.writelines(interval_lines(faces, test, radii))
    unsure = review_table(faces, finite_mean(radii), usual / face_size(train.faces))
    write_text(review, unsure.to_csv(index=False, float_format="%.3f"))
    return f"{intervals}: a radius for each point, to hold {coverage:.0%} of them; {review}: {len(unsure)} unsure faces"
