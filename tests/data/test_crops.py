"""Crops: exact geometry, padding, colour and thumbnails."""

import errno
import os
import re
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.ExifTags import Base

from pipeline.common.errors import UserError
from pipeline.data import crops
from pipeline.data.annotations import BOX, Annotations, tabulate
from pipeline.data.store import CropStore
from pipeline.data.validation import validate
from pipeline.keypoints import geometry

PLAIN = crops.CropGeometry(size=32, margin=1.0, padding=1.0, color="grey")


def one_face(tmp_path, photo, box, keypoints=None, **options):
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    faces = pd.DataFrame([["a.png", *map(float, box), "f:1"]], columns=["image", *BOX, "where"])
    points = None if keypoints is None else np.array([keypoints], np.float32)
    options = {"size": 32, "margin": 1.0, "shift_y": 0.0, "padding": 1.0, "color": "grey"} | options
    geometry = crops.CropGeometry(**options)
    crops.write_crops(Annotations(faces=faces, keypoints=points), tmp_path, tmp_path / "store", geometry, jobs=1)
    return CropStore.open(tmp_path / "store")


def test_crop_of_its_own_size_is_the_image(tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    store = one_face(tmp_path, photo, (3, 5, 32, 32))
    np.testing.assert_array_equal(store.crops[0], photo[5:37, 3:35])


@pytest.mark.parametrize("box", [(-10, -6, 32, 32), (30, 20, 32, 32)])
def test_crop_of_a_box_over_the_edge_is_padded(tmp_path, box):
    photo = np.random.default_rng(0).integers(1, 255, (40, 50), np.uint8)
    store = one_face(tmp_path, photo, box)
    padded = np.pad(photo, 64)
    left, top = box[0] + 64, box[1] + 64
    np.testing.assert_array_equal(store.crops[0], padded[top : top + 32, left : left + 32])


@pytest.mark.parametrize("corner", [(10, 20), (251, 170), (-12, -9)])
@pytest.mark.parametrize("scale", [0.9, 2.0, 3.7, 8.0])
def test_crop_of_a_bright_spot_has_it_where_the_affine_says(tmp_path, scale, corner):
    side = int(64 * scale)
    spot = corner + np.array([0.6 * side, 0.5 * side])
    y, x = np.mgrid[: side + 190, : side + 270]
    photo = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * (2 * scale) ** 2))
    store = one_face(tmp_path, photo.astype(np.uint8), (*corner, side, side), [spot], size=64)
    crop = store.crops[0].astype(float)
    y, x = np.mgrid[:64, :64]
    centre = np.array([(crop * x).sum(), (crop * y).sum()]) / crop.sum()
    expected = geometry.transform(store.affines[0], store.keypoints[0])[0]
    assert np.abs(centre - expected).max() < 0.03  # warpAffine samples at 1/32 px


@pytest.mark.parametrize("left", [-64 * 5 + 3, 20, 30])
def test_crop_mostly_outside_the_image_is_black_there(tmp_path, left):
    store = one_face(tmp_path, np.full((40, 40), 255, np.uint8), (left, -20, 64 * 5, 64 * 5), size=64)
    inside = (store.affines[0] @ [[0, 39], [0, 39], [1, 1]]).round().astype(int)  # 2 × (top left, bottom right)
    crop = store.crops[0].copy()
    assert crop.any()
    crop[max(inside[1, 0] - 1, 0) : inside[1, 1] + 2, max(inside[0, 0] - 1, 0) : max(inside[0, 1] + 2, 0)] = 0
    assert not crop.any()


@pytest.mark.parametrize("side", [130, 256, 300])
def test_crop_that_is_shrunk_is_full_to_its_edges(tmp_path, side):
    store = one_face(tmp_path, np.full((700, 700), 255, np.uint8), (151, 203, side, side), size=64, padding=1.4)
    assert (store.crops == 255).all()


def test_input_of_a_padded_store_is_its_exact_middle(tmp_path):
    photo = np.random.default_rng(1).integers(0, 255, (90, 90), np.uint8)
    store = one_face(tmp_path, photo, (20, 25, 32, 32), [[30.0, 40.0]], padding=1.4)
    assert store.crops.shape == (1, 46, 46)
    assert (store.border, store.size, store.channels) == (7, 32, 1)
    np.testing.assert_array_equal(store.crops[0, 7:39, 7:39], photo[25:57, 20:52])
    np.testing.assert_allclose(geometry.transform(store.input_affines[0], store.keypoints[0]), [[10, 15]], atol=1e-12)


