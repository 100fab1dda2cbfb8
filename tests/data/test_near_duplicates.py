"""Near-duplicates by content: coarse forms, frames, registration and the two searches, on drawn pictures."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.data import near_duplicates
from pipeline.data.near_duplicates import Detail, alike_pairs, coarse_forms, face_frames, face_pairs, register
from pipeline.data.store import CropStore
from pipeline.keypoints import geometry
from tests.conftest import SHAPE, SKELETON

SIDE = 96


def scenes(count: int, size: int = SIDE, seed: int = 0, coarse: float = 12) -> np.ndarray:
    """Smooth random pictures that have nothing in common."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size))
    smooth = np.stack([cv2.GaussianBlur(picture, (0, 0), size / coarse) for picture in noise])
    return np.uint8(np.clip(128 + 40 * smooth / smooth.std(axis=(1, 2), keepdims=True), 0, 255))


def shrink(pictures: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in pictures])


def make_store(photos: np.ndarray, points: np.ndarray | None, boxes: np.ndarray | None = None) -> CropStore:
    """Faces cut by their boxes, twice as wide, from square photos; the photos' thumbnails have nothing in common."""
    boxes = np.tile([24.0, 20, 48, 48], (len(photos), 1)) if boxes is None else boxes
    affines = geometry.crop_affine(boxes, size=SIDE, margin=2)
    crops = np.stack([cv2.warpAffine(*each, (SIDE, SIDE)) for each in zip(photos, affines, strict=True)])
    faces = pd.DataFrame(boxes, columns=["left", "top", "width", "height"])
    faces = faces.assign(image=[f"{i}.jpg" for i in range(len(photos))], photo_width=SIDE, photo_height=SIDE)
    faces[["m00", "m01", "m02", "m10", "m11", "m12"]] = affines.reshape(-1, 6)
    return CropStore(size=SIDE, crops=crops, photos=shrink(scenes(len(photos), seed=9)), faces=faces, keypoints=points)


def labels(count: int) -> np.ndarray:
    """(N, 5, 2) five points in the middle of a photo, each time a little different."""
    return SHAPE + 16 + np.random.default_rng(1).normal(0, 0.5, (count, 5, 2))


def pairs_of(store: CropStore) -> list[list[int]]:
    return face_pairs(store)[:, :2].astype(int).tolist()


def test_similar_pairs_are_found_and_no_others():
    photos = shrink(scenes(100))
    photos[7], photos[50] = photos[3], photos[20][:, ::-1]
    photos[90] = np.clip(shrink(scenes(100))[60][:, ::-1] * 0.6 + 30, 0, 255)
    photos[12] = photos[13].T
    photos[80:84] = 255
    photos[84:88] = 0
    assert near_duplicates.similar_pairs(photos).tolist() == [[3, 7], [20, 50], [60, 90]]


def test_similar_pairs_with_other_details_are_not_found():
    photos = shrink(scenes(2, coarse=8))
    photos[1] = np.clip(photos[0] + np.random.default_rng(0).normal(0, 25, (32, 32)), 0, 255)
    forms = coarse_forms(photos)
    assert forms[0] @ forms[1] > near_duplicates.MIN_ALIKE and near_duplicates.similar_pairs(photos).tolist() == []


def test_alike_pairs_are_those_of_all_cosines_across_tiles():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1100, 16, 16), np.uint8)
    images[600], images[1099], images[513] = images[0], images[512][:, ::-1], images[511] // 2
    pairs, mirrored = alike_pairs(coarse_forms(images), 0.9)
    assert pairs.tolist() == [[0, 600], [511, 513], [512, 1099]] and mirrored.tolist() == [False, False, True]
    forms, flipped = coarse_forms(images), coarse_forms(images[:, :, ::-1])
    cosine = np.triu(np.maximum(forms @ forms.T, forms @ flipped.T), 1)
    pairs, _ = alike_pairs(forms, 0.3)
    assert len(pairs) > 1000 and pairs.tolist() == np.argwhere(cosine >= 0.3).tolist()


