"""CSV tables with one face a row and two columns a point, as `csv_points` and `kaggle_pixels` read them."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.data.annotations import NO_BOX, Annotations, Faces, tabulate
from pipeline.data.annotations.fields import count_problem, cut_problem, names_told, number, numbers, read_text

SUFFIX = re.compile(r"(?i)(?P<point>.+?)[_. ](?P<axis>[xy])")  # nose_x
PREFIX = re.compile(r"(?i)(?P<axis>[xy])[_. ]?(?P<point>\d+)")  # x7
NUMBERED = re.compile(r"(?s)(.*\d)?")  # c0
MISSING = {"", "nan"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where a row has what; `header` says whether the first row holds names.

    Attributes:
        box: columns of left, top, width, height; empty where there is none; corners: of right and bottom in place of
            the last two.
        ignored: names of the columns that are nothing of these.
        points: name, column of x and column of y of each point.
        image: row number, from 0, and cells → name of the image, and the problems.
    """

    header: bool
    box: tuple[int, ...] = ()
    corners: bool = False
    ignored: list[str] = field(default_factory=list)
    points: list[tuple[str, int, int]]
    image: Callable[[int, list[str]], tuple[str, list[str]]]


def read_table(
    path: Path, num_points: int | None, find_columns: Callable[[list[str]], tuple[Columns, list[str]]],
) -> tuple[Annotations, list[str]]:
    """Read one file whose columns are found by its first row: see `formats.Reader`."""
    rows, problems = _read_rows(path)
    if not rows:
        return tabulate([], None), problems
    line, first = rows[0]
    columns, reasons = find_columns(first)
    if not reasons and columns.points and (reason := count_problem(len(columns.points), num_points)):
        reasons = [reason]
    if reasons:
        return tabulate([], None), [f"{path}:{line}: {reason}" for reason in reasons]
    faces = Faces(num_points)
    for line, cells in rows[columns.header :]:
        if len(cells) == len(first):
            image, reasons = columns.image(faces.count, cells)
            box, points, wrong = _read_row(cells, columns)
            faces.add(f"{path}:{line}", image, points, box, reasons=[*reasons, *wrong])
        else:
            reasons = [f"{len(cells)} fields, but the first row has {len(first)}"]
            faces.add(f"{path}:{line}", cells[0], [], reasons=reasons)
    if not faces.count and not problems:
        problems = [f"{path}:1: has a header, but no faces"]
    faces.problems += problems
    annotations, problems = faces.result(labelled=bool(columns.points))
    ignored = [name[:40] for name in columns.ignored]
    notes = {f"columns ignored: {', '.join(ignored[:8])}{', …' if len(ignored) > 8 else ''}": len(ignored)}
    names = names_told([name for name, *_ in columns.points])
    return replace(annotations, notes=notes if ignored else {}, names=names), problems


def find_points(
    cells: Sequence[str], columns: Sequence[int],
) -> tuple[list[tuple[str, int, int]], list[str], list[str]]:
    """Find points in some columns, by their names; where none tells, by turns in those without a name or with a number.

    Returns `Columns.points`, the names of the other columns, and the problems.
    """
    matches = [SUFFIX.fullmatch(cells[column].strip()) or PREFIX.fullmatch(cells[column].strip()) for column in columns]
    if not any(matches):
        numbered = [column for column in columns if NUMBERED.fullmatch(cells[column].strip())]
        problems = [f"{len(numbered)} columns of points; as many x as y are expected"] if len(numbered) % 2 else []
        pairs = zip(numbered[::2], numbered[1::2], strict=False)
        points = [(f"point {index}", x, y) for index, (x, y) in enumerate(pairs)]
        return points, [cells[column].strip() for column in columns if column not in numbered], problems
    found: dict[str, dict[str, int]] = {}
    ignored, problems = [], []
    for column, match in zip(columns, matches, strict=True):
        if match is None:
            ignored.append(cells[column].strip())
        elif match["axis"].lower() in found.setdefault(match["point"], {}):
            problems.append(f"column {cells[column][:40]!r} comes twice")
        else:
            found[match["point"]][match["axis"].lower()] = column
    for point, axes in found.items():
        problems += [f"point {point[:40]!r} has no column for its {axis}" for axis in "xy" if axis not in axes]
    points = [(point, axes["x"], axes["y"]) for point, axes in found.items()] if not problems else []
    return points, ignored, problems


def _read_rows(path: Path) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Read line number and cells of the rows that are not blank, up to the first that is broken; and the problems.

    Fields are separated by what the first line has most of: commas, semicolons or tabs.
    """
    text, problems = read_text(path, "CSV")
    mark = max(",;\t", key=text.partition("\n")[0].count)
    reader, rows = csv.reader(text.split("\n"), delimiter=mark, strict=True), []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        problems = [f"{path}:{rows[-1][0] + 1 if rows else 1}: broken CSV ({error})"]
    if rows and not problems and (reason := cut_problem(text)):
        problems = [f"{path}:{rows[-1][0]}: {reason}"]
    return rows, problems


def _read_row(cells: list[str], columns: Columns) -> tuple[Sequence[float], list, list[str]]:
    """Read box and points of a row, NaN where its cells are empty; return the problems, too."""
    box: Sequence[float] = NO_BOX
    texts, points, problems = [cells[column] for column in columns.box], [], []
    if any(text.strip() for text in texts):
        box, wrong = numbers(texts)
        problems = [f"box: {reason}" for reason in wrong]
        if columns.corners and not wrong:
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    for name, *pair in columns.points:
        missing = [cells[column].strip().lower() in MISSING for column in pair]
        values = [float("nan") if any(missing) else number(cells[column]) for column in pair]
        if any(missing) and not all(missing):
            problems.append(f"{name}: {'xy'[missing.index(True)]} is missing, the other is not")
        else:
            problems += [f"{name}: {axis}={cells[column][:40]!r} is not a number of pixels"
                         for axis, column, value in zip("xy", pair, values, strict=True) if value is None]
        points.append(values)
    return box, points, problems
