"""Scores against numbers worked out by hand."""

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.keypoints.metrics import (
    error_correlation,
    face_mae,
    face_nme,
    fold_summary,
    mae,
    mean_sd,
    mean_shape_oof,
    mean_shape_points,
    nme,
    paired_bootstrap,
    point_errors,
    rmse,
)

EYES = (0, 1)
NAN = float("nan")
# Two faces of three points; the outer eye corners are 10 and 5 px apart.
TRUTH = np.array([[[0, 0], [10, 0], [5, 5]], [[0, 0], [3, 4], [1, 1]]], np.float32)
# Off by (3, 4) at one point of face 0, and by (0, 1) at every point of face 1.
POINTS = TRUTH + np.array([[[3, 4], [0, 0], [0, 0]], [[0, 1], [0, 1], [0, 1]]], np.float32)


def test_scores_of_known_errors_are_the_golden_ones() -> None:
    assert mae(POINTS, TRUTH) == pytest.approx(10 / 12, abs=1e-12)
    assert face_mae(POINTS, TRUTH) == pytest.approx([7 / 6, 0.5], abs=1e-12)
    assert point_errors(POINTS, TRUTH).tolist() == [[5, 0, 0], [1, 1, 1]]
    assert face_nme(POINTS, TRUTH, EYES) == pytest.approx([100 * (5 / 3) / 10, 20], abs=1e-9)
    assert nme(POINTS, TRUTH, EYES) == pytest.approx((50 / 3 + 20) / 2, abs=1e-9)
    assert nme(POINTS + 100, TRUTH + 100, EYES) == pytest.approx((50 / 3 + 20) / 2, abs=1e-4)


def test_rmse_with_missing_points_is_over_known_x_and_y() -> None:
    assert rmse(POINTS, TRUTH) == pytest.approx((28 / 12) ** 0.5, abs=1e-12)  # 9 + 16 + three times 1, of 12 numbers
    truth = TRUTH.copy()
    truth[0, 0] = NAN
    assert rmse(POINTS, truth) == pytest.approx((3 / 10) ** 0.5, abs=1e-12)
    assert rmse(TRUTH, TRUTH) == 0
    assert np.isnan(rmse(POINTS, TRUTH * NAN))


def test_nme_without_eyes_is_nan() -> None:
    assert np.isnan(nme(POINTS, TRUTH, None))
    assert np.isnan(face_nme(POINTS, TRUTH, None)).tolist() == [True, True]
    found = fold_summary(POINTS, TRUTH, np.array([0, 1]), [0, 1], None)
    assert np.isnan([found["nme"], found["nme_mean"], found["nme_sd"], *found["nme_folds"]]).all()
    assert found["mae"] == pytest.approx(10 / 12)


def test_scores_of_a_perfect_prediction_are_exactly_0() -> None:
    truth = np.random.default_rng(0).uniform(0, 500, (20, 68, 2)).astype(np.float32)
    truth[3, 5] = NAN
    points = np.nan_to_num(truth, nan=1e6)
    assert mae(points, truth) == 0
    assert nme(points, truth, (36, 45)) == 0
    assert (face_mae(points, truth) == 0).all()


def test_scores_with_missing_points_leave_them_out() -> None:
    truth = TRUTH.copy()
    truth[0, 2] = NAN
    truth[1, 0] = NAN  # an eye corner: the face has no NME
    points = POINTS.copy()
    points[0, 2] = 1e9
    assert mae(points, truth) == pytest.approx((7 + 2) / 8, abs=1e-12)
    assert face_mae(points, truth) == pytest.approx([7 / 4, 0.5], abs=1e-12)
    assert np.isnan(point_errors(points, truth)).tolist() == [[False, False, True], [True, False, False]]
    assert nme(points, truth, EYES) == pytest.approx(25, abs=1e-9)
    assert np.isnan(face_nme(points, truth, EYES)).tolist() == [False, True]


def test_scores_of_a_face_without_points_or_eye_distance_are_nan() -> None:
    truth = TRUTH.copy()
    truth[0] = NAN
    truth[1, 1] = truth[1, 0]
    assert np.isnan(face_mae(POINTS, truth)).tolist() == [True, False]
    assert np.isnan(nme(POINTS, truth, EYES))
    assert np.isnan(mae(POINTS[:1], truth[:1]))


def test_scores_of_a_nan_prediction_are_nan() -> None:
    points = POINTS.copy()
    points[0, 2] = NAN
    assert np.isnan(mae(points, TRUTH))
    assert np.isnan(nme(points, TRUTH, EYES))


def test_error_correlation_of_known_errors_is_pearsons() -> None:
    truth = np.zeros((2, 2, 2))
    first, second = (np.array(errors, float).reshape(2, 2, 2) for errors in ([1, 2, 3, 4, 9, 9, 5, 6],
                                                                             [2, 1, 4, 3, 0, 0, 6, 5]))
    truth[1, 0] = NAN  # leaves 1 to 6, and the same with neighbours swapped: 1 − 6·6 / (6·35)
    assert error_correlation(first, second, truth) == pytest.approx(1 - 36 / 210)
    assert error_correlation(first, -first, truth) == pytest.approx(-1)
    truth[:] = NAN
    assert np.isnan(error_correlation(first, second, truth))
    truth[0, 0] = 0  # one point
    assert np.isnan(error_correlation(first, second, truth))


