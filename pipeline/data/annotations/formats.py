"""Annotation formats: the reader of each by name, and what they share once the file is read.

A data set is a file (or, for formats with one file an image, a folder or a pattern) below the data folder. Images are
named relative to the data folder whatever the format.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.data.annotations import (
    ANY,
    BOX,
    Annotations,
    Layout,
    asf,
    coco,
    csv_points,
    dlib_xml,
    kaggle_pixels,
    pts,
    tabulate,
    wflw,
)
from pipeline.data.annotations.fields import path_problem
from pipeline.data.images import Images, find_folder

# (root, name, num_points) → the faces that could be read, in the order of the data set, and the problems of the others.
# num_points is K; None: that of the first good face. Boxes are NaN where there are none.
Reader = Callable[[Path, str, int | None], tuple[Annotations, list[str]]]
UNNAMED = ("pts", "asf", "kaggle_pixels")  # formats that do not name images by paths in the data folder
HEAD = 1 << 16  # bytes that are looked at to recognise a file


FORMATS: dict[str, Reader] = {
    "dlib_xml": lambda root, name, num_points: dlib_xml.parse(root / name, num_points),
    "pts": pts.parse,
    "asf": asf.parse,
    "csv_points": lambda root, name, num_points: csv_points.parse(root / name, num_points),
    "kaggle_pixels": lambda root, name, num_points: kaggle_pixels.parse(root / name, num_points),
    "wflw": lambda root, name, num_points: wflw.parse(root / name, num_points),
    "coco": lambda root, name, num_points: coco.parse(root / name, num_points),
}


def read(root: Path, name: str, layout: Layout = ANY, *, labelled: bool = False) -> Annotations:
    """Read a data set of any format; give faces without a box one.

    Args:
        root, name: the data folder, and in it the annotation file, or the folder or pattern of files.
        layout: how it is read.
        labelled: whether a data set without any points is a problem.

    Raises:
        UserError: naming every problem of the data set at once, each with file and line (JSON: record).
    """
    annotations, problems = parse(root, name, layout)
    if labelled and annotations.keypoints is None and not problems:
        problems = [f"{root / name}: no face has any points; the faces to train on need them"]
    if problems:
        raise UserError(*problems)
    return annotations


def read_parts(
    root: Path, train: str, test: str | None, layout: Layout, exclude: Path | None = None
) -> dict[str, Annotations]:
    """Read the faces to train on, which have points, and those to predict, none where `test` is None.

    `exclude` names faces that are not trained on, and so not scored either: see `leave_out`.
    """
    labelled = read(root, train, layout, labelled=True)
    return {"train": leave_out(labelled, exclude) if exclude else labelled,
            "test": read(root, test, layout.for_test()) if test else tabulate([], None)}


def leave_out(annotations: Annotations, path: Path) -> Annotations:
    """Leave out the faces that a CSV lists by `image` and box, as the report's `suspects.csv` does.

    Raises:
        UserError: it is no such list, or names a face that there is not.
    """
    def keys(faces: pd.DataFrame) -> list[tuple]:
        return [(image, *box) for image, box in zip(faces.image, faces[BOX].round(2).to_numpy().tolist(), strict=True)]

    try:
        listed = keys(pd.read_csv(path, dtype={"image": str})[["image", *BOX]].astype(dict.fromkeys(BOX, float)))
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no list of faces ({error}); a CSV with the columns image, {', '.join(BOX)} is "
                        "expected") from None
    own = keys(annotations.faces)
    known, out = set(own), set(listed)
    if unknown := [f"{path}, line {line}: there is no train face {image} with the box {box}; remove the line"
                   for line, (image, *box) in enumerate(listed, start=2) if (image, *box) not in known]:
        raise UserError(*unknown)
    kept = np.array([key not in out for key in own])
    keypoints = annotations.keypoints
    return replace(annotations, faces=annotations.faces[kept].reset_index(drop=True),
                   keypoints=None if keypoints is None else keypoints[kept])


def parse(root: Path, name: str, layout: Layout = ANY) -> tuple[Annotations, list[str]]:
    """Read a data set as `read` does, but return the problems beside those faces that could be read.

    The index of `faces` is the face's number in the data set, so it has gaps where a face is invalid.
    """
    try:
        format = recognise(root, name) if layout.format == "auto" else layout.format
        if format not in FORMATS:
            raise UserError(f"data.format {format!r}: choose auto or one of {', '.join(FORMATS)}")
    except UserError as error:
        return tabulate([], None), list(error.problems)
    annotations, problems = FORMATS[format](root, name, None if layout.points else layout.num_points)
    annotations, wrong = place_images(annotations, root, layout.photos, format)
    wrong += [reason for image in annotations.faces.image.unique() if (reason := path_problem(image))]
    if wrong:
        return tabulate([], None), [*problems, *(f"{root / name}: {reason}" for reason in wrong)]
    annotations, wrong = make_boxes(annotations, root, layout.box)
    problems = [*problems, *wrong]
    if layout.points is not None:
        annotations, wrong = select_points(annotations, layout.points, layout.num_points)
        problems += [f"{root / name}: {reason}" for reason in wrong]
    return annotations, problems


def recognise(root: Path, name: str) -> str:
    """Recognise the format of a data set by what a folder holds, by a file's suffix, or by how it begins.

    Raises:
        UserError: it cannot be read, or is of no known format.
    """
    path = root / name
    suffixes = {file.suffix.lower() for file in (path.rglob("*") if path.is_dir() else [path])} & {".pts", ".asf"}
    if len(suffixes) == 1:
        return suffixes.pop()[1:]
    if path.is_dir():
        kinds = "both .pts and .asf files; set data.format" if suffixes else "neither .pts nor .asf files; name a file"
        raise UserError(f"{path}: this folder holds {kinds}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if not head:
        raise UserError(f"{path}: is empty; annotations are expected")
    first = head.split("\n", 1)[0].strip()
    if head[0] in "<{":
        return "dlib_xml" if head[0] == "<" else "coco"
    if "," in first or ";" in first or first.lower().split("\t")[0] in csv_points.IMAGE:
        return "kaggle_pixels" if "Image" in first.split(",") else "csv_points"
    if len(first.split()) >= 3 and not path_problem(first.split()[-1]):
        return "wflw"
    raise UserError(f"{path}: its format is not recognised; set data.format to one of {', '.join(FORMATS)}")


def place_images(
    annotations: Annotations, root: Path, photos: str, format: str,
) -> tuple[Annotations, list[str]]:
    """Name the images relative to the data folder, not to `photos` in it; return a problem where all are missing."""
    if format in UNNAMED:
        problem = f"data.photos is {photos!r}, but {format} does not name images by their paths; set it to null"
        return annotations, [problem] if photos else []
    names = annotations.faces.image.unique()
    if photos:
        annotations = replace(annotations, faces=annotations.faces.assign(image=f"{photos}/" + annotations.faces.image))
    if len(names) < 2 or any(os.path.isfile(root / photos / name) for name in names):
        return annotations, []
    folder, count = find_folder(root, names)
    advice = "look at data.root" if not count else (
        f"{count} of them are in {root / folder}: set data.photos (of test faces: data.test_photos) to "
        f"{folder or 'null'}")
    return annotations, [f"none of its {len(names)} images is there, for example not {root / photos / names[0]}; "
                         f"{advice}"]


def make_boxes(annotations: Annotations, root: Path, box: str) -> tuple[Annotations, list[str]]:
    """Give every face without a box one, see `Layout`; leave out those that cannot have one, and say why."""
    faces, keypoints = annotations.faces, annotations.keypoints
    without = faces[BOX].isna().all(axis=1).to_numpy()
    if not without.any():
        return annotations, []
    if box == "photo":
        size, reasons = Images(root, annotations.images).sizes(faces.image[without])
        made = np.hstack([np.zeros_like(size), size])
        reasons = [reason and f"image {root / image} is {reason}"
                   for reason, image in zip(reasons, faces.image[without], strict=True)]
    elif box == "points":
        made, reasons = _around(np.full((without.sum(), 1, 2), np.nan) if keypoints is None else keypoints[without])
    else:
        raise UserError(f"data.box {box!r}: choose photo or points")
    problems = [f"{row.where}: face {row.Index} ({row.image}): {reason}"
                for row, reason in zip(faces[without].itertuples(), reasons, strict=True) if reason]
    boxes, good = faces[BOX].to_numpy(copy=True), np.ones(len(faces), bool)
    boxes[without], good[without] = made, [not reason for reason in reasons]
    faces = faces.assign(**dict(zip(BOX, boxes.T, strict=True)))[good]
    return replace(annotations, faces=faces, keypoints=None if keypoints is None else keypoints[good],
                   boxes_made=int((without & good).sum())), problems


def _around(points: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the tight boxes (N, 4) of faces (N, K, 2), and N problems, "" for none."""
    missing = np.isnan(points)
    low = np.where(missing, np.inf, points.astype(np.float64)).min(axis=1, initial=np.inf)
    high = np.where(missing, -np.inf, points.astype(np.float64)).max(axis=1, initial=-np.inf)
    apart = (high > low).all(axis=1)
    low, high = np.where(apart[:, None], low, 0), np.where(apart[:, None], high, 0)
    reason = "has no box and too few points for one; set data.box to photo"
    return np.hstack([low, high - low + 1]), ["" if fine else reason for fine in apart]


def select_points(
    annotations: Annotations, points: Sequence[int], num_points: int | None,
) -> tuple[Annotations, list[str]]:
    """Keep some of the points, by index, in this order; return the problems of the choice, too."""
    if num_points is not None and len(points) != num_points:
        return annotations, [f"data.points names {len(points)} points, but {num_points} are expected; choose the "
                             "skeleton of these points"]
    if annotations.keypoints is None or not len(annotations):
        return annotations, []
    last = annotations.keypoints.shape[1] - 1
    if absent := [point for point in points if not 0 <= point <= last]:
        return annotations, [f"data.points names {', '.join(map(str, absent))}, but the faces have points 0 to {last}"]
    return replace(annotations, keypoints=annotations.keypoints[:, list(points)]), []
