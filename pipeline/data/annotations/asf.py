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

from pipeline.data.annotations import Annotations, tabulate
from pipeline.data.annotations.fields import NO_BOX, count_problem, numbers, path_problem, read_text
from pipeline.data.annotations.folder import list_files
from pipeline.data.images import Images


def parse(root: Path, name: str, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read a data set of .asf files and the sizes of their images, which lie in the folder of their file."""
    files, problems = list_files(root, name, ".asf")
    rows, points = [], []
    for face, file in enumerate(files):
        relative, host, line, wrong = parse_points(root / file, num_points)
        image = (Path(file).parent / host).as_posix()
        width, height, reason = (0, 0, "") if wrong else Images(root).look(image)
        wrong += [f"{root / file}:{line}: image {root / image} is {reason}"] if reason else []
        problems += wrong
        if not wrong:
            num_points = len(relative)
            rows.append((face, image, *NO_BOX, f"{root / file}:{line}"))
            points.append(relative * [width, height] - 0.5)
    return tabulate(rows, points), problems


def parse_points(path: Path, num_points: int | None = None) -> tuple[np.ndarray, str, int, list[str]]:
    """Read one file.

    Returns:
        Its points as they stand there, (K, 2) float64 relative to the image; the name of the image; the line of that
        name; the problems.
    """
    text, problems = read_text(path, ".asf", encoding="latin-1")
    if problems:
        return np.empty((0, 2)), "", 1, problems
    lines = [(line, content.strip()) for line, content in enumerate(text.split("\n"), 1)]
    lines = [(line, content) for line, content in lines if content and not content.startswith("#")] or [(1, "")]
    (first, size), *rest = lines
    if not size.isascii() or not size.isdigit() or len(size) > 9:
        return np.empty((0, 2)), "", first, [f"{path}:{first}: {size[:40]!r} is not a number of points"]
    if reason := count_problem(int(size), num_points):
        return np.empty((0, 2)), "", first, [f"{path}:{first}: {reason}"]
    shape, host = rest[: int(size)], rest[int(size) :]
    points = []
    for index, (line, content) in enumerate(shape):
        values, wrong = _point(content.split(), index)
        problems += [f"{path}:{line}: {reason}" for reason in wrong]
        points.append(values)
    if len(host) != 1:
        where = lines[-1][0] if not host else host[1][0]
        problems.append(f"{path}:{where}: after {size} points {len(host)} lines follow, but the image's name is "
                        "expected")
        return np.empty((0, 2)), "", where, problems
    (line, image), = host
    problems += [f"{path}:{line}: {reason}"] if (reason := path_problem(image)) else []
    return np.array(points, np.float64).reshape(-1, 2), image, line, problems


def _point(cells: list[str], index: int) -> tuple[list[float], list[str]]:
    if len(cells) < 7:
        return [np.nan] * 2, [f"{len(cells)} fields, but a point has at least 7"]
    values, problems = numbers(cells[2:4])
    if cells[4] != str(index):
        problems.append(f"point {cells[4][:20]!r} stands where point {index} is expected")
    return values if not problems else [np.nan] * 2, problems
