from pathlib import Path

import numpy as np
import pytest

from pipeline.data.annotations import kaggle_pixels
from pipeline.keypoints.skeleton import get_skeleton

HEADER = "left_eye_center_x,left_eye_center_y,nose_tip_x,nose_tip_y,Image\n"


def read(tmp_path: Path, text: str, num_points: int | None = None):
    path = tmp_path / "training.csv"
    path.write_text(text)
    found, wrong = kaggle_pixels.parse(path, num_points)
    return found, [problem.replace(f"{tmp_path}/", "") for problem in wrong]


def test_kaggle_training_file_has_images_and_missing_points(tmp_path):
    found, wrong = read(tmp_path, HEADER + "1.5,2,3,4,0 1 2 255\n5,6,,,9 9 9 9\n", 2)
    assert wrong == []
    assert found.faces.image.tolist() == ["training/1", "training/2"]
    np.testing.assert_array_equal(found.keypoints, [[[1.5, 2], [3, 4]], [[5, 6], [np.nan, np.nan]]])
    assert found.images["training/1"].tolist() == [[0, 1], [2, 255]]
    assert found.images["training/1"].dtype == np.uint8


def test_kaggle_test_file_names_images_by_id(tmp_path):
    found, wrong = read(tmp_path, "ImageId,Image\n7,1 2 3 4\n3,5 6 7 8\n", 15)
    assert wrong == [] and found.keypoints is None
    assert found.faces.image.tolist() == ["training/7", "training/3"]


def test_kaggle_header_of_the_contest_is_the_skeleton(tmp_path):
    names = [f"{name}_{axis}" for name in get_skeleton("kaggle15").names for axis in "xy"]
    values = ",".join(map(str, range(30)))
    found, wrong = read(tmp_path, f"{','.join(names)},Image\n{values},{' '.join(['7'] * 96 * 96)}\n", 15)
    assert wrong == [] and found.keypoints.tolist() == [np.arange(30).reshape(15, 2).tolist()]
    assert found.images["training/1"].shape == (96, 96)


def test_kaggle_with_problems_names_file_line_and_face(tmp_path):
    pixels = ["0 1 2 256", "1 2 3", "", "1  2", "1,2", "-1 2 3 4", "1 2 3 4.5", "1 2 3 x"]
    rows = [f"1,2,3,4,{text}" for text in pixels] + ["1,2,nan,4,1", "1,2,x,inf,1", "1,2,3,4,5"]
    found, wrong = read(tmp_path, HEADER + "\n".join(rows) + "\n", 2)
    whole = "Image: whole numbers from 0 to 255 with one space between them are expected"
    assert wrong == [
        "training.csv:2: face 0 (training/1): Image: pixel 3 is 256, but 255 is white",
        "training.csv:3: face 1 (training/2): Image: 3 pixels are no square",
        f"training.csv:4: face 2 (training/3): {whole}",
        f"training.csv:5: face 3 (training/4): {whole}",
        "training.csv:6: face 4 (1): 6 fields, but the first row has 5",
        f"training.csv:7: face 5 (training/6): {whole}",
        f"training.csv:8: face 6 (training/7): {whole}",
        f"training.csv:9: face 7 (training/8): {whole}",
        "training.csv:10: face 8 (training/9): nose_tip: x is missing, the other is not",
        "training.csv:11: face 9 (training/10): nose_tip: x='x' is not a number of pixels",
        "training.csv:11: face 9 (training/10): nose_tip: y='inf' is not a number of pixels",
    ]
    assert found.faces.index.tolist() == [10] and list(found.images) == ["training/11"]


@pytest.mark.parametrize(("text", "expected"), [
    ("a_x,a_y\n1,2\n", "training.csv:1: no column 'Image', or two; Kaggle's training.csv or test.csv is expected"),
    ("a_x,Image\n1,2\n", "training.csv:1: point 'a' has no column for its y"),
    (HEADER, "training.csv:1: has a header, but no faces"),
    ("", "training.csv: is empty; CSV is expected"),
    ("ImageId,Image\n1,1\n1,2\n", "training.csv:3: face 1 (training/1): ImageId '1' comes twice"),
    ("ImageId,Image\n../1,1\n", "training.csv:2: face 0 (training/../1): ImageId '../1' is not a number"),
    (HEADER + f"1,2,3,4,{'1' * 140_000}\n", "training.csv:2: broken CSV (field larger than field limit (131072))"),
])
def test_kaggle_with_an_invalid_file_says_why(tmp_path, text, expected):
    assert read(tmp_path, text)[1] == [expected]


def test_kaggle_with_another_number_of_points_is_one_problem(tmp_path):
    assert read(tmp_path, HEADER + "1,2,3,4,1\n1,2,3,4,1\n", 15)[1] == [
        "training.csv:1: 2 points a face, but 15 are expected; choose the skeleton of this file"]
