"""Cutting every face from its photo into a crop store."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydantic import Field
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.pieces import PIECE
from pipeline.common.types import CHECKED, Integer, Number
from pipeline.data.annotations import BOX, Annotations
from pipeline.data.images import Photos
from pipeline.data.store import AFFINE
from pipeline.keypoints import geometry

THUMBNAIL = 32
LOT = 32  # photos that a thread is given at once


@dataclass(frozen=True, kw_only=True)
class CropGeometry:
    """Geometry and colour of crops.

    Attributes:
        size: side of the network's input, in pixels.
        margin: side of the crop, in longer sides of the box.
        shift_y: how far the crop's centre lies below the box's, in longer sides of the box.
        padding: side of the stored crop over side of the input, at least 1: room for rotation and shift.
        color: "grey" or "rgb".
    """

    __pydantic_config__ = CHECKED

    size: Annotated[Integer, Field(ge=16, le=1024)]
    margin: Annotated[Number, Field(ge=0.25, le=4)]
    shift_y: Annotated[Number, Field(ge=-0.5, le=0.5)] = 0.0
    padding: Annotated[Number, Field(ge=1, le=3)]
    color: Literal["grey", "rgb"]


@dataclass(frozen=True, kw_only=True)
class LabelOffset:
    """Constant offset of the labels.

    Attributes:
        offset: how far the labels' x and y lie right of and below what they mean, in image pixels.
        mirrored: regular expression of the mirrored images, None for none; their x lie as far to the left.
    """

    offset: Sequence[float] = (0.0, 0.0)
    mirrored: str | None = None


def store_size(size: int, padding: float) -> int:
    """Side of the stored crop for a view of `size`: at least `padding` times as wide, the border a whole number."""
    return size + 2 * int(np.ceil(size * (padding - 1) / 2))


def write_crops(
    annotations: Annotations, root: Path, folder: Path, *, size: int, margin: float, shift_y: float, **how: object
) -> None:
    """Cut every face by its box: see `geometry.crop_affine` for `size`, `margin` and `shift_y`, else `write_store`."""
    boxes = annotations.faces[BOX].to_numpy()
    affines = geometry.crop_affine(boxes, size=size, margin=margin, shift_y=shift_y)
    write_store(annotations, root, folder, affines, size=size, **how)


def write_store(
    annotations: Annotations, root: Path, folder: Path, affines: np.ndarray, *,
    size: int, padding: float, color: str, offset: Sequence[float] = (0.0, 0.0), mirrored: str | None = None,
    jobs: int = -1,
) -> None:
    """Cut every face and write a crop store to `folder`, all of it or nothing.

    Args:
        annotations: the faces.
        root: folder that `annotations.faces.image` is relative to.
        affines: (N, 2, 3) photo → view of each face, without shear.
        size: side of the view.
        padding: side of the store over side of the view, at least 1.
        color: "grey" or "rgb".
        offset: how far the labels' x and y lie right of and below what they mean, in photo pixels.
        mirrored: a regular expression that the mirrored photos have, None for none; their x lie as far to the left.
        jobs: joblib threads; −1 takes every core.

    Raises:
        UserError: names every photo that is missing or unreadable.
    """
    faces, side = annotations.faces, store_size(size, padding)
    border = (side - size) // 2
    affines = geometry.compose(geometry.translation(border, border), affines)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    sizes, problems = _cut(faces, Photos(root, annotations.photos), affines, partial, side, color, jobs)
    if problems:
        shutil.rmtree(partial)
        raise UserError(*problems)
    table = faces.drop(columns="where").assign(
        photo_width=sizes[:, 0], photo_height=sizes[:, 1],
        source=[image.partition("/")[0] if "/" in image else "photos" for image in faces.image],
    )
    mirror = np.array([mirrored is not None and re.search(mirrored, image) is not None for image in faces.image], bool)
    for rows, right in ((~mirror, offset[0]), (mirror, -offset[0])):
        affines[rows] = geometry.compose(affines[rows], geometry.translation(-right, -offset[1]))
    table[AFFINE] = affines.reshape(-1, 6)
    table.to_csv(partial / "faces.csv", index_label="face", chunksize=PIECE)
    if annotations.keypoints is not None:
        np.save(partial / "keypoints.npy", annotations.keypoints)
    (partial / "store.json").write_text(json.dumps({"size": size}))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _cut(
    faces: pd.DataFrame, source: Photos, affines: np.ndarray, folder: Path, side: int, color: str, jobs: int
) -> tuple[np.ndarray, list[str]]:
    """Write `crops.npy` and `photos.npy`; the width and height (N, 2) of each face's photo, and what is wrong."""
    shape = (len(faces), side, side) if color == "grey" else (len(faces), side, side, 3)
    crops = _create(folder / "crops.npy", shape)
    photos = _create(folder / "photos.npy", (len(faces), THUMBNAIL, THUMBNAIL))
    sizes = np.zeros((len(faces), 2), np.int64)

    @delayed
    def cut(image: str, rows: np.ndarray) -> str | None:
        photo = source.read(image, color)
        if photo is None:
            return f"{faces['where'].iloc[rows[0]]}: photo {source.root / image} is missing or not a readable image"
        photos[rows], sizes[rows] = thumbnail(photo), photo.shape[1::-1]
        for row in rows:
            warp(photo, affines[row], side, out=crops[row])
        return None

    by_photo = faces.groupby("image", sort=False).indices
    work = (cut(image, rows) for image, rows in by_photo.items())
    with _opencv_alone():
        results = Parallel(n_jobs=jobs, prefer="threads", batch_size=LOT, pre_dispatch=f"{2 * LOT}*n_jobs",
                           return_as="generator")(work)
        bar = tqdm(results, total=len(by_photo), desc=f"crop {folder.stem}", unit="photo")
        return sizes, [problem for problem in bar if problem]


