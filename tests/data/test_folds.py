import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.data import folds, near_duplicates
from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.folds import fold_rows, read_folds
from pipeline.data.split import split_faces
from pipeline.data.store import CropStore
from tests.conftest import DATA


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
    names, images = list(range(10, 10 + count)), [f"{photo}.jpg" for photo in photos]
    stratum = folds.strata(source, np.arange(1, size + 1), np.ones(size))
    if group.max() + 1 < count:
        with pytest.raises(UserError, match="folds"):
            folds.assign_folds(images, group, stratum, names, seed)
        return
    fold = folds.assign_folds(images, group, stratum, names, seed)
    assert set(fold) <= set(names) and len(fold) == size
    for label in range(group.max() + 1):
        assert len(set(fold[group == label])) == 1
    np.testing.assert_array_equal(fold, folds.assign_folds(images, group, stratum, names, seed))


def test_assign_folds_of_strata_spreads_them_evenly():
    source = np.repeat(["a", "b", "c"], [300, 60, 2])
    group, images = np.arange(362) // 2, [f"{number}.jpg" for number in range(362)]
    stratum = folds.strata(source, np.random.default_rng(0).uniform(50, 200, 362), np.full(362, 80))
    fold = folds.assign_folds(images, group, stratum, [0, 1, 2], seed=1)
    table = folds.fold_table(fold, group, source)
    assert table.index.tolist() == [0, 1, 2, "all"] and table.columns.tolist() == ["faces", "groups", "a", "b", "c"]
    assert table.loc["all"].tolist() == [362, 181, 300, 60, 2]
    assert table.loc[[0, 1, 2], "a"].between(94, 106).all() and table.loc[[0, 1, 2], "b"].between(16, 24).all()
    assert (folds.assign_folds(images, group, stratum, [0, 1, 2], seed=2) != fold).any()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(20, 300), count=st.integers(2, 6), seed=st.integers(0, 1000))
def test_assign_folds_of_a_pair_more_moves_few_groups(data, size, count, seed):
    images = [f"{number}.jpg" for number in range(size)]
    stratum = np.arange(size) % data.draw(st.integers(1, 3))
    first, second = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    before, after = (folds.assign_folds(images, folds.groups(images, pairs), stratum, range(count), seed)
                     for pairs in (np.empty((0, 2), int), np.array([[first, second]])))
    assert (before != after).sum() <= count  # one of the pair, and one at each border between two folds


def test_assign_folds_of_faces_in_another_order_are_the_same():
    images = np.array([f"{number}.jpg" for number in range(200)], dtype=object)
    group, stratum, order = np.arange(200) // 2, np.arange(200) % 3, np.random.default_rng(0).permutation(200)
    fold = folds.assign_folds(images, group, stratum, [1, 2, 3], seed=0)
    renumbered = folds.groups([f"{one}" for one in group[order]], np.empty((0, 2), int))
    np.testing.assert_array_equal(folds.assign_folds(images[order], renumbered, stratum[order], [1, 2, 3], seed=0),
                                  fold[order])


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


@pytest.fixture(scope="module")
def real(ibug: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CropStore]:
    """The real faces, cropped as the CPU preset does."""
    folder, stores = tmp_path_factory.mktemp("ibug"), {}
    geometry = CropGeometry(size=64, margin=1.4, shift_y=0.1, padding=1.4, color="rgb")
    for part, xml in (("train", "labels_ibug_300W_train.xml"), ("test", "labels_ibug_300W_test_parsed.xml")):
        write_crops(dlib_xml.read(ibug / xml, 68), ibug, folder / part, geometry)
        stores[part] = CropStore.open(folder / part)
    return stores


def test_near_duplicates_of_real_mirrored_pairs_are_found(real):
    store = real["test"]
    assert store.keypoints is None and len(store) == 716
    images = store.faces.image.tolist()
    mirrored = pairs_of_equal([image.replace("_mirror", "") for image in images])
    assert len(mirrored) == 358
    for found in (near_duplicates.similar_pairs(store.photos), near_duplicates.face_pairs(store)[:, :2].astype(int)):
        assert set(map(tuple, found.tolist())) == mirrored
    # By name, photos with several faces join as well.
    assert len(grouping(folds.groups(folds.photo_names(images), np.empty((0, 2), int)))) == 352


