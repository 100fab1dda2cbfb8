"""Corrections of shapes: what they can learn, what they treat alike, and that no fold sees its own truth."""

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.inference.ensemble import SHAPE, build_ensemble
from pipeline.inference.predictions import Predictions
from pipeline.inference.shape import ShapeCorrection
from pipeline.keypoints.geometry import normalize_shape

FLIP_INDICES = np.array([1, 0, 2, 4, 3])
FOLDS = np.arange(90) % 3


def faces(count: int = 90, seed: int = 0) -> np.ndarray:
    """Points that vary around a face: two eyes, a nose and two corners of a mouth."""
    rng = np.random.default_rng(seed)
    mean = np.array([[-30, -30], [30, -30], [0, 0], [-20, 30], [20, 30]])
    size, place = rng.uniform(0.5, 3, (count, 1, 1)), rng.uniform(50, 500, (count, 1, 2))
    return place + size * (mean + rng.normal(0, 5, (count, 5, 2)))


def mirror(points: np.ndarray) -> np.ndarray:
    return points[:, FLIP_INDICES] * [-1, 1]


def wrong(truth: np.ndarray) -> np.ndarray:
    """Predictions whose mouths are 10% too narrow and whose nose lies too low, by a share of the face's size."""
    points = truth.copy()
    middle = truth[:, 3:].mean(1, keepdims=True)
    points[:, 3:] = middle + 0.9 * (truth[:, 3:] - middle)
    points[:, 2, 1] += 0.1 * np.sqrt(np.square(truth - truth.mean(1, keepdims=True)).sum(-1).mean(-1))
    return points


def test_correction_of_shape_dependent_error_removes_it():
    truth, unseen = faces(), faces(seed=1)
    fitted = ShapeCorrection.fit(wrong(truth), truth, FLIP_INDICES, 1e-3)
    before, after = (np.abs(points - unseen).mean() for points in (wrong(unseen), fitted.apply(wrong(unseen))))
    assert after < 0.05 * before


def test_correction_is_equivariant_to_mirror_scale_and_shift():
    truth = faces()
    noise = np.random.default_rng(2).normal(0, 3, truth.shape)
    fitted = ShapeCorrection.fit(truth + noise, truth, FLIP_INDICES, 0.1)
    points = faces(seed=1)
    found = fitted.apply(points)
    assert np.abs(found - points).max() > 0.1
    assert fitted.apply(mirror(points)) == pytest.approx(mirror(found), abs=1e-6)
    assert fitted.apply(3 * points + [7, -9]) == pytest.approx(3 * found + [7, -9], abs=1e-6)


def test_correction_of_constant_shift_learns_only_vertical():
    truth = faces()
    size = np.sqrt(np.square(truth - truth.mean(1, keepdims=True)).sum(-1).mean(-1))[:, None, None]
    fitted = ShapeCorrection.fit(truth + size * [0.1, 0.2], truth, FLIP_INDICES, 1e-3)
    assert ((fitted.apply(truth) - truth) / size).mean((0, 1)) == pytest.approx([0, -0.2], abs=0.02)


def test_correction_with_stronger_ridge_is_smaller():
    truth = faces()
    fitted = [ShapeCorrection.fit(wrong(truth), truth, FLIP_INDICES, ridge) for ridge in (0.1, 10, 1e3)]
    added = [np.abs(found.weights).sum() for found in fitted]
    assert added[0] > 2 * added[1] > 4 * added[2]


def test_fit_of_noisy_predictions_solves_the_normal_equations():
    truth = faces()
    points = truth + np.random.default_rng(2).normal(0, 3, truth.shape)
    both = [np.concatenate([part, mirror(part)]) for part in (points, truth)]
    shape, size = normalize_shape(both[0])
    error = (both[1] - both[0]).reshape(len(shape), -1) / size[:, None]
    centred = shape - shape.mean(0)
    weights = np.linalg.solve(centred.T @ centred + 0.3 * np.eye(10), centred.T @ (error - error.mean(0))).T
    found = ShapeCorrection.fit(points, truth, FLIP_INDICES, 0.3)
    assert found.weights == pytest.approx(weights, abs=1e-9)
    assert found.offset == pytest.approx(error.mean(0) - weights @ shape.mean(0), abs=1e-9)