def test_source_of_an_image_is_its_first_folder(tmp_path):
    names = ["afw/one.png", "helen/train/two.png", "three.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((9, 9), np.uint8))
    faces = tabulate([(row, name, 0, 0, 9, 9, "") for row, name in enumerate(names)], None)
    crops.write_crops(faces, tmp_path, tmp_path / "store", replace(PLAIN, size=16))
    assert CropStore.open(tmp_path / "store").faces.source.tolist() == ["afw", "helen", "photos"]


def test_crop_in_rgb_has_three_channels_in_order(tmp_path):
    photo = np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)
    store = one_face(tmp_path, photo, (4, 4, 32, 32), color="rgb")
    assert store.channels == 3
    np.testing.assert_array_equal(store.crops[0], photo[4:36, 4:36, ::-1])  # OpenCV writes BGR


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_crop_of_an_image_that_exif_rotates_is_of_its_stored_pixels(tmp_path, color):
    photo = np.zeros((40, 50), np.uint8)
    photo[:20, :25] = 255  # top left
    exif = Image.Exif()
    exif[Base.Orientation] = 6  # shown, it would be at the top right
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=95, exif=exif)
    crops.write_crops(tabulate([(0, "a.jpg", 3.0, 5.0, 32.0, 32.0, "f")], None), tmp_path, tmp_path / "store",
                      replace(PLAIN, color=color), jobs=1)
    crop = CropStore.open(tmp_path / "store").crops[0].reshape(32, 32, -1)
    assert crop[:12, :18].min() > 200 and crop[18:].max() < 50 and crop[:, 25:].max() < 50


def test_write_crops_with_unreadable_images_names_each_and_leaves_nothing(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    names = ["broken.jpg", "empty.jpg", "gone.jpg"]
    rows = [[name, 0.0, 0.0, 9.0, 9.0, f"f.xml:{line}"] for line, name in enumerate(names, 5)]
    faces = pd.DataFrame(rows, columns=["image", *BOX, "where"])
    with pytest.raises(UserError) as error:
        crops.write_crops(
            Annotations(faces=faces, keypoints=None), tmp_path, tmp_path / "store", PLAIN, jobs=1,
        )
    assert list(error.value.problems) == [
        f"f.xml:{line}: face {line - 5} ({name}): image {tmp_path / name} is {reason}"
        for line, (name, reason) in enumerate(zip(names, ["unreadable", "unreadable", "missing"], strict=True), 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jpg", "empty.jpg"]


def test_write_crops_refuses_at_once_the_boxes_that_validate_refuses_and_writes_nothing(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 50), 99, np.uint8))
    boxes = [(5, 5, -30, 30), (5, 5, 20, 0), (5, 5, 0, 0), (5, 5, 1e-9, 1e-9), (5, 5, 9e6, 9e6), (60, 5, 20, 20),
             (5, -30, 20, 20), (np.inf, 5, 20, 20), (np.nan, 5, 20, 20), (-5, -5, 20, 20)]
    faces = tabulate([(row, "a.png", *map(float, box), f"f.xml:{row}") for row, box in enumerate(boxes)], None)
    with pytest.raises(UserError) as error:
        crops.write_crops(faces, tmp_path, tmp_path / "store", PLAIN, jobs=1)
    reasons = ["without area: width -30, height 30", "without area: width 20, height 0", "without area: width 0",
               "of less than a pixel: width 1e-09", "is over 10 times as large as the image of 50×40 px",
               "at 60, 5 lies wholly outside", "at 5, -30 lies wholly outside", "is not finite", "is not finite"]
    assert len(error.value.problems) == len(reasons)
    for row, (problem, reason) in enumerate(zip(error.value.problems, reasons, strict=True)):
        assert problem.startswith(f"f.xml:{row}: face {row} (a.png): box ") and reason in problem
    assert error.value.problems == validate(faces, tmp_path, None, file=tmp_path, labelled=False, jobs=1).problems
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_write_crops_counts_faces_that_are_doubtful_but_possible(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((90, 90), np.uint8))
    points = np.full((3, 1, 2), 15.0)
    points[2] = 80
    boxes = [(5, 5, 20, 20), (5, 5, 20, 20), (6, 6, 20, 20)]
    faces = tabulate([(row, "a.png", *box, f"f:{row}") for row, box in enumerate(boxes)],
                     points)
    report = crops.write_crops(faces, tmp_path, tmp_path / "store", PLAIN, jobs=1)
    assert [doubt.partition("): ")[2] for doubt in report.doubts] == [
        "duplicate entry: same image and box as face 0", "point 0: more than 1.5 box sizes from the middle of the box"]
    assert len(CropStore.open(tmp_path / "store")) == 3


def test_write_crops_on_a_full_disk_ends_before_the_memory_map_is_written(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(crops, "warp", None)
    with pytest.raises(OSError) as error:
        one_face(tmp_path, np.zeros((40, 50), np.uint8), (3, 5, 32, 32))
    assert error.value.filename == str(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_write_crops_without_faces_writes_an_empty_store(tmp_path, color):
    geometry = replace(PLAIN, padding=1.5, color=color)
    crops.write_crops(tabulate([], None), tmp_path, tmp_path / "store", geometry, jobs=1)
    store = CropStore.open(tmp_path / "store")
    assert len(store) == 0 and store.keypoints is None
    assert store.crops.shape == ((0, 48, 48) if color == "grey" else (0, 48, 48, 3))
    assert store.input_affines.shape == (0, 2, 3)
    assert list(store.faces)[:6] == ["face", "image", *BOX] and store.photos.shape == (0, 32, 32)


def test_open_without_a_store_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="dvc repro crop"):
        CropStore.open(tmp_path)


SPOILT = {
    "store.json": ["", "[]", "{}", '{"size": "32"}', '{"size": 33}', '{"size": 1e30}', "[" * 50_000],
    "crops.npy": [b"", b"text", np.zeros((2, 32, 32), np.uint8), np.zeros(1, np.uint8), np.zeros((1, 32, 32)),
                  np.array([{}], object)],
    "photos.npy": [b"", np.zeros((1, 32, 33), np.uint8)],
    "keypoints.npy": [b"", np.zeros((1, 2), "f4"), np.zeros((2, 1, 2), "f4"), np.full((1, 1, 2), np.inf, "f4"),
                      np.zeros((1, 1, 2), "U3")],
    "faces.csv": ["", "face\n0\n", "\x00", ("0,a", "7,a"), ("3.0,5.0", "x,5.0"), ("3.0,5.0", "inf,5.0"), ("32.0", ","),
                  b"\xff\xfe"],
}


@pytest.mark.parametrize(("name", "content"), [(name, content) for name, many in SPOILT.items() for content in many])
def test_open_tampered_store_names_the_file_and_what_to_do(tmp_path, name, content):
    one_face(tmp_path, np.zeros((40, 50), np.uint8), (3, 5, 32, 32), [[9.0, 9.0]])
    path = tmp_path / "store" / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, tuple):
        path.write_text(path.read_text().replace(*content, 1))
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"{name}: .*; run the crop stage again"):
        CropStore.open(tmp_path / "store")


