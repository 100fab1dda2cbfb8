import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.annotations import BOX, coco, tabulate

IMAGES = [{"id": 5, "file_name": "b/a.jpg"}, {"id": "six", "file_name": "c.jpg"}]
FACE = {"id": 1, "image_id": 5, "keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0], "bbox": [1.5, 2, 30, 40]}


def read(tmp_path: Path, content: object, num_points: int | None = None):
    path = tmp_path / "f.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    found, wrong = coco.parse(path, num_points)
    return found, [problem.replace(f"{tmp_path}/", "") for problem in wrong]


@pytest.mark.parametrize(("categories", "names"), [
    ([{"id": 1, "name": "car"}, {"id": 2, "keypoints": ["left_eye", "nose", "chin"]}], ("left_eye", "nose", "chin")),
    ([{"keypoints": ["left_eye", "nose"]}], ()), ([{"keypoints": ["0", "1", "2"]}], ()),
    ([{"keypoints": ["eye", "eye", "chin"]}], ()), ([{"keypoints": ["eye", "\ud800", "chin"]}], ()),
    ([{"keypoints": [["eye"], 1, "chin"]}], ()), ({"keypoints": 3}, ()), (["face"], ()), (None, ())])
def test_coco_takes_the_names_of_the_points_from_a_category_that_has_as_many(tmp_path, categories, names):
    found, wrong = read(tmp_path, {"images": IMAGES, "annotations": [FACE], "categories": categories})
    assert (found.names, wrong) == (names, [])


def test_coco_with_hidden_points_boxes_and_crowds_is_read(tmp_path):
    """0 is missing, whatever x and y say; 1 (hidden) and 2 (seen) are points."""
    other = {"image_id": "six", "keypoints": [None, "?", 0, 7, 8, 2, 9, 1e3, 1.0]}
    found, wrong = read(tmp_path, {"images": IMAGES, "annotations": [FACE, FACE | {"iscrowd": 1}, other]}, 3)
    assert wrong == []
    assert found.faces.image.tolist() == ["b/a.jpg", "c.jpg"]
    nan = np.nan
    np.testing.assert_array_equal(found.keypoints, [[[1, 2], [3.5, 4], [nan, nan]], [[nan, nan], [7, 8], [9, 1000]]])
    np.testing.assert_array_equal(found.faces[BOX].to_numpy(), [[1.5, 2, 30, 40], [nan] * 4])
    assert found.faces["where"].tolist() == [f"{tmp_path}/f.json: annotations[{record}]" for record in (0, 2)]


@pytest.mark.parametrize("content", [{"images": IMAGES}, {"images": IMAGES, "annotations": []}])
def test_coco_without_annotations_has_a_face_an_image(tmp_path, content):
    found, wrong = read(tmp_path, content, 68)
    assert wrong == [] and found.keypoints is None and found.faces.image.tolist() == ["b/a.jpg", "c.jpg"]


def test_coco_without_keypoints_has_boxes_of_faces_to_predict(tmp_path):
    boxes = [{"image_id": "six", "bbox": [1, 2, 30, 40]}, {"image_id": 5, "bbox": [5, 6.5, 7, 8]}, {"image_id": 5}]
    found, wrong = read(tmp_path, {"images": IMAGES, "annotations": boxes}, 68)
    assert wrong == [] and found.keypoints is None and found.faces.image.tolist() == ["c.jpg", "b/a.jpg", "b/a.jpg"]
    np.testing.assert_array_equal(found.faces[BOX].to_numpy(), [[1, 2, 30, 40], [5, 6.5, 7, 8], [np.nan] * 4])
    assert read(tmp_path, {"images": IMAGES, "annotations": [FACE, boxes[0], boxes[1] | {"bbox": [1]}]})[1] == [
        "f.json: annotations[1]: face 1 (c.jpg): keypoints are not x, y, v of each point",
        "f.json: annotations[2]: face 2 (b/a.jpg): bbox is not left, top, width, height in pixels",
        "f.json: annotations[2]: face 2 (b/a.jpg): keypoints are not x, y, v of each point",
    ]


@pytest.mark.parametrize(("change", "expected"), [
    ({"image_id": 7}, ["face 0 (?): image_id '7' is not among the images"]),
    ({"image_id": [7]}, ["face 0 (?): image_id '[7]' is not among the images"]),
    ({"bbox": [1, 2, 3]}, ["face 0 (b/a.jpg): bbox is not left, top, width, height in pixels"]),
    ({"bbox": [1, 2, 3, 1e99]}, ["face 0 (b/a.jpg): bbox is not left, top, width, height in pixels"]),
    ({"bbox": {"left": 1}}, ["face 0 (b/a.jpg): bbox is not left, top, width, height in pixels"]),
    ({"keypoints": [1, 2]}, ["face 0 (b/a.jpg): keypoints are not x, y, v of each point"]),
    ({"keypoints": "1 2 2"}, ["face 0 (b/a.jpg): keypoints are not x, y, v of each point"]),
    ({"keypoints": [1, 2, 2]}, ["face 0 (b/a.jpg): 1 points a face, but 3 are expected; choose the skeleton of this "
                                "file"]),
    ({"keypoints": [1, 2, 3, "4", 5, 1, float("nan"), 7, 2]}, [
        "face 0 (b/a.jpg): point 0: visibility 3 is not 0, 1 or 2",
        "face 0 (b/a.jpg): point 1: x=4, y=5 are not numbers of pixels",
        "face 0 (b/a.jpg): point 2: x=nan, y=7 are not numbers of pixels"]),
    ({"keypoints": [1, 2, [2], True, 5, 1, 1, 10**400, 2]}, [
        "face 0 (b/a.jpg): point 0: visibility [2] is not 0, 1 or 2",
        "face 0 (b/a.jpg): point 1: x=True, y=5 are not numbers of pixels",
        f"face 0 (b/a.jpg): point 2: x=1, y={str(10**400)[:40]} are not numbers of pixels"]),
])
def test_coco_with_broken_annotations_names_file_and_record(tmp_path, change, expected):
    found, wrong = read(tmp_path, {"images": IMAGES, "annotations": [FACE | change, FACE]}, 3)
    assert wrong == [f"f.json: annotations[0]: {problem}" for problem in expected]
    assert found.faces.index.tolist() == [1]


def test_coco_with_foreign_records_names_them(tmp_path):
    images = [*IMAGES, 3, {"id": 1}, {"id": 5, "file_name": "d.jpg"}, {"id": 9, "file_name": "/e.jpg"},
              {"id": {}, "file_name": "f.jpg"}]
    assert read(tmp_path, {"images": images, "annotations": [FACE, None]})[1] == [
        "f.json: images[2]: needs an 'id' and a 'file_name'",
        "f.json: images[3]: needs an 'id' and a 'file_name'",
        "f.json: images[4]: id 5 comes twice",
        "f.json: images[5]: image path '/e.jpg' is absolute; write it relative to the data folder",
        "f.json: images[6]: needs an 'id' and a 'file_name'",
        "f.json: annotations[1]: face 1 (?): image_id 'None' is not among the images",
        "f.json: annotations[1]: face 1 (?): keypoints are not x, y, v of each point",
    ]


@pytest.mark.parametrize(("text", "expected"), [
    ('{\n "images": [\n}', "f.json:3: broken JSON (Expecting value, column 1)"),
    ("[1]", "f.json: no list 'images'; COCO JSON is expected"),
    ('{"annotations": []}', "f.json: no list 'images'; COCO JSON is expected"),
    ('{"images": [], "annotations": {"a": 1}}', "f.json: 'annotations' is not a list"),
    ('{"images": []}', "f.json: has no images and no annotations"),
    ("[" * 200_000, "f.json: broken JSON (numbers too long or lists too deep); COCO JSON is expected"),
    ('{"images": [' + "9" * 5000 + "]}", "f.json: broken JSON (numbers too long or lists too deep); COCO JSON is "
                                        "expected"),
    ("", "f.json: is empty; COCO JSON is expected"),
])
def test_coco_of_another_file_says_why(tmp_path, text, expected):
    assert read(tmp_path, text)[1] == [expected]


def test_coco_name_that_is_no_unicode_text_is_a_problem(tmp_path):
    _, wrong = read(tmp_path, '{"images": [{"id": 1, "file_name": "a\\ud800.jpg"}]}')
    assert wrong == ["f.json: images[0]: image path 'a\\ud800.jpg' is not Unicode text"]


def test_coco_with_only_crowds_is_a_problem(tmp_path):
    found, wrong = read(tmp_path, {"images": IMAGES, "annotations": [FACE | {"iscrowd": 1}] * 2}, 3)
    assert len(found) == 0 and wrong == ["f.json: has only crowds (iscrowd 1), 2 of them; single faces are expected"]


def test_coco_written_is_read_back_with_what_labelling_tools_need(tmp_path):
    points = np.array([[[1.1, 2], [np.nan, np.nan], [-3, 4e3]], [[0, 0], [1, 1], [2, 2.3]]], np.float32)
    faces = tabulate([(number, "b/a.jpg", 1.5, 2, 30, 40, "") for number in range(2)], points)
    sizes = {"b/a.jpg": (640, 480), "empty.jpg": (10, 20)}
    coco.write(tmp_path / "f.json", faces, sizes=sizes, names=["left", "right", "nose"], lines=[(0, 2)])
    found, wrong = coco.parse(tmp_path / "f.json", 3)
    assert wrong == [] and found.faces.image.tolist() == ["b/a.jpg"] * 2
    np.testing.assert_array_equal(found.keypoints, points)
    np.testing.assert_array_equal(found.faces[BOX], faces.faces[BOX])
    written = json.loads((tmp_path / "f.json").read_text())
    (category,) = written["categories"]
    assert category["keypoints"] == ["left", "right", "nose"] and category["skeleton"] == [[1, 3]]
    assert [(one["file_name"], one["width"], one["height"]) for one in written["images"]] == [
        ("b/a.jpg", 640, 480), ("empty.jpg", 10, 20)]
    assert [record["num_keypoints"] for record in written["annotations"]] == [2, 3]
