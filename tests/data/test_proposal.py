"""Params proposed for data sets as people have them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.data.proposal import propose
from tests.conftest import DATA, SHAPE

HEAD = ",".join(f"p{i}_{axis}" for i in range(5) for axis in "xy")


def write(folder: Path, name: str, images: list[str], photos: str = "", shape: np.ndarray = SHAPE, **more) -> Path:
    """Write a CSV of faces with pandas' index, and photos of 64×64 px where they are said to lie."""
    rng = np.random.default_rng(0)
    for image in images:
        path = folder / photos / image
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (64, 64), np.uint8))
    points = (shape + rng.normal(0, 0.5, (len(images), *shape.shape))).reshape(len(images), -1)
    table = pd.DataFrame(points, columns=[f"p{i}_{axis}" for i in range(len(shape)) for axis in "xy"])
    table.insert(0, "image_name", images)
    table.assign(**more).to_csv(folder / name)
    return folder / name


def images(count: int = 12, form: str = "{}.png") -> list[str]:
    return [form.format(i) for i in range(count)]


def test_propose_for_a_csv_with_photos_in_subfolders_finds_everything(tmp_path):
    train = write(tmp_path, "train.csv", images(18, "P{0}_{0}.png"), "training")
    test = write(tmp_path, "test.csv", images(4, "t{}.png"), "test/all", age=3)
    changes, lines, notes = propose(tmp_path, train, test)
    assert changes == {
        "data": {"root": str(tmp_path), "train": "train.csv", "test": "test.csv", "photos": "training",
                 "test_photos": "test/all", "solution": None, "format": "csv_points", "box": "photo",
                 "skeleton": {"points": 5, "pairs": [[0, 1], [3, 4]], "eyes": [0, 1]}},
        "sample": {"sets": []}, "crop": {"margin": 1.0, "shift_y": 0.0}}
    assert lines[:2] == ["train.csv: csv_points, 18 faces in 18 photos, 5 points, no boxes; photos in training",
                         "test.csv: csv_points, 4 faces in 4 photos, 5 points, no boxes; photos in test/all"]
    assert "2 left/right pairs" in lines[2] and "[0, 1] are the uppermost" in lines[2]
    assert notes[0] == "test.csv: columns ignored: age" and "stages.detect" in notes[1] and len(notes) == 2


@pytest.mark.parametrize(("eyes", "said"), [
    (("left_eye_outer", "right_eye_outer"), "[0, 1] are the outer eye corners by name"),
    (("brow", "chin"), "[0, 1] are the uppermost")])
def test_propose_takes_the_names_of_the_points_and_finds_the_eyes_among_them(tmp_path, eyes, said):
    train = write(tmp_path, "train.csv", images())
    names = (*eyes, "nose", "left_mouth", "right_mouth")
    train.write_text(train.read_text().replace(HEAD, ",".join(f"{name}_{axis}" for name in names for axis in "xy")))
    changes, lines, _ = propose(tmp_path, train, None)
    assert changes["data"]["skeleton"] == {"points": 5, "names": [*names], "pairs": [[0, 1], [3, 4]], "eyes": [0, 1]}
    assert said in lines[1]


@pytest.mark.parametrize("photos", ["training", "."])
def test_propose_with_any_folder_above_the_photos_is_the_same(tmp_path, photos):
    train = write(tmp_path, "train.csv", images(), "training")
    data = propose(tmp_path / photos, train, None)[0]["data"]
    assert (data["root"], data["train"], data["photos"]) == (str(tmp_path), "train.csv", "training")


def test_propose_for_names_that_begin_above_the_photos_folder(tmp_path):
    train = write(tmp_path, "train.csv", images(form="photos/{}.png"))
    assert propose(tmp_path / "photos", train, None)[0]["data"]["photos"] is None


def test_propose_below_the_working_folder_names_it_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/mine").mkdir(parents=True)
    write(tmp_path / "data/mine", "train.csv", images())
    assert propose(Path("data/mine"), Path("data/mine/train.csv"), None)[0]["data"]["root"] == "data/mine"