@pytest.mark.parametrize("shape", [(20, 33), (127, 300), (192, 193), (333, 287), (901, 1202), (640, 641, 3)])
def test_thumbnail_of_a_mirrored_image_is_mirrored(shape):
    photo = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    found = crops.thumbnail(photo)
    np.testing.assert_array_equal(crops.thumbnail(np.ascontiguousarray(photo[:, ::-1])), found[:, ::-1])
    np.testing.assert_array_equal(crops.thumbnail(np.ascontiguousarray(photo[::-1])), found[::-1])


@pytest.mark.parametrize("shape", [(100, 200), (383, 385), (700, 910)])
def test_thumbnail_of_an_image_is_its_area_averages(shape):
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    photo = (127 + 60 * np.sin(7 * x) + 60 * np.cos(5 * y)).astype(np.uint8)
    wanted = cv2.resize(photo, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(crops.thumbnail(photo) - wanted).max() <= 8  # up to 1% are cut off


def test_label_offset_in_mirrored_images_goes_to_the_other_side(tmp_path):
    photo = np.zeros((40, 50), np.uint8)
    for name in ("a.png", "b_mirror.png"):
        cv2.imwrite(str(tmp_path / name), photo)
    points = np.array([[[20.0, 10]], [[20.0, 10]]])
    faces = tabulate([(0, "a.png", 3.0, 5, 32, 32, "f"), (1, "b_mirror.png", 3.0, 5, 32, 32, "f")], points)
    labels = crops.LabelOffset(offset=[0.5, -0.25], mirrored=re.compile(r"_mirror\."))
    crops.write_crops(faces, tmp_path, tmp_path / "store", PLAIN, labels, jobs=1)
    store = CropStore.open(tmp_path / "store")
    np.testing.assert_array_equal(store.keypoints, points)  # labels stay as they are
    inside = geometry.transform(store.input_affines, store.keypoints)[:, 0]
    np.testing.assert_allclose(inside, [[16.5, 5.25], [17.5, 5.25]])
    np.testing.assert_allclose(geometry.transform(geometry.invert(store.input_affines), inside[:, None]), points)


def test_write_crops_while_cutting_keeps_opencv_to_one_thread(tmp_path, monkeypatch):
    threads, warp, seen = cv2.getNumThreads(), crops.warp, []
    monkeypatch.setattr(crops, "warp", lambda *args, **how: seen.append(cv2.getNumThreads()) or warp(*args, **how))
    one_face(tmp_path, np.zeros((40, 50), np.uint8), (3, 5, 32, 32))
    assert seen == [1] and cv2.getNumThreads() == threads