@contextmanager
def _opencv_alone() -> Iterator[None]:
    """OpenCV without threads of its own, which would stand in the way of those that call it."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _create(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A memory-mapped uint8 array in a new npy file."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).view(np.ndarray)


def thumbnail(photo: np.ndarray) -> np.ndarray:
    """(32, 32) grey picture of a whole photo, for finding near-duplicates by content: area averages.

    A large photo is first shrunk by a whole factor, several times as fast as by any other. The factor is odd, so that
    what does not divide by it can be cut off evenly at both edges, and a mirrored photo has the mirrored thumbnail.
    """
    grey = photo if photo.ndim == 2 else cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    factor = (min(grey.shape) // (2 * THUMBNAIL) - 1) // 2 * 2 + 1
    if factor > 1:
        cells = [length // factor for length in grey.shape]
        cells = [cell - (length - cell) % 2 for cell, length in zip(cells, grey.shape, strict=True)]
        top, left = ((length - cell * factor) // 2 for cell, length in zip(cells, grey.shape, strict=True))
        grey = grey[top : len(grey) - top, left : grey.shape[1] - left]
        grey = cv2.resize(grey, cells[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def warp(photo: np.ndarray, affine: np.ndarray, side: int, out: np.ndarray | None = None) -> np.ndarray:
    """Resample `photo` into (side, side[, 3]) by `affine` (2, 3) photo → crop, without shear; black outside it.

    It is written into `out` where that is given.

    A photo much larger than its crop is first shrunk by a whole factor with area averaging, so that bilinear
    sampling does not alias.
    """
    (a, b, x), (c, d, y) = affine.tolist()
    area = a * d - b * c
    factor = int(1 / math.sqrt(area))
    if factor >= 2:
        us, vs = (-2 - x, side + 1 - x), (-2 - y, side + 1 - y)
        left, right = _span([(d * u - b * v) / area for u in us for v in vs])
        top, bottom = _span([(a * v - c * u) / area for u in us for v in vs])
        part = photo[top:bottom, left:right]  # all that the crop can show
        height, width = (length // factor for length in part.shape[:2])
        if min(height, width) >= 1:
            part = part[: height * factor, : width * factor]
            photo = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
            left, top = left + (factor - 1) / 2, top + (factor - 1) / 2  # middle of the first block that became one
            affine = np.array([[a * factor, b * factor, x + a * left + b * top],
                               [c * factor, d * factor, y + c * left + d * top]])
    return cv2.warpAffine(photo, affine, (side, side), out, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)


def _span(edges: list[float]) -> tuple[int, int]:
    """First whole pixel between the edges and the one after the last, none below 0."""
    return max(math.floor(min(edges)), 0), max(math.ceil(max(edges)) + 1, 0)
