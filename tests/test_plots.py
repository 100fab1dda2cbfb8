"""Pictures: written, not empty, and showing what they should."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline import geometry, plots
from pipeline.crops import CropStore
from pipeline.skeleton import Skeleton

SKELETON = Skeleton(
    name="five", flip=np.array([1, 0, 2, 4, 3]), eyes=(0, 1), edges=((0, 1), (3, 4)),
    regions={"eyes": (0, 1), "rest": (2, 3, 4)},
)
SHAPE = np.array([[20, 22], [44, 22], [32, 34], [24, 46], [40, 46]], np.float32)
GREEN, RED = (0x3F, 0xE0, 0x6A), (0xFF, 0x40, 0x35)


@pytest.fixture
def faces() -> CropStore:
    """Eight grey crops whose affine doubles, each with the same five points; of face 7 all are missing."""
    affine = geometry.compose(np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]), geometry.translation(-100, -50))
    table = pd.DataFrame({"face": np.arange(8), "width": 30.0, "height": 32.0})
    table[["m00", "m01", "m02", "m10", "m11", "m12"]] = affine.reshape(-1)
    truth = np.repeat(geometry.transform(geometry.invert(affine), SHAPE)[None], 8, axis=0).astype(np.float32)
    truth[7] = np.nan
    crops = np.full((8, 64, 64), 128, np.uint8)
    return CropStore(size=64, crops=crops, photos=np.zeros((8, 32, 32), np.uint8), faces=table, keypoints=truth)


def picture(path: Path) -> np.ndarray:
    """(H, W, 3) RGB, after the checks that every picture must pass."""
    assert path.stat().st_size > 2000
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert min(image.shape[:2]) > 200
    assert image.std() > 5
    return image


def centres(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, (n, 2) x and y."""
    return np.argwhere((np.abs(image.astype(int) - color) < 12).all(-1))[:, ::-1]


def test_faces_have_truth_green_and_prediction_red_in_their_place(tmp_path: Path, faces: CropStore) -> None:
    points = np.nan_to_num(faces.keypoints) + np.array([8, 0])  # 16 px of the crop to the right
    plots.draw_faces(tmp_path / "faces.png", faces, [0], points, SKELETON, faces.keypoints, ["one"])
    image = picture(tmp_path / "faces.png")
    green, red = centres(image, GREEN), centres(image, RED)
    assert min(len(green), len(red)) > 100
    scale = (image.shape[1] * 0.99) / 64
    assert red.min(0)[0] - green.min(0)[0] == pytest.approx(16 * scale, abs=2)
    assert red.min(0)[1] == pytest.approx(green.min(0)[1], abs=2)
    assert green.max(0)[1] - green.min(0)[1] == pytest.approx(24 * scale, abs=12)


def test_extremes_are_the_worst_and_the_best(tmp_path: Path, faces: CropStore, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(plots, "draw_faces", lambda path, store, rows, *more: drawn.append((list(rows), more[3])))
    points = np.nan_to_num(faces.keypoints) + np.array([3, 1, 4, 0, 5, 9, 2, 99])[:, None, None]
    plots.draw_extremes(tmp_path / "x.png", faces, points, SKELETON, worst=True, count=3)
    plots.draw_extremes(tmp_path / "x.png", faces, points, SKELETON, worst=False, count=3)
    assert [rows for rows, _ in drawn] == [[5, 4, 2], [3, 1, 6]]
    assert drawn[0][1][0] == "face 5: 9.00 px (28.1%)"


def test_extremes_are_drawn(tmp_path: Path, faces: CropStore) -> None:
    points = np.nan_to_num(faces.keypoints) + 1
    plots.draw_extremes(tmp_path / "worst.png", faces, points, SKELETON, worst=True, count=8)
    image = picture(tmp_path / "worst.png")
    assert len(centres(image, RED)) > 1000


def test_colour_crops_and_no_edges_are_drawn_too(tmp_path: Path, faces: CropStore) -> None:
    colour = CropStore(size=64, crops=np.repeat(faces.crops[..., None], 3, axis=-1), photos=faces.photos,
                       faces=faces.faces, keypoints=None)
    dots = Skeleton(name="dots", flip=SKELETON.flip, eyes=(0, 1), edges=(), regions={})
    plots.draw_faces(tmp_path / "test.png", colour, range(7), faces.keypoints, dots)
    assert len(centres(picture(tmp_path / "test.png"), RED)) > 200
    plots.draw_point_errors(tmp_path / "points.png", faces.keypoints + 1, faces.keypoints, dots)
    picture(tmp_path / "points.png")


def test_point_errors_and_histogram(tmp_path: Path, faces: CropStore) -> None:
    points = faces.keypoints + np.arange(5)[:, None]
    plots.draw_point_errors(tmp_path / "points.png", points, faces.keypoints, SKELETON)
    picture(tmp_path / "points.png")
    errors = {"a": np.array([0.0, 1, 2, np.nan]), "b": np.array([3.0, 3, 3, 3])}
    plots.draw_histogram(tmp_path / "histogram.png", errors)
    picture(tmp_path / "histogram.png")


def test_curves_pass_over_epochs_without_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = np.arange(1, 7)
    history = pd.concat([
        pd.DataFrame({"run": f"{model}/fold{fold}", "model": model, "fold": fold, "epoch": epochs,
                      "train_loss": 1 / epochs, "val_loss": 2 / epochs, "val_mae": [np.nan, 9, np.nan, 5, np.nan, 3]})
        for model in ("resnet", "unet") for fold in (0, 1, 2)
    ])
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.draw_curves(tmp_path / "curves.png", history)
    monkeypatch.undo()
    axes = figures[0].axes
    assert [len(axis.lines) for axis in axes] == [6, 6, 6]
    assert axes[2].lines[0].get_xydata().tolist() == [[2, 9], [4, 5], [6, 3]]
    assert all(axis.get_yscale() == "log" for axis in axes)
    plots.draw_curves(tmp_path / "curves.png", history)
    picture(tmp_path / "curves.png")
