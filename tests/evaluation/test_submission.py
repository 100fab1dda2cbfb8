"""The submission: its bytes, and everything that the check must catch."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, dlib_xml
from pipeline.evaluation.submission import check, read_predictions, read_solution, write
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.geometry import crop_affine, transform

FACES = pd.DataFrame([[100, 20, 50, 60], [300, 10, 80, 80], [15, 200, 40, 40]], columns=BOX, dtype=float)
BOXES = FACES.to_numpy()
# Two points in each box.
POINTS = (BOXES[:, None, :2] + BOXES[:, None, 2:] * [[0.25, 0.5], [0.75, 0.5]]).astype(np.float32)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_write_equals_known_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "submission.csv"
    write(path, np.array([[[1.5, -2.25], [0.1, 4]], [[5, 6], [7, 1234.5678]]]))
    assert path.read_text() == (
        "Id,Predicted\n0,1.5\n1,-2.25\n2,0.1\n3,4.0\n4,5.0\n5,6.0\n6,7.0\n7,1234.5677\n"
    )
    assert [file.name for file in path.parent.iterdir()] == ["submission.csv"]


def test_write_round_trip_is_exact(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-10, 4000, (50, 68, 2)).astype(np.float32)
    write(tmp_path / "s.csv", points)
    assert (read_solution(tmp_path / "s.csv", 50, 68) == points).all()


def test_read_predictions_unsorted_sorts_by_face(tmp_path: Path) -> None:
    order, path = np.array([2, 0, 1]), tmp_path / "test.npz"
    Predictions(face=order, points=POINTS[order], spread=np.zeros((3, 2))).save(path)
    assert (read_predictions(path, 3).points == POINTS).all()
    with pytest.raises(UserError, match="each of the 4 faces once"):
        read_predictions(path, 4)
    Predictions(face=np.array([0, 2]), points=POINTS[:2], spread=np.zeros((2, 2))).save(path)
    with pytest.raises(UserError, match="each of the 3 faces once"):
        read_predictions(path, 3)


def test_write_without_faces_writes_header(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write(path, np.empty((0, 68, 2), np.float32))
    assert path.read_text() == "Id,Predicted\n"
    assert "0 faces × 68 points = 0 rows" in check(path, FACES[:0], 68)


def test_write_not_finite_is_refused(tmp_path: Path) -> None:
    points = POINTS.copy()
    points[1:, 1, 0] = np.nan
    with pytest.raises(UserError, match="2 faces have points that are not finite, the first is face 1;"):
        write(tmp_path / "s.csv", points)
    assert not list(tmp_path.iterdir())


def test_check_good_file_passes(tmp_path: Path) -> None:
    write(tmp_path / "s.csv", POINTS)
    assert "3 faces × 2 points = 12 rows in order, all finite" in check(tmp_path / "s.csv", FACES, 2)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda lines: ["id,predicted", *lines[1:]], ["line 1: the header is 'id,predicted'"]),
        (lambda lines: lines[1:], ["line 1: the header is '0,112.5'", "11 rows after the header"]),
        (lambda lines: lines[:-1], ["11 rows after the header, but 3 faces × 2 points × 2 make 12"]),
        (lambda lines: [*lines, "12,3.0"], ["13 rows after the header"]),
        (lambda lines: [*lines, "the end,3.0"], ["13 rows after the header"]),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], ["line 4: Id is '3', but must be 2", "line 5"]),
        (lambda lines: [*lines[:3], "2,nan", *lines[4:]], ["line 4: Predicted is 'nan', not a finite"]),
        (lambda lines: [*lines[:3], "2,-inf", *lines[4:]], ["line 4: Predicted is '-inf', not a finite"]),
        (lambda lines: [*lines[:3], "2,", *lines[4:]], ["line 4: Predicted is '', not a finite"]),
        (lambda lines: [*lines[:3], "2,x", *lines[4:]], ["line 4: Predicted is 'x', not a finite number"]),
        (lambda lines: [*lines[:3], "2,1_0", *lines[4:]], ["line 4: Predicted is '1_0', not a finite"]),
        (lambda lines: [*lines[:3], "2,１２", *lines[4:]], ["line 4: Predicted is '１２', not a finite"]),
        (lambda lines: [*lines[:3], "2,1e300", *lines[4:]], ["line 4: Predicted is '1e300', not a finite"]),
        (lambda lines: [*lines[:3], "2,0x10", *lines[4:]], ["line 4: Predicted is '0x10', not a finite"]),
        (lambda lines: lines, ["s.csv: the last line has no line end: its number may be cut; write the file again"]),
        (lambda lines: [*lines[:3], "2,1,5", *lines[4:]], ["line 4, saw 3"]),
        (lambda lines: [*lines[:3], "2", *lines[4:]], ["line 4: Predicted is '', not a finite"]),
        (lambda lines: [*lines[:3], "", *lines[3:]], ["line 4: Id is '', but must be 2", "13 rows after the header"]),
        (lambda lines: [], ["the header is ''", "0 rows after the header"]),
        (lambda lines: lines[:1], ["0 rows after the header"]),
    ],
)
def test_check_bad_layout_names_all_problems(tmp_path: Path, change, messages: list[str]) -> None:
    path = tmp_path / "s.csv"
    write(path, POINTS)
    path.write_text("\n".join(change(lines_of(path))))
    with pytest.raises(UserError) as caught:
        check(path, FACES, 2)
    found = "\n".join(caught.value.problems)
    assert all(message in found for message in messages), found
    assert len(set(caught.value.problems)) == len(caught.value.problems) < 13


def test_check_point_far_from_its_box_is_refused(tmp_path: Path) -> None:
    points = np.repeat(POINTS[:, :1], 5, axis=1)
    points[1, 4, 0] = -99999
    write(tmp_path / "s.csv", points)
    with pytest.raises(UserError, match=r"face 1, point 4: \[-99999\.0, .* is over 20 box sizes from its box"):
        check(tmp_path / "s.csv", FACES, 5)


def test_check_point_at_20_sizes_from_the_middle_of_its_box_passes(tmp_path: Path) -> None:
    points = np.repeat(POINTS[:, :1], 5, axis=1)
    points[1, 4] = [300 + 40 + 20 * 80, 10 + 40 - 20 * 80]  # the box is 300, 10, 80, 80
    write(tmp_path / "s.csv", points)
    check(tmp_path / "s.csv", FACES, 5)
    for place in ((1, 4, 0), (1, 4, 1)):
        beyond = points.copy()
        beyond[place] *= 1.001
        write(tmp_path / "s.csv", beyond)
        with pytest.raises(UserError, match="face 1, point 4"):
            check(tmp_path / "s.csv", FACES, 5)


def test_check_many_problems_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write(path, POINTS)
    path.write_text(path.read_text().replace("Id,", "ID,").replace("\n", "\n1"))
    with pytest.raises(UserError) as caught:
        check(path, FACES, 2)
    assert "more rows are wrong" in "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 8
    with pytest.raises(UserError, match=re.escape("gone.csv: not found")):
        check(tmp_path / "gone.csv", FACES, 2)


@pytest.mark.parametrize("count", [5, 6])
def test_check_shows_five_problems_of_a_kind_and_counts_the_others(tmp_path: Path, count: int) -> None:
    path = tmp_path / "s.csv"
    write(path, POINTS)
    lines = lines_of(path)
    path.write_text("\n".join([lines[0], *(f"{row},x" for row in range(count)), *lines[count + 1:], ""]))
    with pytest.raises(UserError) as caught:
        check(path, FACES, 2)
    assert [problem.partition(", line ")[2][:1] for problem in caught.value.problems[:5]] == list("23456")
    assert caught.value.problems[5:] == ((f"{path}: 1 more rows are wrong",) if count == 6 else ())


def test_check_of_points_on_the_edges_of_their_boxes_passes(tmp_path: Path) -> None:
    for corner in ([0, 0], [1, 1]):
        write(tmp_path / "s.csv", np.repeat((BOXES[:, None, :2] + BOXES[:, None, 2:] * corner), 2, axis=1))
        assert "3 faces have their points in their box" in check(tmp_path / "s.csv", FACES, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda points: points[..., ::-1], "x and y look swapped"),
        (lambda points: (points - BOXES[:, None, :2]) / BOXES[:, None, 2:], "look normalised"),
        (lambda points: points * 0 + 2.5, "counted from the box"),
        (lambda points: points - BOXES[:, None, :2], "counted from the box"),
        (lambda points: transform(crop_affine(BOXES, size=128, margin=1.4), points), "are the numbers in image pixels"),
        (lambda points: points[[1, 2, 0]], "the faces in the order of the test annotations"),
    ],
)
def test_check_other_pixels_are_refused(tmp_path: Path, wrong, message: str) -> None:
    write(tmp_path / "s.csv", wrong(POINTS))
    with pytest.raises(UserError, match=message):
        check(tmp_path / "s.csv", FACES, 2)


def test_read_solution_empty_cells_are_nan(tmp_path: Path) -> None:
    path = tmp_path / "solution.csv"
    write(path, POINTS)
    lines = lines_of(path)
    path.write_text("\n".join([*lines[:3], "2,", "3,nan", *lines[5:], ""]))
    found = read_solution(path, 3, 2)
    assert np.isnan(found[0, 1]).all()
    assert np.isfinite(found).sum() == 10
    with pytest.raises(UserError, match="make 16"):
        read_solution(path, 4, 2)


def test_check_of_real_data_refuses_each_mistake(ibug: Path, tmp_path: Path) -> None:
    annotations = dlib_xml.read(ibug / "labels_ibug_300W_train.xml", 68)
    faces, points, path = annotations.faces[::9], annotations.keypoints[::9], tmp_path / "s.csv"
    boxes = faces[BOX].to_numpy()
    write(path, points)
    assert "246 faces have their points in their box" in check(path, faces, 68)
    order = np.argsort(faces["image"], kind="stable")
    mistakes = {
        "swapped": points[..., ::-1], "by name": points[order], "by one": np.roll(points, 1, axis=0),
        "crop": transform(crop_affine(boxes, size=96, margin=1.4), points), "full size": points * 2.25,
    }
    for name, wrong in mistakes.items():
        write(path, wrong)
        with pytest.raises(UserError, match="away from their box"):
            check(path, faces, 68)
            pytest.fail(name)
