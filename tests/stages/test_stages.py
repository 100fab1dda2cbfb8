"""Every command through Click's runner, on a tiny real competition; and what they say when something is wrong."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.presets import compose_preset
from pipeline.training.loader import make_batches
from tests.conftest import run, succeed

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem not in {"__init__", "cli"})


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_does_not_import_torch_and_threads_wait_passively(name):
    code = (
        "import os, runpy, sys\n"
        "sys.argv = ['it', '--help']\n"
        f"try: runpy.run_module('stages.{name}', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'cv2', 'pandas'} & set(sys.modules)\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'"  # which torch reads when it is imported
    )
    start, environment = time.perf_counter(), {name: value for name, value in os.environ.items() if name[:4] != "OMP_"}
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Usage:")
    assert time.perf_counter() - start < 5  # under a second on a free machine; tests share theirs


def test_stages_write_files_of_design(workplace):
    folder, _ = workplace
    for model in ("resnet", "unet"):
        for fold in (0, 3):
            names = {path.name for path in (folder / "runs" / model / f"fold{fold}").iterdir()}
            assert names == {"model.safetensors", "model.json", "history.csv", "metrics.json", "oof.npz", "test.npz"}
    assert {path.name for path in (folder / "ensemble").iterdir()} == {"oof.npz", "test.npz", "weights.json"}
    assert (folder / "reports" / "index.html").stat().st_size > 1000
    assert not list(folder.rglob("*.partial")) and not list((folder / ".resume").iterdir())


def test_train_history_has_columns_of_plots(workplace):
    history = pd.read_csv(workplace[0] / "runs" / "unet" / "fold3" / "history.csv")
    assert list(history) == [
        "epoch", "lr", "train_loss", "val_loss", "val_mae", "val_nme", "seconds", "images_per_second"]
    assert np.isfinite(history.to_numpy()).all()


def test_split_holds_every_face_once_and_groups_together(workplace):
    folds = pd.read_csv(workplace[0] / "data" / "folds.csv")
    assert folds.face.tolist() == list(range(18))
    assert folds.image.tolist() == pd.read_csv(workplace[0] / "data/crops/train/faces.csv").image.tolist()
    assert set(folds.fold) == {0, 3}
    assert not folds.drop_duplicates(["group", "fold"]).group.duplicated().any()


def test_submit_writes_ensemble_in_kaggle_layout(workplace):
    folder, outputs = workplace
    table = pd.read_csv(folder / "submissions" / "submission.csv")
    assert list(table) == ["Id", "Predicted"]
    assert table.Id.tolist() == list(range(5 * 136))
    points = np.load(folder / "ensemble" / "test.npz")["points"]
    np.testing.assert_allclose(table.Predicted.to_numpy().reshape(5, 68, 2), points, rtol=1e-6)
    assert "680" in outputs["submit"]


def test_submit_writes_intervals_beside_submission(workplace):
    folder, outputs = workplace
    table = pd.read_csv(folder / "submissions" / "submission.intervals.csv")
    submitted = pd.read_csv(folder / "submissions" / "submission.csv").Predicted.to_numpy().reshape(-1, 2)
    np.testing.assert_allclose(table[["x", "y"]], submitted, atol=1e-3)
    assert table.face.tolist() == np.repeat(range(5), 68).tolist() and (table.radius > 0).all()
    assert set(pd.read_csv(folder / "submissions" / "submission.review.csv").face) <= set(range(5))
    found = json.loads((folder / "metrics.json").read_text())["intervals"]
    assert 0.5 < found["coverage"] <= 1 and set(found["sources"]) == {"indoor", "outdoor"}
    assert "90% intervals hold" in outputs["score"] and "less certain" in outputs["submit"]


def test_score_equals_scores_of_files(workplace):
    folder, outputs = workplace
    metrics = json.loads((folder / "metrics.json").read_text())
    truth = np.load(folder / "data" / "crops" / "train" / "keypoints.npy")
    oof = np.load(folder / "ensemble" / "oof.npz")
    order = np.argsort(oof["face"])
    assert metrics["ensemble"]["mae"] == pytest.approx(np.abs(oof["points"][order] - truth).mean(), rel=1e-5)
    solution = pd.read_csv(folder / "data" / "sample" / "solution.csv").Predicted
    submitted = pd.read_csv(folder / "submissions" / "submission.csv").Predicted
    assert metrics["ensemble"]["test_mae"] == pytest.approx((submitted - solution).abs().mean(), rel=1e-5)
    assert set(metrics["models"]) == {"resnet", "unet"}
    assert "resnet" in outputs["score"] and "ensemble" in outputs["score"]


def test_train_without_model_takes_first_of_params(inside):
    params = YAML()
    values = params.load(Path("params.yaml"))
    values["train"]["models"] = ["unet"]
    params.dump(values, Path("params.yaml"))
    before = {name: os.stat(f"runs/{name}/fold3/model.safetensors").st_mtime_ns for name in ("resnet", "unet")}
    succeed("train", "--fold", 3)
    after = {name: os.stat(f"runs/{name}/fold3/model.safetensors").st_mtime_ns for name in ("resnet", "unet")}
    assert after["resnet"] == before["resnet"] and after["unet"] > before["unet"]


@pytest.mark.parametrize("deterministic", [False, True])
def test_train_deterministic_holds_torch_to_such_algorithms(inside, monkeypatch, deterministic):
    params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    params["train"]["deterministic"] = deterministic
    YAML().dump(params, Path("params.yaml"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # for monkeypatch to restore
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        succeed("train", "--model", "unet", "--fold", 3)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("command", "spoil", "message"),
    [
        (["train", "--fold", "7"], None, "split.folds in the params has only 0, 3"),
        (["train", "--fold", "0", "--model", "vit"], None, "known are"),
        (["train", "--fold", "0", "--params", "none.yaml"], None, "none.yaml: not found"),
        (["train", "--fold", "0"], "data/crops/train/store.json", "dvc repro crop"),
        (["train", "--fold", "0"], "data/folds.csv", "dvc repro split"),
        (["predict", "--fold", "0"], "runs/resnet/fold0/model.json", "run the train stage first"),
        (["ensemble"], "runs/unet/fold3/oof.npz", "runs/unet/fold3/oof.npz"),
        (["submit"], "ensemble/test.npz", "ensemble/test.npz"),
        (["submit"], "ensemble/oof.npz", "ensemble/oof.npz"),
        (["package"], "ensemble/weights.json", "weights.json: no weights of an ensemble"),
        (["package"], "runs/unet/fold3/model.json", "run the train stage first"),
        (["crop"], "data/sample/train.xml", "train.xml"),
    ],
)
def test_command_bad_call_says_what_to_do(inside, command, spoil, message):
    if spoil:
        Path(spoil).unlink()
    result = run(*command)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output and result.output.count("error: ") >= 1


@pytest.mark.parametrize("name", ["train", "predict"])
def test_command_on_crops_of_other_params_is_refused(inside, name):
    editor = YAML()
    params = editor.load(Path("params.yaml"))
    params["crop"].update(margin=1.5, color="rgb")
    editor.dump(params, Path("params.yaml"))
    result = run(name, "--fold", 0)
    assert result.exit_code == 1
    assert result.stderr == ("error: data/crops/train/store.json: cut with other params (margin 1.4, now 1.5; color "
                             "grey, now rgb); run the crop stage again\n")


def test_submit_check_missing_row_is_refused(inside):
    path = Path("submissions/submission.csv")
    lines = path.read_text().splitlines()
    Path("short.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "680" in succeed("submit", "--check", path)
    result = run("submit", "--check", "short.csv")
    assert result.exit_code == 1 and "679" in result.output


def test_predict_other_crops_is_refused(inside):
    params = YAML()
    values = params.load(Path("params.yaml"))
    values["crop"]["size"] = 48
    params.dump(values, Path("params.yaml"))
    succeed("crop")
    result = run("predict", "--fold", 0)
    assert result.exit_code == 1 and "trained on other crops" in result.output


def test_validate_of_sample_passes(inside):
    shown = succeed("validate")
    assert "train.xml: 18 faces in" in shown and "test.xml: 5 faces in" in shown
    assert shown.count(" 0 problems") == 2


def test_validate_of_a_sample_not_drawn_yet_says_what_to_do(inside):
    os.rename("data/sample", "data/gone")
    result = run("validate")
    assert result.exit_code == 1 and "0 faces" not in result.output
    assert "not drawn yet: `dvc repro` draws it; `python -m stages.init` writes the params of your own" in result.output


def test_validate_missing_image_is_named(inside):
    name = pd.read_csv("data/crops/train/faces.csv").image[0]
    Path("data/sample", name).unlink()
    result = run("validate")
    assert result.exit_code == 1
    assert name in result.output and "train.xml" in result.output


@pytest.mark.slow
def test_gpu_preset_cut_down_runs(inside):
    """presets/ibug300w.yaml with the sample's photos, small crops, one epoch and no hub."""
    sample = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    params = YAML(typ="safe", pure=True).load(compose_preset(ROOT / "presets", "ibug300w"))
    params["data"] = sample["data"]
    params["crop"]["size"], params["align"]["size"] = 32, 64
    params["train"]["workers"] = 0
    for model in params["models"].values():
        model.update(epochs=1, batch_size=6)
        model["network"]["pretrained"] = False
    YAML().dump(params, Path("params.yaml"))
    for name in ("crop", "split"):
        succeed(name)
    for fold in params["split"]["folds"]:
        for name in ("train", "predict"):
            succeed(name, "--model", "locator", "--fold", fold)
    succeed("align")
    for model in params["align"]["models"]:
        for name in ("train", "predict"):
            succeed(name, "--model", model, "--fold", 4)
        assert np.isfinite(np.load(f"runs/{model}/fold4/test.npz")["points"]).all()


