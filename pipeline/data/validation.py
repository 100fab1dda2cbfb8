"""Validation of a data set: every problem at once, and counts of what is unusual but valid."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.data.annotations import ANY, Annotations, Layout, formats
from pipeline.data.checks import Report, check_faces
from pipeline.data.images import Images
from pipeline.data.split import describe_people
from pipeline.data.symmetry import mirror_problems
from pipeline.keypoints.skeleton import Skeleton


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
        part = replace(layout, num_points=num_points) if labelled else layout.for_test()
        annotations, broken = formats.parse(root, name, part)
        report = validate(annotations, root, num_points, file=root / name, labelled=labelled, jobs=jobs)
        problems, points = sorted([*broken, *report.problems], key=_place), annotations.keypoints
        advice = describe_people(annotations.faces.image) if labelled else ""
        if labelled and skeleton and points is not None and points.shape[1] == skeleton.num_points:
            seen = np.isfinite(points).all(axis=2).any(axis=1)
            problems += [f"{root / name}: {problem}" for problem in mirror_problems(points[seen], skeleton)]
        reports.append(replace(report, problems=tuple(problems), advice=advice))
    return reports


def validate(
    annotations: Annotations, root: Path, num_points: int | None, *, file: Path, labelled: bool = True, jobs: int = -1,
) -> Report:
    """Check N faces, and decode every image of theirs: see `validate_files` and `check_faces`."""
    images, names = Images(root, annotations.images), annotations.faces.image
    size, reasons = images.sizes(names, jobs)
    report = check_faces(annotations, root, size, reasons, file=file, num_points=num_points, labelled=labelled)
    return replace(report, notes={**report.notes, **images.notes(names.unique()), **annotations.notes})


def _place(problem: str) -> tuple[str, int]:
    """File and line (or record) of a message `FILE:LINE: …` or `FILE: annotations[RECORD]: …`, for sorting."""
    match = re.match(r"(.*?)(?::(\d+)|: \w+\[(\d+)\])?: ", problem)
    return (match[1], int(match[2] or match[3] or 0)) if match else (problem, 0)
