"""Pictures of faces: points on crops and on whole images, filters, heatmaps. Each function writes one picture.

Legend: N faces, K points, S side of the input in pixels. Points and truth are (N, K, 2), NaN where missing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import cv2
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.common.errors import UserError
from pipeline.data.store import CropStore
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import Skeleton, segments
from pipeline.plots.charts import save
from pipeline.plots.heatmaps import Heatmaps

TRUTH, PREDICTED, BOX = "#3fe06a", "#ff4035", "#ffd21f"
COLUMNS = 4
SIDE = 2.7  # inches of a face in a grid; at page width it is shown at about that size
FILTERS = 64  # the most that are drawn
FACE, LONGEST = 240, 2000  # pixels: the smallest face of a drawn image, if its longer side may grow so far


def draw_faces(
    path: Path, store: CropStore, faces: Mapping[int, str], points: np.ndarray, skeleton: Skeleton,
    truth: np.ndarray | None = None, title: str | None = None,
) -> None:
    """Draw a grid of faces with the predicted points in red and, where there is one, the truth in green.

    Faces are the rows to draw, at least one, each with its caption; points and truth are those of the whole store.
    """
    figure, axes = _grid(len(faces), title)
    for axis, (row, caption) in zip(axes, faces.items(), strict=False):
        _image(axis, store.crops[row])
        for drawn, color in ((truth, TRUTH), (points, PREDICTED)):
            if drawn is not None:
                _face(axis, geometry.transform(store.affines[row], drawn[row]), skeleton, color)
        _limits(axis, store.border / 2, store.crops.shape[1] - store.border / 2)
        axis.set_title(caption, fontsize=9)
    save(figure, path)


def draw_samples(
    path: Path, images: np.ndarray, points: np.ndarray, skeleton: Skeleton, captions: Sequence[str]
) -> None:
    """Draw what the loader gives the network: augmented inputs with their points, also those that lie outside.

    Images are (n, S, S) grey or (n, S, S, 3) RGB uint8, points (n, K, 2) in input pixels.
    """
    figure, axes = _grid(len(images), "Training samples as the network sees them, augmented, with their points")
    side = images.shape[1]
    for axis, image, own, caption in zip(axes, images, points, captions, strict=False):
        _image(axis, image)
        _face(axis, own, skeleton, TRUTH)
        _limits(axis, -0.05 * side, 1.05 * side)
        axis.set_title(caption, fontsize=9)
    save(figure, path)


def draw_filters(path: Path, filters: np.ndarray, label: str) -> None:
    """Draw the filters (F, C, h, w) of a first convolution: RGB where C is 3, else their mean over C in grey."""
    count, channels, height, width = filters.shape
    shown = filters[:FILTERS] if channels == 3 else filters[:FILTERS].mean(1, keepdims=True)
    top = np.abs(shown).max(axis=(1, 2, 3), keepdims=True)
    tiles = (0.5 + shown / np.where(top, top, 1) / 2).transpose(0, 2, 3, 1)  # n h w C
    part = f"the first {FILTERS} of {count}" if count > FILTERS else f"its {count}"
    title = (f"{label}: first convolution, {part} filters of {height}×{width}"
             f"\n{'RGB' if channels == 3 else 'white positive, black negative'}, grey 0, each on its own scale")
    figure, axes = _grid(len(tiles), title, columns=min(16, len(tiles)), side=10.8 / 16, caption=0.18)
    for number, (axis, tile) in enumerate(zip(axes, tiles.squeeze(-1) if channels != 3 else tiles, strict=False)):
        axis.imshow(tile, cmap="gray", vmin=0, vmax=1)
        axis.set_title(str(number), fontsize=8, pad=1.5)
    save(figure, path)


def draw_heatmaps(path: Path, store: CropStore, heatmaps: Heatmaps, skeleton: Skeleton, label: str) -> None:
    """Draw heatmaps over the crops, framed by the input: all points in one, then single points with the one decoded."""
    everything = [list(range(skeleton.num_points))] if skeleton.num_points > 1 else []
    panels = [*everything, *([point] for point in _chosen_points(skeleton))]
    title = f"{label}: heatmaps over the crop, each scaled to its highest cell; the frame is what the network sees"
    columns = len(panels) if len(panels) > 1 else len(heatmaps.rows)
    figure, axes = _grid(len(heatmaps.rows) * len(panels), title, columns, 10.8 / max(len(panels), 3), 0.45)
    edges = (-store.border - 0.5, store.size + store.border - 0.5)
    for number, axis in enumerate(axes):
        face, panel = number // len(panels), panels[number % len(panels)]
        row = heatmaps.rows[face]
        _image(axis, store.crops[row], edges)
        highest = _heat(axis, heatmaps.maps[face, panel], heatmaps.extent)
        axis.add_patch(Rectangle((-0.5, -0.5), store.size, store.size, fill=False, ec="white", lw=1, ls="--"))
        if len(panel) > 1:
            axis.set_title(f"face {row}\nall points", fontsize=9)
        else:
            axis.plot(*heatmaps.points[face, panel[0]], "o", color="white", mec="black", ms=5)
            axis.set_title(f"face {row}: point {skeleton.names[panel[0]]}\nhighest cell {highest:.2f}", fontsize=9)
    save(figure, path)


def draw_image(path: Path, image: np.ndarray, boxes: np.ndarray, points: np.ndarray, skeleton: Skeleton) -> None:
    """Draw a whole image with its boxes in yellow, each numbered, and the points in red; small faces are enlarged.

    The image is (H, W, 3) RGB uint8; boxes (N, 4) left, top, width, height and points (N, K, 2) are in image pixels.
    A UserError says that the picture cannot be written.
    """
    scale = min(max(FACE / boxes[:, 2:].max(axis=1).min(), 1.0), max(LONGEST / max(image.shape[:2]), 0.1))
    size = [max(round(scale * length), 1) for length in image.shape[1::-1]]
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for number, (left, top, width, height) in enumerate(boxes):
        side = scale * max(width, height)
        line, dot = max(round(side / 150), 1), max(side / 80, 2.2) * (2 if skeleton.num_points < 30 else 1)
        corners = np.array([[left, top], [left + width, top + height]]) * scale - 0.5
        start, end = (tuple(map(int, corner.round())) for corner in corners)
        cv2.rectangle(canvas, start, end, _rgb(BOX), line, cv2.LINE_AA)
        text = max(side / 300, 0.7)
        cv2.putText(canvas, str(number), (start[0] + 3 * line, start[1] + round(26 * text)), cv2.FONT_HERSHEY_SIMPLEX,
                    text, _rgb(BOX), max(round(2 * text), 1), cv2.LINE_AA)
        places = (points[number] + 0.5) * scale - 0.5
        known = np.isfinite(places).all(-1)
        fixed = np.round(16 * np.where(known[:, None], places, 0)).astype(int).tolist()  # as drawn with a shift of 4
        for i, j in segments(skeleton):
            if known[i] and known[j]:
                cv2.line(canvas, fixed[i], fixed[j], _rgb(PREDICTED), line, cv2.LINE_AA, 4)
        for point in np.flatnonzero(known):
            cv2.circle(canvas, fixed[point], round(16 * dot), _rgb(PREDICTED), -1, cv2.LINE_AA, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR)):
        raise UserError(f"{path}: cannot be written")


def _grid(
    count: int, title: str | None, columns: int = COLUMNS, side: float = SIDE, caption: float = 0.3
) -> tuple[Figure, np.ndarray]:
    """A figure with `count` or a few more square axes of `side` inches, each with room for a caption above it."""
    across, down = min(columns, count), -(-count // columns)
    wide = max(side * across, 2 * SIDE)  # inches, as all that follows
    lines = [line for part in (title or "").splitlines() for line in wrap(part, int(10 * wide))]
    head = 0.12 + 0.25 * len(lines) if lines else 0.05
    tall = head + (side + caption) * down + 0.05
    figure = plt.figure(figsize=(wide, tall))
    axes, gap = [], 0.03 * side
    for number in range(across * down):
        row, column = divmod(number, across)
        left, bottom = column * side + gap, tall - head - (row + 1) * (side + caption) + gap
        axis = figure.add_axes((left / wide, bottom / tall, (side - 2 * gap) / wide, (side - 2 * gap) / tall))
        axis.set(xticks=[], yticks=[], visible=number < count)
        axis.spines[:].set_visible(False)
        axes.append(axis)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=12, x=0.5, y=1 - 0.08 / tall, va="top")
    return figure, np.array(axes)


def _image(axis: Axes, image: np.ndarray, edges: tuple[float, float] | None = None) -> None:
    """A grey or RGB picture of 0…255."""
    extent = (*edges, *edges[::-1]) if edges else None
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bicubic", extent=extent)


def _heat(axis: Axes, maps: np.ndarray, extent: tuple[float, float]) -> float:
    """The largest of some heatmaps (n, H, W), each scaled to its highest cell, over a picture; the highest cell."""
    peaks = maps.max(axis=(1, 2), keepdims=True)
    heat = (maps / np.where(peaks > 0, peaks, 1)).max(0)
    axis.imshow(heat, cmap="plasma", vmin=0, vmax=1, alpha=0.5 * heat if len(maps) > 1 else 0.75 * np.sqrt(heat),
                extent=(*extent, *extent[::-1]), interpolation="nearest")
    axis.set(xlim=extent, ylim=extent[::-1], facecolor="black")
    return float(peaks.max())


def _limits(axis: Axes, low: float, high: float) -> None:
    """Show pixels from `low` to `high`, both as edges counted from the picture's."""
    axis.set(xlim=(low - 0.5, high - 0.5), ylim=(high - 0.5, low - 0.5), facecolor="0.85")


def _face(axis: Axes, points: np.ndarray, skeleton: Skeleton, color: str) -> None:
    """Points (K, 2) in pixels of the picture, and the lines between them."""
    axis.add_collection(LineCollection(list(points[segments(skeleton)]), colors=color, lw=0.7))
    size = np.clip(50 / np.sqrt(skeleton.num_points), 6, 11)
    axis.plot(*points.T, ".", color=color, ms=size, mew=0)


def _chosen_points(skeleton: Skeleton, count: int = 4) -> list[int]:
    """The middle point of each region, or points evenly spread where there are none; at most `count`."""
    regions = [region[len(region) // 2] for region in skeleton.regions.values() if region]
    spread = np.linspace(0, skeleton.num_points - 1, min(count, skeleton.num_points)).round().astype(int).tolist()
    return list(dict.fromkeys(regions[:count] or spread))


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
