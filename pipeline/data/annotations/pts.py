"""iBUG's .pts: one face a file, one point a line, with or without the header, the image beside it.

    version: 1
    n_points: 68
    {
    303.783543 424.560822
    …
    }

iBUG counts pixels from 1 (its tools were MATLAB); 1 is subtracted, so that the centre of the top-left pixel is (0, 0).
The format has neither boxes nor missing points.
"""

import re
from pathlib import Path

import numpy as np

from pipeline.data.annotations import Annotations
from pipeline.data.annotations.fields import NO_POINTS, count_problem, numbers, read_text
from pipeline.data.annotations.folder import image_beside, read_files


def parse(root: Path, name: str, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read a data set of .pts files: see `formats.Reader`."""
    return read_files(root, name, ".pts", num_points, _read_file)


def _read_file(root: Path, file: str, num_points: int | None) -> tuple[str, np.ndarray, int, list[str]]:
    points, problems = parse_points(root / file, num_points)
    image, reason = image_beside(root, file)
    return image, points, 1, problems + ([f"{root / file}:1: {reason}"] if reason else [])


def parse_points(path: Path, num_points: int | None = None) -> tuple[np.ndarray, list[str]]:
    """Read the points of one file, (K, 2) float64 counted from 0; return the problems, too."""
    text, problems = read_text(path, ".pts")
    if problems:
        return NO_POINTS, problems
    points, stated, line = [], None, 1
    for line, content in enumerate(text.split("\n"), 1):
        content = content.strip()
        header = re.fullmatch(r"(?i)(version|n_points)\s*:\s*(\S*)", content)
        if header and header[1].lower() == "n_points":
            stated = (line, header[2])
        elif content and not header and content not in "{}":
            values, wrong = numbers(content.split())
            wrong = wrong or ([] if len(values) == 2 else [f"{len(values)} numbers, but x and y are expected"])
            problems += [f"{path}:{line}: {reason}" for reason in wrong]
            points.append(values if not wrong else [np.nan, np.nan])
    if stated and stated[1] != str(len(points)):
        problems.append(f"{path}:{stated[0]}: n_points is {stated[1][:20]!r}, but {len(points)} points follow")
    elif not points:
        problems.append(f"{path}:{line}: no points; one x and y a line are expected")
    elif reason := count_problem(len(points), num_points):
        problems.append(f"{path}:{stated[0] if stated else 1}: {reason}")
    return np.array(points, np.float64).reshape(-1, 2) - 1, problems
