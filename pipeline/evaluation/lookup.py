"""Submission file of Kaggle's Facial Keypoints Detection, which asks for some points of each image by a lookup table.

`IdLookupTable.csv` has `RowId,ImageId,FeatureName,Location`; a submission has `RowId,Location` for each of its rows, in
its order. FeatureName is the name of a point and `_x` or `_y`; ImageId is that of `test.csv`. The contest scores the
root mean square error and says that Location runs from 0 to 96; points are not clipped to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.evaluation.submission import check_places, read_values, write_rows

COLUMNS = ["RowId", "ImageId", "FeatureName"]
HEADER = ["RowId", "Location"]
SHOWN = 5  # problems that are shown one by one


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """The R coordinates that a contest asks for: their RowId, and (R,) places among the N·2K of all `num_points` K."""

    ids: list[str]
    places: np.ndarray
    num_points: int


def read_lookup(path: Path, images: Sequence[str], names: Sequence[str]) -> Lookup:
    """Read a lookup table; a UserError has its first problems, with their lines.

    What follows the last slash of an image is its ImageId; `names` are FeatureNames without `_x` and `_y`.
    """
    faces = {image.rpartition("/")[2]: face for face, image in enumerate(images)}
    coordinates = {f"{name}_{axis}": 2 * point + (axis == "y") for point, name in enumerate(names) for axis in "xy"}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable; Kaggle's IdLookupTable.csv is expected ({error})") from None
    if absent := [name for name in COLUMNS if name not in table]:
        raise UserError(f"{path}:1: no column {', '.join(absent)}; Kaggle's IdLookupTable.csv is expected")
    if table.empty:
        raise UserError(f"{path}:1: has a header, but no rows")
    face, coordinate = table["ImageId"].map(faces), table["FeatureName"].map(coordinates)
    problems = [f"{path}:{row + 2}: ImageId {table['ImageId'][row][:40]!r} is not among the {len(faces)} test faces"
                for row in np.flatnonzero(face.isna())]
    problems += [f"{path}:{row + 2}: FeatureName {table['FeatureName'][row][:40]!r} is not a point of the skeleton "
                 "with _x or _y; its names are set by data.skeleton" for row in np.flatnonzero(coordinate.isna())]
    if problems:
        more = [f"{path}: {len(problems) - SHOWN} more like these"] * (len(problems) > SHOWN)
        raise UserError(*problems[:SHOWN], *more)
    places = (face * 2 * len(names) + coordinate).to_numpy(np.int64)
    return Lookup(ids=table["RowId"].tolist(), places=places, num_points=len(names))


def write(path: Path, points: np.ndarray, table: Lookup) -> None:
    """Write those coordinates of points (N, K, 2) that the table asks for, not clipped; see `write_rows`."""
    write_rows(path, HEADER, table.ids, points, table.places)


def check(path: Path, faces: pd.DataFrame, table: Lookup) -> str:
    """Prove that a file is a submission for this table and these faces; see `submission.check`."""
    values = read_values(path, HEADER, table.ids, f"the lookup table asks for {len(table.ids)}", finite=True)
    points = np.full((len(faces), table.num_points, 2), np.nan)
    points.ravel()[table.places] = values
    asked = np.isfinite(points).all(axis=2).any(axis=1)
    inside = check_places(path, points[asked], faces[asked])
    return (f"{path}: {values.size} rows of the lookup table in order, all finite; {inside} of {asked.sum()} faces "
            "have their points in their box, so these are image pixels")
