"""Validation of a data set: every problem at once, and counts of what is unusual but valid."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.annotations import ANY, BOX, Annotations, Layout, formats
from pipeline.data.images import Images
from pipeline.data.symmetry import mirror_problems
from pipeline.keypoints.skeleton import Skeleton

FAR = 1.5  # box sizes from the middle of the box: beyond it, a point belongs to another face or is a slip


@dataclass(frozen=True, kw_only=True)
class Report:
    """Findings in one annotation file.

    Attributes:
        faces, images: how many were read.
        problems: what must be fixed, one message each: file, line, face, what is wrong.
        notes: what is unusual but valid → how often.
    """

    file: Path
    faces: int
    images: int
    problems: tuple[str, ...]
    notes: dict[str, int]


def validate_files(
    root: Path, train: str, test: str | None, skeleton: Skeleton | None, layout: Layout = ANY, *, jobs: int = -1
) -> list[Report]:
    """Read and check the annotations of a competition: `train` with K points a face, `test` with or without.

    Problems of the files stand beside those of the faces that could be read; the skeleton's left/right pairs are held
    against the mean face.

    Args:
        root: the data folder; train, test: in it, the annotations, `test` None where there are none.
        skeleton: the points of the faces; None: any.
        layout: how the annotations are read; its `num_points` is the skeleton's.
        jobs: joblib threads; −1 takes every core.
    """
    reports, num_points = [], skeleton.num_points if skeleton else None
    for name, labelled in ((train, True), (test, False)):
        if name is None:
            continue
        annotations, broken = formats.parse(root, name, replace(layout, num_points=num_points if labelled else None))
        report = validate(annotations, root, num_points, file=root / name, labelled=labelled, jobs=jobs)
        problems, points = sorted([*broken, *report.problems], key=_place), annotations.keypoints
        if labelled and skeleton and points is not None and points.shape[1] == skeleton.num_points:
            seen = np.isfinite(points).all(axis=2).any(axis=1)
            problems += [f"{root / name}: {problem}" for problem in mirror_problems(points[seen], skeleton)]
        reports.append(replace(report, problems=tuple(problems)))
    return reports


def validate(
    annotations: Annotations, root: Path, num_points: int | None, *, file: Path, labelled: bool = True, jobs: int = -1,
) -> Report:
    """Check N faces, and decode every image of theirs: see `validate_files`.

    The index of the faces is the number that messages give a face. With `labelled`, every face must have points.
    """
    faces, points = annotations.faces, annotations.keypoints
    size, reasons = Images(root, annotations.images).sizes(faces.image, jobs)
    if points is None:
        points = np.full((len(faces), 0, 2), np.nan, np.float32)
    check = _Checker(faces=faces, box=faces[BOX].to_numpy(float), size=size, points=points, file=file)
    unreadable = [int(row) for row in np.flatnonzero(~faces.image.duplicated()) if reasons[row]]
    found = [(row, f"image {root / faces.image.iloc[row]} is {reasons[row]}") for row in unreadable]
    found = sorted([*found, *check.boxes(), *check.points_wrong(num_points, labelled)], key=lambda item: item[0])
    problems = [f"{faces['where'].iloc[row]}: face {faces.index[row]} ({faces.image.iloc[row]}): {text}"
                for row, text in found]
    return Report(file=file, faces=len(faces), images=faces.image.nunique(), notes=check.notes(),
                  problems=(*check.absent_points(num_points, labelled), *problems))


def _place(problem: str) -> tuple[str, int]:
    """File and line (or record) of a message `FILE:LINE: …` or `FILE: annotations[RECORD]: …`, for sorting."""
    match = re.match(r"(.*?)(?::(\d+)|: \w+\[(\d+)\])?: ", problem)
    return (match[1], int(match[2] or match[3] or 0)) if match else (problem, 0)


def _listed(indices: np.ndarray) -> str:
    """`point 3` or `points 3, 5`; long lists are cut."""
    shown = ", ".join(map(str, indices[:8])) + (f" and {len(indices) - 8} more" if len(indices) > 8 else "")
    return f"point{'s' if len(indices) > 1 else ''} {shown}"


@dataclass(kw_only=True)
class _Checker:
    """Faces as arrays: box (N, 4), size (N, 2) of the image, points (N, K, 2) with K = 0 where there are none."""

    faces: pd.DataFrame
    box: np.ndarray
    size: np.ndarray
    points: np.ndarray
    file: Path

    @cached_property
    def solid(self) -> np.ndarray:
        """(N,) whether the box has an area."""
        return np.isfinite(self.box).all(axis=1) & (self.box[:, 2:] > 0).all(axis=1)

    def boxes(self) -> Iterator[tuple[int, str]]:
        """Yield rows and problems of boxes: not finite, without area, outside the image, twice."""
        low, high = self.box[:, :2], self.box[:, :2] + self.box[:, 2:]
        finite = np.isfinite(self.box).all(axis=1)
        outside = self.solid & ((high <= 0) | (low >= self.size)).any(axis=1)
        original = self.faces.reset_index(names="face").groupby(["image", *BOX]).face.transform("first").to_numpy()
        again = finite & self.faces.duplicated(["image", *BOX]).to_numpy()
        for row, (left, top, width, height) in enumerate(self.box):
            if not finite[row]:
                yield row, "box is not finite"
            elif not self.solid[row]:
                yield row, f"box without area: width {width:g}, height {height:g}"
            elif outside[row]:
                size = "{:g}×{:g}".format(*self.size[row])
                yield row, f"box at {left:g}, {top:g} lies wholly outside the image of {size} px"
            if again[row]:
                yield row, f"duplicate entry: same image and box as face {original[row]:.0f}"

    def points_wrong(self, num_points: int | None, labelled: bool) -> Iterator[tuple[int, str]]:
        """Yield rows and problems of points: none, too many, not finite, far from their box."""
        present = ~np.isnan(self.points).all(axis=2)  # N K
        broken = present & ~np.isfinite(self.points).all(axis=2)
        middle, side = self.box[:, :2] + (self.box[:, 2:] - 1) / 2, self.box[:, 2:].max(axis=1)
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(self.points - middle[:, None], axis=2)  # N K
        far = self.solid[:, None] & ~broken & (distance > FAR * side[:, None])
        for row in range(len(self.points)):
            used = np.flatnonzero(present[row])
            if labelled and self.points.shape[1] and not used.size:
                yield row, "has no points"
            if num_points and used.size and used[-1] >= num_points:
                yield row, f"wrong number of points: it has point {used[-1]}, the skeleton's last is {num_points - 1}"
            if broken[row].any():
                yield row, f"{_listed(np.flatnonzero(broken[row]))}: x or y is NaN or infinite"
            if far[row].any():
                yield row, f"{_listed(np.flatnonzero(far[row]))}: more than {FAR} box sizes from the middle of the box"

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
        apart = (self.points < low[:, None] - 0.5) | (self.points > high[:, None] - 0.5)
        outside = (self.points < -0.5) | (self.points > self.size[:, None] - 0.5)
        missing = np.isnan(self.points).any(axis=2)
        return {
            "box over the edge of the image": int((self.solid & ((low < 0) | (high > self.size)).any(axis=1)).sum()),
            "box not square": int((self.solid & (self.box[:, 2] != self.box[:, 3])).sum()),
            "points outside the box": int(apart.any(axis=(1, 2)).sum()),
            "points outside the image": int(outside.any(axis=(1, 2)).sum()),
            "some points missing": int((missing.any(axis=1) & ~missing.all(axis=1)).sum()),
            "images with several faces": int((self.faces.image.value_counts() > 1).sum()),
        }
