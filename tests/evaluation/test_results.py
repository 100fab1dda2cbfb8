"""metrics.json, its tables and the report, on a tiny made-up run."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.data.annotations import BOX
from pipeline.data.crops import AFFINE
from pipeline.data.store import CropStore
from pipeline.evaluation.report import Member, Run, write_report
from pipeline.evaluation.results import (
    Results,
    build_metrics,
    format_scores,
    load_history,
    load_results,
    name_unlearnt,
)
from pipeline.evaluation.submission import write
from pipeline.inference.ensemble import ensemble_files
from pipeline.inference.predictions import Predictions
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import Skeleton, make_skeleton
from pipeline.models import build_model
from pipeline.models.checkpoint import save_model
from pipeline.params import load_params

SAMPLE = Path(__file__).parents[2] / "presets" / "sample.yaml"
FOLD = np.array([4, 4, 1, 1])
SHAPE = np.array([[10.0, 10], [20, 10]])  # the eyes, 10 px apart
SKELETON = make_skeleton("two", 2, [(0, 1)], eyes=(0, 1), edges=((0, 1),), regions={"eyes": (0, 1)})
OFFSETS = {"a": [1, 1, 3, 3], "b": [-1, -1, -1, -5]}  # of x and y, in each train face; of the test faces: see below


def write_store(folder: Path, keypoints: np.ndarray | None, count: int) -> None:
    """Crops that are the photo itself, with one box around the points."""
    folder.mkdir(parents=True)
    table = pd.DataFrame({"image": "x.jpg", "source": "x"}, index=range(count))
    table[BOX] = [0.0, 0.0, 32.0, 32.0]
    table[AFFINE] = geometry.translation(0, 0).reshape(-1)
    table.to_csv(folder / "faces.csv", index_label="face")
    np.save(folder / "crops.npy", np.random.default_rng(0).integers(0, 255, (count, 32, 32), np.uint8))
    np.save(folder / "photos.npy", np.zeros((count, 32, 32), np.uint8))
    if keypoints is not None:
        np.save(folder / "keypoints.npy", keypoints.astype(np.float32))
    (folder / "store.json").write_text(json.dumps({"size": 32}))
    assert len(CropStore.open(folder)) == count


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two models, folds 4 and 1, four train and two test faces; test predictions are 1 and 5 px off."""
    truth = np.repeat(SHAPE[None], 4, axis=0)
    write_store(tmp_path / "data" / "crops" / "train", truth, 4)
    write_store(tmp_path / "data" / "crops" / "test", None, 2)
    folds = pd.DataFrame({"face": range(4), "group": range(4), "fold": FOLD})
    folds.to_csv(tmp_path / "data" / "folds.csv", index=False)
    write(tmp_path / "solution.csv", truth[:2])
    for model, offset in OFFSETS.items():
        for fold, off in ((4, 1), (1, 5)):
            folder, rows = tmp_path / "runs" / model / f"fold{fold}", np.flatnonzero(fold == FOLD)
            points = truth[rows] + np.array(offset)[rows, None, None]
            Predictions(face=rows, points=points, spread=np.zeros((2, 2))).save(folder / "oof.npz")
            Predictions(face=np.arange(2), points=truth[:2] + off, spread=np.zeros((2, 2))).save(folder / "test.npz")
            history = {"epoch": [1, 2], "train_loss": [2, 1], "val_loss": [3, 2], "val_mae": [np.nan, off]}
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    return tmp_path


NAMES = (["a", "b"], [4, 1])


def load(run: Path, solution: bool = True) -> Results:
    return load_results(Paths(root=run), NAMES[0], *NAMES, run / "solution.csv" if solution else None)


def blend(run: Path, rule: str = "mean") -> None:
    ensemble_files(Paths(root=run), *NAMES, rule)


