import re
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.data import folds
from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import thumbnail
from pipeline.data.folds import fold_rows, read_folds

IBUG = Path(__file__).parents[3] / "shared" / "data" / "ibug_300w"
needs_ibug = pytest.mark.skipif(not IBUG.exists(), reason=f"needs {IBUG.name} in shared/data")


def scenes(count: int, size: int = 96, seed: int = 0) -> np.ndarray:
    """Smooth random pictures that have nothing in common."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size))
    smooth = np.stack([cv2.GaussianBlur(picture, (0, 0), size / 12) for picture in noise])
    return np.uint8(np.clip(128 + 40 * smooth / smooth.std(axis=(1, 2), keepdims=True), 0, 255))


def shrink(pictures: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in pictures])


def grouping(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def pairs_of_equal(names: list[str]) -> set[tuple[int, int]]:
    table = pd.DataFrame({"i": range(len(names)), "name": names})
    both = table.merge(table, on="name")
    return set(map(tuple, both[both.i_x < both.i_y][["i_x", "i_y"]].to_numpy().tolist()))


@pytest.mark.parametrize(("image", "photo"), [
    ("afw/134212_1.jpg", "afw/134212"),
    ("afw/134212_12_mirror.jpg", "afw/134212"),
    ("helen/trainset/2205474871_3.jpg", "helen/trainset/2205474871"),
    ("lfpw/trainset/image_0001.jpg", "lfpw/trainset/image_0001"),
    ("lfpw/trainset/image_0001_mirror.jpg", "lfpw/trainset/image_0001"),
    ("lfpw/testset/image_0001.png", "lfpw/testset/image_0001"),
    ("1_2.jpg", "1"),
    ("12.jpg", "12"),
    ("12_mirror.jpg", "12"),
    ("a_1/my face_2.jpeg", "a_1/my face_2"),
    ("no_extension", "no_extension"),
])
def test_photo_names_of_known_files_are_right(image, photo):
    assert folds.photo_names([image]) == [photo]


def test_photo_names_with_a_pattern_use_its_group():
    images = ["01-1m.jpg", "01-2m.jpg", "x.jpg"]
    for one in (images, pd.Series(images)):
        assert folds.photo_names(one, re.compile(r"(?P<photo>\d+)-\d[mf]")) == ["01", "01", "x.jpg"]
    wrong = {r"(\d+)": "no group named photo", r"(?P<photo>z)": "matches no"}
    for pattern, message in wrong.items():
        with pytest.raises(UserError, match=message):
            folds.photo_names(["01-1m.jpg"], re.compile(pattern))


def test_near_duplicates_by_image_or_crop_are_found_and_no_others():
    big = scenes(200)
    photos, crops = shrink(big[:100]), big[100:].copy()
    photos[7] = photos[3]
    photos[50] = photos[20][:, ::-1]
    crops[90] = cv2.GaussianBlur(crops[60][:, ::-1], (0, 0), 1)
    crops[11] = np.clip(crops[10] * 0.6 + 30, 0, 255)
    crops[12] = crops[13].T
    photos[80:] = 255
    crops[80:85] = 0
    assert folds.near_duplicate_pairs(photos, crops).tolist() == [[3, 7], [10, 11], [20, 50], [60, 90]]


def test_near_duplicates_with_other_borders_are_compared_by_centre():
    crops = scenes(4)
    crops[2, 32:64, 32:64] = crops[1, 32:64, 32:64]
    photos = shrink(scenes(4, seed=1))
    assert folds.near_duplicate_pairs(photos, crops, centre=1 / 3).tolist() == [[1, 2]]
    assert folds.near_duplicate_pairs(photos, crops, centre=1).tolist() == []
    colour = np.repeat(crops[..., None], 3, axis=3)
    assert folds.near_duplicate_pairs(photos, colour, centre=1 / 3).tolist() == [[1, 2]]


def test_near_duplicates_across_blocks_are_found():
    photos = shrink(scenes(300))
    photos[299], photos[128] = photos[0], photos[127][:, ::-1]
    assert folds.similar_pairs(photos).tolist() == [[0, 299], [127, 128]]


@pytest.mark.slow
def test_near_duplicates_of_thirty_thousand_faces_take_seconds():
    photos = np.random.default_rng(0).integers(0, 256, (30_000, 8, 8), np.uint8)
    photos[29_999] = photos[5]
    start = time.perf_counter()
    assert folds.similar_pairs(photos).tolist() == [[5, 29_999]]
    assert time.perf_counter() - start < 60


def test_perceptual_hash_of_a_negative_has_opposite_bits():
    images = shrink(scenes(1))
    plain, negative = folds.perceptual_hash(np.concatenate([images, 255 - images]))
    assert np.bitwise_count(plain ^ negative) >= 62


def test_groups_connected_in_steps_are_one():
    photos = ["c", "a", "b", "a", "d", "e"]
    assert folds.groups(photos, np.array([[2, 3], [4, 5]])).tolist() == [0, 1, 1, 1, 2, 2]
    assert folds.groups(photos, np.empty((0, 2), int)).tolist() == [0, 1, 2, 1, 3, 4]
    assert folds.groups([], np.empty((0, 2), int)).tolist() == []


def test_strata_of_each_source_are_thirds():
    stratum = folds.strata(["a"] * 9 + ["b"] * 3, np.array([*range(1, 10), 100, 300, 200]), np.ones(12))
    assert pd.crosstab(np.array(list("aaaaaaaaabbb")), stratum).to_numpy().tolist() == [
        [3, 3, 3, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    assert stratum[[0, 8, 9, 10]].tolist() == [0, 2, 3, 5]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(2, 120), count=st.integers(2, 6), seed=st.integers(0, 1000))
def test_assign_folds_of_any_groups_keeps_them_together(data, size, count, seed):
    photos = data.draw(st.lists(st.integers(0, 40), min_size=size, max_size=size))
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, size - 1)] * 2), max_size=size // 2))
    source = data.draw(st.lists(st.sampled_from("ab"), min_size=size, max_size=size))
    group = folds.groups([str(photo) for photo in photos], np.array(pairs, int).reshape(-1, 2))
    assert all(group[i] == group[j] for i, j in pairs)
    names = list(range(10, 10 + count))
    stratum = folds.strata(source, np.arange(1, size + 1), np.ones(size))
    if group.max() + 1 < count:
        with pytest.raises(UserError, match="folds"):
            folds.assign_folds(group, stratum, names, seed)
        return
    fold = folds.assign_folds(group, stratum, names, seed)
    assert set(fold) <= set(names) and len(fold) == size
    for label in range(group.max() + 1):
        assert len(set(fold[group == label])) == 1
    np.testing.assert_array_equal(fold, folds.assign_folds(group, stratum, names, seed))


def test_assign_folds_of_strata_spreads_them_evenly():
    source = np.repeat(["a", "b", "c"], [300, 60, 2])
    group = np.arange(362) // 2
    stratum = folds.strata(source, np.random.default_rng(0).uniform(50, 200, 362), np.full(362, 80))
    fold = folds.assign_folds(group, stratum, [0, 1, 2], seed=1)
    table = folds.fold_table(fold, group, source)
    assert table.index.tolist() == [0, 1, 2, "all"] and table.columns.tolist() == ["faces", "groups", "a", "b", "c"]
    assert table.loc["all"].tolist() == [362, 181, 300, 60, 2]
    assert table.loc[[0, 1, 2], "a"].between(94, 106).all() and table.loc[[0, 1, 2], "b"].between(16, 24).all()
    assert (folds.assign_folds(group, stratum, [0, 1, 2], seed=2) != fold).any()


def test_check_folds_with_a_crossing_group_names_it():
    group, fold = np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 4])
    with pytest.raises(UserError) as caught:
        folds.check_folds(group, fold, [0, 1, 7])
    assert caught.value.problems == (
        "fold 7 has no faces; name fewer folds in split.folds",
        "group 1 crosses folds 0, 1: faces 1, 2",
        "group 2 crosses folds 1, 4: faces 3, 4",
    )
    folds.check_folds(group, np.array([0, 1, 1, 0, 0]), [0, 1])


def ibug(file: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image paths, photo thumbnails and 64-px grey crops (box widened 1.5 times) of a real file."""
    faces = dlib_xml.read(IBUG / file).faces
    photos, crops = np.empty((len(faces), 32, 32), np.uint8), np.empty((len(faces), 64, 64), np.uint8)
    for i, face in enumerate(faces.itertuples()):
        photo = cv2.imread(str(IBUG / face.image), cv2.IMREAD_GRAYSCALE)
        photos[i] = thumbnail(photo)
        scale = 64 / (1.5 * max(face.width, face.height))
        middle = face.left + (face.width - 1) / 2, face.top + (face.height - 1) / 2
        affine = np.array([[scale, 0, 31.5 - scale * middle[0]], [0, scale, 31.5 - scale * middle[1]]])
        crops[i] = cv2.warpAffine(photo, affine, (64, 64))
    return faces.image.tolist(), photos, crops


