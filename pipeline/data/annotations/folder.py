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
    """Read a data set of one file an image: see `list_files` and `formats.Reader`."""
    files, problems = list_files(root, name, suffix)
    faces = Faces(num_points, problems)
    for file in files:
        image, points, line, problems = read_file(root, file, faces.num_points)
        faces.add(f"{root / file}:{line}", image, points, problems=problems)
    return faces.result()


def list_files(root: Path, name: str, suffix: str) -> tuple[list[str], list[str]]:
    """List the annotation files of a data set, as sorted paths relative to the data folder, and the problems.

    Args:
        root: the data folder.
        name: in it, a folder (searched with all that is below it), one file, or a pattern as `train/**/*.pts`.
        suffix: of the files to take from a folder, as `.pts`; case does not matter.
    """
    path = root / name
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() == suffix and file.is_file()]
    elif path.is_file():
        found = [path]
    else:
        found = [root / file for file in glob.glob(name, root_dir=root, recursive=True) if (root / file).is_file()]
    if not found:
        return [], [f"{path}: no {suffix} files; name a folder of them, or a pattern as '**/*{suffix}'"]
    names = sorted(Path(os.path.relpath(file, root)).as_posix() for file in found)
    problems = [f"{root / file}: {reason}" for file in names if (reason := path_problem(file))]
    return ([] if problems else names), problems


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
