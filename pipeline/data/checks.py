"""Checks of faces against their images, the same in `validate` and in `crop`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.annotations import BOX, Annotations

FAR = 1.5  # box sizes from the middle of the box: beyond it, a point belongs to another face or is a slip
LARGE = 10  # longer sides of the image: a larger box is a slip


@dataclass(frozen=True, kw_only=True)
class Report:
    """Findings in one annotation file.

    Attributes:
        faces, images: how many were read.
        problems: what must be fixed, one message each: file, line, face, what is wrong.
        doubts: those of them that are possible, so that `crop` only counts them: far points, no points, entries twice.
        notes: what is unusual but valid → how often.
        advice: what to set, as the names of the images suggest; "" for nothing.
    """

    file: Path
    faces: int
    images: int
    problems: tuple[str, ...]
    doubts: tuple[str, ...]
    notes: dict[str, int]
    advice: str = ""


def check_faces(
    annotations: Annotations, root: Path, size: np.ndarray, reasons: list[str], *, file: Path,
    num_points: int | None = None, labelled: bool = False,
) -> Report:
    """Check N faces against the measures of their images.

    Args:
        annotations: the index of the faces is the number that messages give a face.
        root: the data folder.
        size, reasons: (N, 2) width and height, NaN where there is no readable image, and why: see `Images.sizes`.
        file: that messages about the whole data set name.
        num_points: K of the skeleton; None: any.
        labelled: whether every face must have points, and every point a face.
    """
    faces, points = annotations.faces, annotations.keypoints
    if points is None:
        points = np.full((len(faces), 0, 2), np.nan, np.float32)
    check = _Checker(faces=faces, box=faces[BOX].to_numpy(float), size=size, points=points, file=file,
                     boxes_made=0 < len(faces) == annotations.boxes_made)
    unreadable = [(int(row), f"image {root / faces.image.iloc[row]} is {reasons[row]}")
                  for row in np.flatnonzero(~faces.image.duplicated()) if reasons[row]]
    wrong = [*unreadable, *check.boxes_wrong(), *check.points_wrong(num_points)]
    doubtful = [*check.boxes_doubtful(), *check.points_doubtful(labelled)]

    def messages(found: list[tuple[int, str]]) -> tuple[str, ...]:
        return tuple(f"{faces['where'].iloc[row]}: face {faces.index[row]} ({faces.image.iloc[row]}): {text}"
                     for row, text in sorted(found, key=lambda item: item[0]))

    return Report(file=file, faces=len(faces), images=faces.image.nunique(), notes=check.notes(),
                  problems=(*check.absent_points(num_points, labelled), *messages(wrong + doubtful)),
                  doubts=messages(doubtful))


def solid_boxes(box: np.ndarray) -> np.ndarray:
    """(N,) whether the box (N, 4) is finite and at least a pixel wide and high."""
    return np.isfinite(box).all(axis=1) & (box[:, 2:] >= 1).all(axis=1)


def _listed(indices: np.ndarray) -> str:
    """`point 3` or `points 3, 5`; long lists are cut."""
    shown = ", ".join(map(str, indices[:8])) + (f" and {len(indices) - 8} more" if len(indices) > 8 else "")
    return f"point{'s' if len(indices) > 1 else ''} {shown}"


@dataclass(kw_only=True)
class _Checker:
    """Faces as arrays: box (N, 4), size (N, 2) of the image, points (N, K, 2) with K = 0 where there are none.

    `boxes_made` tells that no face had a box of its own.
    """

    faces: pd.DataFrame
    box: np.ndarray
    size: np.ndarray
    points: np.ndarray
    file: Path
    boxes_made: bool

    @cached_property
    def solid(self) -> np.ndarray:
        """(N,) see `solid_boxes`."""
        return solid_boxes(self.box)

    @cached_property
    def far(self) -> np.ndarray:
        """(N, K) whether the point is far from its box."""
        middle, side = self.box[:, :2] + (self.box[:, 2:] - 1) / 2, self.box[:, 2:].max(axis=1)
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(self.points - middle[:, None], axis=2)
        return self.solid[:, None] & np.isfinite(distance) & (distance > FAR * side[:, None])

    def boxes_wrong(self) -> Iterator[tuple[int, str]]:
        """Yield rows and problems of boxes: not finite, without area, of no possible size, outside the image."""
        low, high = self.box[:, :2], self.box[:, :2] + self.box[:, 2:]
        finite = np.isfinite(self.box).all(axis=1)
        outside = self.solid & ((high <= 0) | (low >= self.size)).any(axis=1)
        large = self.solid & (self.box[:, 2:].max(axis=1) > LARGE * self.size.max(axis=1))
        for row, (left, top, width, height) in enumerate(self.box):
            size = "{:g}×{:g} px".format(*self.size[row])
            if not finite[row]:
                yield row, "box is not finite"
            elif min(width, height) <= 0:
                yield row, f"box without area: width {width:g}, height {height:g}"
            elif not self.solid[row]:
                yield row, f"box of less than a pixel: width {width:g}, height {height:g}"
            elif outside[row]:
                yield row, f"box at {left:g}, {top:g} lies wholly outside the image of {size}"
            elif large[row]:
                yield row, f"box of {width:g}×{height:g} is over {LARGE} times as large as the image of {size}"

    def boxes_doubtful(self) -> Iterator[tuple[int, str]]:
        """Yield rows of boxes that stand twice."""
        same = ["image", *BOX]
        original = self.faces.reset_index(names="face").groupby(same).face.transform("first").to_numpy()
        again = np.isfinite(self.box).all(axis=1) & self.faces.duplicated(same).to_numpy()
        for row in np.flatnonzero(again):
            yield int(row), f"duplicate entry: same image and box as face {original[row]:.0f}"

    def points_wrong(self, num_points: int | None) -> Iterator[tuple[int, str]]:
        """Yield rows and problems of points: too many, not finite."""
        present = ~np.isnan(self.points).all(axis=2)  # N K
        broken = present & ~np.isfinite(self.points).all(axis=2)
        for row in range(len(self.points)):
            used = np.flatnonzero(present[row])
            if num_points and used.size and used[-1] >= num_points:
                yield row, f"wrong number of points: it has point {used[-1]}, the skeleton's last is {num_points - 1}"
            if broken[row].any():
                yield row, f"{_listed(np.flatnonzero(broken[row]))}: x or y is NaN or infinite"

    def points_doubtful(self, labelled: bool) -> Iterator[tuple[int, str]]:
        """Yield rows and problems of points: none, far from their box."""
        for row in range(len(self.points)):
            if labelled and self.points.shape[1] and np.isnan(self.points[row]).all():
                yield row, "has no points"
            if self.far[row].any():
                far = np.flatnonzero(self.far[row])
                yield row, f"{_listed(far)}: more than {FAR} box sizes from the middle of the box"

    def absent_points(self, num_points: int | None, labelled: bool) -> Iterator[str]:
        """Yield problems of the file as a whole: points that the skeleton has and no face has."""
        if not labelled or not len(self.faces):
            return
        if not self.points.shape[1]:
            yield f"{self.file}: no face has any points; the faces to train on need them"
        elif num_points:
            present = np.isfinite(self.points).all(axis=2).any(axis=0)[:num_points]
            absent = np.flatnonzero(~np.pad(present, (0, num_points - len(present))))
            if absent.size:
                yield (f"{self.file}: wrong number of points: no face has {_listed(absent)} of the skeleton's "
                       f"{num_points}; choose the skeleton of this file")

    def notes(self) -> dict[str, int]:
        """Count what is unusual but valid, in faces (in images, where it says so)."""
        low, high = self.box[:, :2], self.box[:, :2] + self.box[:, 2:]
        over = ((low < 0) | (high > self.size)).any(axis=1)
        apart = (self.points < low[:, None] - 0.5) | (self.points > high[:, None] - 0.5)
        outside = (self.points < -0.5) | (self.points > self.size[:, None] - 0.5)
        missing = np.isnan(self.points).any(axis=2)
        boxes = {
            "faces whose box is over the edge of the image": int((self.solid & over).sum()),
            "faces whose box is not square": int((self.solid & (self.box[:, 2] != self.box[:, 3])).sum()),
            "faces with points outside the box": int(apart.any(axis=(1, 2)).sum()),
        }
        return ({} if self.boxes_made else boxes) | {
            "faces with points outside the image": int(outside.any(axis=(1, 2)).sum()),
            "faces with some points missing": int((missing.any(axis=1) & ~missing.all(axis=1)).sum()),
            "images with several faces": int((self.faces.image.value_counts() > 1).sum()),
        }
