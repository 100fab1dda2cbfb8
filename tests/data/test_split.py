"""People and videos that image names suggest."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.folds import photo_names
from pipeline.data.split import describe_people, split_faces, suggest_pattern
from pipeline.data.store import CropStore

PEOPLE = [f"Luis_{name}" for name in "ABCDEF"]


@pytest.mark.parametrize("form", [
    "{}_{:02}.jpg", "{}-{}m.jpg", "{} ({}).png", "sub/{}_{}_mirror.jpg", "sub/{}/frame{:03}.jpg", "a/b/{}/x/{}.jpg"])
def test_suggest_pattern_of_several_images_a_person_tells_them_apart(form):
    images = [form.format(name, number) for name in PEOPLE for number in range(3)]
    pattern = suggest_pattern(images)
    names = photo_names(images, re.compile(pattern))
    assert len(set(names)) == len(PEOPLE)
    assert all(len(set(names[start : start + 3])) == 1 for start in range(0, len(names), 3))


@pytest.mark.parametrize("images", [
    [f"image_{i:04}.jpg" for i in range(30)],  # all of one name
    [f"{i}_{face}.jpg" for i in range(30) for face in range(2)],  # faces of one photo, which are kept together anyway
    [f"{i}{end}.jpg" for i in range(30) for end in ("", "_mirror")],
    [f"{i}_e{i}.jpg" for i in range(30)],  # one image each
    [f"{name}_{i}.jpg" for name in PEOPLE[:4] for i in range(4)],  # too few
    [f"{name}_{i}.jpg" for name in PEOPLE for i in range(2)] + [f"{i}.jpg" for i in range(30)],  # too seldom
    [f"{source}/{i}.jpg" for source in ("afw", "helen", "lfpw") for i in range(30)],
    [],
], ids=["numbers", "faces", "mirrored", "singles", "few", "seldom", "sources", "none"])
def test_suggest_pattern_of_other_names_is_none(images):
    assert suggest_pattern(images) is None
    assert describe_people(images) == describe_people(images, np.arange(len(images))) == ""


def test_describe_people_counts_those_that_cross_folds():
    images = [f"{name}_{i}.jpg" for name in PEOPLE for i in range(2)] + ["single.jpg"]
    fold = np.array([1, 2, 1, 1, 2, 1, 2, 2, 1, 1, 1, 1, 2])
    assert describe_people(images, fold) == (
        "image names suggest 6 people or videos of several images each ('Luis_A', 'Luis_B', 'Luis_C', …); 2 of them "
        f"are in several folds; to keep each in one fold, set split.photo_pattern: '{suggest_pattern(images)}'")
    assert describe_people(images, np.ones(13, int)) == ""


def test_split_of_other_crops_moves_no_face(ibug, tmp_path):
    """With names hidden, so that only the content tells which faces belong together."""
    faces = dlib_xml.read(ibug / "labels_ibug_300W_train.xml")
    rows = np.arange(0, len(faces), 4)
    faces = replace(faces, faces=faces.faces.iloc[rows].reset_index(drop=True), keypoints=faces.keypoints[rows])
    tables = []
    for margin, shift_y in ((1.4, 0.1), (1.8, 0.0), (1.1, 0.2)):
        geometry = CropGeometry(size=64, margin=margin, shift_y=shift_y, padding=1.4, color="grey")
        write_crops(faces, ibug, tmp_path / str(margin), geometry)
        tables.append(split_faces(CropStore.open(tmp_path / str(margin)), folds=[0, 1, 2], seed=0,
                                  photo_pattern=re.compile("(?P<photo>.*)"), near_duplicates=True))
    assert tables[0].group.nunique() < len(rows)
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


def test_suggest_pattern_of_real_names_is_right(ibug):
    faces = dlib_xml.read(ibug / "labels_ibug_300W_train.xml").faces
    assert suggest_pattern(faces.image) is suggest_pattern([f"photos/{image}" for image in faces.image]) is None
    portraits = [path.name for path in (ibug.parent / "imm_face_db").glob("*.jpg")]
    assert len(set(photo_names(portraits, re.compile(suggest_pattern(portraits))))) == 40
