"""WFLW's text lists: one face a line, space-separated, of any number of points K (WFLW's own is 98).

`x0 y0 … left top right bottom pose expression illumination make-up occlusion blur path` (`list_98pt_rect_attr_*.txt`)
or `x0 y0 … path` (`list_98pt_*.txt`). A box's right and bottom are taken as its last pixels. The six attributes, each
0 or 1, tell the layouts apart; they are not kept. Coordinates count from 0. The format has no missing points.
"""

from pathlib import Path

import numpy as np

from pipeline.data.annotations import NO_BOX, Annotations, Faces
from pipeline.data.annotations.fields import NO_POINTS, count_problem, numbers, path_problem, read_text

ATTRIBUTES = 6


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one list: see `formats.Reader`."""
    text, problems = read_text(path, "a WFLW list")
    faces = Faces(num_points, problems)
    for line, content in enumerate(text.split("\n"), 1):
        if cells := content.split():
            box, points, reasons = parse_line(cells, faces.num_points)
            faces.add(f"{path}:{line}", cells[-1], points, box, reasons=reasons)
    return faces.result()


def parse_line(cells: list[str], num_points: int | None = None) -> tuple[tuple[float, ...], np.ndarray, list[str]]:
    """Parse box (NaN where there is none) and points (K, 2) of one line's fields; return the problems, too."""
    *cells, image = cells
    boxed = len(cells) >= 4 + ATTRIBUTES and set(cells[-ATTRIBUTES:]) <= {"0", "1"}
    end = len(cells) - (4 + ATTRIBUTES if boxed else 0)
    values, problems = numbers(cells[: end + 4] if boxed else cells)
    if reason := path_problem(image):
        problems.append(reason)
    if end < 2 or end % 2:
        problems.append(f"{end} coordinates; as many x as y are expected")
    elif reason := count_problem(end // 2, num_points):
        problems.append(reason)
    if problems:
        return NO_BOX, NO_POINTS, problems
    left, top, right, bottom = values[end:] if boxed else NO_BOX
    return (left, top, right - left + 1, bottom - top + 1), np.array(values[:end]).reshape(-1, 2), []
