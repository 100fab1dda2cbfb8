"""Face crops, cut from the images into a crop store."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydantic import Field
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import atomic_path, reserve
from pipeline.common.types import CHECKED, Integer, Number
from pipeline.data.annotations import BOX, Annotations
from pipeline.data.checks import Report, check_faces, solid_boxes
from pipeline.data.images import Images
from pipeline.data.store import AFFINE
from pipeline.keypoints.geometry import compose, crop_affine, translation

THUMBNAIL = 32
LOT = 32  # images that a thread is given at once


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
    mirrored: re.Pattern[str] | None = None

    def affines(self, images: Sequence[str]) -> np.ndarray:
        """Compute the affine label → image of each of N images: (N, 2, 3), a shift."""
        right, below = self.offset
        shifts = np.tile(translation(-right, -below), (len(images), 1, 1))
        if self.mirrored is not None:
            shifts[[self.mirrored.search(image) is not None for image in images], 0, 2] = right
        return shifts


NO_OFFSET = LabelOffset()


def store_size(size: int, padding: float) -> int:
    """Compute the side of the stored crop: at least `padding` times `size`, the border on each side a whole number."""
    return size + 2 * int(np.ceil(size * (padding - 1) / 2))


def write_crops(
    annotations: Annotations, root: Path, folder: Path, geometry: CropGeometry, labels: LabelOffset = NO_OFFSET,
    jobs: int = -1,
) -> Report:
    """Cut every face by its box: see `crop_affine` and `write_store`."""
    boxes = annotations.faces[BOX].to_numpy(np.float64)
    boxes = np.where(solid_boxes(boxes)[:, None], boxes, [0, 0, 1, 1])  # the others are refused with all problems
    affines = crop_affine(boxes, size=geometry.size, margin=geometry.margin, shift_y=geometry.shift_y)
    return write_store(annotations, root, folder, affines, geometry, labels, jobs)


def write_store(
    annotations: Annotations, root: Path, folder: Path, affines: np.ndarray, geometry: CropGeometry,
    labels: LabelOffset = NO_OFFSET, jobs: int = -1,
) -> Report:
    """Cut every face and write a crop store to `folder`, atomically; return what `check_faces` found.

    Args:
        root: folder that `annotations.faces.image` is relative to.
        affines: (N, 2, 3) image → input of each face, without shear.
        geometry: its `size`, `padding` and `color`.
        jobs: joblib threads; −1 takes every core.

    Raises:
        UserError: names every problem of the faces, their images among them, but for the doubts.
    """
    faces, side = annotations.faces, store_size(geometry.size, geometry.padding)
    border = (side - geometry.size) // 2
    affines = compose(translation(border, border), affines)
    with atomic_path(folder) as partial:
        partial.mkdir()
        images = Images(root, annotations.images)
        sizes, reasons = _cut(faces, images, affines, partial, side, geometry.color, jobs)
        report = check_faces(annotations, root, sizes, reasons, file=root)
        if problems := [problem for problem in report.problems if problem not in set(report.doubts)]:
            raise UserError(*problems)
        table = faces.drop(columns="where").assign(
            photo_width=sizes[:, 0].astype(np.int64), photo_height=sizes[:, 1].astype(np.int64),
            source=_sources(faces.image),
        )
        table[AFFINE] = compose(affines, labels.affines(faces.image)).reshape(-1, 6)
        table.to_csv(partial / "faces.csv", index_label="face")
        if annotations.keypoints is not None:
            np.save(partial / "keypoints.npy", annotations.keypoints)
        (partial / "store.json").write_text(json.dumps(asdict(geometry)))
    return report


def _sources(images: Sequence[str]) -> list[str]:
    """Name the source of each image: its first folder below those that all have in common, else the last of these."""
    folders = [PurePosixPath(image).parent for image in images]
    common = len(PurePosixPath(os.path.commonpath(folders)).parts) if folders else 0
    return [(folder.parts[common:] or folder.parts[-1:] or ("photos",))[0] for folder in folders]


def _cut(
    faces: pd.DataFrame, source: Images, affines: np.ndarray, folder: Path, side: int, color: str, jobs: int
) -> tuple[np.ndarray, list[str]]:
    """Write `crops.npy` and `photos.npy`; return sizes (N, 2) and N reasons of the images, as `Images.sizes` does."""
    shape = (len(faces), side, side) if color == "grey" else (len(faces), side, side, 3)
    crops, thumbnails = (  # memory-mapped
        np.lib.format.open_memmap(folder / name, mode="w+", dtype=np.uint8, shape=shape).view(np.ndarray)
        for name, shape in [("crops.npy", shape), ("photos.npy", (len(faces), THUMBNAIL, THUMBNAIL))])
    for name in ("crops.npy", "photos.npy"):
        reserve(folder / name)
    sizes, reasons = np.full((len(faces), 2), np.nan), np.full(len(faces), "", object)

    @delayed
    def cut(name: str, rows: np.ndarray) -> None:
        image = source.read(name, color)
        if image is None:
            reasons[rows] = source.reason(name)
            return
        thumbnails[rows], sizes[rows] = thumbnail(image), image.shape[1::-1]
        for row in rows:
            warp(image, affines[row], side, out=crops[row])

    by_image = faces.groupby("image", sort=False).indices
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # threads of its own would slow down those that call it
    try:
        results = Parallel(n_jobs=jobs, prefer="threads", batch_size=LOT, pre_dispatch=f"{2 * LOT}*n_jobs",
                           return_as="generator")(cut(name, rows) for name, rows in by_image.items())
        for _ in tqdm(results, total=len(by_image), desc=f"crop {folder.stem}", unit="image", disable=None):
            pass
        return sizes, reasons.tolist()
    finally:
        cv2.setNumThreads(threads)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink a whole image to (32, 32) grey by area averages, for finding near-duplicates by content.

    A large image is first shrunk by a whole factor, several times as fast as by any other. The factor is odd, so that
    what does not divide by it can be cut off evenly at both edges, and a mirrored image has the mirrored thumbnail.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    factor = (min(grey.shape) // (2 * THUMBNAIL) - 1) // 2 * 2 + 1
    if factor > 1:
        cells = [length // factor - (length - length // factor) % 2 for length in grey.shape]
        top, left = ((length - cell * factor) // 2 for cell, length in zip(cells, grey.shape, strict=True))
        grey = grey[top : len(grey) - top, left : grey.shape[1] - left]
        grey = cv2.resize(grey, cells[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def warp(image: np.ndarray, affine: np.ndarray, side: int, out: np.ndarray | None = None) -> np.ndarray:
    """Resample `image` into (side, side[, 3]) by `affine` (2, 3) image → crop, without shear; black outside it.

    It is written into `out` where that is given. An image much larger than its crop is first shrunk by a whole factor
    with area averaging, so that bilinear sampling does not alias.
    """
    (a, b, x), (c, d, y) = affine.tolist()
    area = a * d - b * c
    factor = int(1 / math.sqrt(area))
    if factor >= 2:
        corners = [(u - x, v - y) for u in (-2, side + 1) for v in (-2, side + 1)]
        left, right = _span([(d * u - b * v) / area for u, v in corners])
        top, bottom = _span([(a * v - c * u) / area for u, v in corners])
        part = image[top:bottom, left:right]  # all that the crop can show
        height, width = (length // factor for length in part.shape[:2])
        if min(height, width) >= 1:
            part = part[: height * factor, : width * factor]
            image = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
            u, v = left + (factor - 1) / 2, top + (factor - 1) / 2  # middle of the first block of pixels
            affine = np.array([[a * factor, b * factor, x + a * u + b * v],
                               [c * factor, d * factor, y + c * u + d * v]])
    return cv2.warpAffine(image, affine, (side, side), out, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)


def _span(edges: list[float]) -> tuple[int, int]:
    """First whole pixel between the edges and the one after the last, none below 0."""
    return max(math.floor(min(edges)), 0), max(math.ceil(max(edges)) + 1, 0)
