"""dlib's detector, where it is installed, on the faces that come with it; and the error where it is not."""

import shutil
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, dlib_xml, formats
from pipeline.data.images import read_image
from pipeline.inference.annotate import to_csv
from pipeline.inference.detect import load_detector
from tests.conftest import DATA, run, succeed


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(first[2:]) + np.prod(second[2:]) - shared)


def test_detector_on_dlib_examples_finds_labelled_faces():
    pytest.importorskip("dlib", reason="dlib is not installed (pip install -e '.[detect]')")
    folder = DATA / "dlib_faces" / "examples" / "faces"
    if not folder.is_dir():
        pytest.skip("dlib's example photos are not here (../shared/data/dlib_faces)")
    faces, find = dlib_xml.read(folder / "training_with_face_landmarks.xml").faces, load_detector()
    for image in ("2007_007763.jpg", "2008_001322.jpg"):
        labelled = faces.loc[faces.image == image, BOX].to_numpy()
        found = find(read_image(folder / image, "rgb"))
        assert len(found) == len(labelled) >= 2
        assert found[:, 0].tolist() == sorted(found[:, 0])
        assert all(max(overlap(one, other) for other in found) > 0.6 for one in labelled)


def test_detector_without_face_returns_empty_table():
    pytest.importorskip("dlib", reason="dlib is not installed (pip install -e '.[detect]')")
    assert load_detector()(np.zeros((60, 80, 3), np.uint8)).shape == (0, 4)


def test_load_detector_without_dlib_names_choices(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"\[detect\].*--boxes.*--box LEFT"):
        load_detector()


@pytest.fixture
def boxless(competition, tmp_path, monkeypatch):
    """The tiny competition as CSV files without boxes, and a detector that knows the boxes of the XML."""
    shutil.copytree(competition, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    known = {}
    for part in ("train", "test"):
        faces = dlib_xml.read(Path(f"mine/{part}.xml"))
        keypoints = np.empty((len(faces), 0, 2)) if faces.keypoints is None else faces.keypoints
        table = pd.read_csv(StringIO(to_csv(faces, keypoints)))
        table.drop(columns=BOX).to_csv(f"mine/{part}.csv", index=False)
        for image, rows in faces.faces.groupby("image"):
            known[read_image(f"mine/{image}", "rgb").tobytes()] = rows[BOX].to_numpy()
    monkeypatch.setattr("pipeline.inference.detect.load_detector", lambda: lambda photo: known[photo.tobytes()])
    return known


def test_detect_gives_each_face_the_box_around_its_points(boxless):
    assert "mine/boxed.csv: 24 of 24 faces found" in succeed("detect", "mine", "mine/train.csv", "mine/boxed.csv")
    found, wanted = formats.read(Path("mine"), "boxed.csv"), dlib_xml.read(Path("mine/train.xml"))
    assert found.faces[["image", *BOX]].equals(wanted.faces[["image", *BOX]])
    np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
    succeed("init", "mine", "mine/boxed.csv")
    assert "0 problems" in succeed("validate") and "24 faces" in succeed("crop")


def test_detect_names_missed_faces_and_gives_them_the_median_box(boxless):
    faces = dlib_xml.read(Path("mine/test.xml")).faces
    first, second = faces.drop_duplicates("image", keep=False).image[:2]
    sizes = {image: read_image(f"mine/{image}", "rgb").shape[1::-1] for image in (first, second)}
    large, small = np.array([[10.0, 20, 80, 60]]), np.array([[0.0, 0, 9, 9]])
    boxless[read_image(f"mine/{first}", "rgb").tobytes()] = np.concatenate([small, large])
    boxless[read_image(f"mine/{second}", "rgb").tobytes()] = np.empty((0, 4))
    pd.DataFrame({"image_name": [second, first]}).to_csv("mine/two.csv", index=False)
    shown = succeed("detect", "mine", "mine/two.csv", "mine/boxed.csv")
    assert f"two.csv:2: no face found in {second}" in shown and "1 of 2 faces found" in shown
    found = formats.read(Path("mine"), "boxed.csv").faces
    assert found.image.tolist() == [second, first] and found[BOX].to_numpy()[1].tolist() == large[0].tolist()
    scaled = large[0] / np.array(sizes[first] * 2) * np.array(sizes[second] * 2)
    np.testing.assert_allclose(found[BOX].to_numpy()[0], scaled)


def test_detect_takes_no_face_of_another(boxless):
    """Two faces without points, or a box far from the points."""
    image = dlib_xml.read(Path("mine/test.xml")).faces.image[0]
    pd.DataFrame({"image_name": [image, image]}).to_csv("mine/two.csv", index=False)
    result = run("detect", "mine", "mine/two.csv", "mine/boxed.csv")
    assert result.exit_code == 1 and "no face found in any photo" in result.output
    boxless.update(dict.fromkeys(boxless, np.array([[0.0, 0, 5, 5]])))
    result = run("detect", "mine", "mine/train.csv", "mine/boxed.csv")
    assert result.exit_code == 1 and "no face found in any photo" in result.output
    assert not Path("mine/boxed.csv").exists()


def test_detect_of_boxed_or_missing_data_is_refused(boxless):
    result = run("detect", "mine", "mine/train.xml", "mine/boxed.csv")
    assert result.exit_code == 1 and "mine/train.xml: all faces have boxes" in result.output
    result = run("detect", "mine", "mine/train.csv", "mine/../mine/train.csv")
    assert result.exit_code == 1 and "is the file of the annotations" in result.output
    result = run("detect", "mine", "mine/gone.csv", "mine/boxed.csv")
    assert result.exit_code == 1 and "gone.csv: not found" in result.output