def test_build_metrics_equals_hand_computed(run: Path) -> None:
    blend(run)
    results = load(run)
    metrics = build_metrics(results, SKELETON.eyes)
    assert list(metrics) == ["ensemble", "models", "baseline", "pairs"]
    assert metrics["models"]["a"]["mae_folds"] == [1, 3]
    assert metrics["models"]["a"]["mae"] == metrics["models"]["b"]["mae"] == 2
    assert metrics["models"]["a"]["mae_sd"] == pytest.approx(2**0.5)
    assert metrics["models"]["a"]["nme_folds"] == pytest.approx([10 * 2**0.5, 30 * 2**0.5])
    assert metrics["ensemble"]["mae_folds"] == [0, 1]  # the mean of 1 and −1; of 3 and −1, and of 3 and −5
    assert metrics["models"]["a"]["test_mae"] == 3  # the mean of the folds' predictions, 1 and 5 px off
    assert metrics["ensemble"]["test_mae"] == 3
    assert metrics["baseline"]["mae"] == pytest.approx(0, abs=1e-6)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_format_scores_has_every_model_and_fold(run: Path) -> None:
    blend(run)
    results = load(run)
    lines = format_scores(build_metrics(results, SKELETON.eyes), [4, 1]).splitlines()
    assert lines[0].split() == ["MAE,", "px", "fold", "4", "fold", "1", "mean", "±", "sd", "OOF", "test"]
    assert lines[2].split() == ["a", "1.000", "3.000", "2.000", "±", "1.414", "2.000", "3.000"]
    assert lines[4].split() == ["ensemble", "0.000", "1.000", "0.500", "±", "0.707", "0.500", "3.000"]
    assert lines[6].startswith("NME, %") and lines[12].startswith("RMSE, px")
    assert lines[14].split() == ["a", "1.000", "3.000", "2.000", "±", "1.414", "2.236", "3.000"]  # √5
    assert len(lines) == 17
    assert len({len(line) for line in lines[:5]}) == 1


def test_build_metrics_without_solution_has_no_test_score(run: Path) -> None:
    blend(run)
    keypoints = np.load(run / "data" / "crops" / "train" / "keypoints.npy")
    keypoints[2:, 0] = np.nan
    np.save(run / "data" / "crops" / "train" / "keypoints.npy", keypoints)
    metrics = build_metrics(load(run, solution=False), SKELETON.eyes)
    assert "test_mae" not in metrics["ensemble"]
    assert metrics["ensemble"]["nme_folds"] == [0, None]
    assert metrics["ensemble"]["nme_sd"] is None
    assert "–" in format_scores(metrics, [4, 1])


def test_build_metrics_without_eyes_has_no_nme(run: Path) -> None:
    blend(run)
    metrics = build_metrics(load(run), None)
    assert metrics["ensemble"]["nme"] is None
    assert metrics["ensemble"]["test_nme"] is None and metrics["ensemble"]["test_rmse"] == 3
    lines = format_scores(metrics, [4, 1]).splitlines()
    assert [line[:5].strip(", ") for line in lines if "fold 4" in line] == ["MAE", "RMSE"]


def test_load_results_without_test_faces_scores_oof(run: Path) -> None:
    shutil.rmtree(run / "data" / "crops" / "test")
    write_store(run / "data" / "crops" / "test", None, 0)
    for path in (run / "runs").glob("*/*/test.npz"):
        Predictions(face=[], points=np.zeros((0, 2, 2)), spread=np.zeros((0, 2))).save(path)
    for rule in ("mean", "median", "weights"):
        blend(run, rule)
        results = load(run, solution=False)
        assert all(results.points(name, "test").shape == (0, 2, 2) for name in ("ensemble", "a", "mean shape"))
        assert build_metrics(results, SKELETON.eyes)["models"]["a"]["mae"] == 2


def test_load_history_missing_files_are_all_named(run: Path) -> None:
    history = load_history(Paths(root=run), ["b", "a"], [1])
    assert history["run"].tolist() == ["b/fold1", "b/fold1", "a/fold1", "a/fold1"]
    assert list(history)[:4] == ["run", "model", "fold", "epoch"]
    (run / "runs" / "a" / "fold4" / "history.csv").write_text("")
    with pytest.raises(UserError) as caught:
        load_history(Paths(root=run), ["a", "c"], [4])
    assert [problem.split("history.csv: ")[1][:11] for problem in caught.value.problems] == ["no training"] * 2


