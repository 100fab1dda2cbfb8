"""All formats tell the same faces: three photos of 16×16 px, five points each, one of them missing."""

import shutil
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Annotations, Layout, dlib_xml, formats, pts, tabulate
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.images import Images
from pipeline.data.store import CropStore
from pipeline.params import Data

FIXTURES = Path(__file__).parents[1] / "fixtures"
POINTS = np.array([
    [[4, 5], [11, 5], [7.5, 9], [5, 12], [10, 12]],
    [[4.25, 5.5], [11.25, 5.5], [7.75, 9.5], [5.25, 12.5], [10.25, 12.5]],
    [[3, 4], [10.5, 4], [7, 8], [4.5, 11], [9.5, 11]],
], np.float32)
BOXES = [[2, 3, 11, 12], [2, 3, 12, 12], [1, 2, 12, 12]]
WHOLE = [[0, 0, 16, 16]] * 3
PHOTOS = ["a.png", "b/b.png", "c.png"]
KAGGLE = ["training/1", "training/2", "training/3"]

# name → format, images, boxes, whether it can say that a point is missing
HELD = {
    "dlib.xml": ("dlib_xml", PHOTOS, BOXES, True),
    "pts": ("pts", PHOTOS, WHOLE, False),
    "asf": ("asf", PHOTOS, WHOLE, False),
    "points.csv": ("csv_points", PHOTOS, WHOLE, True),
    "bare.csv": ("csv_points", PHOTOS, WHOLE, True),
    "other.csv": ("csv_points", PHOTOS, WHOLE, True),
    "boxed.csv": ("csv_points", PHOTOS, BOXES, True),
    "training.csv": ("kaggle_pixels", KAGGLE, WHOLE, True),
    "list_rect_attr.txt": ("wflw", PHOTOS, BOXES, False),
    "list.txt": ("wflw", PHOTOS, WHOLE, False),
    "coco.json": ("coco", PHOTOS, BOXES, True),
}
EXPECTED_OF_MISSING = np.where(np.arange(15).reshape(3, 5, 1) == 11, np.nan, POINTS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The fixtures, with photos beside them."""
    shutil.copytree(FIXTURES, tmp_path / "data")
    photo = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    for folder in ("", "pts", "asf"):
        for name in PHOTOS:
            path = tmp_path / "data" / folder / name
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), photo)
    return tmp_path / "data"


def place(root: Path, name: str) -> tuple[Path, str]:
    """The data folder and the name in it: formats with a file a photo have a folder of their own."""
    return (root / name, ".") if name in {"pts", "asf"} else (root, name)


def test_formats_of_the_params_have_a_fixture_each():
    assert {held[0] for held in HELD.values()} == set(formats.FORMATS)
    assert ["auto", *formats.FORMATS] == list(Data.model_fields["format"].annotation.__args__)


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("given", [True, False], ids=["given", "recognised"])
def test_read_in_every_format_gives_the_same_faces(root, name, given):
    format, images, boxes, can_miss = HELD[name]
    folder, inside = place(root, name)
    found = formats.read(folder, inside, Layout(format=format if given else "auto", num_points=5, box="photo"))
    assert list(found.faces.columns) == ["image", *BOX, "where"]
    assert found.faces.index.tolist() == [0, 1, 2]
    assert found.faces.image.tolist() == images
    assert found.faces[BOX].to_numpy().tolist() == boxes
    assert found.boxes_made == (3 if boxes is WHOLE else 0)
    assert found.keypoints.dtype == np.float32
    np.testing.assert_allclose(found.keypoints, EXPECTED_OF_MISSING if can_miss else POINTS, atol=1e-6)
    assert formats.recognise(folder, inside) == format


@pytest.mark.parametrize("name", HELD)
def test_read_with_another_number_of_points_names_the_file(root, name):
    folder, inside = place(root, name)
    with pytest.raises(UserError) as caught:
        formats.read(folder, inside, Layout(num_points=4))
    problems = [problem.replace(f"{folder}/", "") for problem in caught.value.problems]
    message = "5 points a face, but 4 are expected; choose the skeleton of this file"
    assert problems == {
        "dlib.xml": [f"dlib.xml:{line}: face {face} ({PHOTOS[face]}): part '04' is unknown; names are the indices 0 "
                     "to 3" for face, line in ((0, 10), (1, 19), (2, 27))],
        "pts": [f"a.pts:2: {message}", f"b/b.pts:2: {message}", f"c.pts:1: {message}"],
        "asf": [f"{name}.asf:10: {message}" for name in ("a", "b/b", "c")],
        "list_rect_attr.txt": [f"{name}:{face + 1}: face {face} ({PHOTOS[face]}): {message}" for face in range(3)],
        "list.txt": [f"{name}:{face + 1}: face {face} ({PHOTOS[face]}): {message}" for face in range(3)],
        "coco.json": [f"coco.json: annotations[{face}]: face {face} ({PHOTOS[face]}): {message}" for face in range(3)],
    }.get(name, [f"{name}:1: {message}"])


@pytest.mark.parametrize("name", HELD)
def test_read_with_chosen_points_keeps_their_order(root, name):
    folder, inside = place(root, name)
    found = formats.read(folder, inside, Layout(num_points=2, points=[3, 0]))
    np.testing.assert_allclose(found.keypoints, POINTS[:, [3, 0]], atol=1e-6)
    with pytest.raises(UserError, match=r"data.points names 5, 9, but the faces have points 0 to 4"):
        formats.read(folder, inside, Layout(points=[5, 0, 9]))
    with pytest.raises(UserError, match="data.points names 2 points, but 5 are expected"):
        formats.read(folder, inside, Layout(num_points=5, points=[3, 0]))


@pytest.mark.parametrize("name", [name for name, held in HELD.items() if held[2] is WHOLE])
def test_read_with_boxes_from_points_uses_all_points(root, name):
    folder, inside = place(root, name)
    found = formats.read(folder, inside, Layout(num_points=1, points=[2], box="points"))
    last = [3, 4, 7.5 if HELD[name][3] else 8.5, 8]  # 9.5 − 3 + 1; the point at x = 10.5 counts unless it is missing
    np.testing.assert_allclose(found.faces[BOX].to_numpy(), [[4, 5, 8, 8], [4.25, 5.5, 8, 8], last], atol=1e-6)
    assert found.boxes_made == 3


def test_read_with_too_few_points_for_a_box_is_a_problem(root):
    (root / "one.csv").write_text("a.png,1,2,,\nc.png,1,2,3,4\n")
    found, problems = formats.parse(root, "one.csv", Layout(box="points"))
    assert problems == [
        f"{root}/one.csv:1: face 0 (a.png): has no box and too few points for one; set data.box to photo"]
    assert found.faces.index.tolist() == [1] and found.keypoints.tolist() == [[[1, 2], [3, 4]]]
    (root / "names.csv").write_text("image_name\na.png\n")
    with pytest.raises(UserError, match=r"names.csv:2: face 0 \(a.png\): has no box and too few points"):
        formats.read(root, "names.csv", Layout(box="points"))


def test_read_with_an_unreadable_image_for_a_box_is_a_problem(root):
    (root / "c.png").write_text("no picture")
    (root / "b/b.png").unlink()
    for name, line in (("points.csv", 3), ("list.txt", 2)):
        found, problems = formats.parse(root, name)
        assert problems == [f"{root}/{name}:{line}: face 1 (b/b.png): image {root}/b/b.png is missing",
                          f"{root}/{name}:{line + 1}: face 2 (c.png): image {root}/c.png is unreadable"]
        assert found.faces.index.tolist() == [0] and len(found.keypoints) == 1


@pytest.mark.parametrize(("name", "content", "message"), [
    ("gone.xml", None, "gone.xml: cannot be read (No such file or directory); check the path"),
    ("gone.pts", None, "gone.pts: no .pts files; name a folder of them, or a pattern as '**/*.pts'"),
    ("empty.csv", " \n", "empty.csv: is empty; annotations are expected"),
    ("notes.txt", "hello\n", "notes.txt: its format is not recognised; set data.format to one of "
     + ", ".join(formats.FORMATS)),
    (".", None, ".: this folder holds both .pts and .asf files; set data.format"),
    ("b", None, "b: this folder holds neither .pts nor .asf files; name a file"),
])
def test_recognise_of_an_unknown_file_says_so(root, name, content, message):
    if content:
        (root / name).write_text(content)
    found, problems = formats.parse(root, name)
    assert len(found) == 0
    assert [problem.replace(f"{root}/", "").replace(str(root), ".") for problem in problems] == [message]


@pytest.mark.parametrize("photos", ["", "c"])
def test_read_of_images_in_another_folder_says_once_where_they_are(root, photos):
    (root / "sub/deep").mkdir(parents=True)
    (root / "sub/link").symlink_to(root / "sub")  # a circle
    for other in ("pts", "asf"):
        shutil.rmtree(root / other)
    for name in PHOTOS:
        (root / "sub/deep" / name).parent.mkdir(exist_ok=True)
        (root / name).rename(root / "sub/deep" / name)
    _, problems = formats.parse(root, "points.csv", Layout(photos=photos))
    assert problems == [
        f"{root}/points.csv: none of its 3 images is there, for example not {root / photos / 'a.png'}; 3 of them "
        f"are in {root}/sub/deep: set data.photos (of test faces: data.test_photos) to sub/deep"]
    for layout in (Layout(photos="sub/deep"), Layout(test_photos="sub/deep").for_test()):
        found = formats.read(root, "points.csv", layout)
        assert found.faces.image.tolist() == [f"sub/deep/{name}" for name in PHOTOS]


def test_read_of_images_that_are_nowhere_is_one_problem(root):
    (root / "names.csv").write_text("image_name\nx.png\ny.png\n")
    _, problems = formats.parse(root, "names.csv")
    assert problems == [
        f"{root}/names.csv: none of its 2 images is there, for example not {root}/x.png; look at data.root"]


def test_read_with_a_folder_for_images_beside_their_points_is_refused(root):
    with pytest.raises(UserError, match="data.photos is 'pts', but pts does not name images"):
        formats.read(root, "pts", Layout(photos="pts"))


def test_read_with_unknown_names_lists_the_known(root):
    with pytest.raises(UserError, match="data.format 'yolo': choose auto or one of dlib_xml, pts, asf, csv_points"):
        formats.read(root, "points.csv", Layout(format="yolo"))
    with pytest.raises(UserError, match="data.box 'face': choose photo or points"):
        formats.read(root, "points.csv", Layout(box="face"))


def test_read_of_a_labelled_set_without_points_is_a_problem(root):
    assert formats.read(root, "test.csv").keypoints is None
    with pytest.raises(UserError, match="no face has any points; the faces to train on need them"):
        formats.read(root, "test.csv", labelled=True)


@pytest.mark.parametrize("format", formats.FORMATS)
@pytest.mark.parametrize("data", [
    b"", b"\0\0\0", b"\xff\xfe\x00", b"{", b"<", b"[1]", b"a,b\n1", b"1 2 3\n", b'"', b"image_name,part_0_x,part_0_y\n",
    b"nan nan\n", b"Image\n", b"99999999999\n1 2", b'{"images": {}, "annotations": 3}', "ä".encode("latin-1"),
])
def test_parse_of_rubbish_in_any_format_names_the_file(tmp_path, format, data):
    name = f"rubbish.{format if format in {'pts', 'asf'} else 'txt'}"
    (tmp_path / name).write_bytes(data)
    (tmp_path / "rubbish.jpg").touch()
    found, problems = formats.parse(tmp_path, name, Layout(format=format, num_points=5))
    assert len(found) == 0
    assert problems and all(problem.startswith(f"{tmp_path / name}") for problem in problems)


@pytest.mark.parametrize("format", ["csv_points", "wflw", "coco", "asf"])
@pytest.mark.parametrize("image", ["/etc/a.png", "../a.png", "b/../../a.png", "C:/a.png", "b\\b.png"])
def test_parse_of_a_path_outside_the_data_folder_is_refused(tmp_path, format, image):
    text = {
        "csv_points": f"{image},1,2\n",
        "wflw": f"1 2 {image}\n",
        "coco": f'{{"images": [{{"id": 1, "file_name": "{image}"}}]}}'.replace("\\", "\\\\"),
        "asf": f"1\n0 0 0.5 0.5 0 0 0\n{image}\n",
    }[format]
    (tmp_path / "labels.asf").write_text(text)
    found, problems = formats.parse(tmp_path, "labels.asf", Layout(format=format))
    assert len(found) == 0 and len(problems) == 1 and "image path" in problems[0]


def test_parse_by_a_reader_that_takes_any_path_is_refused(root, monkeypatch):
    def careless(root: Path, name: str, num_points: int | None) -> tuple[Annotations, list[str]]:
        return tabulate([(0, "../a.png", 1, 2, 3, 4, f"{root / name}:1")], [POINTS[0]]), []

    monkeypatch.setitem(formats.FORMATS, "wflw", careless)
    found, problems = formats.parse(root, "list.txt", Layout(format="wflw"))
    assert len(found) == 0 and "leaves the data folder" in problems[0]


def test_parse_of_a_file_outside_the_data_folder_is_refused(root):
    (root / "elsewhere.pts").write_text("1 2\n")
    found, problems = formats.parse(root / "b", "../elsewhere.pts")
    assert len(found) == 0 and "leaves the data folder" in problems[0]


def test_read_of_real_pts_and_dlib_xml_agree(tmp_path, root):
    """A face of the XML, written as iBUG does: the pixels counted from 1."""
    points = dlib_xml.read(FIXTURES / "dlib.xml", 5).keypoints[1].astype(np.float64)
    lines = [f"{x + 1:.6f} {y + 1:.6f}" for x, y in points]
    (tmp_path / "b.pts").write_text("\n".join(["version: 1", "n_points: 5", "{", *lines, "}"]))
    np.testing.assert_allclose(pts.parse_points(tmp_path / "b.pts")[0], points, atol=1e-6)


def test_leave_out_of_a_list_keeps_the_other_faces(root, tmp_path):
    (tmp_path / "out.csv").write_text("image,left,top,width,height,error\nb/b.png,2,3.0,12,12,9.5\n")
    found = formats.read_parts(root, "dlib.xml", None, Layout(num_points=5), tmp_path / "out.csv")["train"]
    assert found.faces.image.tolist() == ["a.png", "c.png"] and found.faces.index.tolist() == [0, 1]
    np.testing.assert_array_equal(found.keypoints[1], formats.read(root, "dlib.xml", Layout()).keypoints[2])


@pytest.mark.parametrize(("text", "message"), [
    (None, "out.csv: no list of faces"),
    ("image,left\na.png,2\n", "out.csv: no list of faces"),
    ("image,left,top,width,height\na.png,2,3,11,x\n", "out.csv: no list of faces"),
    ("image,left,top,width,height\na.png,2,3,11,12\na.png,2,3,11,13\n", "line 3: there is no train face a.png"),
])
def test_leave_out_of_a_wrong_list_is_an_error(root, tmp_path, text, message):
    if text:
        (tmp_path / "out.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        formats.leave_out(formats.read(root, "dlib.xml", Layout()), tmp_path / "out.csv")


def test_readers_each_have_a_test_module():
    for format in formats.FORMATS:
        assert import_module(f"pipeline.data.annotations.{format}").__doc__
        assert (Path(__file__).parent / f"test_{format}.py").is_file()


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_write_crops_of_images_inside_the_file_cuts_them(root, color):
    found = formats.read(root, "training.csv", Layout(num_points=5))
    write_crops(found, root, root / "store", CropGeometry(size=16, margin=1.0, padding=1.0, color=color), jobs=1)
    store = CropStore.open(root / "store")
    expected = np.stack([(40 * face + np.add.outer(10 * np.arange(16), 3 * np.arange(16))) % 256 for face in range(3)])
    np.testing.assert_array_equal(store.crops if color == "grey" else store.crops[..., 1], expected)
    assert store.faces.source.tolist() == ["training"] * 3
    assert store.faces[["photo_width", "photo_height"]].to_numpy().tolist() == [[16, 16]] * 3
    np.testing.assert_array_equal(store.keypoints, EXPECTED_OF_MISSING)


def test_sizes_of_files_inside_and_missing_images_are_right(root):
    photos = Images(root, {"inside": np.zeros((3, 7), np.uint8)})
    size, wrong = photos.sizes(["a.png", "inside", "none.png", "points.csv", "a.png"], jobs=1)
    np.testing.assert_array_equal(size, [[16, 16], [7, 3], [np.nan] * 2, [np.nan] * 2, [16, 16]])
    assert wrong == ["", "", "missing", "unreadable", ""]
