"""Training and prediction of one fold with one point, no eyes and no test face."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.store import CropStore, center_input
from pipeline.inference.predict import Predictor, predict_fold
from pipeline.inference.predictions import Predictions
from pipeline.inference.tta import TTA
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import SKELETONS
from pipeline.models.checkpoint import ResumeState, load_model
from pipeline.models.device import make_runtime, to_images
from pipeline.params import load_params
from pipeline.training.engine import Trainer
from pipeline.training.settings import Augmentation
from pipeline.training.train import mean_points, train_fold

SAMPLE = load_params(Path(__file__).parents[2] / "presets" / "sample.yaml")
RECIPE = SAMPLE.recipe("resnet")
RECIPE = replace(
    RECIPE, network=RECIPE.network | {"head": "flatten"}, codec={"name": "regression"}, loss={"name": "smooth_l1"},
    validate_every=1, seed=0,
    schedule=replace(RECIPE.schedule, epochs=1, batch_size=8),
    augmentation=Augmentation(backend="auto", rotate=0.0, scale=0.0, shift=0.0, flip=0.5, brightness=0.0, contrast=0.0,
                              blur=0.0, noise=0.0, dropout=0.0),
)
NOSE = SKELETONS["nose1"]


@pytest.fixture
def paths(competition: Path, tmp_path: Path) -> Paths:
    """24 train faces of which only the nose tip is known, in two folds, and an empty test part."""
    geometry = CropGeometry(size=32, margin=1.4, shift_y=0.1, padding=1.5, color="grey")
    for part in ("train", "test"):
        write_crops(dlib_xml.read(competition / f"{part}.xml"), competition, tmp_path / "data/crops" / part, geometry)
    path = tmp_path / "data/crops/train/keypoints.npy"
    np.save(path, np.load(path)[:, 30:31])
    test = tmp_path / "data/crops/test"
    for name in ("crops.npy", "photos.npy"):
        np.save(test / name, np.load(test / name)[:0])
    pd.read_csv(test / "faces.csv").head(0).to_csv(test / "faces.csv", index=False)
    table = pd.DataFrame({"face": range(24), "group": range(24), "fold": np.arange(24) % 2})
    table.to_csv(tmp_path / "data/folds.csv", index=False)
    return Paths(root=tmp_path)


def train_nose(paths: Paths, **schedule: float) -> Path:
    recipe = replace(RECIPE, schedule=replace(RECIPE.schedule, **schedule))
    train_fold(paths, paths.crops / "train", "nose", 1, recipe=recipe, skeleton=NOSE,
               runtime=make_runtime("cpu", "float32"))
    return paths.run("nose", 1)


def test_train_fold_one_point_without_eyes_trains_and_predicts(paths: Paths, capsys: pytest.CaptureFixture) -> None:
    run = train_nose(paths)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["val_nme"] is None and metrics["val_mae"] > 0
    printed = "".join(capsys.readouterr())
    assert "MAE" in printed and "NME" not in printed and "nan" not in printed
    assert pd.read_csv(run / "history.csv").val_nme.isna().all()
    options = {"tta": TTA(batch_size=8), "runtime": make_runtime("cpu", "float32")}
    predict_fold(paths, paths.crops, "nose", 1, flip_indices=NOSE.flip, **options)
    oof = Predictions.load(run / "oof.npz")
    assert oof.face.tolist() == list(range(1, 24, 2)) and oof.points.shape == (12, 1, 2)
    assert Predictions.load(run / "test.npz").points.shape == (0, 1, 2)
    with pytest.raises(UserError, match=r"trained on 1 points, data\.skeleton has 68; train it again"):
        predict_fold(paths, paths.crops, "nose", 1, flip_indices=SKELETONS["ibug68"].flip, **options)


def test_train_fold_resnet_without_learning_predicts_the_mean_of_its_faces(paths: Paths) -> None:
    crops = paths.crops / "train"
    points = np.load(crops / "keypoints.npy")
    points[[0, 4]] = np.nan
    np.save(crops / "keypoints.npy", points)
    store, rows = CropStore.open(crops), np.arange(0, 24, 2)
    mean = mean_points(store, rows)
    points_input = geometry.transform(store.input_affines[rows], points[rows])
    np.testing.assert_allclose(mean, np.nanmean(points_input, axis=0))
    network, codec, _ = load_model(train_nose(paths, lr=1e-12))
    with torch.inference_mode():
        predicted = codec.decode(network(to_images(center_input(store.crops[rows], 32)))).numpy()
    np.testing.assert_allclose(predicted, np.broadcast_to(mean, predicted.shape), atol=1e-3)


def test_mean_points_of_a_point_that_no_face_has_is_the_middle(paths: Paths) -> None:
    np.save(paths.crops / "train" / "keypoints.npy", np.full((24, 1, 2), np.nan, np.float32))
    store = CropStore.open(paths.crops / "train")
    np.testing.assert_array_equal(mean_points(store, np.arange(24)), [[15.5, 15.5]])


def start(paths: Paths, monkeypatch: pytest.MonkeyPatch, fold: int = 1) -> tuple[int, torch.Tensor, str]:
    """Seed, first weights and key of the resume state that a training begins with."""
    found = []

    def begin(trainer: Trainer, batches: object, train_rows: object, val_rows: object, resume: ResumeState) -> None:
        found.append((trainer.seed, next(trainer.network.parameters()).detach().clone(), resume.folder.name))
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", begin)
    with pytest.raises(KeyboardInterrupt):
        train_fold(paths, paths.crops / "train", "nose", fold, recipe=RECIPE, skeleton=NOSE,
                   runtime=make_runtime("cpu", "float32"))
    return found[0]


def test_train_fold_of_another_fold_has_its_own_seed_and_first_weights(paths: Paths, monkeypatch) -> None:
    (seed, weights, _), (_, same, _), (other, different, _) = (start(paths, monkeypatch, fold) for fold in (1, 1, 0))
    assert (seed, other) == (1, 0)
    assert torch.equal(weights, same) and not torch.equal(weights, different)


@pytest.mark.parametrize("name", ["data/folds.csv", *(
    f"data/crops/train/{name}" for name in ("keypoints.npy", "crops.npy", "faces.csv"))])
def test_train_fold_resume_state_is_of_every_file_that_it_reads(paths: Paths, monkeypatch, name: str) -> None:
    _, _, key = start(paths, monkeypatch)
    assert start(paths, monkeypatch)[2] == key
    path = paths.root / name
    if path.suffix == ".npy":
        np.save(path, np.load(path) + np.load(path).dtype.type(1))
    else:
        table, column = pd.read_csv(path), "group" if "folds" in name else "left"
        table.assign(**{column: table[column] + 1}).to_csv(path, index=False)
    assert start(paths, monkeypatch)[2] != key


def test_train_fold_stopped_by_ctrl_c_says_where_it_goes_on(paths: Paths, monkeypatch, capsys) -> None:
    real = Trainer.train_one_epoch

    def stop_in_second(trainer: Trainer, loader: object, epoch: int) -> float:
        if epoch == 1:
            raise KeyboardInterrupt
        return real(trainer, loader, epoch)

    monkeypatch.setattr(Trainer, "train_one_epoch", stop_in_second)
    with pytest.raises(KeyboardInterrupt):
        train_nose(paths, epochs=3)
    assert "nose-1: stopped; the same command goes on from epoch 2" in capsys.readouterr().out
    monkeypatch.undo()
    train_nose(paths, epochs=3)
    assert "going on after epoch 1" in capsys.readouterr().out


def test_train_fold_twice_at_once_refuses_the_second(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(*args: object) -> None:
        with pytest.raises(UserError, match="nose/fold1: another training of this fold runs; wait"):
            train_nose(paths)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.training.train.Trainer.fit", second)
    with pytest.raises(KeyboardInterrupt):
        train_nose(paths)


def test_train_fold_without_any_point_outside_the_fold_is_an_error(paths: Paths) -> None:
    points = np.load(paths.crops / "train" / "keypoints.npy")
    points[0::2] = np.nan
    np.save(paths.crops / "train" / "keypoints.npy", points)
    with pytest.raises(UserError, match=r"keypoints\.npy: none of the 12 faces outside the fold has a point"):
        train_nose(paths)
    assert not paths.run("nose", 1).exists()


def test_train_fold_on_points_of_another_skeleton_is_an_error(paths: Paths) -> None:
    np.save(paths.crops / "train" / "keypoints.npy", np.zeros((24, 5, 2), np.float32))
    with pytest.raises(UserError, match=r"keypoints\.npy: 5 points a face, data\.skeleton has 1; run the crop stage"):
        train_nose(paths)


@pytest.mark.parametrize("part", ["oof", "test"])
def test_predict_fold_with_points_that_are_not_finite_writes_nothing(paths: Paths, monkeypatch, part: str) -> None:
    run, predict = train_nose(paths), Predictor.predict

    def broken(self: Predictor, store: CropStore, rows: np.ndarray, progress: str = "") -> Predictions:
        lost = Predictions(face=np.zeros(1), points=np.full((1, 1, 2), np.nan), spread=np.zeros((1, 1)))
        return lost if progress.endswith(part) else predict(self, store, rows, progress)

    monkeypatch.setattr(Predictor, "predict", broken)
    with pytest.raises(UserError, match=rf"{part}\.npz: 1 of 1 faces .* not finite, the first is face 0"):
        predict_fold(paths, paths.crops, "nose", 1, flip_indices=NOSE.flip, tta=TTA(batch_size=8),
                     runtime=make_runtime("cpu", "float32"))
    assert not list(run.glob("*.npz"))
