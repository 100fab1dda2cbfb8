import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import SKELETONS


def test_crop_affine_golden():
    # A box of pixels 10…19 by 20…29 has its centre at (14.5, 24.5); cropped to 20 px each pixel becomes two.
    affine = geometry.crop_affine(np.array([[10, 20, 10, 10]]), size=20, margin=1.0)[0]
    np.testing.assert_allclose(affine, [[2, 0, -19.5], [0, 2, -39.5]])
    found = geometry.transform(affine, np.array([[14.5, 24.5], [10, 20], [9.75, 19.75]]))
    np.testing.assert_allclose(found, [[9.5, 9.5], [0.5, 0.5], [0, 0]])


def test_crop_affine_takes_the_longer_side_and_moves_down():
    affine = geometry.crop_affine(np.array([[0, 0, 10, 40]]), size=80, margin=2.0, shift_y=0.25)[0]
    np.testing.assert_allclose(affine[:, :2], np.eye(2))  # 40 px widened twice fill 80 px
    np.testing.assert_allclose(geometry.transform(affine, np.array([[4.5, 19.5 + 10]])), [[39.5, 39.5]])


def test_mirror_convention():
    flip_indices = np.array([1, 0])
    flipped = geometry.flip_points(np.array([[0.0, 5.0], [3.0, 6.0]]), 10, flip_indices)
    np.testing.assert_array_equal(flipped, [[6, 6], [9, 5]])


def test_partners_lie_on_the_other_side_of_real_faces(ibug):
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
def test_inverse_brings_points_back(box, margin, shift_y, size, points):
    affine = geometry.crop_affine(np.array([box]), size=size, margin=margin, shift_y=shift_y)[0]
    back = geometry.transform(geometry.invert(affine), geometry.transform(affine, np.array(points)))
    assert np.abs(back - points).max() < 1e-6


@given(st.tuples(*[st.floats(-2, 2)] * 12), st.tuples(numbers, numbers))
def test_compose_is_one_after_the_other(values, point):
    first, second = np.array(values).reshape(2, 2, 3)
    both = geometry.transform(geometry.compose(second, first), np.array([point]))
    in_turn = geometry.transform(second, geometry.transform(first, np.array([point])))
    np.testing.assert_allclose(both, in_turn, atol=1e-6)
