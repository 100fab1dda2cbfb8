"""Geometry: golden affines, inverses, mirroring and mean faces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.keypoints import geometry
from pipeline.keypoints.geometry import mean_face, normalize_shape
from pipeline.keypoints.skeleton import SKELETONS


def test_crop_affine_of_a_box_is_the_golden_one():
    # A box of pixels 10…19 by 20…29 has its centre at (14.5, 24.5); cropped to 20 px each pixel becomes two.
    affine = geometry.crop_affine(np.array([[10, 20, 10, 10]]), size=20, margin=1.0)[0]
    np.testing.assert_allclose(affine, [[2, 0, -19.5], [0, 2, -39.5]])
    found = geometry.transform(affine, np.array([[14.5, 24.5], [10, 20], [9.75, 19.75]]))
    np.testing.assert_allclose(found, [[9.5, 9.5], [0.5, 0.5], [0, 0]])


def test_crop_affine_of_an_oblong_box_takes_the_longer_side_and_moves_down():
    affine = geometry.crop_affine(np.array([[0, 0, 10, 40]]), size=80, margin=2.0, shift_y=0.25)[0]
    np.testing.assert_allclose(affine[:, :2], np.eye(2))  # 40 px widened twice fill 80 px
    np.testing.assert_allclose(geometry.transform(affine, np.array([[4.5, 19.5 + 10]])), [[39.5, 39.5]])


def test_flip_points_of_a_width_maps_the_first_pixel_to_the_last():
    flip_indices = np.array([1, 0])
    flipped = geometry.flip_points(np.array([[0.0, 5.0], [3.0, 6.0]]), 10, flip_indices)
    np.testing.assert_array_equal(flipped, [[6, 6], [9, 5]])


def test_flip_indices_of_real_faces_lie_on_the_other_side(ibug):
    from pipeline.data.annotations import dlib_xml

    keypoints = dlib_xml.read(ibug / "labels_ibug_300W_train.xml", 68).keypoints
    shape = (keypoints - keypoints.mean(1, keepdims=True)).mean(0)
    shape -= [shape[27:31, 0].mean(), 0]  # about the nose
    flip_indices = SKELETONS["ibug68"].flip
    width = np.ptp(shape[:, 0])
    assert np.abs(shape[:, 0] + shape[flip_indices, 0]).max() < 0.05 * width
    assert np.abs(shape[:, 1] - shape[flip_indices, 1]).max() < 0.05 * width


numbers = st.floats(-500, 500)
boxes = st.tuples(numbers, numbers, st.floats(1, 600), st.floats(1, 600))


points = st.lists(st.tuples(numbers, numbers), min_size=1)


@given(boxes, st.floats(1, 3), st.floats(-0.3, 0.3), st.integers(16, 256), points)
def test_invert_after_transform_brings_points_back(box, margin, shift_y, size, points):
    affine = geometry.crop_affine(np.array([box]), size=size, margin=margin, shift_y=shift_y)[0]
    back = geometry.transform(geometry.invert(affine), geometry.transform(affine, np.array(points)))
    assert np.abs(back - points).max() < 1e-6


def test_transform_of_several_faces_is_that_of_each_with_its_own_affine():
    rng = np.random.default_rng(0)
    affines, points = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 5, 2))
    for face, affine, own in zip(geometry.transform(affines, points), affines, points, strict=True):
        np.testing.assert_allclose(face, own @ affine[:, :2].T + affine[:, 2])


def test_finite_mean_leaves_out_what_is_not_finite():
    values = np.array([[1.0, np.nan, 3, np.inf], [np.nan] * 4])
    np.testing.assert_array_equal(geometry.finite_mean(values), [2, np.nan])
    assert geometry.finite_mean(values, axis=None) == 2


@given(st.tuples(*[st.floats(-2, 2)] * 12), st.tuples(numbers, numbers))
def test_compose_of_two_affines_is_one_after_the_other(values, point):
    first, second = np.array(values).reshape(2, 2, 3)
    both = geometry.transform(geometry.compose(second, first), np.array([point]))
    in_turn = geometry.transform(second, geometry.transform(first, np.array([point])))
    np.testing.assert_allclose(both, in_turn, atol=1e-6)


def test_normalize_shape_of_any_place_and_size_is_the_same():
    face = np.array([[0.0, 0], [4, 0], [2, 6]])
    shapes, size = normalize_shape(np.stack([face, 5 * face + [100, -7], np.full((3, 2), 9.0)]))
    np.testing.assert_allclose(shapes[0], shapes[1])
    assert size[1] == pytest.approx(5 * size[0]) and size[2] == 0
    assert np.square(shapes[0]).sum() == pytest.approx(3) and not shapes[2].any()


def test_mean_face_of_missing_points_comes_from_the_faces_with_most():
    face = np.array([[0.0, 0], [40, 0], [20, 60], [np.nan, np.nan]])
    other = np.array([[0.0, 0], [np.nan, np.nan], [90, 1], [np.nan, np.nan]])
    mean = mean_face(np.stack([face, 2 * face + 7, other]))
    assert np.isnan(mean[3]).all()
    np.testing.assert_allclose(mean[:3].mean(0), 0, atol=1e-12)
    assert np.ptp(mean[:3], axis=0)[1] / np.ptp(mean[:3], axis=0)[0] == pytest.approx(1.5)
    assert np.square(mean[:3]).sum(-1).mean() == pytest.approx(1)


def test_mean_face_of_one_point_is_the_origin():
    assert mean_face(np.full((4, 1, 2), 5.0)).tolist() == [[0, 0]]


def test_similarity_of_noisy_faces_is_the_least_squares_fit():
    rng = np.random.default_rng(0)
    reference, points = rng.normal(0, 20, (6, 2)), rng.normal(50, 20, (4, 6, 2))
    points[1] = geometry.transform(np.array([[0.6, -0.8, 5], [0.8, 0.6, -3]]) * 2, reference)
    points[2, 4:] = np.nan
    found = geometry.similarity(points, reference)
    for face, affine in zip(points, found, strict=True):
        seen = np.isfinite(face).all(1)
        (x, y), one, zero = face[seen].T, np.ones(seen.sum()), np.zeros(seen.sum())
        system = np.concatenate([np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)])
        (a, b, right, down), *_ = np.linalg.lstsq(system, reference[seen].T.ravel())
        np.testing.assert_allclose(affine, [[a, -b, right], [b, a, down]], atol=1e-9)
    np.testing.assert_allclose(geometry.transform(found[1], points[1]), reference, atol=1e-9)


def test_similarity_of_fewer_than_two_points_apart_is_nan():
    reference = np.array([[0.0, 0], [10, 0], [np.nan, np.nan]])
    points = np.array([[[5.0, 5], [5.5, 5], [90, 90]], [[5, 5], [np.nan, np.nan], [90, 90]], [[1, 1], [3, 4], [0, 0]]])
    found = geometry.similarity(points, reference)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2]).all()
    assert np.isnan(geometry.similarity(points, np.zeros((3, 2)))).all()
