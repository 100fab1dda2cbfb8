"""Whether intervals hold what they promise, and the intervals of the test faces; for the legend see `Intervals`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError, artefact
from pipeline.common.files import atomic_path, write_text
from pipeline.data.annotations import BOX
from pipeline.data.store import CropStore
from pipeline.inference.intervals import Intervals, face_size, interval_lines
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.geometry import finite_mean
from pipeline.keypoints.metrics import point_errors


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
             if len(shares := [share for share in found[what].values() if share is not None]) > 1]
    return (f"{found['wanted']:.0%} intervals hold {found['coverage']:.1%} of the out-of-fold points"
            f"{' (' + ', '.join(parts) + ')' if parts else ''}; mean radius {found['radius']:.2f} px")


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
    return (f"{intervals}: a radius for each point, to hold {coverage:.0%} of them; {review}: {len(unsure)} test faces "
            "are less certain than 19 in 20 train faces")
