"""Every picture. Each function writes one PNG file; none shows a window.

Legend: N faces, K points. Points and truth are (N, K, 2) in photo pixels, NaN where missing.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from pipeline import geometry
from pipeline.crops import CropStore
from pipeline.scoring import face_mae, point_errors
from pipeline.skeleton import Skeleton, segments

TRUTH, PREDICTED = "#3fe06a", "#ff4035"
COLUMNS = 6
SIDE = 2.5  # inches of a face in a grid


def draw_curves(path: Path, history: pd.DataFrame) -> None:
    """Training and validation loss, and validation MAE in photo pixels, by epoch: a colour a model, a line a fold.

    Args:
        history: see `metrics.load_history`.
    """
    models = list(dict.fromkeys(history["model"]))
    figure, axes = plt.subplots(1, len(models) + 1, figsize=(5.2 * (len(models) + 1), 4.2), layout="constrained")
    for number, model in enumerate(models):
        part = history[history["model"] == model]
        for label, style in (("train_loss", ":"), ("val_loss", "-")):
            _lines(axes[number], part, label, f"C{number}", style)
        handles = [Line2D([], [], color=f"C{number}", ls=style, label=label)
                   for label, style in (("training", ":"), ("validation", "-"))]
        axes[number].set(title=f"{model}: loss", xlabel="epoch", yscale="log")
        axes[number].legend(handles=handles)
        _lines(axes[-1], part, "val_mae", f"C{number}", "-")
    axes[-1].set(title="validation MAE, photo pixels", xlabel="epoch", yscale="log")
    axes[-1].legend(handles=[Line2D([], [], color=f"C{number}", label=model) for number, model in enumerate(models)])
    for axis in axes:
        axis.grid(which="both", alpha=0.25)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="y", which="minor", labelsize=7)
    _save(figure, path)


def draw_faces(
    path: Path, store: CropStore, rows: Sequence[int], points: np.ndarray, skeleton: Skeleton,
    truth: np.ndarray | None = None, captions: Sequence[str] | None = None, title: str | None = None,
) -> None:
    """A grid of faces with the predicted points in red and, where there is one, the truth in green.

    Args:
        store: the crops that hold the faces.
        rows: which of them to draw.
        points, truth: of all faces of the store.
        captions: one for each of `rows`.
    """
    down, across = -(-len(rows) // COLUMNS), min(COLUMNS, len(rows))
    tall, head = (SIDE + 0.3) * down + 0.1, 0.4 if title else 0  # inches
    figure, axes = plt.subplots(
        down, across, squeeze=False, figsize=(SIDE * across, tall + head),
        gridspec_kw={"left": 0.005, "right": 0.995, "bottom": 0.01, "top": 1 - (0.3 + head) / (tall + head),
                     "wspace": 0.04, "hspace": 0.12},
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, row) in enumerate(zip(axes.flat, rows, strict=False)):
        affine, side, cut = store.affines[row], store.crops.shape[1], store.border / 2
        axis.imshow(store.crops[row], cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
        if truth is not None:
            _face(axis, geometry.transform(affine, truth[row]), skeleton, TRUTH)
        _face(axis, geometry.transform(affine, points[row]), skeleton, PREDICTED)
        axis.set(xlim=(cut - 0.5, side - cut - 0.5), ylim=(side - cut - 0.5, cut - 0.5))
        if captions is not None:
            axis.set_title(captions[number], fontsize=9)
    if title:
        figure.suptitle(title, y=1 - 0.1 / (tall + head), va="top")
    _save(figure, path)


def draw_extremes(
    path: Path, store: CropStore, points: np.ndarray, skeleton: Skeleton, *, worst: bool, count: int = 12
) -> None:
    """The train faces with the largest or the smallest error relative to their box, truth beside prediction.

    The caption has the MAE in photo pixels and in percent of the box's longer side, which ranks the faces: in pixels
    alone the largest photos would always be the worst.
    """
    truth = store.keypoints
    errors = face_mae(points, truth)
    relative = 100 * errors / store.faces[["width", "height"]].max(axis=1).to_numpy()
    order = np.argsort(np.where(np.isnan(relative), np.inf, relative), kind="stable")
    order = order[: np.isfinite(relative).sum()]
    rows = order[::-1][:count] if worst else order[:count]
    captions = [f"face {row}: {errors[row]:.2f} px ({relative[row]:.1f}%)" for row in rows]
    title = f"{'Worst' if worst else 'Best'} faces by MAE over the box: truth green, prediction red"
    draw_faces(path, store, rows, points, skeleton, truth, captions, title)


def draw_point_errors(path: Path, points: np.ndarray, truth: np.ndarray, skeleton: Skeleton) -> None:
    """Where the errors are: the mean face with each point as large as its mean distance; bars by region."""
    errors = point_errors(points, truth)  # N K
    by_point = _column_means(errors)
    known = truth[np.isfinite(truth).all(-1).any(-1)]
    centred = known - np.nanmean(known, axis=1, keepdims=True)
    size = np.sqrt(np.nanmean(np.square(centred), axis=(1, 2), keepdims=True))
    shape = np.stack([_column_means(axis) for axis in np.moveaxis(centred / size, -1, 0)], axis=-1)  # K 2
    figure, (face, bars) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", width_ratios=[1.2, 1])
    face.add_collection(LineCollection(shape[segments(skeleton)] if skeleton.edges else [], colors="0.8", zorder=1))
    dots = face.scatter(*shape.T, c=by_point, s=40 + 160 * by_point / np.nanmax(by_point), cmap="viridis_r", zorder=2)
    figure.colorbar(dots, ax=face, label="mean distance, photo pixels")
    face.set(title="mean error of each point", aspect="equal")
    face.invert_yaxis()
    face.axis("off")
    regions = skeleton.regions or {"all": tuple(range(skeleton.num_points))}
    means = [float(np.nanmean(errors[:, list(region)])) for region in regions.values()]
    drawn = bars.barh(list(regions), means, color="C0")
    bars.bar_label(drawn, fmt="%.2f", padding=3)
    bars.invert_yaxis()
    bars.set(title="mean error by region", xlabel="mean distance, photo pixels", xlim=(0, 1.15 * max(means)))
    bars.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_histogram(path: Path, errors: dict[str, np.ndarray], unit: str = "MAE of a face, photo pixels") -> None:
    """How the errors of faces are spread, a line a model, with the median in the legend; the axis is logarithmic.

    Args:
        errors: label → (N,) error of each face, NaN where it has none.
    """
    found = {label: values[np.isfinite(values)] for label, values in errors.items()}
    everything = np.concatenate(list(found.values()))
    low, high = max(everything.min(), everything.max() / 1e4, 1e-9), max(everything.max(), 1e-8)
    bins = np.geomspace(low, high * 1.001, 50)
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (label, values) in enumerate(found.items()):
        axis.hist(np.maximum(values, low), bins, histtype="stepfilled", alpha=0.15, color=f"C{number}")
        axis.hist(np.maximum(values, low), bins, histtype="step", lw=1.6, color=f"C{number}",
                  label=f"{label} (median {np.median(values):.2f})")
    axis.set(xscale="log", xlabel=unit, ylabel="faces", title="Errors of the faces, out of fold")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend()
    axis.grid(alpha=0.25)
    _save(figure, path)


def _lines(axis: Axes, history: pd.DataFrame, column: str, color: str, style: str) -> None:
    """One line for each run of `history`; epochs without a value are passed over."""
    for _, run in history.dropna(subset=[column]).groupby("run", sort=False):
        axis.plot(run["epoch"], run[column], color=color, ls=style, lw=1.2, marker="." if len(run) < 40 else None)


def _face(axis: Axes, points: np.ndarray, skeleton: Skeleton, color: str) -> None:
    """Points (K, 2) in pixels of the picture, and the lines between them."""
    axis.add_collection(LineCollection(points[segments(skeleton)] if skeleton.edges else [], colors=color, lw=0.6))
    axis.plot(*points.T, ".", color=color, ms=5, mew=0)


def _column_means(values: np.ndarray) -> np.ndarray:
    """Mean of each column over its finite values; NaN where there is none, without a warning."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    return np.where(finite, values, 0).sum(0) / np.where(count, count, np.nan)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
