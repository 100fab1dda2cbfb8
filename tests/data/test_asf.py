from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.data.annotations import Layout, asf, formats
from tests.conftest import DATA

IMM = DATA / "imm_face_db"
needs_imm = pytest.mark.skipif(not IMM.is_dir(), reason="needs imm_face_db in shared/data, for research use only")

GOOD = """# written by hand
2

# <path#> <type> <x rel.> <y rel.> <point#> <connects from> <connects to>
0 \t4 \t0.0125 \t0.05 \t0 \t0 \t1
0 \t4 \t1.0 \t0.5 \t1\t0 \t1\t0.00\t0.00\t0.00
# host image
ä b.png
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "ä b.png"), np.zeros((10, 40), np.uint8))
    return tmp_path


def problems(root: Path, text: str, num_points: int | None = None) -> list[str]:
    (root / "in" / "f.asf").write_text(text, encoding="latin-1")
    found, wrong = asf.parse(root, "in", num_points)
    assert bool(wrong) == (len(found) == 0)
    return [problem.replace(f"{root}/", "") for problem in wrong]


def test_asf_coordinates_0_and_1_are_the_outer_edges_of_the_image(root):
    """x = 0 is the left edge of the first pixel, whose centre is our 0; x = 1 the right edge of the last."""
    (root / "in" / "f.asf").write_text(GOOD.replace("\n", "\r\n"), encoding="latin-1")
    found, wrong = asf.parse(root, ".", 2)
    assert wrong == []
    np.testing.assert_allclose(found.keypoints, [[[0, 0], [39.5, 4.5]]], atol=1e-6)
    assert found.faces.image.tolist() == ["in/ä b.png"]  # the photo lies beside its file
    assert found.faces["where"].tolist() == [f"{root}/in/f.asf:8"]


def test_asf_with_a_byte_order_mark_is_utf_8(root):
    (root / "in" / "f.asf").write_text(GOOD, encoding="utf-8-sig")
    found, wrong = asf.parse(root, "in", 2)
    assert wrong == [] and found.faces.image.tolist() == ["in/ä b.png"]


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("\t0.05", "\tx", ["in/f.asf:5: 'x' is not a number of pixels"]),
    ("\t0.05", "\tnan", ["in/f.asf:5: 'nan' is not a number of pixels"]),
    ("\t1.0 \t0.5", "\t1e99", ["in/f.asf:6: '1e99' is not a number of pixels", "in/f.asf:6: point '0' stands where "
                               "point 1 is expected"]),
    ("\t0 \t0 \t1\n", "\n", ["in/f.asf:5: 4 fields, but a point has at least 7"]),
    ("\t0 \t0 \t1\n", "\t3 \t0 \t1\n", ["in/f.asf:5: point '3' stands where point 0 is expected"]),
    ("2\n", "3\n", ["in/f.asf:8: 2 fields, but a point has at least 7",
                    "in/f.asf:8: after 3 points 0 lines follow, but the image's name is expected"]),
    ("2\n", "1\n", ["in/f.asf:8: after 1 points 2 lines follow, but the image's name is expected"]),
    ("2\n", "two\n", ["in/f.asf:2: 'two' is not a number of points"]),
    ("2\n", "99999999\n", ["in/f.asf:2: 99999999 points a face are too many; at most 2000 are read"]),
    ("ä b.png", "gone.png", ["in/f.asf:8: image in/gone.png is missing"]),
    ("ä b.png", "f.asf", ["in/f.asf:8: image in/f.asf is unreadable"]),
    ("ä b.png", "/a.png", ["in/f.asf:8: image path '/a.png' is absolute; write it relative to the data folder"]),
    (GOOD, "", ["in/f.asf: is empty; .asf is expected"]),
    (GOOD, "# only comments\n", ["in/f.asf:1: '' is not a number of points"]),
])
def test_asf_of_a_broken_file_names_file_and_line(root, old, new, expected):
    assert GOOD.count(old) >= 1
    assert problems(root, GOOD.replace(old, new, 1)) == expected


def test_asf_with_another_number_of_points_names_file_and_line(root):
    assert problems(root, GOOD, 58) == [
        "in/f.asf:2: 2 points a face, but 58 are expected; choose the skeleton of this file"]
    assert problems(root, GOOD, 2) == []


@needs_imm
def test_read_of_real_asf_faces_is_right():
    found = formats.read(IMM, ".", Layout(num_points=58))
    assert found.keypoints.shape == (240, 58, 2) and np.isfinite(found.keypoints).all()
    assert found.faces.image.iloc[[0, -1]].tolist() == ["01-1m.jpg", "40-6m.jpg"]
    assert found.boxes_made == 240
    assert found.faces[["left", "top", "width", "height"]].drop_duplicates().to_numpy().tolist() == [[0, 0, 640, 480]]
    assert (found.keypoints > 100).all() and (found.keypoints < [520, 470]).all()


@needs_imm
def test_asf_on_real_images_is_off_by_half_a_pixel():
    """What settles it: left and right outlines of the faces lie, on average, where the points of the jaw say.

    The strongest edge is looked for within 6 px of each point, left and right, so that what an annotator does on both
    sides alike cancels out. Without the half pixel the mean is −0.41 ± 0.05 px.
    """
    found, shift, offsets = formats.read(IMM, "."), [], np.arange(-6, 6.05, 0.1)
    for image, points in zip(found.faces.image, found.keypoints, strict=True):
        photo = cv2.GaussianBlur(cv2.imread(str(IMM / image), cv2.IMREAD_GRAYSCALE).astype(np.float32), (0, 0), 1.0)
        edges = np.abs(cv2.Sobel(photo, cv2.CV_32F, 1, 0))
        for x, y in points[[[0, 12], [1, 11], [2, 10], [3, 9]]].transpose(0, 2, 1):
            places = (x[:, None] + offsets).astype(np.float32), np.repeat(y[:, None], len(offsets), 1)
            profile = cv2.remap(edges, *places, cv2.INTER_LINEAR)
            best = profile.argmax(1)
            if (profile.max(1) > 40).all() and (best > 0).all() and (best < len(offsets) - 1).all():
                shift.append(offsets[best].mean())
    assert len(shift) > 400
    assert abs(np.mean(shift)) < 0.25
