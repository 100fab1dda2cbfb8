import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from PIL.ExifTags import Base

from pipeline.data.annotations import BOX, Annotations
from pipeline.data.symmetry import FEWEST
from pipeline.data.validation import validate, validate_files
from pipeline.keypoints.skeleton import get_skeleton, make_skeleton
from stages.validate import main

IBUG = Path(__file__).parents[3] / "shared" / "data" / "ibug_300w"
needs_ibug = pytest.mark.skipif(not IBUG.exists(), reason=f"needs {IBUG.name} in shared/data")

POINTS = "<part name='0' x='20' y='20'/><part name='1' x='30' y='20'/><part name='2' x='25' y='30'/>"
BOX_XML = "<box left='15' top='15' width='20' height='20'>"

THREE = make_skeleton("three", 3, [(0, 1)])

# Lines are counted below: keep one element a line.
TRAIN = f"""<dataset><images>
<image file='good.png'>
{BOX_XML}{POINTS}</box>
{BOX_XML}{POINTS}</box>
<box left='15' top='15' width='20' height='0'>{POINTS}</box>
<box left='100' top='15' width='20' height='20'>{POINTS}</box>
<box left='-20' top='15' width='20' height='20'></box>
<box left='x' top='15' width='20' height='20'></box>
<box left='14' top='15' width='20' height='20'>{POINTS}<part name='3' x='25' y='25'/></box>
<box left='13' top='15' width='20' height='20'>{POINTS.replace("x='20'", "x='90'")}</box>
<box left='12' top='15' width='20' height='20'>{POINTS.replace("x='20'", "x='nan'")}</box>
</image>
<image file='../secret.png'>
{BOX_XML}{POINTS}</box>
</image>
<image file='missing.png'>
{BOX_XML}{POINTS}</box>
<box left='5' top='15' width='20' height='20'>{POINTS}</box>
</image>
<image file='text.png'>
{BOX_XML}{POINTS}</box>
</image>
<image file='cut.jpg'>
{BOX_XML}{POINTS}</box>
</image>
<image file='empty.png'>
{BOX_XML}{POINTS}</box>
</image>
</images></dataset>
"""
TEST = """<dataset><images>
<image file='gone.png'>
<box left='15' top='15' width='20' height='20'/>
</image></images>
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with a good photo of 100×80 px and several bad ones."""
    photo = np.random.default_rng(0).integers(0, 256, (80, 100), np.uint8)
    cv2.imwrite(str(tmp_path / "good.png"), photo)
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    whole = cv2.imencode(".jpg", photo)[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "train.xml").write_text(TRAIN)
    (tmp_path / "test.xml").write_text(TEST)
    return tmp_path


def test_validate_files_with_many_problems_lists_all_at_once(root):
    train, test = validate_files(root, "train.xml", "test.xml", THREE, jobs=2)
    assert [problem.replace(f"{root}/", "") for problem in train.problems] == [
        "train.xml:4: face 1 (good.png): duplicate entry: same image and box as face 0",
        "train.xml:5: face 2 (good.png): box without area: width 20, height 0",
        "train.xml:6: face 3 (good.png): box at 100, 15 lies wholly outside the image of 100×80 px",
        "train.xml:6: face 3 (good.png): points 0, 1, 2: more than 1.5 box sizes from the middle of the box",
        "train.xml:7: face 4 (good.png): box at -20, 15 lies wholly outside the image of 100×80 px",
        "train.xml:7: face 4 (good.png): has no points",
        "train.xml:8: face 5 (good.png): left='x' is not a number of pixels",
        "train.xml:9: face 6 (good.png): part '3' is unknown; names are the indices 0 to 2",
        "train.xml:10: face 7 (good.png): point 0: more than 1.5 box sizes from the middle of the box",
        "train.xml:11: face 8 (good.png): part '0': x='nan' is not a number of pixels",
        "train.xml:13: image path '../secret.png' leaves the data folder; '..' is not allowed",
        "train.xml:17: face 10 (missing.png): image missing.png is missing",
        "train.xml:21: face 12 (text.png): image text.png is unreadable",
        "train.xml:24: face 13 (cut.jpg): image cut.jpg is unreadable",
        "train.xml:27: face 14 (empty.png): image empty.png is unreadable",
    ]
    assert [problem.replace(f"{root}/", "") for problem in test.problems] == [
        "test.xml:3: face 0 (gone.png): image gone.png is missing",
        "test.xml:5: broken XML (no element found, column 1)",
    ]


