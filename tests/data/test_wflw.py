from pathlib import Path

import numpy as np
import pytest

from pipeline.data.annotations import BOX, wflw


def read(tmp_path: Path, text: str, num_points: int | None = None):
    (tmp_path / "list.txt").write_text(text)
    found, wrong = wflw.parse(tmp_path / "list.txt", num_points)
    return found, [problem.replace(f"{tmp_path}/", "") for problem in wrong]


def test_wflw_with_box_and_attributes_is_read(tmp_path):
    """The layout of WFLW: 196 coordinates, the box's corners, six attributes, the path."""
    values = np.arange(196) * 1.25 + 0.123456
    line = " ".join([*(f"{value:.6f}" for value in values), "182 268 233 335", "0 0 0 1 0 0", "37--Soccer/a_b_1.jpg"])
    found, wrong = read(tmp_path, f"{line}\n{line}\n", 98)
    assert wrong == []
    assert found.faces.image.tolist() == ["37--Soccer/a_b_1.jpg"] * 2
    assert found.faces[BOX].iloc[0].tolist() == [182, 268, 52, 68]  # from the first pixel to the last
    np.testing.assert_allclose(found.keypoints[1], values.reshape(98, 2), atol=1e-4)
    assert found.faces["where"].tolist() == [f"{tmp_path}/list.txt:1", f"{tmp_path}/list.txt:2"]


def test_wflw_without_box_and_attributes_is_read(tmp_path):
    found, wrong = read(tmp_path, "1 2 3 4 a.jpg\n\n5 6 7 8 b.jpg")
    assert wrong == [] and found.faces[BOX].isna().all(axis=None)
    assert found.keypoints.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


@pytest.mark.parametrize(("line", "expected"), [
    ("1 2 3 4 0 0 9 9 0 0 0 0 0 0 ../a.jpg", "image path '../a.jpg' leaves the data folder; '..' is not allowed"),
    ("1 nan 3 4 0 0 9 9 0 0 0 0 0 0 a.jpg", "'nan' is not a number of pixels"),
    ("1 2 3 4 0 0 9 1e8 0 0 0 0 0 0 a.jpg", "'1e8' is not a number of pixels"),
    ("1 2 3 0 0 9 9 0 0 0 0 0 0 a.jpg", "3 coordinates; as many x as y are expected"),
    ("1 2 3 4 5 6 0 0 9 9 0 0 0 0 0 0 a.jpg",
     "3 points a face, but 2 are expected; choose the skeleton of this file"),
    ("1 2 3 4 0 0 9 9 0 0 0 0 0 2 a.jpg", "7 points a face, but 2 are expected; choose the skeleton of this file"),
    ("a.jpg", "0 coordinates; as many x as y are expected"),
])
def test_wflw_with_broken_lines_names_file_line_and_face(tmp_path, line, expected):
    good = "1 2 3 4 0 0 9 9 0 1 0 0 0 0 good.jpg\n"
    found, wrong = read(tmp_path, f"{good}{line}\n{good}", 2)
    assert wrong == [f"list.txt:2: face 1 ({line.split()[-1]}): {expected}"]
    assert found.faces.index.tolist() == [0, 2]


def test_wflw_of_an_unreadable_file_says_so(tmp_path):
    assert read(tmp_path, " \n")[1] == ["list.txt: is empty; a WFLW list is expected"]
    (tmp_path / "list.txt").write_bytes(b"1 2 a.jpg\n1 2 \xe4.jpg\n")
    assert wflw.parse(tmp_path / "list.txt")[1] == [
        f"{tmp_path}/list.txt:2: is not text in UTF-8; a WFLW list is expected"]
