from pathlib import Path

import numpy as np
import pytest

from pipeline.data.annotations import pts

HEADED = "version: 1\nn_points:  3\n{\n1 1\n10.5 20.25\n-3 4e1\n}\n"


def write(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def problems(root: Path, name: str = ".", num_points: int | None = None) -> list[str]:
    _, found = pts.parse(root, name, num_points)
    return [problem.replace(f"{root}/", "") for problem in found]


@pytest.mark.parametrize("text", [
    HEADED, HEADED.replace("\n", "\r\n"), "1 1\n10.5 20.25\n-3 4e1", "{\n 1  1\n\n10.5\t20.25\n-3 4e1\n}",
    "\ufeffVersion: 1\nN_POINTS:3\n{\n1 1\n10.5 20.25\n-3 4e1\n}\n",
], ids=["header", "windows", "bare", "braces", "mark"])
def test_pts_points_from_one_become_points_from_zero(tmp_path, text):
    (tmp_path / "a.pts").write_text(text, encoding="utf-8")
    found, wrong = pts.parse_points(tmp_path / "a.pts", 3)
    assert wrong == []
    assert found.tolist() == [[0, 0], [9.5, 19.25], [-4, 39]]


def test_pts_of_a_folder_pattern_or_file_are_found(tmp_path):
    root = write(tmp_path, {f"{stem}{suffix}": "2 3\n" if suffix == ".pts" else ""
                            for stem in ("b/c/2", "a/x.y", "b/1") for suffix in (".pts", ".JPG")})
    assert pts.parse(root, ".")[0].faces.image.tolist() == ["a/x.y.JPG", "b/1.JPG", "b/c/2.JPG"]
    assert pts.parse(root, "b")[0].faces.image.tolist() == ["b/1.JPG", "b/c/2.JPG"]
    assert pts.parse(root, "b/*.pts")[0].faces.image.tolist() == ["b/1.JPG"]
    assert pts.parse(root, "**/[a-z].?.pts")[0].faces.image.tolist() == ["a/x.y.JPG"]
    found, wrong = pts.parse(root, "a/x.y.pts")
    assert wrong == [] and found.keypoints.tolist() == [[[1, 2]]] and found.faces.left.isna().all()
    assert found.faces["where"].tolist() == [f"{root}/a/x.y.pts:1"]
    assert problems(root, "c") == ["c: no .pts files; name a folder of them, or a pattern as '**/*.pts'"]


def test_pts_with_problems_names_file_and_line(tmp_path):
    root = write(tmp_path, {
        "a.pts": "version: 1\nn_points: 3\n{\n1 2\n3 x\n5\n}\n",
        "b.pts": "version: 1\nn_points: 3\n{\n1 2\n3 4\n}\n",
        "c.pts": "version: 1\nn_points: 68\n{\n",
        "d.pts": "1 2\nnan 4\n1e99 1\n1 2 3\n",
        "e.pts": "",
        "f.pts": "{\n}\n",
        "g.pts": "1 2\n3 4\n",
        "h.pts": "1 2\n3 4\n5 6\n",
        "i.pts": "1 2\n3 4\n",
        **dict.fromkeys(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg", "h.jpg", "h.png"], ""),
    })
    (root / "j.pts").write_bytes(b"1 2\n3 \xff\n")
    (root / "j.jpg").touch()
    assert problems(root, num_points=3) == [
        "a.pts:5: 'x' is not a number of pixels",
        "a.pts:6: 1 numbers, but x and y are expected",
        "b.pts:2: n_points is '3', but 2 points follow",
        "c.pts:2: n_points is '68', but 0 points follow",
        "d.pts:2: 'nan' is not a number of pixels",
        "d.pts:3: '1e99' is not a number of pixels",
        "d.pts:4: 3 numbers, but x and y are expected",
        "d.pts:1: 4 points a face, but 3 are expected; choose the skeleton of this file",
        "e.pts: is empty; .pts is expected",
        "f.pts:3: no points; one x and y a line are expected",
        "g.pts:1: 2 points a face, but 3 are expected; choose the skeleton of this file",
        "h.pts:1: several images beside it (h.jpg, h.png); keep one",
        "i.pts:1: 2 points a face, but 3 are expected; choose the skeleton of this file",
        "i.pts:1: no image beside it; i.jpg (or .jpeg, .png, .bmp, …) is expected",
        "j.pts:2: is not text in UTF-8; .pts is expected",
    ]


def test_pts_without_a_skeleton_takes_the_first_number_of_points(tmp_path):
    root = write(tmp_path, {"a.pts": "x 1\n", "b.pts": "1 2\n3 4\n", "c.pts": "1 2\n", "d.pts": "1 2\n3 4\n",
                            **dict.fromkeys(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "")})
    found, wrong = pts.parse(root, ".")
    assert found.faces.index.tolist() == [1, 3] and found.keypoints.shape == (2, 2, 2)
    assert found.keypoints.dtype == np.float32
    assert [problem.replace(f"{root}/", "") for problem in wrong] == [
        "a.pts:1: 'x' is not a number of pixels",
        "c.pts:1: 1 points a face, but 2 are expected; choose the skeleton of this file"]