# All faces of the real train file that are joined by content, looked at side by side, laid upright and registered.
# One person in one photograph, published under several names (posters, scans, prints and re-encodings in LFPW):
SAME_PICTURE = [
    "lfpw/testset 86 136", "lfpw/testset 232 238", "lfpw/trainset 3 52", "lfpw/trainset 35 53", "lfpw/trainset 43 317",
    "lfpw/trainset 86 118", "lfpw/trainset 121 122", "lfpw/trainset 154 176", "lfpw/trainset 163 192",
    "lfpw/trainset 164 187", "lfpw/trainset 188 190", "lfpw/trainset 251 252", "lfpw/trainset 279 313 321",
    "lfpw/trainset 342 343 366", "lfpw/trainset 345 384", "lfpw/trainset 349 392", "lfpw/trainset 374 376",
    "lfpw/trainset 413 415 458", "lfpw/trainset 419 449", "lfpw/trainset 420 436", "lfpw/trainset 435 439",
    "lfpw/trainset 482 494 503", "lfpw/trainset 491 516", "lfpw/trainset 502 518", "lfpw/trainset 544 548",
    "lfpw/trainset 592 598", "lfpw/trainset 601 622 623 631 633 635 647 648 658", "lfpw/trainset 617 639",
    "lfpw/trainset 680 724", "lfpw/trainset 686 727", "lfpw/trainset 691 692", "lfpw/trainset 695 712 730",
    "lfpw/trainset 708 710", "lfpw/trainset 733 743", "lfpw/trainset 809 825 847", "lfpw/trainset 816 824 856 858",
    "lfpw/trainset 827 843",
]
ACROSS_FOLDERS = [
    ["helen/testset/3078332786_1.jpg", "helen/testset/3081510905_1.jpg"],
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
# One person in two photos a moment apart: alike, but not joined.
BURSTS = [("3214120096_5", "3213270807_4"), ("3214120096_5", "3214115970_3"), ("3213270807_2", "3214120096_1")]


def seen() -> set[frozenset[str]]:
    groups = [frozenset(group) for group in ACROSS_FOLDERS]
    for line in SAME_PICTURE:
        folder, *numbers = line.split()
        groups.append(frozenset(f"{folder}/image_{int(number):04d}.jpg" for number in numbers))
    for line in TWICE + TWO_PEOPLE:
        photo, *numbers = line.split()
        groups.append(frozenset(f"{photo}_{number}.jpg" for number in numbers))
    return set(groups)


def test_near_duplicates_of_real_train_faces_are_the_known_ones(real, monkeypatch):
    store = real["train"]
    images = store.faces.image.tolist()
    assert len(seen()) == 51 and sum(map(len, seen())) == 117
    for correlation, detail in ((0.942, 0.90), (0.958, 0.92), (near_duplicates.MIN_CORRELATION, 0.91)):
        monkeypatch.setattr(near_duplicates, "MIN_CORRELATION", correlation)  # the same at some distance from them
        monkeypatch.setattr(near_duplicates, "MIN_DETAIL", detail)
        pairs = near_duplicates.near_duplicate_pairs(store)
        joined = grouping(folds.groups([str(i) for i in range(len(images))], pairs))
        assert {frozenset(images[i] for i in group) for group in joined if len(group) > 1} == seen()
    group = pd.Series(folds.groups([str(i) for i in range(len(images))], pairs), index=images)
    for first, second in BURSTS:
        assert group[f"helen/testset/{first}.jpg"] != group[f"helen/testset/{second}.jpg"]


def test_split_faces_of_real_train_faces_keeps_the_same_photos_together_whatever_their_names(real):
    store, same = real["train"], pd.read_csv(DATA / "ibug_300w_same_photo.csv")
    options = {"folds": [0, 1, 2, 3, 4], "seed": 0, "near_duplicates": True}
    hidden = split_faces(store, photo_pattern=re.compile("(?P<photo>.*)"), **options)  # each file is its own photo
    face = store.faces.set_index(["image", "left"]).face
    first = hidden.loc[face[list(zip(same.image_a, same.left_a, strict=True))]]
    second = hidden.loc[face[list(zip(same.image_b, same.left_b, strict=True))]]
    assert len(same) == 32 and store.faces.image.is_unique
    assert first.group.tolist() == second.group.tolist() and first.fold.tolist() == second.fold.tolist()
    assert hidden.group.nunique() == 2208 - 117 + 51
    table = split_faces(store, photo_pattern=None, **options)
    assert table.group.nunique() == 1949  # of 2006 by name
    counts = table.groupby("fold").size()
    assert counts.sum() == 2208 and counts.between(420, 460).all()  # groups are shared out, not faces


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
    ("face,fold\n0,1\n1,2\n2,2\n", "not what was written there .*group"),
    ("", "not what was written there"),
])
def test_read_folds_of_another_table_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_folds(tmp_path / "folds.csv", 3)


@pytest.mark.parametrize("content", ["", "\x00", "face,group\n0,0\n", *(
    f"face,group,fold\n{row}\n" for row in ("0,0,0.5", "0,0,", "0,x,0", "0.5,0,0", "1,0,0"))])
def test_read_folds_tampered_is_an_error(tmp_path, content):
    path = tmp_path / "folds.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=r"folds\.csv: .*; run the split stage again"):
        read_folds(path, 1)


def test_describe_uneven_of_one_large_group_says_so():
    group, images = np.r_[np.zeros(90, int), 1:11], [f"{number}.jpg" for number in range(100)]
    fold = folds.assign_folds(images, group, np.zeros(100, int), [0, 1, 2, 3], seed=0)
    assert "faces: the largest group has 90 of 100; scores of such folds" in folds.describe_uneven(group, fold)
    assert folds.describe_uneven(np.arange(100), np.arange(100) % 4) == ""


@pytest.mark.parametrize(("sizes", "uneven"), [([10, 10, 10, 4], True), ([10, 10, 10, 5], False),
                                               ([16, 8, 8, 8], True), ([15, 9, 8, 8], False)])
def test_describe_uneven_is_of_folds_half_as_large_or_half_as_large_again(sizes, uneven):
    fold = np.repeat(np.arange(4), sizes)
    assert bool(folds.describe_uneven(np.arange(len(fold)), fold)) == uneven
