"""Boxes from a file, from the call and from a detector; and what is said when there are none."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.common.errors import UserError
from pipeline.inference import boxes as module
from pipeline.inference.boxes import are_whole_photos, find_boxes


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, b.png and sub/b.png, 40 pixels wide and 30 high."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((30, 40, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*args: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        find_boxes(*args)
    return list(caught.value.problems)


def table(*rows: str, head: str = "image,left,top,width,height") -> Path:
    Path("boxes.csv").write_text("\n".join([head, *rows]) + "\n")
    return Path("boxes.csv")


def test_find_boxes_of_call_may_leave_image(photos: Path) -> None:
    found, notes = find_boxes([Path("a.png")], ["1,2,30,40", "-5,-6.5,10,10"], None)
    np.testing.assert_array_equal(found[Path("a.png")], [[1, 2, 30, 40], [-5, -6.5, 10, 10]])
    assert not notes


def test_find_boxes_of_file_matches_paths_and_bare_names(photos: Path) -> None:
    file = table("a.png,1,2,3,4", "sub/b.png,5,6,7,8", "b.png,0,0,9,9", "a.png,2,2,3,4", "c.png,1,1,1,1")
    called = [photos / "a.png", Path("sub/b.png"), photos / "b.png"]
    found, notes = find_boxes(called, [], file)
    assert {photo: rows.tolist() for photo, rows in found.items()} == {
        called[0]: [[1, 2, 3, 4], [2, 2, 3, 4]], called[1]: [[5, 6, 7, 8]], called[2]: [[0, 0, 9, 9]]}
    assert notes == ["boxes.csv: boxes of 1 other photo left out"]


def test_find_boxes_of_annotation_file_reads_its_boxes(photos: Path) -> None:
    Path("x.xml").write_text("<dataset><images><image file='a.png'><box left='1' top='2' width='9' height='8'/>"
                             "</image></images></dataset>")
    found, _ = find_boxes([Path("a.png")], [], Path("x.xml"))
    assert found[Path("a.png")].tolist() == [[1, 2, 9, 8]]


def test_find_boxes_bad_rows_are_named_by_line(photos: Path) -> None:
    file = table("a.png,1,2,0,4", "a.png,1,2,x,4", "b.png,50,0,9,9", "a.png,,,,")
    found = problems([Path("a.png"), Path("b.png"), Path("gone.png")], [], file)
    text = "\n".join(found)
    assert "gone.png: missing" in text
    assert "boxes.csv:2: width 0 must be above 0" in text
    assert "boxes.csv:3" in text and "'x' is not a number" in text
    assert "boxes.csv:5: no box" in text
    assert "b.png: box 50,0,9,9 lies outside the photo of 40×30" in text


@pytest.mark.parametrize(
    ("names", "boxes", "message"),
    [
        (["a.png"], ["1,2,3"], "--box 1,2,3: four numbers of pixels"),
        (["a.png"], ["1,2,3,nan"], "four numbers of pixels"),
        (["a.png"], ["1,2,-3,0"], "width -3 must be above 0"),
        (["a.png"], ["40,0,5,5"], "lies outside the photo"),
        (["a.png", "b.png"], ["1,2,3,4"], "--box is for one photo, but there are 2"),
    ],
)
def test_find_boxes_bad_box_of_call_is_named(photos: Path, names: list[str], boxes: list[str], message: str) -> None:
    assert message in "\n".join(problems([Path(name) for name in names], boxes, None))


def test_find_boxes_incomplete_or_unknown_file_is_named(photos: Path) -> None:
    assert problems([Path("a.png"), Path("b.png")], [], table("a.png,1,2,3,4")) == ["boxes.csv: has no box for b.png"]
    for name in "cdef":
        shutil.copy("a.png", f"{name}.png")
    assert problems([Path(f"{name}.png") for name in "abcdef"], [], table("a.png,1,2,3,4")) == [
        "boxes.csv: has no box for b.png, c.png, d.png and 2 other photos"]
    assert "cannot be read" in problems([Path("a.png")], [], Path("none.csv"))[0]
    assert "boxes.csv:2: no box" in problems([Path("a.png")], [], table("a.png", head="image"))[0]
    assert problems([Path("a.png")], ["1,2,3,4"], table("a.png,1,2,3,4"))[0].startswith("--box and --boxes")


def test_find_boxes_unreadable_images_are_named(photos: Path) -> None:
    Path("text.jpg").write_text("no photo")
    found = problems([Path("gone.jpg"), Path("text.jpg")], [], table("a.png,1,2,3,4"))
    assert "gone.jpg: missing" in found and "text.jpg: unreadable" in found


def test_find_boxes_of_models_trained_on_whole_photos_are_the_photos(photos: Path) -> None:
    found, notes = find_boxes([Path("a.png"), Path("b.png")], [], None, whole_photos=True)
    assert {image.name: rows.tolist() for image, rows in found.items()} == {
        "a.png": [[0, 0, 40, 30]], "b.png": [[0, 0, 40, 30]]}
    assert len(notes) == 1 and "each photo is taken as one face" in notes[0]
    for boxes, file in ((["1,2,3,4"], None), ([], table("a.png,1,2,3,4"))):
        with pytest.raises(UserError, match="trained on whole photos, without boxes: leave out --box"):
            find_boxes([Path("a.png")], boxes, file, whole_photos=True)


def test_are_whole_photos_of_any_smaller_box_are_not() -> None:
    faces = pd.DataFrame({"left": [0, 0], "top": [0, 0], "width": [40, 30], "height": [30, 40],
                          "photo_width": [40, 30], "photo_height": [30, 40]})
    assert are_whole_photos(faces) is True
    for column in ("left", "top", "width", "height"):
        assert are_whole_photos(faces.assign(**{column: faces[column] + [0, 1]})) is False
    assert are_whole_photos(faces[:0]) is False


def test_find_boxes_without_boxes_asks_detector(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([np.array([[1.0, 2, 9, 9]]), np.empty((0, 4))])
    monkeypatch.setattr(module, "load_detector", lambda: lambda photo: next(answers))
    found, notes = find_boxes([Path("a.png"), Path("b.png"), Path("a.png")], [], None)
    assert list(found) == [Path("a.png")]
    assert notes == ["b.png: no face found"]
    monkeypatch.setattr(module, "load_detector", lambda: lambda photo: np.empty((0, 4)))
    assert "no face found in any photo" in problems([Path("a.png")], [], None)[0]


def test_find_boxes_image_with_exif_rotation_is_noted(photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save("turned.jpg", exif=exif)
    _, notes = find_boxes([Path("turned.jpg")], ["1,2,3,4"], None)
    assert len(notes) == 1 and "turned.jpg: stored turned" in notes[0]
