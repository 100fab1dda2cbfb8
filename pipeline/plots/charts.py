"""Charts of training and errors; faces are drawn in `faces.py`. Each function writes one PNG file.

Legend: N faces, K points. Points and truth are (N, K, 2) in image pixels, NaN where missing.
"""

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
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from pipeline.keypoints.geometry import finite_mean, mean_face
from pipeline.keypoints.metrics import Difference, point_errors
from pipeline.keypoints.skeleton import Skeleton, segments

COLUMNS = 3


def draw_curves(path: Path, history: pd.DataFrame) -> None:
    """Draw the losses and the validation MAE of a `results.load_history`: a colour a model, a line a fold."""
    models = list(dict.fromkeys(history["model"]))
    folds = ", ".join(map(str, dict.fromkeys(history["fold"])))
    across, down = min(COLUMNS, len(models) + 1), -(-(len(models) + 1) // COLUMNS)
    figure, grid = plt.subplots(down, across, squeeze=False, figsize=(4 * across, 3.6 * down), layout="constrained")
    axes, last = grid.flat[: len(models)], grid.flat[len(models)]
    for axis in grid.flat[len(models) + 1 :]:
        axis.remove()
    for number, (model, axis) in enumerate(zip(models, axes, strict=True)):
        part, color = history[history["model"] == model], f"C{number}"
        _lines(axis, part, "train_loss", color, ":", "training")
        _lines(axis, part, "val_loss", color, "-", "validation")
        _lines(last, part, "val_mae", color, "-", model)
        axis.set(title=f"{model}: loss", ylabel="loss")
    last.set(title="validation error", ylabel="MAE, image pixels")
    for axis in (*axes, last):
        axis.legend()
        axis.set(xlabel="epoch", yscale="log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(f"A line a fold: {folds}", fontsize=11)
    save(figure, path)


def draw_point_errors(path: Path, points: np.ndarray, truth: np.ndarray, skeleton: Skeleton) -> None:
    """Draw where the errors are: the mean face with each point as large as its mean distance; bars by region.

    Without regions the bars are points, the largest 20.
    """
    errors = point_errors(points, truth)  # N K
    by_point, shape = finite_mean(errors, 0), mean_face(truth)
    figure, (face, bars) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", width_ratios=[1.2, 1])
    face.add_collection(LineCollection(list(shape[segments(skeleton)]), colors="0.8", zorder=1))
    dots = face.scatter(*shape.T, c=by_point, s=40 + 160 * by_point / np.nanmax(by_point), cmap="viridis_r", zorder=2)
    figure.colorbar(dots, ax=face, label="mean distance, image pixels")
    face.set(title="mean error of each point", aspect="equal")
    face.invert_yaxis()
    face.axis("off")
    if skeleton.regions:
        means = {name: finite_mean(errors[:, list(region)], None) for name, region in skeleton.regions.items()}
    else:
        worst = np.argsort(-np.nan_to_num(by_point), kind="stable")[:20]
        means = {skeleton.names[point]: by_point[point] for point in sorted(worst)}
    drawn = bars.barh(list(means), list(means.values()), color="C0")
    bars.bar_label(drawn, fmt="%.2f", padding=3)
    bars.invert_yaxis()
    bars.set(title=f"mean error by {'region' if skeleton.regions else 'point'}", xlabel="mean distance, image pixels",
             ylabel="region" if skeleton.regions else "point", xlim=(0, 1.15 * np.nanmax([*means.values(), 1e-9])))
    bars.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_histogram(path: Path, errors: dict[str, np.ndarray]) -> None:
    """Draw how the MAE of faces is spread: label → (N,), NaN where a face has none; medians are in the legend."""
    found = {label: values[np.isfinite(values)] for label, values in errors.items()}
    everything = np.concatenate(list(found.values()))
    low, high = max(everything.min(), everything.max() / 1e4, 1e-9), max(everything.max(), 1e-8)
    bins = np.geomspace(low, high * 1.001, 50).tolist()
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (label, values) in enumerate(found.items()):
        axis.hist(np.maximum(values, low), bins, histtype="stepfilled", alpha=0.15, color=f"C{number}")
        axis.hist(np.maximum(values, low), bins, histtype="step", lw=1.6, color=f"C{number}",
                  label=f"{label} (median {np.median(values):.2f})")
    axis.set(xscale="log", xlabel="MAE of a face, image pixels", ylabel="faces", title="Errors of faces, out of fold")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend()
    axis.grid(alpha=0.25)
    save(figure, path)


def _lines(axis: Axes, history: pd.DataFrame, column: str, color: str, style: str, label: str) -> None:
    """One line for each run of `history`, all with one label; epochs without a value are passed over."""
    for number, (_, run) in enumerate(history.dropna(subset=[column]).groupby("run", sort=False)):
        axis.plot(run["epoch"], run[column], color=color, ls=style, lw=1.2, marker="." if len(run) < 40 else None,
                  label="_" * (number > 0) + label)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_differences(path: Path, panels: dict[str, dict[str, dict[str, Difference | None]]]) -> None:
    """Draw differences of two errors with their 95% intervals, grey where the interval holds 0.

    Panels are those of `compare.panels`; the first has every comparison.
    """
    places: dict[tuple[str, str | None], float] = {}
    y = 0.0
    for title, rows in next(iter(panels.values())).items():
        places |= {(title, part): y + offset for offset, part in enumerate((None, *rows))}
        y += len(rows) + 1.5
    figure, axes = plt.subplots(1, len(panels), squeeze=False, sharey=True, layout="constrained",
                                figsize=(2.5 + 4.2 * len(panels), 1.3 + 0.27 * y))
    for axis, (head, titles) in zip(axes[0], panels.items(), strict=True):
        for title, faces, found in ((title, *item) for title, rows in titles.items() for item in rows.items()):
            if found is not None:
                color = "0.6" if found.low <= 0 <= found.high else "C0" if found.difference < 0 else "C3"
                place, strong = places[title, faces], faces == "all"
                axis.plot([found.low, found.high], [place, place], color=color, lw=3 if strong else 1.5)
                axis.plot(found.difference, place, "o", color=color, ms=8 if strong else 5)
        axis.axvline(0, color="0.3", lw=1, zorder=0)
        axis.set(title=head, xlabel="difference of the errors, a − b", yticks=list(places.values()))
        axis.set_yticklabels([part or title for title, part in places])
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right", "left"]].set_visible(False)
    for text, (_, part) in zip(axes[0, 0].get_yticklabels(), places, strict=True):
        text.set_fontweight("normal" if part else "bold")
    axes[0, 0].set_ylim(max(places.values()) + 0.7, -0.7)
    legend = {"C0": "a is better", "C3": "b is better", "0.6": "no difference shown"}
    handles = [Line2D([], [], color=color, marker="o", label=label) for color, label in legend.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)
