"""Data sets with one annotation file an image, as .pts and .asf come."""

import glob
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.data.annotations import Annotations, Faces
from pipeline.data.annotations.fields import path_problem

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


# (root, name, num_points) → the image, its points (K, 2), the line to name for it, and the problems.
FileReader = Callable[[Path, str, int | None], tuple[str, np.ndarray, int, list[str]]]


def read_files(
    root: Path, name: str, suffix: str, num_points: int | None, read_file: FileReader,
) -> tuple[Annotations, list[str]]:
    """Read a data set of one file an image: see `formats.Reader`.

    Args:
        root: the data folder.
        name: in it, a folder (searched with all that is below it), one file, or a pattern as `train/**/*.pts`.
        suffix: of the files to take from a folder, as `.pts`; case does not matter.
        num_points: K; None: that of the first good face.
        read_file: the reader of one of them.
    """
    path = root / name
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() == suffix and file.is_file()]
    elif path.is_file():
        found = [path]
    else:
        found = [root / file for file in glob.glob(name, root_dir=root, recursive=True) if (root / file).is_file()]
    files = sorted(Path(os.path.relpath(file, root)).as_posix() for file in found)
    faces = Faces(num_points, [f"{root / file}: {reason}" for file in files if (reason := path_problem(file))])
    if not files:
        faces.problems.append(f"{path}: no {suffix} files; name a folder of them, or a pattern as '**/*{suffix}'")
    for file in [] if faces.problems else files:
        image, points, line, problems = read_file(root, file, faces.num_points)
        faces.add(f"{root / file}:{line}", image, points, problems=problems)
    return faces.result()


def image_beside(root: Path, name: str) -> tuple[str, str | None]:
    """Find the image with the stem of an annotation file, relative to the data folder; or the problem."""
    path = root / name
    found = sorted(file.name for file in path.parent.glob(f"{glob.escape(path.stem)}.*")
                   if file.suffix.lower() in IMAGES and file.stem == path.stem)
    if len(found) == 1:
        return (Path(name).parent / found[0]).as_posix(), None
    if found:
        return "", f"several images beside it ({', '.join(found)}); keep one"
    return "", f"no image beside it; {path.stem}.jpg (or {', '.join(IMAGES[1:4])}, …) is expected"
