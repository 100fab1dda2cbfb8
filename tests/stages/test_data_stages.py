"""The stages that touch annotations, with formats other than the sample's, and without any test faces."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.data.annotations import BOX
from pipeline.data.store import CropStore
from pipeline.inference.predictions import Predictions
from tests.conftest import DATA

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = ["left_eye_center", "right_eye_center", "nose_tip", "mouth_left_corner", "mouth_right_corner"]
FIVE = {"points": 5, "pairs": [[0, 1], [3, 4]], "names": NAMES}


def run(name, *args):
    return CliRunner().invoke(import_module(f"stages.{name}").main, [str(arg) for arg in args])


def succeed(name, *args):
    result = run(name, *args)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in, and a function that writes its params."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURES, tmp_path / "faces")
    (tmp_path / "faces" / "b").mkdir()
    for name in ("a.png", "b/b.png", "c.png"):
        cv2.imwrite(f"faces/{name}", np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8))

    def write_params(lookup=None, **data):
        params = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
        params["data"].update({"root": "faces", "test": None, "solution": None, "skeleton": FIVE} | data)
        params["crop"].update(size=16)
        params["submit"].update(lookup=lookup)
        YAML().dump(params, Path("params.yaml"))

    return write_params


def test_crop_with_made_boxes_says_so_once_a_part(place):
    place(train="training.csv", test="list.txt", box="points")
    shown = succeed("crop").splitlines()
    line = "  3 of them without a box of their own; they get a tight box around their points"
    assert shown[:4] == ["data/crops/train: 3 faces", line, "data/crops/test: 3 faces", line]
    assert CropStore.open(Path("data/crops/train")).faces[BOX].iloc[0].tolist() == [4, 5, 8, 8]
    place(train="points.csv")
    assert "  3 of them without a box of their own; they get the whole image" in succeed("crop")
    place(train="boxed.csv")
    assert "without a box" not in succeed("crop")


def test_crop_with_chosen_points_and_format_uses_them(place):
    place(train="bare.csv", format="csv_points", points=[2], skeleton="nose1")
    succeed("crop")
    points = np.load("data/crops/train/keypoints.npy")
    assert points.tolist() == [[[7.5, 9]], [[7.75, 9.5]], [[7, 8]]]
    place(train="bare.csv", format="wflw", skeleton="nose1")
    result = run("crop")
    assert result.exit_code == 1 and "bare.csv:1: face 0" in result.output and "Traceback" not in result.output


def test_crop_of_train_faces_without_points_fails(place):
    place(train="test.csv")
    result = run("crop")
    assert result.exit_code == 1 and "no face has any points" in result.output


def predict_zeros() -> None:
    """Out-of-fold predictions of the train faces, which the intervals are fitted on."""
    count = len(CropStore.open(Path("data/crops/train")))
    Predictions(face=np.arange(count), points=np.zeros((count, 5, 2)), spread=np.zeros((count, 5))).save(
        Path("ensemble/oof.npz"))


def test_stages_on_kaggle_pixels_end_in_a_submission(place):
    place(train="training.csv", test="test.csv", lookup="IdLookupTable.csv")
    assert "0 problems" in succeed("validate")
    succeed("crop")
    store = CropStore.open(Path("data/crops/test"))
    assert len(store) == 3 and store.keypoints is None and store.crops.any()
    points = np.arange(30, dtype=np.float32).reshape(3, 5, 2) / 2 + 0.5
    points[2] /= 2
    Predictions(face=np.arange(3), points=points, spread=np.zeros((3, 5))).save(Path("ensemble/test.npz"))
    predict_zeros()
    assert "8 rows of the lookup table" in succeed("submit")
    path = Path("submissions/submission.csv")
    assert path.read_text().split()[:4] == ["RowId,Location", "1,0.5", "2,1.0", "3,2.5"]
    assert "8 rows of the lookup table" in succeed("submit", "--check", path)
    path.write_text(path.read_text().replace("2,1.0\n", ""))
    result = run("submit", "--check", path)
    assert result.exit_code == 1 and "asks for 8" in result.output


def test_submit_check_without_crops_uses_the_annotations(place):
    place(train="dlib.xml", test="dlib.xml")
    lines = [f"{i},{value}" for i, value in enumerate(np.full(30, 8.0))]
    Path("s.csv").write_text("\n".join(["Id,Predicted", *lines, ""]))
    assert "3 faces × 5 points = 30 rows" in succeed("submit", "--check", "s.csv")
    place(train="dlib.xml")
    result = run("submit", "--check", "s.csv")
    assert result.exit_code == 2 and "data.test is null" in result.output


def test_submit_without_test_faces_writes_only_a_header(place):
    place(train="dlib.xml")
    assert "data/crops/test: 0 faces" in succeed("crop")
    Predictions(face=np.empty(0), points=np.empty((0, 5, 2)), spread=np.empty((0, 5))).save(Path("ensemble/test.npz"))
    predict_zeros()
    assert "nothing to submit" in succeed("submit")
    assert Path("submissions/submission.csv").read_text() == "Id,Predicted\n"
    Path("s.csv").write_text("Id,Predicted\n0,1.5\n")
    result = run("submit", "--check", "s.csv")
    assert result.exit_code == 1 and "1 rows after the header, but 0 faces" in result.output


@pytest.mark.slow
def test_stages_without_test_faces_all_run(place, competition):
    """Crops to report, with networks as small as they get."""
    params = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    params["data"].update(root=str(competition), test=None, solution=None)
    params["crop"]["size"] = 32
    params["split"]["folds"] = [0, 1]
    params["train"].update(models=["resnet"], workers=0, validate_every=1)
    params["models"]["resnet"].update(epochs=1, batch_size=12)
    params["models"]["resnet"]["network"].update(backbone="resnet10t", width=0.25)
    YAML().dump(params, Path("params.yaml"))
    for name in ("crop", "split"):
        succeed(name)
    for name in ("train", "predict"):
        for fold in (0, 1):
            succeed(name, "--fold", fold)
    for name in ("ensemble", "submit", "score", "report"):
        succeed(name)
    assert Path("submissions/submission.csv").read_text() == "Id,Predicted\n"
    assert "test_mae" not in json.loads(Path("metrics.json").read_text())["ensemble"]
    assert np.load("ensemble/test.npz")["points"].shape == (0, 68, 2)
    assert Path("reports/index.html").stat().st_size > 1000


@pytest.mark.skipif(not (DATA / "imm_face_db").is_dir(), reason="needs imm_face_db in shared/data")
def test_stages_on_real_imm_faces_run(place):
    place(root=str(DATA / "imm_face_db"), train=".", skeleton="imm58")
    shown = succeed("validate")
    assert "240 faces in 240 images, 0 problems" in shown
    assert succeed("crop").splitlines()[:2] == [
        "data/crops/train: 240 faces", "  240 of them without a box of their own; they get the whole image"]
    faces = pd.read_csv("data/crops/train/faces.csv")
    assert len(faces) == 240 and (faces[["photo_width", "photo_height"]] == [640, 480]).all(axis=None)
    assert np.load("data/crops/train/keypoints.npy").shape == (240, 58, 2)
    place(root=str(DATA / "imm_face_db"), train="*.asf", points=[52], box="points", skeleton="nose1")
    assert "they get a tight box around their points" in succeed("crop")
    assert np.load("data/crops/train/keypoints.npy").shape == (240, 1, 2)
