"""Kaggle's Facial Keypoints Detection: the submission that its lookup table asks for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX
from pipeline.evaluation.lookup import check, read_lookup, write

FIXTURE = Path(__file__).parents[1] / "fixtures" / "IdLookupTable.csv"
NAMES = ("left_eye_center", "right_eye_center", "nose_tip", "mouth_left_corner", "mouth_right_corner")
IMAGES = ["test/1", "test/2", "test/3"]
FACES = pd.DataFrame([[0, 0, 96, 96]] * 3, columns=BOX, dtype=float)
POINTS = np.arange(30, dtype=np.float32).reshape(3, 5, 2) + 0.5


@pytest.fixture
def table():
    return read_lookup(FIXTURE, IMAGES, NAMES)


def test_write_lookup_follows_table_order(tmp_path, table):
    write(tmp_path / "s.csv", POINTS, table)
    assert (tmp_path / "s.csv").read_text() == (
        "RowId,Location\n1,0.5\n2,1.5\n3,4.5\n4,5.5\n5,28.5\n6,29.5\n7,15.5\n8,14.5\n"
    )
    assert "8 rows of the lookup table in order, all finite; 3 of 3 faces" in check(tmp_path / "s.csv", FACES, table)


def test_write_faces_in_other_order_uses_image_id(tmp_path):
    table = read_lookup(FIXTURE, ["test/3", "test/1", "test/2"], NAMES)
    write(tmp_path / "s.csv", POINTS[[2, 0, 1]], table)
    assert (tmp_path / "s.csv").read_text().split()[1:4] == ["1,0.5", "2,1.5", "3,4.5"]


def test_write_point_outside_image_is_not_clipped(tmp_path, table):
    points = POINTS.copy()
    points[0, 0] = [-3, 98.25]
    write(tmp_path / "s.csv", points, table)
    assert (tmp_path / "s.csv").read_text().split()[1:3] == ["1,-3.0", "2,98.25"]


@pytest.mark.parametrize(("text", "problems"), [
    ("RowId,ImageId,Location\n1,1,\n", [":1: no column FeatureName; Kaggle's IdLookupTable.csv is expected"]),
    ("RowId,ImageId,FeatureName,Location\n1,4,nose_tip_x,\n2,1,nose_tip,\n3,1,nose_tip_y,\n", [
        ":2: ImageId '4' is not among the 3 test faces",
        ":3: FeatureName 'nose_tip' is not a point of the skeleton with _x or _y; its names are set by data.skeleton"]),
    ("RowId,ImageId,FeatureName,Location\n", [":1: has a header, but no rows"]),
    ("", [": not readable; Kaggle's IdLookupTable.csv is expected (No columns to parse from file)"]),
    (None, [": not readable; Kaggle's IdLookupTable.csv is expected ([Errno 2] No such file or directory: '')"]),
])
def test_read_lookup_bad_table_is_named(tmp_path, text, problems):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_lookup(path, IMAGES, NAMES)
    assert [problem.replace(str(path), "") for problem in caught.value.problems] == problems


def test_read_lookup_many_problems_are_counted(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("RowId,ImageId,FeatureName\n" + "1,9,nose_tip_x\n" * 20)
    with pytest.raises(UserError) as caught:
        read_lookup(path, IMAGES, NAMES)
    assert len(caught.value.problems) == 6 and caught.value.problems[-1].endswith("15 more like these")


@pytest.mark.parametrize(("change", "message"), [
    (lambda lines: lines[:-1], "7 rows after the header, but the lookup table asks for 8"),
    (lambda lines: [*lines, "9,1.5"], "line 10: RowId is '9', but must be the end"),
    (lambda lines: ["Id,Predicted", *lines[1:]], "the header is 'Id,Predicted', but must be 'RowId,Location'"),
    (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "line 3: RowId is '3', but must be 2"),
    (lambda lines: [*lines[:2], "2,", *lines[3:]], "line 3: Location is '', not a finite number"),
])
def test_check_bad_layout_is_named(tmp_path, table, change, message):
    path = tmp_path / "s.csv"
    write(path, POINTS, table)
    path.write_text("\n".join(change(path.read_text().split())))
    with pytest.raises(UserError, match=message):
        check(path, FACES, table)


def test_check_other_pixels_are_refused(tmp_path, table):
    write(tmp_path / "s.csv", POINTS / 96 - 1, table)
    with pytest.raises(UserError, match="of 3 faces .* look normalised"):
        check(tmp_path / "s.csv", FACES, table)


def test_write_not_finite_is_refused(tmp_path, table):
    points = POINTS.copy()
    points[1, 1] = np.nan
    with pytest.raises(UserError, match="the first is face 1"):
        write(tmp_path / "s.csv", points, table)
    assert not list(tmp_path.iterdir())
