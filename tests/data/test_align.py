"""Aligned crops: upright and of one size whatever the photo, placed by predicted points alone."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.data.align import align_affine, load_reference, mean_face, save_reference, write_aligned
from pipeline.data.annotations import tabulate
from pipeline.data.crops import NO_OFFSET, CropGeometry, LabelOffset
from pipeline.data.store import CropStore
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import get_skeleton

FACE = np.array([[-3.0, -2], [3, -2], [0, 2], [-2, 4], [2, 4]])  # two eyes, a nose, two corners of the mouth
FLIP_INDICES = np.array([1, 0, 2, 4, 3])
CROP = CropGeometry(size=64, margin=1.6, padding=1.5, color="grey")


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """(5, 2) the face in a photo."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * FACE @ np.array([[cos, sin], [-sin, cos]]) + shift


def test_mean_face_of_turned_faces_is_upright_symmetric_and_of_size_one():
    faces = np.stack([turned(20, 3, (50, 40)), turned(-3, 9, (500, 0)), turned(7, 5, (0, 0))])
    faces[2, 0] = np.nan
    mean = mean_face(faces, FLIP_INDICES)
    np.testing.assert_allclose(mean, mean[FLIP_INDICES] * [-1, 1], atol=1e-12)
    np.testing.assert_allclose(mean.mean(0), 0, atol=1e-12)
    assert np.sqrt(np.square(mean).sum(-1).mean()) == pytest.approx(1)
    centred = FACE - FACE.mean(0)
    np.testing.assert_allclose(mean, centred / np.sqrt(np.square(centred).sum(-1).mean()), atol=1e-6)


@pytest.mark.parametrize("degrees", [0, 30, -100, 180])
@pytest.mark.parametrize("scale", [0.5, 10])
def test_align_affine_of_any_face_lays_it_on_the_reference(degrees, scale):
    reference = mean_face(FACE[None] * 10, FLIP_INDICES)
    points = turned(degrees, scale, (-70, 300))
    affine = align_affine(points[None], reference, replace(CROP, size=65, margin=1.5))
    found = geometry.transform(affine, points[None])[0]
    box = found.max(0) - found.min(0)
    assert box.max() == pytest.approx(65 / 1.5)
    np.testing.assert_allclose((found.max(0) + found.min(0)) / 2, 32)
    np.testing.assert_allclose(found - found.mean(0), reference * box[1] / np.ptp(reference[:, 1]), atol=1e-9)
    np.testing.assert_allclose(affine[0, :, :2] @ affine[0, :, :2].T, np.linalg.det(affine[0, :, :2]) * np.eye(2),
                               atol=1e-9)


def test_align_affine_of_points_that_coincide_is_finite():
    affine = align_affine(np.full((1, 5, 2), 7.0), mean_face(FACE[None] * 10, FLIP_INDICES), CROP)
    assert np.isfinite(affine).all() and np.linalg.det(affine[0, :, :2]) > 0


@pytest.mark.parametrize("degrees", [0, 35, -35, 120, -120])
@pytest.mark.parametrize("scale", [4.0, 30.0])
def test_write_aligned_of_a_turned_face_turns_image_and_points_alike(tmp_path, degrees, scale):
    points = turned(degrees, scale, (620, 500))
    y, x = np.mgrid[:800, :1000]
    photo = sum(255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (scale / 2) ** 2)) for px, py in points[:1])
    cv2.imwrite(str(tmp_path / "a.png"), photo.astype(np.uint8))
    faces = tabulate([(0, "a.png", 0.0, 0.0, 10.0, 10.0, "f")], points[None])
    write_aligned(faces, tmp_path, tmp_path / "aligned", points[None], mean_face(FACE[None] * 10, FLIP_INDICES),
                  CROP)
    store = CropStore.open(tmp_path / "aligned")
    crop = store.crops[0].astype(float)
    y, x = np.mgrid[: len(crop), : len(crop)]
    centre = np.array([(crop * x).sum(), (crop * y).sum()]) / crop.sum()
    expected = geometry.transform(store.affines[0], store.keypoints[0])[0]
    assert np.abs(centre - expected).max() < 0.05
    assert (store.size, store.border) == (64, 16)


def test_write_aligned_takes_the_offset_of_the_labels_off_the_points(tmp_path):
    """The crop is the one of points without an offset, as annotated photos have them; what is found has it again."""
    points = np.stack([turned(20, 10.0, (60, 50))] * 2)
    images = ["a.png", "b_mirror.png"]
    for image in images:
        cv2.imwrite(str(tmp_path / image), np.random.default_rng(0).integers(0, 256, (100, 120), np.uint8))
    offset = LabelOffset(offset=[5.0, 3.0], mirrored=re.compile("_mirror"))
    reference = mean_face(FACE[None], FLIP_INDICES)
    stores = []
    for shift, labels in (((0, 0), NO_OFFSET), (np.array([[[5.0, 3]], [[-5, 3]]]), offset)):
        faces = tabulate([(row, image, 0.0, 0.0, 10.0, 10.0, "f") for row, image in enumerate(images)], points + shift)
        write_aligned(faces, tmp_path, tmp_path / "aligned", points + shift, reference, CROP, labels)
        stores.append(CropStore.open(tmp_path / "aligned"))
    np.testing.assert_array_equal(stores[0].crops, stores[1].crops)
    inside = [geometry.transform(store.affines, store.keypoints) for store in stores]
    np.testing.assert_allclose(inside[0], inside[1], atol=1e-9)


def test_write_aligned_with_points_of_other_faces_is_refused(tmp_path):
    faces = tabulate([(0, "a.png", 0.0, 0.0, 10.0, 10.0, "f")], FACE[None])
    with pytest.raises(UserError, match="1 faces, but points of 2; run the crop"):
        write_aligned(faces, tmp_path, tmp_path / "aligned", np.stack([FACE, FACE]), FACE, CROP)
    assert not list(tmp_path.iterdir())


def test_mean_face_without_a_complete_face_is_refused():
    single = get_skeleton("nose1")
    with pytest.raises(UserError, match=r"set align.locator and align.models to \[\]"):
        mean_face(np.full((4, 1, 2), 5.0), single.flip)
    with pytest.raises(UserError, match="no train face has all its points"):
        mean_face(np.full((4, 5, 2), np.nan), FLIP_INDICES)


def test_reference_after_saving_is_read_back(tmp_path):
    with pytest.raises(UserError, match="face.npz: not found; run the align stage"):
        load_reference(tmp_path)
    save_reference(tmp_path, FACE)
    np.testing.assert_array_equal(load_reference(tmp_path), FACE)
