"""Charts: written, not empty, and showing what they should."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.data.store import CropStore
from pipeline.keypoints.skeleton import Skeleton, make_skeleton
from pipeline.plots import charts
from tests.conftest import SKELETON, picture


def drawn(monkeypatch: pytest.MonkeyPatch, draw: Callable, path: Path, *arguments: object) -> Figure:
    """The figure that `draw` saves at `path`, where it is checked as a picture too."""
    figures, write = [], charts.save
    monkeypatch.setattr(charts, "save", lambda figure, path: (figures.append(figure), write(figure, path)))
    draw(path, *arguments)
    picture(path)
    (figure,) = figures
    return figure


def test_draw_point_errors_of_regions_shows_mean_distances(
    tmp_path: Path, faces: CropStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = faces.keypoints + np.arange(5)[:, None]  # point k is off by k in x and in y
    figure = drawn(monkeypatch, charts.draw_point_errors, tmp_path / "points.png", points, faces.keypoints, SKELETON)
    face, bars = figure.axes[:2]
    np.testing.assert_allclose(face.collections[1].get_array(), np.arange(5) * 2**0.5, atol=1e-4)
    assert [label.get_text() for label in bars.get_yticklabels()] == ["eyes", "rest"]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [0.5 * 2**0.5, 3 * 2**0.5], atol=1e-4)


def test_draw_histogram_with_missing_errors_counts_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"a": np.array([0.0, 1, 2, np.nan]), "b": np.array([3.0, 3, 3, 3])}
    figure = drawn(monkeypatch, charts.draw_histogram, tmp_path / "histogram.png", errors)
    (axis,) = figure.axes
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["a (median 1.00)", "b (median 3.00)"]
    assert max(axis.dataLim.y1, 0) == 4  # all four of b in one bin


def test_draw_histogram_of_any_range_has_readable_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for high in (2.0, 20.0, 2000.0, 2e5):
        errors = {"a": np.geomspace(1.1, high, 50)}
        figure = drawn(monkeypatch, charts.draw_histogram, tmp_path / "histogram.png", errors)
        monkeypatch.undo()
        (axis,) = figure.axes
        boxes = [text.get_window_extent() for text in axis.get_xticklabels() if text.get_text()]
        boxes = sorted((box.x0, box.x1) for box in boxes if axis.bbox.x0 <= (box.x0 + box.x1) / 2 <= axis.bbox.x1)
        assert len(boxes) >= 3
        assert all(left[1] < right[0] for left, right in pairwise(boxes))


def test_draw_cumulative_of_known_errors_is_their_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {"a": np.array([4.0, 1, np.nan, 2, 30])}
    figure = drawn(monkeypatch, charts.draw_cumulative, tmp_path / "c.png", errors, 8.0, "box")
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 0], [1, 25], [2, 50], [4, 75], [30, 100]]


def test_inline_svg_takes_the_colour_of_the_page_and_is_the_same_again(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        charts.draw_calibration(tmp_path / name, np.array([0.5, 0.9]), np.array([0.52, 0.89]))
    text = charts.inline_svg(tmp_path / "a.svg")
    assert text.startswith("<svg") and "currentColor" in text and charts.INK not in text
    assert text == charts.inline_svg(tmp_path / "b.svg")


def test_draw_curves_with_missing_epochs_passes_over_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = np.arange(1, 7)
    history = pd.concat([
        pd.DataFrame({"run": f"{model}/fold{fold}", "model": model, "fold": fold, "epoch": epochs,
                      "train_loss": 1 / epochs, "val_loss": 2 / epochs, "val_mae": [np.nan, 9, np.nan, 5, np.nan, 3]})
        for model in ("resnet", "unet") for fold in (0, 1, 2)
    ])
    figures = []
    monkeypatch.setattr(charts, "save", lambda figure, path: figures.append(figure))
    charts.draw_curves(tmp_path / "curves.png", history)
    monkeypatch.undo()
    axes = figures[0].axes
    assert [len(axis.lines) for axis in axes] == [6, 6, 6]
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in axes] == [
        ("epoch", "loss"), ("epoch", "loss"), ("epoch", "MAE, image pixels")]
    assert axes[2].lines[0].get_xydata().tolist() == [[2, 9], [4, 5], [6, 3]]
    assert all(axis.get_yscale() == "log" for axis in axes)
    charts.draw_curves(tmp_path / "curves.png", history)
    picture(tmp_path / "curves.png")


@pytest.mark.parametrize("models", [1, 4, 6])
def test_draw_curves_of_many_models_stays_three_wide(tmp_path: Path, models: int) -> None:
    history = pd.DataFrame([
        {"run": f"m{model}/fold0", "model": f"m{model}", "fold": 0, "epoch": epoch, "train_loss": 10.0 ** -epoch,
         "val_loss": 2.0 ** -epoch, "val_mae": 3.0} for model in range(models) for epoch in (1, 2, 3)
    ])
    charts.draw_curves(tmp_path / "curves.png", history)
    assert picture(tmp_path / "curves.png").shape[1] <= 3 * 4 * 110


@pytest.mark.parametrize("skeleton", [make_skeleton("nose", 1), make_skeleton("nose", 1, regions={"nose": (0,)})])
def test_draw_point_errors_of_one_point_is_drawn(
    tmp_path: Path, faces: CropStore, skeleton: Skeleton, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = faces.keypoints[:, :1]
    figure = drawn(monkeypatch, charts.draw_point_errors, tmp_path / "points.png", truth + 2, truth, skeleton)
    (bar,) = figure.axes[1].patches
    assert bar.get_width() == pytest.approx(2 * 2**0.5, abs=1e-4)


def test_mean_face_with_missing_points_is_that_of_complete_faces(faces: CropStore) -> None:
    truth = faces.keypoints.copy()
    truth[2:, 1:] = np.nan  # one point alone says nothing of the shape
    np.testing.assert_allclose(charts.mean_face(truth), charts.mean_face(faces.keypoints[:2]), atol=1e-6)


def test_draw_point_errors_without_regions_has_bars_of_points(
    tmp_path: Path, faces: CropStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    skeleton = make_skeleton("five", 5, names=("a", "b", "c", "d", "e"))
    figures = []
    monkeypatch.setattr(charts, "save", lambda figure, path: figures.append(figure))
    charts.draw_point_errors(tmp_path / "x.png", faces.keypoints + np.arange(5)[:, None], faces.keypoints, skeleton)
    bars = figures[0].axes[1]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["a", "b", "c", "d", "e"]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([0, *(2**0.5 * np.arange(1, 5))], abs=1e-5)
