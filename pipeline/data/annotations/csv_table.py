"""CSV tables with two columns a point, as `csv_points` and `kaggle_pixels` read them."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.common.errors import UserError
from pipeline.data.annotations.fields import number

SUFFIX = re.compile(r"(?i)(?P<point>.+?)[_. ](?P<axis>[xy])")  # nose_x
PREFIX = re.compile(r"(?i)(?P<axis>[xy])[_. ]?(?P<point>\d+)")  # x7


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a file that are not blank, each with its line number.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or its quotes are broken; on the way, after good rows.
    """
    line = 0
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                line = reader.line_num
                if any(cell.strip() for cell in row):
                    yield line, row
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}:{line + 1}: is not text in UTF-8, here or soon after; save as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}:{line + 1}: broken CSV ({error})") from None
    if not line:
        raise UserError(f"{path}: is empty; CSV is expected")


def pair_columns(names: Sequence[str]) -> tuple[list[str], list[tuple[int, int]], list[str]]:
    """Find the points of a header: the point and axis of each column by its name, or by turns where none tells.

    Returns:
        The names of the points; the columns of their x and y, as indices into `names`; the problems.
    """
    matches = [SUFFIX.fullmatch(name.strip()) or PREFIX.fullmatch(name.strip()) for name in names]
    if not any(matches):
        problems = [f"{len(names)} columns of points; as many x as y are expected"] if len(names) % 2 else []
        pairs = [] if problems else list(zip(range(0, len(names), 2), range(1, len(names), 2), strict=True))
        return [f"point {index}" for index in range(len(pairs))], pairs, problems
    columns: dict[str, dict[str, int]] = {}
    problems = []
    for column, (name, match) in enumerate(zip(names, matches, strict=True)):
        if match is None:
            problems.append(f"column {name[:40]!r} is neither a point's x nor y; remove it")
        elif match["axis"].lower() in columns.setdefault(match["point"], {}):
            problems.append(f"column {name[:40]!r} comes twice")
        else:
            columns[match["point"]][match["axis"].lower()] = column
    for point, axes in columns.items():
        problems += [f"point {point[:40]!r} has no column for its {axis}" for axis in "xy" if axis not in axes]
    return list(columns), [] if problems else [(axes["x"], axes["y"]) for axes in columns.values()], problems


def read_point(texts: tuple[str, str], name: str) -> tuple[tuple[float, float], list[str]]:
    """Parse x and y of one point of one row, NaN where both are empty or nan; return the problems, too."""
    missing = [text.strip().lower() in {"", "nan"} for text in texts]
    if all(missing):
        return (float("nan"), float("nan")), []
    if any(missing):
        return (float("nan"), float("nan")), [f"{name}: {'xy'[missing.index(True)]} is missing, the other is not"]
    x, y = map(number, texts)
    problems = [f"{name}: {axis}={text[:40]!r} is not a number of pixels"
              for axis, text, value in zip("xy", texts, (x, y), strict=True) if value is None]
    return (x, y), problems
