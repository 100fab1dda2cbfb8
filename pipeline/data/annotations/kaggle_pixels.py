"""Kaggle's Facial Keypoints Detection: CSV whose column `Image` holds the pixels of a square grey image.

`training.csv` has two columns a point (`left_eye_center_x`, `left_eye_center_y`, …) and `Image`; most of its rows lack
points. `test.csv` has `ImageId` and `Image`. An image is called FILE/ID, FILE being the file's name without suffix and
ID its `ImageId`, or where there is none the number of its row, from 1. Points count pixels from 0. There are no boxes.
"""

import re
from dataclasses import replace
from math import isqrt
from pathlib import Path

import numpy as np

from pipeline.data.annotations import Annotations
from pipeline.data.annotations.csv_table import Columns, find_points, read_table

PIXELS = re.compile(r"\s*[0-9]{1,3}( [0-9]{1,3})*\s*")


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file, images and all: see `formats.Reader`."""
    images: dict[str, np.ndarray] = {}

    def find_columns(cells: list[str]) -> tuple[Columns, list[str]]:
        names = [cell.strip() for cell in cells]
        rest = [column for column, name in enumerate(names) if name not in {"Image", "ImageId"}]
        points, ignored, problems = find_points(cells, rest)
        if names.count("Image") != 1:
            problems = ["no column 'Image', or two; Kaggle's training.csv or test.csv is expected"]

        def read_image(row: int, cells: list[str]) -> tuple[str, list[str]]:
            number = cells[names.index("ImageId")].strip() if "ImageId" in names else str(row + 1)
            image, problems = f"{Path(path).stem}/{number[:64]}", []
            if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", number):
                problems.append(f"ImageId {number[:40]!r} is not a number")
            elif image in images:
                problems.append(f"ImageId {number!r} comes twice")
            pixels, reason = read_pixels(cells[names.index("Image")])
            images.setdefault(image, pixels)
            return image, problems + ([reason] if reason else [])

        return Columns(header=True, ignored=ignored, points=points, image=read_image), problems

    annotations, problems = read_table(path, num_points, find_columns)
    return replace(annotations, images={name: images[name] for name in annotations.faces.image}), problems


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