@pytest.mark.slow
def test_similar_pairs_of_thirty_thousand_images_take_seconds():
    photos = np.random.default_rng(0).integers(0, 256, (30_000, 8, 8), np.uint8)
    photos[29_999] = photos[5]
    start = time.perf_counter()
    assert near_duplicates.similar_pairs(photos).tolist() == [[5, 29_999]]
    assert time.perf_counter() - start < 30


def test_coarse_forms_of_mirrored_negative_and_plain_images():
    images = shrink(scenes(5))
    forms, even = coarse_forms(images), near_duplicates.EVEN
    np.testing.assert_allclose(np.linalg.norm(forms, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(coarse_forms(255 - images), -forms, atol=1e-5)
    turned = coarse_forms(images[:, :, ::-1])
    np.testing.assert_allclose(turned, np.concatenate([forms[:, :even], -forms[:, even:]], axis=1), atol=1e-5)
    assert not coarse_forms(np.full((1, 32, 32), 200, np.uint8)).any()


def test_face_frames_lay_points_alike_and_the_median_box_around_the_origin():
    points, boxes = labels(9), np.tile([24.0, 20, 48, 40], (9, 1))
    for row, degrees in enumerate(range(-80, 100, 20)):
        turn = cv2.getRotationMatrix2D((48, 48), degrees, 1 + row / 20)
        points[row] = geometry.transform(turn, points[row])
    boxes[4:] += [3, -2, 8, 8]
    points[7] = np.nan
    points[8, 1:] = np.nan
    store = make_store(scenes(9), points, boxes)
    frames = face_frames(store)
    laid = geometry.transform(frames, points)
    assert np.abs(laid[:7] - laid[:7].mean(0)).max() < 0.05
    placed = geometry.transform(frames[:7], (boxes[:7, :2] + (boxes[:7, 2:] - 1) / 2)[:, None])[:, 0]
    np.testing.assert_allclose(np.median(placed, axis=0), 0, atol=1e-9)
    assert np.median(np.sqrt(np.linalg.det(frames[:7, :, :2])) * boxes[:7, 2]) == pytest.approx(1)
    np.testing.assert_allclose(frames[7:], face_frames(replace(store, keypoints=None))[7:])
    np.testing.assert_allclose(frames[7], [[1 / 56, 0, -54.5 / 56], [0, 1 / 56, -41.5 / 56]])


def test_face_pairs_with_other_boxes_are_found_by_their_points():
    photos, boxes, points = scenes(6), np.tile([24.0, 20, 48, 48], (6, 1)), labels(6)
    photos[4], boxes[4], points[4] = photos[1], [30, 10, 62, 62], points[1] + 0.5
    photos[5], points[5] = photos[2][:, ::-1], geometry.flip_points(points[2], SIDE, SKELETON.flip)
    store = make_store(photos, points, boxes)
    assert pairs_of(store) == [[1, 4], [2, 5]]
    assert pairs_of(replace(store, keypoints=None)) == [[2, 5]]  # their boxes are mirrored, too
    colour = replace(store, crops=np.repeat(store.crops[..., None], 3, axis=3))
    assert pairs_of(colour) == [[1, 4], [2, 5]]


def test_near_duplicate_pairs_are_those_of_photos_and_of_faces():
    photos, points = scenes(6), labels(6)
    photos[4], points[4] = photos[1], points[1]
    store = make_store(photos, points)
    store.photos[5] = store.photos[3]
    assert near_duplicates.near_duplicate_pairs(store).tolist() == [[1, 4], [3, 5]]


def test_frame_to_pixels_shows_so_many_boxes_around_the_middle():
    affine = near_duplicates.frame_to_pixels(48, 1.5)
    corners = geometry.transform(affine, np.array([[0, 0], [-0.75, -0.75], [0.75, 0.75]]))
    assert corners.tolist() == [[23.5, 23.5], [-0.5, -0.5], [47.5, 47.5]]


def test_face_thumbnails_of_large_crops_average_their_pixels():
    store = make_store(scenes(1), labels(1))
    store.faces[["m00", "m01", "m02", "m10", "m11", "m12"]] *= 8
    stripes = np.tile(np.uint8([0, 255]), (1, 8 * SIDE, 4 * SIDE))
    found = near_duplicates.face_thumbnails(replace(store, crops=stripes), face_frames(store), np.array([0]))
    assert np.abs(found.astype(float) - 127.5).max() < 20


def test_face_pairs_without_points_are_found_by_their_boxes():
    photos, boxes = scenes(4), np.tile([24.0, 20, 48, 48], (4, 1))
    photos[3] = photos[0][:, ::-1]
    boxes[3, 0] = SIDE - 24 - 48
    assert pairs_of(make_store(photos, None, boxes)) == [[0, 3]]
    assert pairs_of(make_store(photos, np.full((4, 5, 2), np.nan), boxes)) == [[0, 3]]


def test_face_pairs_that_only_look_alike_from_afar_are_not_found():
    photos, fine = scenes(3, coarse=4).astype(float), scenes(2, seed=5, coarse=60) - 128.0
    photos[1] = photos[0]
    photos[:2] = np.clip(photos[:2] + 0.07 * fine, 0, 255)
    store = make_store(photos.astype(np.uint8), np.tile(SHAPE + 16.0, (3, 1, 1)))
    forms = coarse_forms(near_duplicates.face_thumbnails(store, face_frames(store), np.arange(3)))
    assert forms[0] @ forms[1] > near_duplicates.MIN_ALIKE
    assert pairs_of(store) == []


def test_face_pairs_at_the_edge_of_a_photo_are_compared_without_what_lies_outside():
    photos, boxes, points = scenes(3), np.tile([24.0, 20, 48, 48], (3, 1)), labels(3)
    wide = photos[0][:, :72]  # the same picture cut off at the right, within what is compared
    store = make_store(photos, points, boxes)
    store.crops[2] = cv2.warpAffine(wide, store.affines[2], (SIDE, SIDE))
    store.faces.loc[2, "photo_width"] = 72
    store.keypoints[2] = points[0]
    found = face_pairs(store)
    assert found[:, :2].tolist() == [[0, 2]] and found[0, 2] > 0.95
    frames = face_frames(store)
    valid = near_duplicates.face_detail(store, frames, 2).valid
    assert 0.6 < valid.mean() < 0.95 and near_duplicates.face_detail(store, frames, 0).valid.mean() > valid.mean()


def test_register_of_a_moved_picture_finds_the_move():
    affine = np.array([[1.02, 0.03, -2.5], [-0.02, 0.98, 1.5]])
    picture = scenes(1, size=64, coarse=30)[0].astype(np.float32) - 128
    moved = cv2.warpAffine(picture, affine, (64, 64), flags=cv2.INTER_CUBIC)
    valid = (cv2.warpAffine(np.ones((64, 64), np.float32), affine, (64, 64)) > 0.999).astype(np.uint8)
    correlation, found = register(Detail(picture, np.ones((64, 64), np.uint8)), Detail(moved, valid), 50)
    corners = np.array([[5, 5], [58, 5], [5, 58], [58, 58]])
    assert correlation > 0.99
    assert np.abs(geometry.transform(found, corners) - geometry.transform(affine, corners)).max() < 0.1


def test_register_of_nothing_in_common_is_the_identity_and_no_correlation():
    picture, valid = scenes(1, size=48)[0].astype(np.float32), np.zeros((2, 48, 48), np.uint8)
    valid[0, :, :20], valid[1, :, 20:] = 1, 1
    correlation, affine = register(Detail(picture, valid[0]), Detail(picture, valid[1]))
    assert correlation == 0 and affine.tolist() == np.eye(2, 3).tolist()
    valid[1, :, 10:20] = 1  # a fifth of the picture is too little
    assert register(Detail(picture, valid[0]), Detail(picture, valid[1]))[0] == 0
    empty = Detail(np.zeros((48, 48), np.float32), np.ones((48, 48), np.uint8))
    assert register(empty, empty)[0] == 0