def test_validate_files_with_a_header_of_a_huge_image_calls_it_unreadable(root):
    """CV_IO_MAX_IMAGE_PIXELS makes OpenCV raise."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    chunks = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
              for name, data in parts]
    (root / "good.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    (root / "train.xml").write_text("\n".join(TRAIN.splitlines()[:3]) + "</image></images></dataset>")
    report, = validate_files(root, "train.xml", None, THREE, jobs=1)
    assert [problem.partition(": face")[2] for problem in report.problems] == [
        f" 0 (good.png): image {root}/good.png is unreadable"]


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "loop.png"])
def test_validate_files_with_a_name_that_no_file_can_have_calls_it_missing(root, name):
    (root / "loop.png").symlink_to("loop.png")
    (root / "train.xml").write_text(
        "\n".join(TRAIN.splitlines()[:3]).replace("good.png", name) + "</image></images></dataset>")
    report, = validate_files(root, "train.xml", None, THREE, jobs=1)
    assert [problem.rpartition(": ")[2] for problem in report.problems] == [f"image {root}/{name} is missing"]


def test_validate_command_with_problems_prints_both_files_and_fails(root):
    arguments = ["--root", str(root), "--train", "train.xml", "--test", "test.xml"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "train.xml: 13 faces in 5 images, 14 problems" in result.stdout  # any skeleton: point 3 is fine
    assert "test.xml: 1 faces in 1 images, 2 problems" in result.stdout
    assert result.stderr.count("error: ") == 16
    assert result.stderr.startswith("16 problems: image … is ")


def test_validate_command_on_a_valid_data_set_succeeds(root):
    (root / "train.xml").write_text("\n".join(TRAIN.splitlines()[:3]) + "</image></images></dataset>")
    result = CliRunner().invoke(main, ["--root", str(root), "--train", "train.xml"])
    assert result.exit_code == 0 and result.stderr == ""
    assert "train.xml: 1 faces in 1 images, 0 problems" in result.stdout


def faces(boxes: list[list[float]], images: list[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame(boxes, columns=BOX, dtype=float)
    where = [f"f.xml:{line}" for line in range(3, 3 + len(boxes))]
    return table.assign(image=images or ["good.png"] * len(boxes), where=where)


def test_validate_with_unusual_faces_counts_them(root):
    for name in ("other.png", "third.png"):
        cv2.imwrite(str(root / name), np.zeros((80, 100), np.uint8))
    boxes = [[10, 10, 20, 20], [-5, 10, 20, 20], [85, 10, 20, 20], [10, 10, 20, 21], [80, 60, 20, 20], [-6, 10, 20, 20]]
    points = np.full((6, 2, 2), 20.0, np.float32)
    points[0] = [9.5, 29.5]
    points[1], points[5] = [-0.5, 20], [-0.6, 20]
    points[2] = [[99.4, 20], [np.nan, np.nan]]
    points[4] = [[99.5, 79.6], [85, 65]]
    annotations = Annotations(faces=faces(boxes, ["good.png"] * 4 + ["other.png", "third.png"]), keypoints=points)
    report = validate(annotations, root, 2, file=Path("f.xml"), jobs=1)
    assert report.problems == ()
    assert report.notes == {
        "faces whose box is over the edge of the image": 3, "faces whose box is not square": 1,
        "faces with points outside the box": 1, "faces with points outside the image": 2,
        "faces with some points missing": 1, "images with several faces": 1,
        "images that EXIF rotates, which is ignored": 0, "links to images outside the data folder": 0,
    }


def test_validate_counts_images_that_exif_rotates_and_links_out_of_the_folder(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    Image.fromarray(np.zeros((80, 100), np.uint8)).save(elsewhere / "a.jpg", exif=exif)
    (root / "a.jpg").symlink_to(elsewhere / "a.jpg")
    (root / "same.png").symlink_to("good.png")
    annotations = Annotations(faces=faces([[10, 10, 20, 20]] * 3, ["a.jpg", "same.png", "good.png"]), keypoints=None)
    report = validate(annotations, root, None, file=Path("f.xml"), labelled=False, jobs=1)
    assert report.problems == ()
    assert report.notes["images that EXIF rotates, which is ignored"] == 1
    assert report.notes["links to images outside the data folder"] == 1


def test_validate_with_numbers_not_finite_names_them(root):
    boxes = [[10, 10, 20, 20], [np.nan, 10, 20, 20], [10, np.inf, 20, 20], [np.nan, 10, 20, 20]]
    points = np.full((4, 3, 2), 20.0, np.float32)
    points[0, 0, 1], points[0, 2, 0] = np.nan, np.inf
    report = validate(Annotations(faces=faces(boxes), keypoints=points), root, 3, file=Path("f.xml"), jobs=1)
    assert list(report.problems) == [
        "f.xml:3: face 0 (good.png): points 0, 2: x or y is NaN or infinite",
        "f.xml:4: face 1 (good.png): box is not finite",
        "f.xml:5: face 2 (good.png): box is not finite",
        "f.xml:6: face 3 (good.png): box is not finite",
    ]


def test_validate_of_another_skeleton_is_one_problem(root):
    points = np.full((1, 3, 2), 20.0, np.float32)
    annotations = Annotations(faces=faces([[10, 10, 20, 20]]), keypoints=points)
    assert validate(annotations, root, 5, file=Path("f.xml"), jobs=1).problems == (
        "f.xml: wrong number of points: no face has points 3, 4 of the skeleton's 5; choose the skeleton of this file",)
    boxes = Annotations(faces=annotations.faces, keypoints=None)
    assert validate(boxes, root, 5, file=Path("f.xml"), jobs=1).problems == (
        "f.xml: no face has any points; the faces to train on need them",)
    assert validate(boxes, root, 5, file=Path("f.xml"), labelled=False, jobs=1).problems == ()


def test_validate_with_too_many_points_names_the_face(root):
    annotations = Annotations(faces=faces([[10, 10, 20, 20]]), keypoints=np.full((1, 3, 2), 20.0, np.float32))
    assert validate(annotations, root, 2, file=Path("f.xml"), jobs=1).problems == (
        "f.xml:3: face 0 (good.png): wrong number of points: it has point 2, the skeleton's last is 1",)


def test_validate_files_with_several_broken_files_sorts_by_file_and_line(root):
    (root / "set").mkdir()
    for name, points in {"a": "1 1\n9 1\n5 9\n", "b": "1 1\nx 1\n5 9\n", "c": "1 1\n9 1\n500 9\n"}.items():
        (root / "set" / f"{name}.pts").write_text(points)
        cv2.imwrite(str(root / "set" / f"{name}.png"), np.zeros((80, 100), np.uint8))
    (root / "set" / "a.png").write_text("no picture")
    report, = validate_files(root, "set", None, THREE, jobs=1)
    assert [problem.replace(f"{root}/", "") for problem in report.problems[:3]] == [
        "set/a.pts:1: face 0 (set/a.png): image set/a.png is unreadable",
        "set/b.pts:2: 'x' is not a number of pixels",
        "set/c.pts:1: face 2 (set/c.png): point 2: more than 1.5 box sizes from the middle of the box",
    ]


def test_validate_files_of_json_sorts_records_as_numbers(root):
    faces = ",".join(f'{{"image_id": 1, "keypoints": [{x}, 20, 2], "bbox": [10, 10, {20 + i}, 20]}}'
                     for i, x in enumerate([20] * 2 + [90] + [20] * 7 + [90]))
    (root / "f.json").write_text(f'{{"images": [{{"id": 1, "file_name": "good.png"}}], "annotations": [{faces}]}}')
    report, = validate_files(root, "f.json", None, make_skeleton("one", 1), jobs=1)
    assert [problem.partition(": face")[0].rpartition("/")[2] for problem in report.problems] == [
        "f.json: annotations[2]", "f.json: annotations[10]"]


def test_validate_files_with_wrong_pairs_names_them(root):
    places = [(20, 20), (30, 20), (22, 32), (28, 32)]
    parts = "".join(f"<part name='{i}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(places))
    lefts = np.linspace(14, 16, FEWEST)
    boxes = "".join(f"<box left='{left}' top='15' width='20' height='20'>{parts}</box>" for left in lefts)
    (root / "train.xml").write_text(f"<dataset><images><image file='good.png'>{boxes}</image></images></dataset>")
    right, wrong = make_skeleton("right", 4, [(0, 1), (2, 3)]), make_skeleton("wrong", 4, [(0, 2), (1, 3)])
    assert validate_files(root, "train.xml", None, right, jobs=1)[0].problems == ()
    problems = validate_files(root, "train.xml", None, wrong, jobs=1)[0].problems
    assert problems[0] == (f"{root}/train.xml: the skeleton says that points 0 and 2 are a pair, but in the mean face "
                           "0 mirrors onto 1 and 2 mirrors onto 3")


@pytest.mark.parametrize("format", ["auto", "csv_points"])
def test_validate_command_with_a_format_reads_it(root, format):
    (root / "train.csv").write_text("good.png,20,20,30,20,25,30\n")
    arguments = ["--root", str(root), "--train", "train.csv", "--format", format]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "train.csv: 1 faces in 1 images, 0 problems" in result.stdout
    result = CliRunner().invoke(main, [*arguments[:-1], "wflw"])
    assert result.exit_code == 1 and "train.csv:1: face 0" in result.stderr


@needs_ibug
def test_validate_files_of_real_data_has_no_problems():
    names = "labels_ibug_300W_train.xml", "labels_ibug_300W_test_parsed.xml"
    train, test = validate_files(IBUG, *names, get_skeleton("ibug68"))
    assert (train.faces, train.problems, test.faces, test.problems) == (2208, (), 716, ())
    assert train.notes["faces whose box is over the edge of the image"] == 69
    assert train.notes["faces whose box is not square"] == 592
    assert train.notes["faces with points outside the box"] == 2050
    assert train.notes["faces with points outside the image"] == 0
