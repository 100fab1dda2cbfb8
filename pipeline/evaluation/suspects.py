"""Suspected label errors: faces where all members of the ensemble agree, but not with the label.

Legend: N faces, K points.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.files import write_text
from pipeline.data.annotations import BOX, Annotations, dlib_xml
from pipeline.data.store import CropStore
from pipeline.evaluation.breakdown import relative_errors
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.geometry import finite_mean

FENCE = 5.0  # interquartile ranges above the third quartile of a point's errors, beyond which it is far off
AGREE = 1 / 3  # of a point's distance to its label: the members lie no further apart than this
POINTS = 50  # points of a face a contradicted one that it takes: two of 68, one of 15


def find_suspects(
    ensemble: Predictions, members: Sequence[np.ndarray], truth: np.ndarray, scale: np.ndarray
) -> pd.DataFrame:
    """List the train faces whose label all members contradict, the most contradicted first.

    A label is contradicted at a point where every member lies further from it than the fences of Tukey (Exploratory
    Data Analysis, 1977) of that point let expect, and the members lie near each other.

    Args:
        ensemble: out of fold, in the order of the crop store; members: points (N, K, 2) of each; scale: (N,) pixels.

    Returns:
        `face`, `contradicted` (the numbers of the points) and `times`, by how much their errors exceed the fences,
        summed up.
    """
    errors = np.min([relative_errors(points, truth, scale) for points in (*members, ensemble.points)], axis=0)
    apart = np.max([relative_errors(points, ensemble.points, scale) for points in members], axis=0)
    apart = np.maximum(apart, 100 * ensemble.spread / scale[:, None])
    known = np.where(np.isfinite(errors).any(0), errors, 0)
    low, high = np.nanquantile(known, [0.25, 0.75], axis=0)
    fence = np.maximum(high + FENCE * (high - low), 1e-6)
    off = (errors > fence) & (apart < AGREE * errors)
    times = np.where(off, errors / fence, 0).sum(1)
    faces = np.flatnonzero(off.sum(1) >= -(-truth.shape[1] // POINTS))
    faces = faces[np.argsort(-times[faces], kind="stable")]
    return pd.DataFrame({"face": faces, "contradicted": [np.flatnonzero(row) for row in off[faces]],
                         "times": times[faces]})


def write_suspects(folder: Path, suspects: pd.DataFrame, store: CropStore, errors: np.ndarray) -> None:
    """Write `suspects.csv`, which `data.exclude` reads, and `suspects.xml`, in which dlib's imglab shows the labels.

    Errors (N, K) are those of the ensemble, in percent. In the XML, images are named relative to the data folder.
    """
    rows = suspects.face.to_numpy()
    table = store.faces.loc[rows, ["image", *BOX]].reset_index(drop=True)
    annotations = Annotations(faces=table, keypoints=store.truth[rows])
    table = table.assign(face=rows, points=[len(points) for points in suspects.contradicted],
                         error=finite_mean(errors[rows]).round(2))
    write_text(folder / "suspects.csv", table.to_csv(index=False))
    dlib_xml.write(folder / "suspects.xml", annotations, "suspected label errors")