@needs_ibug
def test_near_duplicates_of_real_mirrored_pairs_are_found():
    images, photos, crops = ibug("labels_ibug_300W_test_parsed.xml")
    names = [image.replace("_mirror", "") for image in images]
    mirrored = pairs_of_equal(names)
    assert len(mirrored) == 358
    for found in (folds.similar_pairs(photos), folds.similar_pairs(folds.centre_thumbnails(crops, 2 / 3)),
                  folds.near_duplicate_pairs(photos, crops)):
        assert set(map(tuple, found.tolist())) == mirrored
    hidden = folds.groups([str(i) for i in range(716)], folds.near_duplicate_pairs(photos, crops))
    assert len(grouping(hidden)) == 358 and {len(group) for group in grouping(hidden)} == {2}
    # By name, photos with several faces join as well.
    assert len(grouping(folds.groups(folds.photo_names(images), np.empty((0, 2), int)))) == 352


# All faces of the real train file that are joined by content, looked at side by side as crops and as photos.
# One person in one photograph, published under several names (posters, scans and re-encodings in LFPW):
SAME_PICTURE = [
    "lfpw/testset 86 136", "lfpw/trainset 3 52", "lfpw/trainset 35 53", "lfpw/trainset 43 317",
    "lfpw/trainset 86 118", "lfpw/trainset 121 122", "lfpw/trainset 163 192", "lfpw/trainset 251 252",
    "lfpw/trainset 279 313 321", "lfpw/trainset 342 343 366", "lfpw/trainset 345 384", "lfpw/trainset 374 376",
    "lfpw/trainset 413 415 458", "lfpw/trainset 419 449", "lfpw/trainset 482 503", "lfpw/trainset 491 516",
    "lfpw/trainset 544 548", "lfpw/trainset 601 617 622 631 633 635 639 647 651 658", "lfpw/trainset 680 724",
    "lfpw/trainset 686 727", "lfpw/trainset 691 692", "lfpw/trainset 708 710", "lfpw/trainset 816 824 856 858",
]
ACROSS_FOLDERS = [
    ["helen/testset/3203334240_1.jpg", "helen/testset/3238436027_1.jpg"],
    ["lfpw/testset/image_0007.jpg", "lfpw/trainset/image_0862.jpg"],
    ["lfpw/testset/image_0066.jpg", "lfpw/trainset/image_0215.jpg"],
    ["lfpw/testset/image_0096.jpg", "lfpw/trainset/image_0828.jpg"],
]
# One person annotated twice in one photo, which the name says too:
TWICE = [f"helen/trainset/{name}" for name in (
    "2070105355 3 5", "2082267415 2 3", "2152239275 1 2", "2185205964 1 2", "2205474871 2 3")]
