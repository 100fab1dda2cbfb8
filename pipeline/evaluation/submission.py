"""Submission file in Kaggle's layout for this contest, written and checked.

The header is `Id,Predicted`; row `Id = i·2K + j` holds coordinate j of face i, the faces being in the order of the
test annotations and the coordinates x0, y0, x1, y1, … in image pixels. A solution has the same layout.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.data.annotations import BOX
from pipeline.inference.predictions import Predictions

HEADER = ["Id", "Predicted"]
MAX_AWAY = 0.05  # share of faces whose points may lie away from their box; in iBUG's train part it is 0
SHOWN = 5  # problems of one kind that are shown one by one


def write(path: Path, points: np.ndarray) -> None:
    """Write points (N, K, 2) in image pixels, with as many digits as tell one float32 from the next, unrounded.

    Raises:
        UserError: a coordinate is not finite; nothing is written.
    """
    write_rows(path, HEADER, range(points.size), finite_values(path, points))


def finite_values(path: Path, points: np.ndarray) -> np.ndarray:
    """Flatten points (N, K, 2) of a submission to (N·2K,) float32; a UserError where one is not finite."""
    values = np.asarray(points, np.float32)
    broken = np.flatnonzero(~np.isfinite(values).all((1, 2)))
    if len(broken):
        raise UserError(f"{path}: not written, {len(broken)} faces have points that are not finite, the first is face "
                        f"{broken[0]}; run the predict and ensemble stages again")
    return values.reshape(-1)


def write_rows(path: Path, header: Sequence[str], ids: Iterable[object], values: np.ndarray) -> None:
    """Write a header and a row `ID,VALUE` for each of the float32 values."""
    rows = (f"{row_id},{value!s}\n" for row_id, value in zip(ids, values, strict=True))
    write_text(path, ",".join(header) + "\n" + "".join(rows))


def read_predictions(path: Path, num_faces: int) -> Predictions:
    """Read the predictions of N faces, in their order; a UserError where the file does not have each face once."""
    found = Predictions.load(path).by_face()
    if not np.array_equal(found.face, np.arange(num_faces)):
        raise UserError(f"{path}: does not hold each of the {num_faces} faces once; run the predict and ensemble "
                        "stages again")
    return found


def check(path: Path, faces: pd.DataFrame, num_points: int) -> str:
    """Prove that a file is a submission for these faces.

    The header, the number and order of the rows and that every number is finite are exact. That the numbers are in
    image pixels is judged by the boxes: the median of a face's points lies inside its box. Pixels of the crop,
    coordinates normalised to the box or the image, x and y swapped or faces in another order fail this.

    Args:
        faces: one row a test face, in order, with `left`, `top`, `width`, `height`.
        num_points: K.

    Returns:
        One line that sums up what was checked.

    Raises:
        UserError: everything that is wrong.
    """
    values = _coordinates(path, len(faces), num_points, finite=True)
    inside = check_places(path, values.reshape(len(faces), num_points, 2), faces)
    return (f"{path}: {len(faces)} faces × {num_points} points = {values.size} rows in order, all finite; "
            f"{inside} faces have their points in their box, so these are image pixels")


def check_places(path: Path, points: np.ndarray, faces: pd.DataFrame) -> int:
    """Count the faces that have the median of their points (N, K, 2; NaN where not asked for) inside their box.

    Raises:
        UserError: too few; these are no image pixels, or the faces are in another order.
    """
    away = ~_inside(points, faces)
    if away.sum() > MAX_AWAY * len(faces):
        raise UserError(f"{path}: the points of {away.sum()} of {len(faces)} faces (first: face {np.argmax(away)}) lie "
                        f"away from their box; {_guess(points, faces)}")
    return int(len(faces) - away.sum())


def read_solution(path: Path, num_faces: int, num_points: int) -> np.ndarray:
    """Read the true points (N, K, 2) float32 of a solution file, NaN where Predicted is empty or nan.

    Raises:
        UserError: the file is missing or has not the layout of a submission.
    """
    return _coordinates(path, num_faces, num_points, finite=False).reshape(num_faces, num_points, 2).astype(np.float32)


def _coordinates(path: Path, num_faces: int, num_points: int, finite: bool) -> np.ndarray:
    ids = range(num_faces * num_points * 2)
    return read_values(path, HEADER, ids, f"{num_faces} faces × {num_points} points × 2 make {len(ids)}", finite)


def read_values(path: Path, header: Sequence[str], ids: Sequence[object], expected: str, finite: bool) -> np.ndarray:
    """Read the numbers (R,) float64 of a file with a header and rows `ID,VALUE`.

    Args:
        header, ids: what must stand there, in order.
        expected: why there must be so many rows, for the message.
        finite: whether every value must be a finite number; else it is NaN where it is empty.

    Raises:
        UserError: everything that is wrong with header, rows and order.
    """
    table = read_table(path, header=None, names=["id", "value", "more"], skip_blank_lines=False)
    first, rows, problems = ",".join(filter(None, table.head(1).to_numpy().ravel())), table[1:], []
    if first != ",".join(header):
        problems.append(f"{path}, line 1: the header is {first!r}, but must be {','.join(header)!r}")
    if len(rows) != len(ids):
        problems.append(f"{path}: {len(rows)} rows after the header, but {expected}")
    wanted = np.array([*map(str, ids[: len(rows)]), *["the end"] * (len(rows) - len(ids))], object)
    values = rows["value"].map(_number).to_numpy(np.float64)  # infinite where it is no number
    bad = (rows["id"] != wanted) | (rows["more"] != "") | np.isinf(values) | (finite & np.isnan(values))
    wrong = [f"{path}, line {row + 2}: {_reason(rows.iloc[row], header, wanted[row])}" for row in
             np.flatnonzero(bad)[:SHOWN]]
    if bad.sum() > SHOWN:
        wrong.append(f"{path}: {bad.sum() - SHOWN} more rows are wrong")
    if problems or wrong:
        raise UserError(*problems, *wrong)
    return values


def read_table(path: Path, **options: object) -> pd.DataFrame:
    """Read a CSV file as text, "" where a cell is empty; a UserError says why it is not readable."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, **options)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; name a file that exists, or run `dvc repro submit`") from None
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=options.get("names"), dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as CSV: {str(error).strip()}") from None