def test_propose_for_several_photos_a_person_groups_them(tmp_path):
    train = write(tmp_path, "train.csv", ["ABCDEF"[i // 3] + f"_{i}.png" for i in range(18)])
    changes, lines, _ = propose(tmp_path, train, None)
    assert "(?P<photo>" in changes["split"]["photo_pattern"]
    assert any("suggest 6 people or videos" in line for line in lines)


def test_propose_for_faces_with_boxes_leaves_the_crop(tmp_path):
    box = {"left": 10, "top": 10, "width": 40, "height": 40}
    train = write(tmp_path, "train.csv", images(), **box)
    assert "crop" not in propose(tmp_path, train, None)[0]
    test = write(tmp_path, "test.csv", images(3))
    assert any("the train faces have boxes, the test faces have none" in note
               for note in propose(tmp_path, train, test)[2])
    assert any("the test faces have boxes, the train faces have none" in note
               for note in propose(tmp_path, test, train)[2])


def test_propose_for_small_faces_without_boxes_recommends_detection(tmp_path):
    """The points of SHAPE are 24 pixels wide and high, of photos of 64."""
    assert any("a face fills 39% of its photo's longer side" in note and "stages.detect" in note
               for note in propose(tmp_path, write(tmp_path, "train.csv", images()), None)[2])
    large = write(tmp_path, "large.csv", images(), shape=2 * SHAPE - 32)
    assert not any("stages.detect" in note for note in propose(tmp_path, large, None)[2])


@pytest.mark.parametrize(("count", "epochs"), [(12, 100), (50, 60), (300, None)])
def test_propose_for_fewer_faces_than_the_default_raises_the_epochs(tmp_path, count, epochs):
    default = {"sample": {"train_faces": 300}, "models": {"net": {"epochs": 10}}}
    changes, lines, _ = propose(tmp_path, write(tmp_path, "train.csv", images(count)), None, default)
    assert changes.get("models") == (epochs and {"net": {"epochs": epochs, "lr": 0.01}})
    said = f"lr 0.01, epochs: net {epochs}, so that {count} faces give as many steps as the default's 300"
    assert (said in lines) == bool(epochs)


def test_propose_for_points_whose_sides_are_unknown_mirrors_nothing(tmp_path):
    aside = SHAPE[[0, 2, 3]]  # half a face
    for shape, count in ((aside, 12), (SHAPE, 9)):
        changes, lines, _ = propose(tmp_path, write(tmp_path, "train.csv", images(count), shape=shape), None)
        assert changes["data"]["skeleton"] == {"points": len(shape)}
        assert changes["augment"] == {"flip": 0.0} and changes["predict"] == {"flip": False}
        assert any("nothing is mirrored" in line for line in lines)


def test_propose_for_missing_points_and_photos_counts_them(tmp_path):
    train = write(tmp_path, "train.csv", images())
    table = pd.read_csv(train, index_col=0)
    table.loc[:2, ["p0_x", "p0_y"]] = np.nan
    table.to_csv(train)
    (tmp_path / "3.png").unlink()
    _, lines, notes = propose(tmp_path, train, None)
    assert "5 points (some missing in 3 faces)" in lines[0]
    assert "1 problems, the first: 1 images are missing" in notes[0] and "3.png" in notes[0]


def test_propose_for_files_of_two_formats_leaves_recognising_them(tmp_path):
    train = write(tmp_path, "train.csv", images())
    (tmp_path / "test.xml").write_text("<dataset><images><image file='1.png'>"
                                       "<box left='1' top='1' width='60' height='60'/></image></images></dataset>")
    data = propose(tmp_path, train, tmp_path / "test.xml")[0]["data"]
    assert (data["format"], data["test"], data["test_photos"]) == ("auto", "test.xml", None)


def test_propose_for_coco_reads_it(tmp_path):
    write(tmp_path, "unused.csv", images(), "in")
    faces = [{"image_id": i, "bbox": [5, 5, 50, 50],
              "keypoints": [value for point in (SHAPE + i).tolist() for value in (*point, 2)]} for i in range(12)]
    for face in faces[:4]:
        face["keypoints"][6:9] = [0, 0, 0]
    content = {"images": [{"id": i, "file_name": f"{i}.png"} for i in range(12)], "annotations": faces}
    (tmp_path / "train.json").write_text(json.dumps(content))
    changes, lines, _ = propose(tmp_path, tmp_path / "train.json", None)
    assert changes["data"]["format"] == "coco" and changes["data"]["photos"] == "in"
    assert changes["data"]["skeleton"] == {"points": 5, "pairs": [[0, 1], [3, 4]], "eyes": [0, 1]}
    assert "some missing in 4 faces), boxes" in lines[0]


def test_propose_for_bad_files_says_what_to_do(tmp_path, monkeypatch):
    train = write(tmp_path, "train.csv", images())
    (tmp_path / "names.csv").write_text("image_name\n0.png\n1.png\n")
    (tmp_path / "other.csv").write_text(f"image_name,{HEAD}\nx.png{',1' * 10}\ny.png{',1' * 10}\n")
    for arguments, message in (
        ((tmp_path / "gone", tmp_path / "gone.csv", None), "gone: not found.*\n.*gone.csv: not found"),
        ((train, train, None), "is a file; the folder of the photos is expected first"),
        ((tmp_path, tmp_path / "names.csv", None), "no face has any points"),
        ((tmp_path, tmp_path / "other.csv", None), "none of the 2 images that it names, for example x.png, is in"),
        ((tmp_path, tmp_path / "0.png", None), "format is not recognised"),
    ):
        with pytest.raises(UserError, match=message):
            propose(*arguments)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="have only .* in common, .* ln -s"):
        propose(tmp_path, train, None)


@pytest.mark.parametrize(("folder", "file", "skeleton", "groups"), [
    ("imm_face_db", ".", "imm58", True), ("pytorch_faces", "face_landmarks.csv", "ibug68", False)])
def test_propose_for_real_faces_without_boxes(folder, file, skeleton, groups):
    if not (DATA / folder).is_dir():
        pytest.skip(f"needs {folder} in shared/data")
    changes, _, (note,) = propose(DATA / folder, DATA / folder / file, None)
    assert changes["data"]["skeleton"] == skeleton and changes["crop"]["margin"] == 1.0
    assert ("split" in changes) == groups and "stages.detect finds boxes" in note
