"""Blends: golden values, weights fitted by LAD against a grid, and weights that never see the fold they serve."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.inference.ensemble import SHAPE, build_ensemble, fit_weights, model_points
from pipeline.inference.predictions import Predictions, Runs

FACES, POINTS = 60, 5
FOLD = np.arange(FACES) % 3
TRUTH = np.random.default_rng(5).uniform(20, 200, (FACES, POINTS, 2)).astype(np.float32)


def runs(points: dict[str, np.ndarray], fold: np.ndarray = FOLD, spread: float = 0.0) -> Runs:
    """OOF files of models that predict `points` (F, K, 2), in a shuffled order."""
    rng = np.random.default_rng(0)
    found: Runs = {}
    for model, values in points.items():
        found[model] = {}
        for own in np.unique(fold):
            rows = rng.permutation(np.flatnonzero(fold == own))
            own_spread = np.full(values[rows].shape[:2], spread)
            found[model][int(own)] = Predictions(face=rows, points=values[rows], spread=own_spread)
    return found


def on_test(values: dict[str, list[float]], spread: float = 0.0) -> Runs:
    """Test files of two faces: model → for each fold the value of every coordinate."""
    return {
        model: {fold: Predictions(face=np.arange(2), points=np.full((2, POINTS, 2), value),
                                  spread=np.full((2, POINTS), spread)) for fold, value in enumerate(by_fold)}
        for model, by_fold in values.items()
    }


def test_mean_blend_averages_folds_within_model_first() -> None:
    oof = runs({"a": TRUTH + 1, "b": TRUTH - 3})
    found = build_ensemble(oof, on_test({"a": [0, 3, 6], "b": [10, 10, 25]}), TRUTH, FOLD, "mean")
    assert found.oof.face.tolist() == list(range(FACES))
    assert found.oof.points == pytest.approx(TRUTH - 1, abs=1e-4)
    assert (found.test.points == 9).all()
    assert found.weights["test"] == {"a": 0.5, "b": 0.5}
    # OOF: a and b lie 2 px from their mean in x and in y.
    assert found.oof.spread == pytest.approx(8**0.5, abs=1e-4)


def test_ensemble_saved_is_read_back(tmp_path) -> None:
    found = build_ensemble(runs({"a": TRUTH}), on_test({"a": [0, 3, 6]}), TRUTH, FOLD, "weights")
    (tmp_path / SHAPE).write_bytes(b"of a run with a correction")
    found.save(tmp_path)
    assert not (tmp_path / SHAPE).exists()
    for part in ("oof", "test"):
        read = Predictions.load(tmp_path / f"{part}.npz")
        assert all(np.array_equal(getattr(read, name), getattr(getattr(found, part), name))
                   for name in ("face", "points", "spread"))
    assert json.loads((tmp_path / "weights.json").read_text()) == found.weights


def test_mean_blend_spread_adds_spread_of_members() -> None:
    oof = runs({"a": TRUTH + 3, "b": TRUTH - 3}, spread=4)
    found = build_ensemble(oof, on_test({"a": [1, 1, 1], "b": [1, 1, 1]}, spread=2), TRUTH, FOLD, "mean")
    assert found.oof.spread == pytest.approx((4**2 + 2 * 3**2) ** 0.5, abs=1e-4)
    assert (found.test.spread == 2).all()


def test_average_folds_far_apart_adds_no_spread() -> None:
    oof = runs({"a": TRUTH + 3, "b": TRUTH - 3}, spread=4)
    found = build_ensemble(oof, on_test({"a": [0, 3, 6], "b": [9, 9, 9]}, spread=2), TRUTH, FOLD, "mean")
    assert (found.test.points == 6).all()
    assert found.test.spread == pytest.approx((2**2 + 2 * 3**2) ** 0.5, abs=1e-4)


def test_median_blend_is_per_coordinate() -> None:
    offsets = {"a": np.array([0, 9]), "b": np.array([1, -2]), "c": np.array([8, -1])}
    oof = runs({model: TRUTH + offset for model, offset in offsets.items()})
    found = build_ensemble(oof, on_test({"a": [1] * 3, "b": [2] * 3, "c": [30] * 3}), TRUTH, FOLD, "median")
    assert found.oof.points == pytest.approx(TRUTH + np.array([1, -1]), abs=1e-4)
    assert (found.test.points == 2).all()
    assert found.weights == {"blend": "median", "ridge": None}


def test_fit_weights_reaches_least_mae_of_grid() -> None:
    rng = np.random.default_rng(1)
    errors = rng.laplace(0, [[[[2.0]]], [[[3.0]]], [[[3.5]]]], (3, FACES, POINTS, 2))
    errors[2] += 1
    found = fit_weights(TRUTH + errors, TRUTH)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()

    def score(weights: np.ndarray) -> float:
        return np.abs(np.tensordot(weights, errors, 1)).mean()

    grid = [(i / 50, j / 50, 1 - (i + j) / 50) for i in range(51) for j in range(51 - i)]
    assert len(grid) == 1326
    assert score(found) <= min(score(np.array(weights)) for weights in grid) + 1e-4
    assert score(found) < score(np.full(3, 1 / 3)) - 0.01


def test_fit_weights_of_known_errors_finds_known_weights() -> None:
    noise = np.random.default_rng(2).normal(0, 1, TRUTH.shape)
    assert fit_weights(np.stack([TRUTH, TRUTH + noise]), TRUTH).tolist() == pytest.approx([1, 0], abs=1e-6)
    # Errors that cancel: any other share leaves some of them.
    assert fit_weights(np.stack([TRUTH + noise, TRUTH - 3 * noise]), TRUTH) == pytest.approx([0.75, 0.25], abs=1e-3)
    assert fit_weights(np.stack([TRUTH, TRUTH]), TRUTH).sum() == pytest.approx(1)
    assert fit_weights(TRUTH[None] + 3, TRUTH).tolist() == [1]
    assert fit_weights(np.stack([TRUTH] * 2), np.full_like(TRUTH, np.nan)).tolist() == [0.5, 0.5]


def test_fit_weights_ignores_missing_points() -> None:
    noise = np.random.default_rng(2).normal(0, 1, TRUTH.shape)
    bad = TRUTH + noise
    bad[:, 1:] = 0  # as if a missing truth were 0
    truth = TRUTH.copy()
    truth[:, 1:] = np.nan
    assert fit_weights(np.stack([bad, TRUTH + noise / 4]), truth)[0] < 0.05


def test_weights_of_fold_are_fitted_on_other_folds() -> None:
    """A model that is perfect in fold 0 only must get no weight in fold 0's blend from that."""
    noise = np.random.default_rng(3).normal(0, 1, TRUTH.shape)
    steady = TRUTH + noise
    lucky = np.where((FOLD == 0)[:, None, None], TRUTH, TRUTH + 1.2 * noise)
    oof, test = runs({"lucky": lucky, "steady": steady}), on_test({"lucky": [0] * 3, "steady": [1] * 3})
    found = build_ensemble(oof, test, TRUTH, FOLD, "weights")
    # Over all folds lucky is the better one; in folds 1 and 2 its errors are steady's, 1.2 times as large.
    assert found.weights["test"]["lucky"] == pytest.approx(1, abs=1e-3)
    assert found.test.points == pytest.approx(0, abs=0.01)
    assert found.weights["oof"]["0"]["lucky"] == pytest.approx(0, abs=1e-3)
    own = FOLD == 0
    assert np.abs(found.oof.points[own] - steady[own]).max() < 0.01
    for weights in (found.weights["test"], *found.weights["oof"].values()):
        assert sum(weights.values()) == pytest.approx(1)