# Two people in one photo, which the name says too: the only joined faces of different people.
TWO_PEOPLE = [f"afw/{photo} 1 2" for photo in (378492784, 397921011, 5007442, 9545523490)]


def seen() -> set[frozenset[str]]:
    groups = [frozenset(group) for group in ACROSS_FOLDERS]
    for line in SAME_PICTURE:
        folder, *numbers = line.split()
        groups.append(frozenset(f"{folder}/image_{int(number):04d}.jpg" for number in numbers))
    for line in TWICE + TWO_PEOPLE:
        photo, *numbers = line.split()
        groups.append(frozenset(f"{photo}_{number}.jpg" for number in numbers))
    return set(groups)


@pytest.mark.slow
@needs_ibug
def test_near_duplicates_of_real_train_faces_are_the_known_ones(monkeypatch):
    images, photos, crops = ibug("labels_ibug_300W_train.xml")
    assert len(seen()) == 36 and sum(map(len, seen())) == 85
    for limit in (0.942, 0.958, folds.MIN_CORRELATION):  # the same at some distance from the threshold
        monkeypatch.setattr(folds, "MIN_CORRELATION", limit)
        pairs = folds.near_duplicate_pairs(photos, crops)
        joined = grouping(folds.groups([str(i) for i in range(len(images))], pairs))
        assert {frozenset(images[i] for i in group) for group in joined if len(group) > 1} == seen()
    names = folds.photo_names(images)
    only_names = folds.groups(names, np.empty((0, 2), int))
    group = folds.groups(names, folds.near_duplicate_pairs(photos, crops))
    assert (only_names.max() + 1, group.max() + 1) == (2006, 1966)
    source = [image.split("/")[0] for image in images]
    fold = folds.assign_folds(group, folds.strata(source, np.ones(2208), np.arange(2208)), [0, 1, 2, 3, 4], seed=0)
    folds.check_folds(group, fold, [0, 1, 2, 3, 4])
    table = folds.fold_table(fold, group, source)
    assert table.faces["all"] == 2208 and table.faces[:-1].between(430, 453).all()


def test_read_folds_of_reordered_rows_is_sorted_by_face(tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("face,group,fold\n2,1,4\n0,0,3\n1,1,4\n")
    table = read_folds(path, 3)
    assert table.to_numpy().tolist() == [[0, 0, 3], [1, 1, 4], [2, 1, 4]] and table.index.tolist() == [0, 1, 2]
    assert [rows.tolist() for rows in fold_rows(path, 3, 3)] == [[1, 2], [0]]
    with pytest.raises(UserError, match="fold 5 has no faces; run the split stage again"):
        fold_rows(path, 5, 3)


@pytest.mark.parametrize(("text", "message"), [
    (None, "folds.csv: not found; run `dvc repro split`"),
    ("face,group,fold\n0,0,1\n1,1,2\n", "each of the 3 train faces once"),
    ("face,group,fold\n0,0,1\n1,1,2\n1,1,2\n", "each of the 3 train faces once"),
    ("face,fold\n0,1\n1,2\n2,2\n", "is no fold table .*group"),
    ("", "is no fold table"),
])
def test_read_folds_of_another_table_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_folds(tmp_path / "folds.csv", 3)
