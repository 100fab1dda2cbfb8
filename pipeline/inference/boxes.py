"""The boxes of the faces to annotate: from an annotation file, from the call, or found by a detector."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, formats
from pipeline.data.annotations.fields import number
from pipeline.data.images import Images, read_image
from pipeline.inference.detect import load_detector

Boxes = dict[Path, np.ndarray]  # photo → (N, 4) float64 left, top, width, height in photo pixels


def find_boxes(photos: Sequence[Path], boxes: Sequence[str], file: Path | None) -> tuple[Boxes, list[str]]:
    """The boxes of every photo, from the one source that is given, or found where none is.

    Args:
        photos: at least one; one that is named twice counts once.
        boxes: of the only photo, each as LEFT,TOP,WIDTH,HEIGHT.
        file: see `read_boxes`.

    Returns:
        The boxes of each photo that has any, and notes on what was left out.

    Raises:
        UserError: everything that is wrong: photos that are not readable, boxes that are no boxes or lie outside
            their photo, photos without a box in the file, no photo with a face.
    """
    photos = list(dict.fromkeys(photos))
    sizes, reasons = Images(Path()).sizes([str(photo) for photo in photos])
    sizes = {photo: size for photo, size, reason in zip(photos, sizes, reasons, strict=True) if not reason}
    problems = [f"{photo}: {reason}" for photo, reason in zip(photos, reasons, strict=True) if reason]
    notes = [f"{photo}: stored turned or mirrored (EXIF); its pixels are taken as they are stored, so save it upright "
             "if no face is found or the points are poor" for photo in sizes if _turned(photo)]
    if boxes and file is not None:
        raise UserError("--box and --boxes: give one of them", *problems)
    if boxes and len(photos) > 1:
        raise UserError(f"--box is for one photo, but there are {len(photos)}; write their boxes into a file "
                        "(--boxes boxes.csv)", *problems)
    if boxes:
        found, more = _from_call(photos[0], boxes)
        problems += more
    elif file is not None:
        found, left_out, more = read_boxes(file, photos)
        problems, notes = problems + more, notes + left_out
    else:
        found, empty = _detect(list(sizes))
        notes += empty
    for photo, rows in found.items():
        problems += _outside(photo, rows, sizes.get(photo))
    if problems:
        raise UserError(*problems)
    if not found:
        raise UserError("no face found in any photo; give the boxes (--boxes boxes.csv or --box LEFT,TOP,WIDTH,HEIGHT)")
    return found, notes


def read_boxes(file: Path, photos: Sequence[Path]) -> tuple[Boxes, list[str], list[str]]:
    """Boxes from a CSV file with the columns image, left, top, width and height, or any annotation file with boxes.

    The file names a photo as the call does, by its path relative to the file, or by its bare name where only one photo
    has it. Boxes of other photos are left out.

    Returns:
        boxes, notes and problems, each problem with the line of the file.
    """
    try:
        reader = formats.FORMATS[formats.recognise(file.parent, file.name)]
    except UserError as error:
        return {}, [], list(error.problems)
    annotations, problems = reader(file.parent, file.name, None)
    known = _names(photos, file.parent)
    found: dict[Path, list[np.ndarray]] = {}
    others: set[str] = set()
    for row in annotations.faces.itertuples():
        box = np.array([getattr(row, name) for name in BOX])
        photo = known.get(row.image)
        if photo is None:
            others.add(row.image)
        elif np.isnan(box).any():
            problems.append(f"{row.where}: no box; columns left,top,width,height are expected")
        else:
            problems += [f"{row.where}: {reason}" for reason in _area_problems(box)]
            found.setdefault(photo, []).append(box)
    if not problems:
        problems = [f"{file}: has no box for {photo}" for photo in photos if photo not in found]
    notes = [f"{file}: boxes of {len(others)} other photos left out"] if others else []
    return {photo: np.stack(found[photo]) for photo in photos if photo in found}, notes, problems


def _names(photos: Sequence[Path], folder: Path) -> dict[str, Path]:
    """What a file in `folder` may call each photo."""
    bare = [photo.name for photo in photos]
    names = {photo.name: photo for photo in photos if bare.count(photo.name) == 1}
    for photo in photos:
        absolute, root = Path(os.path.abspath(photo)), os.path.abspath(folder)
        if absolute.is_relative_to(root):
            names[absolute.relative_to(root).as_posix()] = photo
    return names | {photo.as_posix(): photo for photo in photos}


def _from_call(photo: Path, boxes: Sequence[str]) -> tuple[Boxes, list[str]]:
    """Boxes as LEFT,TOP,WIDTH,HEIGHT, and what is wrong with the others."""
    found, problems = [], []
    for text in boxes:
        values = [number(part) for part in text.split(",")]
        wrong = ["four numbers of pixels are expected, LEFT,TOP,WIDTH,HEIGHT"]
        wrong = wrong if None in values or len(values) != 4 else _area_problems(values)
        problems += [f"--box {text}: {reason}" for reason in wrong]
        found.append(values)
    return ({} if problems else {photo: np.array(found)}), problems


def _area_problems(box: Sequence[float]) -> list[str]:
    return [f"{name} {value:g} must be above 0" for name, value in zip(BOX[2:], box[2:], strict=True) if value <= 0]


def _detect(photos: Sequence[Path]) -> tuple[Boxes, list[str]]:
    """The boxes of the photos in which there are faces, and a note for each other."""
    detector = load_detector()
    every = {photo: detector(read_image(photo, "rgb")) for photo in photos}
    notes = [f"{photo}: no face found" for photo, rows in every.items() if not len(rows)]
    return {photo: rows for photo, rows in every.items() if len(rows)}, notes


def _turned(photo: Path) -> bool:
    """Whether viewers show the photo otherwise than its pixels are stored."""
    with Image.open(photo) as image:
        return image.getexif().get(Base.Orientation, 1) != 1


def _outside(photo: Path, boxes: np.ndarray, size: np.ndarray | None) -> list[str]:
    """A problem for each box that does not touch its photo."""
    if size is None:
        return []
    out = (boxes[:, :2] >= size).any(1) | (boxes[:, :2] + boxes[:, 2:] <= 0).any(1)
    return [f"{photo}: box {','.join(f'{value:g}' for value in box)} lies outside the photo of {size[0]:g}×{size[1]:g}"
            for box in boxes[out]]
