"""Charts of training and errors; faces are drawn in `faces.py`. Each function writes one picture, of any format.

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
SIZE = (5.6, 3.8)  # inches of a single chart, readable at the width of a phone
INK = "#010203"  # of text and axes; a page that shows the SVG puts its own colour there
matplotlib.rcParams |= dict.fromkeys(
    ["text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"], INK)
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "keypoint-folds", "legend.frameon": False}


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
    figure, (face, bars) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", width_ratios=[1.2, 1])
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
    figure, axis = plt.subplots(figsize=SIZE, layout="constrained")
    for number, (label, values) in enumerate(found.items()):
        axis.hist(np.maximum(values, low), bins, histtype="stepfilled", alpha=0.15, color=f"C{number}")
        axis.hist(np.maximum(values, low), bins, histtype="step", lw=1.6, color=f"C{number}",
                  label=f"{label} (median {np.median(values):.2f})")
    axis.set(xscale="log", xlabel="MAE of a face, image pixels", ylabel="faces", title="Errors of faces, out of fold")
    few, many = (1, 2, 5) if high < 500 * low else (1,), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    axis.xaxis.set_major_locator(LogLocator(subs=many if high < 8 * low else few))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    axis.grid(alpha=0.25)
    save(figure, path)


def draw_cumulative(path: Path, errors: dict[str, np.ndarray], limit: float, unit: str) -> None:
    """Draw the share of faces below each error up to `limit`: label → (N,) in percent of `unit`, NaN where none."""
    figure, axis = plt.subplots(figsize=SIZE, layout="constrained")
    for label, values in errors.items():
        known = np.sort(values[np.isfinite(values)])
        axis.step([0, *known], np.linspace(0, 100, len(known) + 1), where="post", label=label, lw=1.6)
    axis.set(xlim=(0, limit), ylim=(0, 101), xlabel=f"mean error of a face, % of the {unit}", ylabel="faces, %",
             title="Cumulative errors of faces, out of fold")
    axis.legend(fontsize=8, loc="lower right")
    axis.grid(alpha=0.25)
    save(figure, path)


def draw_calibration(path: Path, levels: np.ndarray, shares: np.ndarray) -> None:
    """Draw the shares of points within their intervals against the shares that the intervals state."""
    figure, axis = plt.subplots(figsize=SIZE, layout="constrained")
    axis.plot([0, 100], [0, 100], color="0.6", ls="--", lw=1, label="as stated")
    axis.plot(100 * levels, 100 * shares, "o-", color="C0", label="measured")
    low = max(0, 100 * min(levels.min(), shares.min()) - 5)
    axis.set(xlim=(low, 101), ylim=(low, 101), xlabel="stated share of points within, %",
             ylabel="out-of-fold points within, %", title="Calibration of the intervals")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25)
    save(figure, path)


def _lines(axis: Axes, history: pd.DataFrame, column: str, color: str, style: str, label: str) -> None:
    """One line for each run of `history`, all with one label; epochs without a value are passed over."""
    for number, (_, run) in enumerate(history.dropna(subset=[column]).groupby("run", sort=False)):
        axis.plot(run["epoch"], run[column], color=color, ls=style, lw=1.2, marker="." if len(run) < 40 else None,
                  label="_" * (number > 0) + label)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix and close it; an SVG is transparent and the same each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    extra: dict = {}
    if path.suffix == ".svg":
        extra = {"transparent": True, "metadata": dict.fromkeys(["Date", "Creator", "Format", "Type"])}
    figure.savefig(path, dpi=110, **extra)
    plt.close(figure)


def inline_svg(path: Path) -> str:
    """Read an SVG that `save` wrote, to stand in a page and take the colour of its text."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg"):].replace(INK, "currentColor")


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