def _number(text: str) -> float:
    """The number of a cell, NaN where it is empty, infinite where it is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return np.inf


def _reason(row: pd.Series, header: Sequence[str], row_id: str) -> str:
    """Say what is wrong with a row."""
    if row["more"]:
        return "3 fields, but must be 2"
    if row["id"] != row_id:
        return f"{header[0]} is {row['id']!r}, but must be {row_id}"
    return f"{header[1]} is {row['value']!r}, not a finite number"


def _inside(points: np.ndarray, faces: pd.DataFrame) -> np.ndarray:
    """(N,) whether the median of each face's points lies inside its box."""
    left, top, width, height = faces[BOX].to_numpy(np.float64).T
    x, y = np.nanmedian(points, axis=1).T
    return (left <= x) & (x <= left + width) & (top <= y) & (y <= top + height)


def _guess(points: np.ndarray, faces: pd.DataFrame) -> str:
    """Guess what the numbers may be, if not image pixels."""
    if np.nanmax(np.abs(points)) <= 2:
        return "the numbers look normalised: write image pixels"
    if _inside(points[..., ::-1], faces).mean() > 1 - MAX_AWAY:
        return "x and y look swapped: write x0,y0,x1,y1,…"
    box = faces[BOX].to_numpy(np.float64)
    if _inside(points + box[:, None, :2], faces).mean() > 1 - MAX_AWAY:
        return "the numbers look like pixels counted from the box: map them back to the photo"
    return "are the numbers in image pixels (not of the crop), and the faces in the order of the test annotations?"
