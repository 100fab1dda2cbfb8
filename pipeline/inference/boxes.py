"""Boxes of the faces to annotate: from an annotation file, from the call, or found by a detector."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.tables import count_of
from pipeline.data.annotations import BOX, formats
from pipeline.data.annotations.fields import number
from pipeline.data.images import Images, is_rotated, read_image
from pipeline.inference.detect import load_detector

TURNED = ("{}: stored turned or mirrored (EXIF); its pixels are taken as they are stored, so save it upright if no "
          "face is found or the points are poor")

SHOWN = 3  # photos without a box that are named

Boxes = dict[Path, np.ndarray]  # image → (N, 4) float64 left, top, width, height in image pixels


def are_whole_photos(faces: pd.DataFrame) -> bool:
    """Tell whether the boxes of a crop store's faces are the whole images, as those of faces without a box are."""
    boxes, size = faces[BOX].to_numpy(), faces[["photo_width", "photo_height"]].to_numpy()
    return len(faces) > 0 and not boxes[:, :2].any() and bool((boxes[:, 2:] == size).all())


def find_boxes(
    images: Sequence[Path], boxes: Sequence[str], file: Path | None, *, whole_photos: bool = False,
) -> tuple[Boxes, list[str]]:
    """Find the boxes of every image, from the one source that is given, else by the detector.

    With `whole_photos`, for models that saw no boxes in training, it is the whole image, and none may be given.

    Returns:
        The boxes of each image that has any, and notes on what was left out.

    Raises:
        UserError: everything that is wrong with images, boxes and file, or no image with a face.
    """
    images = list(dict.fromkeys(images))
    measured, reasons = Images(Path()).sizes([str(image) for image in images])
    sizes = {image: size for image, size, reason in zip(images, measured, reasons, strict=True) if not reason}
    problems = [f"{image}: {reason}" for image, reason in zip(images, reasons, strict=True) if reason]
    if whole_photos and (boxes or file is not None):
        raise UserError("the models were trained on whole photos, without boxes: leave out --box and --boxes, and give "
                        "photos of one face each, framed as those of the training", *problems)
    if boxes and file is not None:
        raise UserError("--box and --boxes: give one of them", *problems)
    if boxes and len(images) > 1:
        raise UserError(f"--box is for one photo, but there are {len(images)}; write their boxes into a file "
                        "(--boxes boxes.csv)", *problems)
    found, notes, wrong = (_from_call(images[0], boxes) if boxes else read_boxes(file, images) if file is not None
                           else _whole(sizes) if whole_photos else _detect(list(sizes)))
    problems += wrong
    for image, size in sizes.items():
        rows = found.get(image, np.empty((0, 4)))
        out = (rows[:, :2] >= size).any(1) | (rows[:, :2] + rows[:, 2:] <= 0).any(1)
        problems += [f"{image}: box {','.join(f'{value:g}' for value in box)} lies outside the photo of "
                     f"{size[0]:g}×{size[1]:g}" for box in rows[out]]
    if problems:
        raise UserError(*problems)
    if not found:
        raise UserError("no face found in any photo; give the boxes (--boxes boxes.csv or --box LEFT,TOP,WIDTH,HEIGHT)")
    return found, [TURNED.format(image) for image in sizes if is_rotated(image)] + notes


def read_boxes(file: Path, images: Sequence[Path]) -> tuple[Boxes, list[str], list[str]]:
    """Read boxes from a CSV file with image, left, top, width and height, or any annotation file with boxes.

    The file names an image as the call does, by its path relative to the file, or by its bare name where only one image
    has it. Boxes of other images are left out. Returns boxes, notes and problems, each with the line of the file.
    """
    try:
        reader = formats.FORMATS[formats.recognise(file.parent, file.name)]
    except UserError as error:
        return {}, [], list(error.problems)
    annotations, problems = reader(file.parent, file.name, None)
    known = _names(images, file.parent)
    found: dict[Path, list[np.ndarray]] = {}
    others: set[str] = set()
    for row in annotations.faces.itertuples():
        box = np.array([getattr(row, name) for name in BOX])
        image = known.get(row.image)
        if image is None:
            others.add(row.image)
        elif np.isnan(box).any():
            problems.append(f"{row.where}: no box; columns left,top,width,height are expected")
        else:
            problems += [f"{row.where}: {reason}" for reason in _area_problems(box)]
            found.setdefault(image, []).append(box)
    if not problems:
        missing = [str(image) for image in images if image not in found]
        others_too = f" and {count_of(len(missing) - SHOWN, 'other photo')}" if len(missing) > SHOWN else ""
        problems = [f"{file}: has no box for {', '.join(missing[:SHOWN])}{others_too}"] if missing else []
    notes = [f"{file}: boxes of {count_of(len(others), 'other photo')} left out"] * bool(others)
    return {image: np.stack(found[image]) for image in images if image in found}, notes, problems


def _names(images: Sequence[Path], folder: Path) -> dict[str, Path]:
    """List what a file in `folder` may call each photo."""
    bare = Counter(image.name for image in images)
    names = {image.name: image for image in images if bare[image.name] == 1}
    names |= {Path(os.path.relpath(image, folder)).as_posix(): image for image in images}
    return names | {image.as_posix(): image for image in images}


def _from_call(image: Path, boxes: Sequence[str]) -> tuple[Boxes, list[str], list[str]]:
    """Read boxes as LEFT,TOP,WIDTH,HEIGHT; returns boxes, notes and problems."""
    found, problems = [], []
    for text in boxes:
        values = [value for part in text.split(",") if (value := number(part)) is not None]
        wrong = ["four numbers of pixels are expected, LEFT,TOP,WIDTH,HEIGHT"]
        wrong = _area_problems(values) if len(values) == text.count(",") + 1 == 4 else wrong
        problems += [f"--box {text}: {reason}" for reason in wrong]
        found.append(values)
    return ({} if problems else {image: np.array(found)}), [], problems


def _area_problems(box: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{name} {value:g} must be above 0" for name, value in zip(BOX[2:], box[2:], strict=True) if value <= 0]


def _whole(sizes: dict[Path, np.ndarray]) -> tuple[Boxes, list[str], list[str]]:
    """Take whole images; returns boxes, a note that says so, no problems."""
    note = "the models were trained on whole photos, without boxes: each photo is taken as one face"
    return {image: np.array([[0, 0, *size]]) for image, size in sizes.items()}, [note], []


def _detect(images: Sequence[Path]) -> tuple[Boxes, list[str], list[str]]:
    """Detect faces; returns the boxes of the images that show any, a note for each other, no problems."""
    detector = load_detector()
    every = {image: detector(pixels) for image in tqdm(images, "detect", unit="photo", disable=None)
             if (pixels := read_image(image, "rgb")) is not None}
    notes = [f"{image}: no face found" for image, rows in every.items() if not len(rows)]
    return {image: rows for image, rows in every.items() if len(rows)}, notes, []