def test_weights_of_test_are_fitted_on_all_folds() -> None:
    noise = np.random.default_rng(2).normal(0, 1, TRUTH.shape)
    oof = runs({"a": TRUTH + noise, "b": TRUTH - 3 * noise})
    found = build_ensemble(oof, on_test({"a": [100] * 3, "b": [0] * 3}), TRUTH, FOLD, "weights")
    assert found.test.points == pytest.approx(75, abs=0.1)
    assert found.weights["blend"] == "weights"
    assert list(found.weights["oof"]) == ["0", "1", "2"]


def test_build_ensemble_incomplete_members_are_all_named() -> None:
    oof, test = runs({"a": TRUTH, "b": TRUTH}), on_test({"a": [1] * 3, "b": [1] * 3})
    part = oof["a"][1]
    oof["a"][1] = Predictions(face=part.face[1:], points=part.points[1:], spread=part.spread[1:])
    oof["b"][0] = replace(oof["b"][0], face=np.append(oof["b"][0].face[1:], oof["b"][0].face[-1]))
    del oof["b"][2]
    test["b"][2] = replace(test["b"][2], face=np.array([0, 2]))
    with pytest.raises(UserError) as caught:
        build_ensemble(oof, test, TRUTH, FOLD, "mean")
    starts = ["a, fold 1: its OOF faces", "b, fold 0: its OOF faces", "b: no OOF predictions for fold 2",
              "b, fold 2: its 2 test faces are not the 2 of a, fold 0"]
    assert len(caught.value.problems) == 4
    assert all(problem.startswith(start) for problem, start in zip(caught.value.problems, starts, strict=True))


def test_build_ensemble_member_with_other_points_is_named() -> None:
    oof, test = runs({"a": TRUTH, "b": TRUTH[:, 1:]}), on_test({"a": [1] * 3, "b": [1] * 3})
    with pytest.raises(UserError) as caught:
        build_ensemble(oof, test, TRUTH, FOLD, "mean")
    assert caught.value.problems == tuple(
        f"b, fold {fold}: {TRUTH.shape[1] - 1} points a face, but the train faces have {TRUTH.shape[1]}; train it again"
        for fold in range(3))


def test_build_ensemble_prediction_of_training_faces_is_refused() -> None:
    oof = runs({"a": TRUTH}, fold=(FOLD + 1) % 3)
    with pytest.raises(UserError, match="its OOF faces are not those of the fold"):
        build_ensemble(oof, on_test({"a": [1] * 3}), TRUTH, FOLD, "mean")


def test_build_ensemble_unknown_blend_lists_known() -> None:
    with pytest.raises(UserError, match="choose one of mean, median, weights"):
        build_ensemble({}, {}, TRUTH, FOLD, "max")


def test_model_points_of_train_faces_are_out_of_fold_and_of_test_faces_the_mean(tmp_path) -> None:
    rows = {1: [2, 0], 2: [1, 3]}
    for fold, faces in rows.items():
        for part, count in (("oof", faces), ("test", [0])):
            points = np.stack([np.full((5, 2), 10.0 * fold + face) for face in count])
            Predictions(face=count, points=points, spread=points[..., 0]).save(
                Paths(root=tmp_path).run("a", fold) / f"{part}.npz")
    oof, test = (model_points(Paths(root=tmp_path), "a", [1, 2], part) for part in ("oof", "test"))
    assert oof[:, 0, 0].tolist() == [10, 21, 12, 23]
    assert test[:, 0, 0].tolist() == [15]
