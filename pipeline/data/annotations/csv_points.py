"""CSV with one face a row: `image_name,part_0_x,part_0_y,…`.

Columns are told by their names: `image_name` (or another of IMAGE; else the first), optionally a box (one of BOXES),
and two a point: `NAME_x`, `NAME_y` or `x7`, `y7`, in any order; the others are ignored. Where no column is named as a
point's, those whose names end with a number, as in `c0,c1,…`, are taken by turns as x and y. A first column without a
name beside `image_name` is pandas' index, and ignored. Without a header (the first row has a name and then a number) it
is the image, then x and y by turns. Points count pixels from 0; an empty or nan pair is a missing point, an empty box
no box; right and bottom are the first pixel that is no longer in it.
"""

from pathlib import Path

from pipeline.data.annotations import Annotations
from pipeline.data.annotations.csv_table import MISSING, Columns, find_points, read_table
from pipeline.data.annotations.fields import number, path_problem

IMAGE = ("image_name", "image", "file", "filename", "file_name", "image_path", "path", "photo")
BOXES = (["left", "top", "width", "height"], ["x", "y", "w", "h"], ["x", "y", "width", "height"],
         ["left", "top", "right", "bottom"], ["xmin", "ymin", "xmax", "ymax"])


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file: see `formats.Reader`."""
    return read_table(path, num_points, find_columns)


def find_columns(cells: list[str]) -> tuple[Columns, list[str]]:
    """Find the columns by the first row of a file; return the problems, too."""
    names = [cell.strip().lower() for cell in cells]
    header = not names[0] or (names[0] in IMAGE if len(names) == 1 else number(names[1]) is None
                              and names[1] not in MISSING)
    names = names if header else [""] * len(cells)
    image = next((names.index(name) for name in IMAGE if name in names), 0)
    box = next((box for box in BOXES if set(box) <= set(names)), [])
    given, absent = ([name for name in BOXES[0] if (name in names) is there] for there in (True, False))
    problems = [f"columns {', '.join(given)} without {', '.join(absent)}"] if given and not box else []
    index = 0 if header and not names[0] else image
    rest = [column for column, name in enumerate(names)
            if column not in {image, index} and name not in {*box, *given}]
    points, ignored, wrong = find_points(cells if header else names, rest)

    def read_image(_: int, cells: list[str]) -> tuple[str, list[str]]:
        name = cells[image].strip()
        return name, [reason] if (reason := path_problem(name)) else []

    places = tuple(map(names.index, box))
    return Columns(header=header, box=places, corners=bool({"right", "xmax"} & {*box}), ignored=ignored, points=points,
                   image=read_image), problems + wrong