NO_REVIEW = pd.DataFrame({"face": [], "image": [], "radius": [], "of_size": []}).astype({"face": int})


def report(
    run: Path, results: Results, members: dict[str, Member], review: pd.DataFrame = NO_REVIEW,
    skeleton: Skeleton = SKELETON,
) -> str:
    """The page that is written."""
    write_report(run / "reports" / "index.html", Run(
        results=results, metrics=build_metrics(results, skeleton.eyes), history=load_history(results.paths, *NAMES),
        skeleton=skeleton, shown=(results.train, results.test), members=members, review=review, root=run / "data",
        facts={"git revision": "<b>abc"}, times=pd.DataFrame({"epochs": [2]}, index=["a"]),
        changes=("sample", [("train.seed", "0", "7")]),
    ))
    return (run / "reports" / "index.html").read_text()


def test_write_report_holds_every_picture_and_table(run: Path) -> None:
    blend(run)
    results = load(run)
    params, members = load_params(SAMPLE), {}
    for name, like in (("a", "resnet"), ("b", "unet")):
        model = params.models[like]
        description = {"network": model.network.model_dump(), "codec": model.codec.model_dump(),
                       "num_points": 2, "channels": 1, "size": 32}
        folder = run / "runs" / name / "fold4"
        save_model(folder, build_model(**description)[0], description)
        augmentation = params.augment if name == "a" else replace(params.augment, flip=0.0)
        members[name] = Member(run=folder, store=results.train, augmentation=augmentation)
    page = report(run, results, members, pd.DataFrame({"face": [1], "image": "x.jpg", "radius": 2.0, "of_size": 0.1}))
    assert re.findall(r'<img src="data:image/webp;base64,[^"]+" alt="([^"]+)"', page) == [
        "Test faces", "Training samples of a", "Training samples of b", "First filters of a", "First filters of b",
        "Heatmaps of b"]
    assert page.count("<svg") == 5 and "<td>a and b</td>" in page
    assert "<td>ensemble</td><td>0.000</td><td>1.000</td>" in page
    assert "&lt;b&gt;abc" in page and "<td>train.seed</td><td>0</td><td>7</td>" in page
    assert not re.search(r'(src|href)="?http|url\(http|@import', page)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    assert data["faces"]["fold"] == ["4", "4", "1", "1", "test"]
    assert data["faces"]["error"] == pytest.approx([0, 0, 10 * 2**0.5, 10 * 2**0.5, 30 * 2**0.5], abs=1e-3)
    assert data["faces"]["suspect"] == [None] * 5 and list(data["layers"]) == ["truth", "ensemble", "a", "b"]
    assert data["root"] is None  # there is no data/x.jpg


def test_models_no_better_than_the_mean_shape_are_named() -> None:
    metrics = {"baseline": {"mae": 8.0}, "models": {"good": {"mae": 1.6}, "bad": {"mae": 8.0}, "worse": {"mae": 21.5}}}
    assert name_unlearnt(metrics).startswith("no better than the mean shape (8.000 px): bad (8.000 px), worse (21.500")
    assert name_unlearnt(metrics | {"models": {"good": {"mae": 1.6}}}) == ""


def test_write_report_without_test_faces_omits_them(run: Path) -> None:
    blend(run)
    results = load(run)
    none = replace(results.test, crops=results.test.crops[:0], photos=results.test.photos[:0],
                   faces=results.test.faces[:0])
    page = report(run, replace(results, test=none, solution=None), {})
    assert "<img" not in page and '"fold":["4","4","1","1"]' in page and "<p>None.</p>" in page


def test_write_report_of_one_point_is_written(run: Path) -> None:
    keypoints = run / "data" / "crops" / "train" / "keypoints.npy"
    np.save(keypoints, np.load(keypoints)[:, :1])
    for path in (run / "runs").rglob("*.npz"):
        found = Predictions.load(path)
        Predictions(face=found.face, points=found.points[:, :1], spread=found.spread[:, :1]).save(path)
    blend(run)
    page = report(run, load(run, solution=False), {}, skeleton=make_skeleton("nose", 1))
    assert page.count("<svg") == 4 and "longer side of the box" in page
