"""CSV with one face a row: `image_name,part_0_x,part_0_y,…`.

Columns are told by their names: `image_name` (or image, file, filename; else the first), optionally all of `left`,
`top`, `width`, `height`, and two a point: `NAME_x`, `NAME_y` or `x7`, `y7`, in any order; other names are taken by
turns as x and y. Without a header (the second field of the first row is a number) it is the image, then x and y by
turns. Points count pixels from 0; an empty or nan pair is a missing point, an empty box no box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Annotations, tabulate
from pipeline.data.annotations.csv_table import pair_columns, read_point, read_rows
from pipeline.data.annotations.fields import NO_BOX, count_problem, number, numbers, path_problem

IMAGE = ("image_name", "image", "file", "filename")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where a row has what: the image, the box (empty where there is none), and x and y of each point."""

    image: int
    box: tuple[int, ...]
    points: list[tuple[int, int]]
    names: list[str]


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file: see `formats.Reader`."""
    rows, points, problems, columns, face = [], [], [], None, -1
    try:
        for line, cells in read_rows(path):
            if columns is None:
                columns, wrong = find_columns(cells)
                if columns.points and (reason := count_problem(len(columns.points), num_points)):
                    wrong.append(reason)
                if wrong:
                    return tabulate([], None), [f"{path}:{line}: {reason}" for reason in wrong]
                width = len(cells)
                if has_header(cells):
                    continue
            face += 1
            image, box, found, wrong = _row(cells, columns, width)
            problems += [f"{path}:{line}: face {face} ({image[:80]}): {reason}" for reason in wrong]
            if not wrong:
                rows.append((face, PurePosixPath(image).as_posix(), *box, f"{path}:{line}"))
                points.append(found)
    except UserError as error:
        problems += error.problems
    if face < 0 and not problems:
        problems.append(f"{path}:1: has a header, but no faces")
    return tabulate(rows, points if columns and columns.points else None), problems


def has_header(cells: Sequence[str]) -> bool:
    """Tell whether a file's first row holds names: no number in the second field, or one of IMAGE if it is alone."""
    if len(cells) == 1:
        return cells[0].strip().lower() in IMAGE
    return number(cells[1]) is None and cells[1].strip().lower() not in {"", "nan"}


def find_columns(cells: Sequence[str]) -> tuple[Columns, list[str]]:
    """Find the columns by the first row of a file; return the problems, too."""
    names = [cell.strip().lower() for cell in cells] if has_header(cells) else [""] * len(cells)
    image = next((names.index(name) for name in IMAGE if name in names), 0)
    given = [name for name in BOX if name in names]
    absent = [name for name in BOX if name not in names]
    problems = [f"columns {', '.join(given)} without {', '.join(absent)}"] if given and absent else []
    rest = [column for column in range(len(cells)) if column != image and names[column] not in BOX]
    points, pairs, wrong = pair_columns([cells[column] if has_header(cells) else "" for column in rest])
    return Columns(
        image=image, box=tuple(names.index(name) for name in BOX) if not absent else (),
        points=[(rest[x], rest[y]) for x, y in pairs], names=points,
    ), problems + wrong


def _row(cells: list[str], columns: Columns, width: int) -> tuple[str, tuple[float, ...], list, list[str]]:
    """Read image, box and points of one row; return the problems, too."""
    if len(cells) != width:
        return cells[0], NO_BOX, [], [f"{len(cells)} fields, but the first row has {width}"]
    image = cells[columns.image].strip()
    problems = [reason] if (reason := path_problem(image)) else []
    texts, box = [cells[column] for column in columns.box], NO_BOX
    if any(text.strip() for text in texts):
        values, wrong = numbers(texts)
        box, problems = tuple(values) if not wrong else NO_BOX, problems + [f"box: {reason}" for reason in wrong]
    points = []
    for (x, y), name in zip(columns.points, columns.names, strict=True):
        point, wrong = read_point((cells[x], cells[y]), name)
        points.append(point)
        problems += wrong
    return image, box, points, problems
