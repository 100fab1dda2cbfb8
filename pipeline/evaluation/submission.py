"""Submission file in Kaggle's layout for this contest, written and checked.

The header is `Id,Predicted`; row `Id = i·2K + j` holds coordinate j of face i, the faces being in the order of the
test annotations and the coordinates x0, y0, x1, y1, … in image pixels. A solution has the same layout.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.files import atomic_path
from pipeline.data.annotations import BOX
from pipeline.data.annotations.fields import MAX_PIXEL, NUMBER, cut_problem
from pipeline.inference.predictions import Predictions

HEADER = ["Id", "Predicted"]
MAX_AWAY = 0.05  # share of faces whose points may lie away from their box; in iBUG's train part it is 0
BLOCK, CHUNK = 1 << 10, 1 << 17  # faces, and rows of a file, at once; bound the memory
FAR = 20  # box sizes from the middle of a box, beyond which a point is a slip
SHOWN = 5  # problems of one kind that are shown one by one


def write(path: Path, points: np.ndarray) -> None:
    """Write points (N, K, 2) in image pixels; see `write_rows`."""
    write_rows(path, HEADER, range(points.size), points, slice(None))


def write_rows(
    path: Path, header: Sequence[str], ids: Iterable[object], points: np.ndarray, places: np.ndarray | slice
) -> None:
    """Write a header and a row `ID,VALUE` for the coordinates at `places` of points (N, K, 2), as float32, unrounded.

    A UserError says that a coordinate is not finite; then nothing is written.
    """
    values = np.asarray(points, np.float32)
    broken = np.flatnonzero(~np.isfinite(values).all((1, 2)))
    if len(broken):
        raise UserError(f"{path}: not written, {len(broken)} faces have points that are not finite, the first is face "
                        f"{broken[0]}; run the predict and ensemble stages again")
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(header) + "\n")
        file.writelines(f"{row_id},{value!s}\n" for row_id, value in zip(ids, values.ravel()[places], strict=True))


def read_predictions(path: Path, num_faces: int) -> Predictions:
    """Read the predictions of N faces, in their order; a UserError where the file does not have each face once."""
    found = Predictions.load(path).by_face()
    if not np.array_equal(found.face, np.arange(num_faces)):
        raise UserError(f"{path}: does not hold each of the {num_faces} faces once; run the predict and ensemble "
                        "stages again")
    return found


def check(path: Path, faces: pd.DataFrame, num_points: int) -> str:
    """Prove that a file is a submission for these faces, given by their boxes, and sum up in a line what was checked.

    The header, the number and order of the rows and that every number is finite are exact. That the numbers are in
    image pixels is judged by the boxes: the median of a face's points lies inside its box. Pixels of the crop,
    coordinates normalised to the box or the image, x and y swapped or faces in another order fail this. A UserError has
    everything that is wrong.
    """
    points = _coordinates(path, len(faces), num_points, finite=True)
    inside = check_places(path, points, faces)
    return (f"{path}: {len(faces)} faces × {num_points} points = {points.size} rows in order, all finite; "
            f"{inside} faces have their points in their box, so these are image pixels")


def check_places(path: Path, points: np.ndarray, faces: pd.DataFrame) -> int:
    """Count the faces that have the median of their points (N, K, 2; NaN where not asked for) inside their box.

    A UserError says that these are too few: the points are no image pixels, or the faces are in another order; or that
    single points lie far from any box.
    """
    away = ~_inside(points, faces)
    if away.sum() > MAX_AWAY * len(faces):
        raise UserError(f"{path}: the points of {away.sum()} of {len(faces)} faces (first: face {np.argmax(away)}) lie "
                        f"away from their box; {_guess(points, faces)}")
    left, top, width, height = faces[BOX].to_numpy(np.float64).T
    middle = np.stack([left + width / 2, top + height / 2], axis=1)
    far = np.abs(points - middle[:, None]).max(axis=2) > FAR * np.maximum(width, height)[:, None]
    if far.any():
        raise UserError(*(f"{path}: face {face}, point {point}: {points[face, point].tolist()} is over {FAR} box sizes "
                          "from its box" for face, point in np.argwhere(far)[:SHOWN]))
    return int(len(faces) - away.sum())


def read_solution(path: Path, num_faces: int, num_points: int) -> np.ndarray:
    """Read the true points (N, K, 2) float32 of a solution file, laid out as a submission, NaN where empty or nan."""
    return _coordinates(path, num_faces, num_points, finite=False).astype(np.float32)


def _coordinates(path: Path, num_faces: int, num_points: int, finite: bool) -> np.ndarray:
    ids = range(num_faces * num_points * 2)
    expected = f"{num_faces} faces × {num_points} points × 2 make {len(ids)}"
    return read_values(path, HEADER, ids, expected, finite).reshape(num_faces, num_points, 2)


def read_values(path: Path, header: Sequence[str], ids: Sequence[object], expected: str, finite: bool) -> np.ndarray:
    """Read the numbers (R,) float64 of a file with a header and rows `ID,VALUE`; a UserError has all that is wrong.

    Args:
        header, ids: what must stand there, in order; expected: why so many rows, for the message.
        finite: whether every value must be a finite number; else it is NaN where it is empty.
    """
    values, problems, count = np.full(len(ids), np.nan), [], 0
    try:
        with pd.read_csv(path, header=None, names=range(2), dtype=str, na_filter=False, skip_blank_lines=False,
                         encoding="utf-8-sig", chunksize=CHUNK) as chunks:
            first = ",".join(chunks.get_chunk(1).to_numpy().ravel())
            if first != ",".join(header):
                problems.append(f", line 1: the header is {first!r}, but must be {','.join(header)!r}")
            for rows in chunks:
                should = [str(row_id) for row_id in ids[count : count + len(rows)]]
                plain = rows[1].where(rows[1].str.fullmatch(NUMBER))
                numbers = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64)
                numbers = np.where(np.abs(numbers) < MAX_PIXEL, numbers, np.nan)
                values[count : count + len(should)] = numbers[: len(should)]
                missing = rows[1].str.lower().isin(["", "nan"]) & (not finite)
                problems += _problems(rows, should, np.isfinite(numbers) | missing, header)
                count += len(rows)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; name a file that exists, or run `dvc repro submit`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as CSV: {error}") from None
    if len(problems) > SHOWN:
        problems[SHOWN:] = [f": {len(problems) - SHOWN} more rows are wrong"]
    if reason := cut_problem(_end(path)):
        problems.append(f": {reason}")
    if count != len(ids):
        problems.append(f": {count} rows after the header, but {expected}")
    if problems:
        raise UserError(*(f"{path}{problem}" for problem in problems))
    return values


def _end(path: Path) -> str:
    """Read the last character of a file, "" of an empty one."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        return file.read().decode("latin-1")


def _problems(rows: pd.DataFrame, ids: list[str], valid: np.ndarray, header: Sequence[str]) -> list[str]:
    """What is wrong with each row: another ID than that of `ids`, or a value that is not `valid`."""
    should = np.array(ids + ["the end"] * (len(rows) - len(ids)), object)
    wrong = ((rows[0] != should) | ~valid).to_numpy()
    return [f", line {line + 1}: " + (f"{header[0]} is {row_id!r}, but must be {own}" if row_id != own else
                                      f"{header[1]} is {value!r}, not a finite number of pixels")
            for (line, row_id, value), own in zip(rows[wrong].itertuples(), should[wrong], strict=True)]


def _inside(points: np.ndarray, faces: pd.DataFrame) -> np.ndarray:
    """(N,) whether the median of each face's points lies inside its box."""
    left, top, width, height = faces[BOX].to_numpy(np.float64).T
    parts = np.array_split(points, len(points) // BLOCK + 1)
    x, y = np.concatenate([np.nanmedian(part, axis=1) for part in parts]).T
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
