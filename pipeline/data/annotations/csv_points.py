"""CSV with one face a row: `image_name,part_0_x,part_0_y,…`.

Columns are told by their names: `image_name` (or image, file, filename; else the first), optionally all of `left`,
`top`, `width`, `height`, and two a point: `NAME_x`, `NAME_y` or `x7`, `y7`, in any order; other names are taken by
turns as x and y. Without a header (the second field of the first row is a number) it is the image, then x and y by
turns. Points count pixels from 0; an empty or nan pair is a missing point, an empty box no box.
"""

from pathlib import Path

from pipeline.data.annotations import BOX, Annotations
from pipeline.data.annotations.csv_table import MISSING, Columns, find_points, read_table
from pipeline.data.annotations.fields import number, path_problem

IMAGE = ("image_name", "image", "file", "filename")


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file: see `formats.Reader`."""
    return read_table(path, num_points, find_columns)


def find_columns(cells: list[str]) -> tuple[Columns, list[str]]:
    """Find the columns by the first row of a file; return the problems, too."""
    names = [cell.strip().lower() for cell in cells]
    header = names[0] in IMAGE if len(names) == 1 else number(names[1]) is None and names[1] not in MISSING
    names = names if header else [""] * len(cells)
    image = next((names.index(name) for name in IMAGE if name in names), 0)
    given, absent = ([name for name in BOX if (name in names) is there] for there in (True, False))
    problems = [f"columns {', '.join(given)} without {', '.join(absent)}"] if given and absent else []
    rest = [column for column, name in enumerate(names) if column != image and name not in BOX]
    points, wrong = find_points(cells if header else names, rest)

    def read_image(_: int, cells: list[str]) -> tuple[str, list[str]]:
        name = cells[image].strip()
        return name, [reason] if (reason := path_problem(name)) else []

    box = () if absent else tuple(map(names.index, BOX))
    return Columns(header=header, box=box, points=points, image=read_image), problems + wrong
