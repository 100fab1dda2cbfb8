"""IMM's .asf (AAM Shape File): one face a file, coordinates relative to the image, which the file names.

Lines that begin with # are comments. The others are the number of points, a line for each point
(`path type x y number from to …`, of which x, y and number are read) and the name of the host image.

x and y run from 0 to 1 over the outer edges of the image, so a pixel is x·width − ½, y·height − ½ in our convention
(the centre of the top-left pixel is (0, 0)). The images of IMM show it: on average over left and right, the outlines of
the faces lie 0.41 ± 0.05 px left of x·width (tests/test_asf.py).
The format has neither boxes nor missing points.
"""

from pathlib import Path

import numpy as np

from pipeline.data.annotations import Annotations
from pipeline.data.annotations.fields import NO_POINTS, count_problem, numbers, path_problem, read_text
from pipeline.data.annotations.folder import read_files
from pipeline.data.images import Images


def parse(root: Path, name: str, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read a data set of .asf files and the sizes of their images, which lie in the folder of their file."""
    return read_files(root, name, ".asf", num_points, _read_file)


def _read_file(root: Path, file: str, num_points: int | None) -> tuple[str, np.ndarray, int, list[str]]:
    points, host, line, problems = _parse(root / file, num_points)
    image, size = (Path(file).parent / host).as_posix(), [0.0, 0.0]
    if not problems:
        *size, reason = Images(root).look(image)
        problems = [f"{root / file}:{line}: image {root / image} is {reason}"] if reason else []
    return image, points * size - 0.5, line, problems


def _parse(path: Path, num_points: int | None) -> tuple[np.ndarray, str, int, list[str]]:
    """Read points (K, 2) relative to the image, the name of the image, its line, and the problems."""
    text, problems = read_text(path, ".asf", encoding="latin-1")
    if problems:
        return NO_POINTS, "", 1, problems
    lines = [(line, content.strip()) for line, content in enumerate(text.split("\n"), 1)]
    (first, size), *rest = [(line, content) for line, content in lines if content[:1] not in ("", "#")] or [(1, "")]
    if not size.isascii() or not size.isdigit() or len(size) > 9:
        return NO_POINTS, "", first, [f"{path}:{first}: {size[:40]!r} is not a number of points"]
    if reason := count_problem(int(size), num_points):
        return NO_POINTS, "", first, [f"{path}:{first}: {reason}"]
    shape, host = rest[: int(size)], rest[int(size) :]
    found = [_point(content.split(), index) for index, (_, content) in enumerate(shape)]
    problems = [f"{path}:{line}: {reason}" for (line, _), (_, wrong) in zip(shape, found, strict=True)
                for reason in wrong]
    if len(host) != 1:
        where = host[1][0] if host else [(first, size), *rest][-1][0]
        message = f"after {size} points {len(host)} lines follow, but the image's name is expected"
        return NO_POINTS, "", where, [*problems, f"{path}:{where}: {message}"]
    (line, image), = host
    problems += [f"{path}:{line}: {reason}"] if (reason := path_problem(image)) else []
    return np.array([point for point, _ in found], np.float64).reshape(-1, 2), image, line, problems


def _point(cells: list[str], index: int) -> tuple[list[float], list[str]]:
    if len(cells) < 7:
        return [np.nan] * 2, [f"{len(cells)} fields, but a point has at least 7"]
    values, problems = numbers(cells[2:4])
    if cells[4] != str(index):
        problems.append(f"point {cells[4][:20]!r} stands where point {index} is expected")
    return values if not problems else [np.nan] * 2, problems
