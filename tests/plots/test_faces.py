"""Pictures of faces: written, not empty, and showing what they should where it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.data.store import CropStore
from pipeline.keypoints.skeleton import make_skeleton
from pipeline.models.codecs import Gaussian, Heatmap
from pipeline.plots import faces as pictures
from pipeline.plots.heatmaps import Heatmaps, cell_extent
from tests.conftest import SKELETON, picture

GREEN, RED, YELLOW = (0x3F, 0xE0, 0x6A), (0xFF, 0x40, 0x35), (0xFF, 0xD2, 0x1F)
DOTS = make_skeleton("dots", 5)


def centres(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, (n, 2) x and y."""
    return np.argwhere((np.abs(image.astype(int) - color) < 12).all(-1))[:, ::-1]


def test_draw_faces_with_truth_has_both_in_their_place(tmp_path: Path, faces: CropStore) -> None:
    points = np.nan_to_num(faces.keypoints) + np.array([8, 0])  # 16 px of the crop to the right
    pictures.draw_faces(tmp_path / "faces.png", faces, {0: "one"}, points, SKELETON, faces.keypoints)
    image = picture(tmp_path / "faces.png")
    green, red = centres(image, GREEN), centres(image, RED)
    assert min(len(green), len(red)) > 100
    scale = 0.94 * pictures.SIDE * 110 / 64  # pixels of the picture a pixel of the crop
    assert red.min(0)[0] - green.min(0)[0] == pytest.approx(16 * scale, abs=2)
    assert red.min(0)[1] == pytest.approx(green.min(0)[1], abs=2)
    assert green.max(0)[1] - green.min(0)[1] == pytest.approx(24 * scale, abs=12)


def test_draw_faces_in_colour_without_edges_is_drawn(tmp_path: Path, faces: CropStore) -> None:
    colour = replace(faces, crops=np.repeat(faces.crops[..., None], 3, axis=-1), keypoints=None)
    pictures.draw_faces(tmp_path / "test.png", colour, dict.fromkeys(range(7), "a face"), faces.keypoints, DOTS)
    assert len(centres(picture(tmp_path / "test.png"), RED)) > 200


@pytest.mark.parametrize("channels", [1, 3])
def test_draw_samples_with_points_outside_shows_them(tmp_path: Path, channels: int) -> None:
    images = np.full((5, 64, 64, 3)[: 3 if channels == 1 else 4], 90, np.uint8)
    points = np.full((5, 2, 2), np.nan)
    points[0] = [[16, 31.5], [65, 31.5]]  # a quarter in, and just outside
    pictures.draw_samples(tmp_path / "samples.png", images, points, make_skeleton("two", 2), [""] * 5)
    green = centres(picture(tmp_path / "samples.png"), GREEN)
    left, right = (green[mask].mean(0) for mask in (green[:, 0] < 140, green[:, 0] >= 140))
    scale = 0.94 * pictures.SIDE * 110 / (1.1 * 64)
    assert (right - left)[0] == pytest.approx(49 * scale, abs=2)
    assert (right - left)[1] == pytest.approx(0, abs=1.5)


@pytest.mark.parametrize("shape", [(16, 1, 7, 7), (80, 3, 3, 3), (2, 1, 5, 5), (1, 4, 3, 3)])
def test_draw_filters_of_any_number_is_drawn(
    tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tile is grey where its filter is 0, and reaches white or black where the filter is largest."""
    filters = np.random.default_rng(0).normal(size=shape)
    filters[0] = 0
    figures, write = [], pictures.save
    monkeypatch.setattr(pictures, "save", lambda figure, path: (figures.append(figure), write(figure, path)))
    pictures.draw_filters(tmp_path / "filters.png", filters, "net")
    picture(tmp_path / "filters.png", side=100)
    tiles = [np.asarray(axis.images[0].get_array()) for axis in figures[0].axes if axis.images]
    assert len(tiles) == min(shape[0], pictures.FILTERS)
    assert (tiles[0] == 0.5).all()
    assert all(np.abs(tile - 0.5).max() == pytest.approx(0.5) for tile in tiles[1:])


@pytest.mark.parametrize("codec", [Heatmap, Gaussian])
def test_draw_heatmaps_of_points_has_them_in_their_place(
    tmp_path: Path, faces: CropStore, codec: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hottest cell that is drawn holds the point, inside the input and outside it."""
    codec = codec(size=64, stride=4, sigma=1.0, padding=4.0, decoder="window")
    points = np.array([[[9.5, 21.5], [65.5, 1.5]]])
    maps = codec.encode(torch.from_numpy(points)).numpy()
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: figures.append(figure))
    found = Heatmaps(rows=[3], maps=maps, points=points, extent=cell_extent(codec))
    pictures.draw_heatmaps(tmp_path / "x.png", faces, found, make_skeleton("two", 2), "net")
    for axis, point in zip(figures[0].axes[1:3], points[0], strict=True):
        heat = axis.images[1]
        left, right, bottom, top = heat.get_extent()
        cells = heat.get_array()
        row, column = np.unravel_index(cells.argmax(), cells.shape)
        place = [left + (column + 0.5) * (right - left) / cells.shape[1],
                 top + (row + 0.5) * (bottom - top) / cells.shape[0]]
        np.testing.assert_allclose(place, point, atol=1e-6)
        np.testing.assert_allclose(axis.lines[0].get_xydata()[0], point)
    assert axis.images[0].get_extent() == [-0.5, 63.5, 63.5, -0.5]
    monkeypatch.undo()
    found = replace(found, rows=[3, 5], maps=np.repeat(maps, 2, 0), points=np.repeat(points, 2, 0))
    pictures.draw_heatmaps(tmp_path / "x.png", faces, found, make_skeleton("two", 2), "net")
    picture(tmp_path / "x.png")


@pytest.mark.parametrize(("side", "scale"), [(500, 4), (4000, 0.5)])  # faces of 60 and of 480 pixels
def test_draw_image_of_small_and_large_faces_is_scaled(tmp_path: Path, side: int, scale: float) -> None:
    face = 60 if side == 500 else 480
    photo = np.full((side, side, 3), 100, np.uint8)
    photo[side // 2 :] = 60
    boxes = np.array([[face, face, face, face], [3 * face, face, face, 1.5 * face]])
    points = np.array([[[1.5 * face, 1.25 * face]], [[np.nan, np.nan]]])
    pictures.draw_image(tmp_path / "photo.png", photo, boxes, points, make_skeleton("one", 1))
    image = picture(tmp_path / "photo.png")
    assert image.shape == (2000, 2000, 3)
    red, yellow = centres(image, RED), centres(image, YELLOW)
    np.testing.assert_allclose((red.min(0) + red.max(0)) / 2, (points[0, 0] + 0.5) * scale - 0.5, atol=0.75)
    assert np.ptp(red, axis=0).min() >= 4
    np.testing.assert_allclose(yellow.min(0), face * scale - 0.5, atol=2)
    np.testing.assert_allclose(yellow.max(0), np.array([4, 2.5]) * face * scale - 0.5, atol=2)


def test_draw_image_to_an_unwritable_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UserError, match="x.png: cannot be written"):
        pictures.draw_image(tmp_path / "x.png", np.zeros((20, 20, 3), np.uint8), np.array([[1.0, 1, 9, 9]]),
                            np.array([[[5.0, 5]]]), make_skeleton("one", 1))
