"""One fold from crops to predictions, with a skeleton of one point and no eyes, and without any test face."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.store import CropStore, center_input
from pipeline.inference.predict import predict_fold
from pipeline.inference.predictions import Predictions
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import SKELETONS
from pipeline.models.checkpoint import load_model
from pipeline.models.device import to_images
from pipeline.params import load_params
from pipeline.training.train import mean_points, train_fold

SAMPLE = load_params(Path(__file__).parents[2] / "presets" / "sample.yaml")
PRESET = SAMPLE.models["resnet"].model_dump(exclude={"jitter"})
MODEL = PRESET | {"network": PRESET["network"] | {"backbone": "resnet10t"}, "epochs": 1, "batch_size": 8}
AUGMENT = dict.fromkeys(("rotate", "scale", "shift", "brightness", "contrast", "blur", "noise", "dropout"), 0.0)
AUGMENT["backend"] = "auto"
MACHINE = {"device": "cpu", "precision": "float32", "threads": 0}
NOSE = SKELETONS["nose1"]


@pytest.fixture
def data(competition: Path, tmp_path: Path) -> Path:
    """24 train faces of which only the nose tip is known, in two folds, and an empty test part."""
    geometry = CropGeometry(size=32, margin=1.4, shift_y=0.1, padding=1.5, color="grey")
    for part in ("train", "test"):
        write_crops(dlib_xml.read(competition / f"{part}.xml"), competition, tmp_path / "crops" / part, geometry, jobs=1)
    path = tmp_path / "crops" / "train" / "keypoints.npy"
    np.save(path, np.load(path)[:, 30:31])
    test = tmp_path / "crops" / "test"
    for name in ("crops.npy", "photos.npy"):
        np.save(test / name, np.load(test / name)[:0])
    pd.read_csv(test / "faces.csv").head(0).to_csv(test / "faces.csv", index=False)
    table = pd.DataFrame({"face": range(24), "group": range(24), "fold": np.arange(24) % 2})
    table.to_csv(tmp_path / "folds.csv", index=False)
    return tmp_path


def test_a_nose_is_trained_and_predicted(data: Path, capsys: pytest.CaptureFixture) -> None:
    run, where = data / "run", {"folds": data / "folds.csv", "fold": 1}
    train_fold(
        run, crops=data / "crops" / "train", skeleton=NOSE, augmentation=AUGMENT | {"flip": 0.5}, workers=0, seed=0,
        validate_every=1, resume_folder=data / ".resume", label="nose", **where, **MACHINE, **MODEL,
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["val_nme"] is None and metrics["val_mae"] > 0
    printed = "".join(capsys.readouterr())
    assert "MAE" in printed and "NME" not in printed and "nan" not in printed
    assert pd.read_csv(run / "history.csv").val_nme.isna().all()
    options = {"label": "nose", "batch_size": 8, "flip": True, "shift_tta": False, **where, **MACHINE}
    predict_fold(run, crops=data / "crops", flip_indices=NOSE.flip, **options)
    oof = Predictions.load(run / "oof.npz")
    assert oof.face.tolist() == list(range(1, 24, 2)) and oof.points.shape == (12, 1, 2)
    assert Predictions.load(run / "test.npz").points.shape == (0, 1, 2)
    with pytest.raises(UserError, match=r"trained on 1 points, data\.skeleton has 68; train it again"):
        predict_fold(run, crops=data / "crops", flip_indices=SKELETONS["ibug68"].flip, **options)


def test_a_resnet_starts_at_the_mean_of_its_training_faces(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a step that changes anything, all it says of a face is where the point is on average."""
    crops = data / "crops" / "train"
    points = np.load(crops / "keypoints.npy")
    points[[0, 4]] = np.nan
    np.save(crops / "keypoints.npy", points)
    store, rows = CropStore.open(crops), np.arange(0, 24, 2)
    view = geometry.transform(store.input_affines[rows], points[rows])
    monkeypatch.setattr("pipeline.common.pieces.PIECE", 5)  # of 12 faces
    mean = mean_points(store, rows)
    np.testing.assert_allclose(mean, np.nanmean(view, axis=0))
    train_fold(
        data / "run", crops=crops, folds=data / "folds.csv", fold=1, skeleton=NOSE,
        augmentation=AUGMENT | {"flip": 0.5}, workers=0, seed=0, validate_every=1, resume_folder=data / ".resume",
        label="nose", **MACHINE, **MODEL | {"lr": 1e-12},
    )
    network, codec, _ = load_model(data / "run")
    with torch.inference_mode():
        said = codec.decode(network(to_images(center_input(store.crops[rows], 32)))).numpy()
    np.testing.assert_allclose(said, np.broadcast_to(mean, said.shape), atol=1e-3)


def test_the_mean_of_a_point_that_no_face_has_is_the_middle(data: Path) -> None:
    np.save(data / "crops" / "train" / "keypoints.npy", np.full((24, 1, 2), np.nan, np.float32))
    store = CropStore.open(data / "crops" / "train")
    np.testing.assert_array_equal(mean_points(store, np.arange(24)), [[15.5, 15.5]])