def test_fold_summary_of_two_folds_has_each_mean_and_deviation() -> None:
    truth = np.zeros((3, 2, 2))
    truth[:, 1, 0] = 10  # eyes 10 px apart
    points = truth + np.array([1.0, 2.0, 6.0])[:, None, None] * [1, 0]  # face errors: MAE 0.5, 1, 3
    found = fold_summary(points, truth, np.array([7, 7, 2]), [7, 2], EYES)
    assert found["mae_folds"] == [0.75, 3]
    assert found["mae"] == pytest.approx(1.5)
    assert found["mae_mean"] == pytest.approx(1.875)
    assert found["mae_sd"] == pytest.approx(2.25 / 2**0.5)
    assert found["nme_folds"] == pytest.approx([15, 60])
    assert found["nme"] == pytest.approx(30)
    assert found["rmse_folds"] == pytest.approx([(5 / 4) ** 0.5, 18**0.5])  # errors in x: 1 and 2; 6
    assert found["rmse"] == pytest.approx((41 / 6) ** 0.5)


def test_mean_sd_of_several_values_is_that_of_a_sample() -> None:
    assert mean_sd([1, 2, 3, 6]) == pytest.approx((3, (14 / 3) ** 0.5))
    assert mean_sd([4.0])[0] == 4
    assert np.isnan(mean_sd([4.0])[1])


def test_bootstrap_of_a_constant_difference_has_no_width() -> None:
    errors = np.random.default_rng(0).uniform(1, 9, 50)
    found = paired_bootstrap(errors + 0.25, errors, np.arange(50), seed=0)
    assert found == pytest.approx((0.25, 0.25, 0.25))


def test_bootstrap_of_groups_matches_the_normal_interval() -> None:
    rng = np.random.default_rng(1)
    gap = rng.normal(1, 2, 400)
    single = paired_bootstrap(gap, np.zeros(400), np.arange(400), seed=2)
    half = 1.96 * gap.std(ddof=1) / 20
    assert single.difference == pytest.approx(gap.mean())
    assert (single.low, single.high) == pytest.approx((gap.mean() - half, gap.mean() + half), abs=0.03)
    fourfold = paired_bootstrap(np.repeat(gap, 4), np.zeros(1600), np.repeat(np.arange(400), 4), seed=2)
    assert fourfold == pytest.approx(single)  # copies of a face in its group are no new evidence
    assert paired_bootstrap(gap, np.zeros(400), np.arange(400), seed=2) == single


def test_bootstrap_of_unequal_groups_is_of_the_mean_over_faces() -> None:
    """A hundred groups of nine faces that differ by 2, a hundred of one that does not: the mean over groups is 1."""
    size = np.tile([9, 1], 100)
    gap = np.repeat(np.tile([2.0, 0.0], 100), size)
    found = paired_bootstrap(gap, np.zeros(1000), np.repeat(np.arange(200), size), seed=0)
    assert found.difference == pytest.approx(1.8)
    assert 1.7 < found.low < 1.8 < found.high < 1.9


def test_bootstrap_interval_covers_the_true_difference_in_95_of_100_pairs() -> None:
    """1,000 pairs of 300 groups of one to three faces; the difference, 0.1, is skewed, and alike within a group."""
    rng, covered = np.random.default_rng(0), 0
    for seed in range(1000):
        group = np.repeat(np.arange(300), rng.integers(1, 4, 300))
        errors = rng.lognormal(1, 0.4, len(group)) * rng.lognormal(0, 0.3, 300)[group]
        gap = 0.1 + rng.gamma(2, 0.2, len(group)) - 0.4 + rng.normal(0, 0.2, 300)[group]
        found = paired_bootstrap(errors + gap, errors, group, seed, n=500)
        covered += found.low <= 0.1 <= found.high
    assert 930 <= covered <= 970


def test_bootstrap_with_weights_weights_the_means() -> None:
    gap, weight, group = np.array([1.0, 3, -2, 5]), np.array([1, 3, 2, 0]), np.array([0, 0, 1, 2])
    found = paired_bootstrap(gap, np.zeros(4), group, seed=0, weight=weight)
    assert found.difference == pytest.approx((1 + 9 - 4) / 6)
    copies = paired_bootstrap(np.repeat(gap, weight), np.zeros(6), np.repeat(group, weight), seed=0)
    assert found.difference == pytest.approx(copies.difference)
    twice = paired_bootstrap(gap, np.zeros(4), group, seed=0, weight=2 * weight)
    assert twice == pytest.approx(found)


def test_bootstrap_with_missing_errors_leaves_their_faces_out() -> None:
    found = paired_bootstrap(np.array([2.0, NAN, 5]), np.array([1.0, 1, NAN]), np.arange(3), seed=0)
    assert found == (1, 1, 1)
    with pytest.raises(UserError, match="no face has an error in both"):
        paired_bootstrap(np.array([NAN]), np.array([1.0]), np.array([0]), seed=0)


def test_mean_shape_points_of_boxes_are_the_mean_in_each_box() -> None:
    boxes = np.array([[10, 20, 100, 50], [0, 0, 10, 10]])
    keypoints = np.array([[[10, 20], [60, 45], [NAN, NAN]], [[2, 4], [NAN, NAN], [NAN, NAN]]])
    # In boxes: (0, 0) and (0.2, 0.4); (0.5, 0.5); none, so the middle.
    found = mean_shape_points(keypoints, boxes, np.array([[100, 200, 10, 20]]))
    assert found[0] == pytest.approx(np.array([[101, 204], [105, 210], [105, 210]]))


def test_mean_shape_oof_of_a_fold_comes_from_the_other_folds() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3)
    keypoints = np.array([[[1.0, 1]], [[3.0, 3]], [[8.0, 8]]])
    found = mean_shape_oof(keypoints, boxes, np.array([0, 0, 1]))
    assert found[:, 0, 0] == pytest.approx([8, 8, 2])