@pytest.mark.slow
def test_two_stage_cascade_runs_all_stages(inside, monkeypatch):
    """A model on crops that another's points place: trained, blended, drawn and used on photos like any other."""
    params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    params["train"]["models"] = ["resnet"]
    params["align"] = {"locator": ["resnet"], "models": ["unet"], "size": 48, "margin": 1.4, "padding": 1.25}
    params["models"]["unet"]["augment"] = {"rotate": 5.0, "scale": 0.05, "shift": 0.01}
    YAML().dump(params, Path("params.yaml"))
    result = run("train", "--model", "unet", "--fold", 0)
    assert result.exit_code == 1 and "data/aligned/train: no crops here; run `dvc repro align`" in result.output
    assert "data/aligned/train: 18 faces, positioned by resnet" in succeed("align")
    drawn = []
    monkeypatch.setattr("pipeline.training.train.make_batches",
                        lambda store, augmentation, *where: drawn.append((store.size, augmentation.rotate))
                        or make_batches(store, augmentation, *where))
    for fold in (0, 3):
        succeed("train", "--model", "unet", "--fold", fold)
        succeed("predict", "--model", "unet", "--fold", fold)
        assert drawn.pop() == (48, 5.0)
        assert json.loads(Path(f"runs/unet/fold{fold}/model.json").read_text())["size"] == 48
    shown = "".join(succeed(name) for name in ("ensemble", "submit", "score", "report"))
    assert "unet" in shown and set(json.loads(Path("metrics.json").read_text())["models"]) == {"resnet", "unet"}
    assert 'alt="Training samples of unet"' in Path("reports/index.html").read_text()

    succeed("submit", "--check", "submissions/submission.csv")
    faces = pd.read_csv("data/crops/test/faces.csv")
    photos = [f"data/sample/{image}" for image in dict.fromkeys(faces.image)]
    succeed("annotate", *photos, "--boxes", "data/sample/test.xml", "--model", "unet")
    found, table = np.load("runs/unet/fold0/test.npz"), pd.read_csv("annotated/points.csv")
    both = (found["points"] + np.load("runs/unet/fold3/test.npz")["points"]) / 2
    points = table.filter(like="part_").to_numpy().reshape(-1, 68, 2)
    order = [row for image in dict.fromkeys(faces.image) for row in np.flatnonzero(faces.image == image)]
    # not all: in a heatmap that has learnt little, rounding decides between two peaks of the same height
    assert (np.abs(points - both[order]) < 0.01).all(axis=2).mean() > 0.98


@pytest.mark.slow
def test_train_killed_and_resumed_gives_same_weights(inside):
    """kill -9 after some whole epochs, then the same command: bit for bit the weights of an undisturbed run."""
    editor = YAML()
    values = editor.load(Path("params.yaml"))
    values["train"]["workers"] = 1
    values["models"]["resnet"]["epochs"] = 12
    editor.dump(values, Path("params.yaml"))
    command = [sys.executable, "-m", "stages.train", "--model", "resnet", "--fold", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    weights, log = Path("runs/resnet/fold0/model.safetensors"), Path("log")

    def again():
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return weights.read_bytes()

    undisturbed = again()
    weights.unlink()
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while not list(Path(".resume").glob("*/state.pt")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert not weights.exists()
    (state,) = Path(".resume").glob("*/state.pt")
    epochs = len(torch.load(state, weights_only=True)["history"])
    assert 1 <= epochs < 12
    assert again() == undisturbed
    assert not list(Path(".resume").iterdir())