def test_fit_face_with_missing_point_is_left_out():
    truth = faces()
    points, holes = wrong(truth), truth.copy()
    holes[::2, 3, 0] = np.nan
    found = ShapeCorrection.fit(points, holes, FLIP_INDICES, 1.0)
    wanted = ShapeCorrection.fit(points[1::2], truth[1::2], FLIP_INDICES, 1.0)
    assert found.weights == pytest.approx(wanted.weights) and found.offset == pytest.approx(wanted.offset)
    holes[2:, 0] = np.nan  # the first face lacks a point, so one is left
    with pytest.raises(UserError, match="which are 1 of 90"):
        ShapeCorrection.fit(points, holes, FLIP_INDICES, 1.0)
    holes[0] = truth[0]
    two = ShapeCorrection.fit(points, holes, FLIP_INDICES, 1.0)
    assert two.weights == pytest.approx(ShapeCorrection.fit(points[:2], truth[:2], FLIP_INDICES, 1.0).weights)
    holes[:, 0] = np.nan
    with pytest.raises(UserError, match="which are 0 of 90; set it to null"):
        ShapeCorrection.fit(points, holes, FLIP_INDICES, 1.0)
    with pytest.raises(UserError, match="0 of 90"):
        ShapeCorrection.fit(points[:, :1], truth[:, :1], FLIP_INDICES[:1] * 0, 1.0)


def ensemble(truth: np.ndarray, points: np.ndarray, **how):
    def of(rows: np.ndarray, values: np.ndarray) -> Predictions:
        return Predictions(face=rows, points=values[rows], spread=np.ones((len(rows), 5)))

    oof = {model: {own: of(np.flatnonzero(own == FOLDS), points + shift) for own in range(3)}
           for model, shift in (("a", 0.0), ("b", 1.0))}
    test = {model: {own: of(np.arange(4), wrong(faces(4, seed=3))) for own in range(3)} for model in oof}
    return build_ensemble(oof, test, truth, FOLDS, "weights", flip_indices=FLIP_INDICES, **how)


def test_correction_of_fold_does_not_use_its_truth():
    truth = faces()
    points = wrong(truth)
    other = truth.copy()
    other[FOLDS == 1] += np.random.default_rng(4).normal(0, 9, other[FOLDS == 1].shape)
    before, after = ensemble(truth, points, ridge=0.1), ensemble(other, points, ridge=0.1)
    same = (before.oof.points == after.oof.points).all((1, 2))
    assert same[FOLDS == 1].all() and not same[FOLDS != 1].any()
    assert not np.array_equal(before.test.points, after.test.points)
    plain = ensemble(truth, points)
    error = [np.abs(found.oof.points - truth).mean() for found in (before, plain)]
    assert error[0] < 0.1 * error[1]
    assert np.array_equal(before.oof.spread, plain.oof.spread)
    assert before.weights["ridge"] == 0.1 and plain.weights["ridge"] is None and plain.shape is None


def test_save_without_correction_removes_its_file(tmp_path):
    truth = faces()
    found = ensemble(truth, wrong(truth), ridge=0.1)
    found.save(tmp_path)
    points = wrong(faces(4, seed=3)).astype(np.float32)
    read = ShapeCorrection.load(tmp_path / SHAPE)
    assert np.array_equal(read.apply(points).astype(np.float32), found.test.points)
    whole = (tmp_path / SHAPE).read_bytes()
    for broken in (b"", b"nothing", whole[:100]):
        (tmp_path / SHAPE).write_bytes(broken)
        with pytest.raises(UserError, match="shape.npz: not what was written there"):
            ShapeCorrection.load(tmp_path / SHAPE)
    ensemble(truth, wrong(truth)).save(tmp_path)
    assert not (tmp_path / SHAPE).exists()


def test_apply_does_not_depend_on_layout_of_weights():
    rng = np.random.default_rng(6)
    weights, points = rng.normal(size=(136, 136)), rng.normal(0, 9, (3, 68, 2))
    found = [ShapeCorrection(weights=layout(weights), offset=np.zeros(136)).apply(points)
             for layout in (np.ascontiguousarray, np.asfortranarray)]
    assert np.array_equal(*found)
