"""Kaggle's Facial Keypoints Detection: CSV whose column `Image` holds the pixels of a square grey image.

`training.csv` has two columns a point (`left_eye_center_x`, `left_eye_center_y`, …) and `Image`; most of its rows lack
points. `test.csv` has `ImageId` and `Image`. An image is called FILE/ID, FILE being the file's name without suffix and
ID its `ImageId`, or where there is none the number of its row, from 1. Points count pixels from 0. There are no boxes.
"""

import re
from math import isqrt
from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError
from pipeline.data.annotations import Annotations, tabulate
from pipeline.data.annotations.csv_table import pair_columns, read_point, read_rows
from pipeline.data.annotations.fields import NO_BOX, count_problem

PIXELS = re.compile(r"\s*[0-9]{1,3}( [0-9]{1,3})*\s*")


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file, images and all: see `formats.Reader`."""
    reader, problems = _Reader(Path(path).stem), []
    try:
        for line, cells in read_rows(path):
            wrong = reader.row(cells, f"{path}:{line}") if reader.header else reader.head(cells, num_points)
            problems += [f"{path}:{line}: {reason}" for reason in wrong]
            if not reader.header:
                break
    except UserError as error:
        problems += error.problems
    if not problems and not reader.images:
        problems.append(f"{path}:1: has a header, but no faces")
    return tabulate(reader.rows, reader.points if reader.pairs else None, reader.images), problems


class _Reader:
    """The state of one pass over a file."""

    def __init__(self, stem: str) -> None:
        self.stem, self.face = stem, -1
        self.header: list[str] = []
        self.names: list[str] = []  # of the points
        self.pairs: list[tuple[int, int]] = []  # columns of their x and y
        self.rows: list[tuple] = []
        self.points: list[list[tuple[float, float]]] = []
        self.images: dict[str, np.ndarray] = {}

    def head(self, cells: list[str], num_points: int | None) -> list[str]:
        """Take the header, unless there are problems; return them."""
        names = [cell.strip() for cell in cells]
        if names.count("Image") != 1:
            return ["no column 'Image', or two; Kaggle's training.csv or test.csv is expected"]
        columns = [column for column, name in enumerate(names) if name not in {"Image", "ImageId"}]
        self.names, pairs, problems = pair_columns([names[column] for column in columns])
        self.pairs = [(columns[x], columns[y]) for x, y in pairs]
        if self.pairs and (reason := count_problem(len(self.pairs), num_points)):
            problems.append(reason)
        self.header = [] if problems else names
        return problems

    def row(self, cells: list[str], where: str) -> list[str]:
        """Take one face; return its problems."""
        self.face += 1
        if len(cells) != len(self.header):
            return [f"face {self.face}: {len(cells)} fields, but the header has {len(self.header)}"]
        number = cells[self.header.index("ImageId")].strip() if "ImageId" in self.header else str(self.face + 1)
        image, problems = f"{self.stem}/{number}", []
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", number):
            problems.append(f"ImageId {number[:40]!r} is not a number")
        elif image in self.images:
            problems.append(f"ImageId {number!r} comes twice")
        points = []
        for (x, y), name in zip(self.pairs, self.names, strict=True):
            point, wrong = read_point((cells[x], cells[y]), name)
            points.append(point)
            problems += wrong
        pixels, reason = read_pixels(cells[self.header.index("Image")])
        problems += [reason] if reason else []
        if not problems:
            self.images[image] = pixels
            self.points.append(points)
            self.rows.append((self.face, image, *NO_BOX, where))
        return [f"face {self.face}: {reason}" for reason in problems]


def read_pixels(text: str) -> tuple[np.ndarray, str | None]:
    """Parse an (S, S) uint8 image of space-separated grey values, row by row; return the problem, too, or None."""
    empty = np.empty((0, 0), np.uint8)
    if not PIXELS.fullmatch(text):
        return empty, "Image: whole numbers from 0 to 255 with one space between them are expected"
    values = np.fromstring(text, np.int64, sep=" ")
    side = isqrt(values.size)
    if values.max() > 255:
        return empty, f"Image: pixel {values.argmax()} is {values.max()}, but 255 is white"
    if side * side != values.size:
        return empty, f"Image: {values.size} pixels are no square"
    return values.astype(np.uint8).reshape(side, side), None
