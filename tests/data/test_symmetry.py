"""Left/right pairs found in labels, real and drawn, and skeletons that contradict them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.annotations import dlib_xml
from pipeline.data.symmetry import _involution, _match, mirror_problems
from pipeline.keypoints.geometry import mean_face
from pipeline.keypoints.skeleton import SKELETONS, make_skeleton
from pipeline.synthetic.head import Camera, make_head, project_points, template
from tests.conftest import DATA

IBUG, IMM = SKELETONS["ibug68"], SKELETONS["imm58"]


def infer_pairs(keypoints: np.ndarray) -> np.ndarray:
    return _match(mean_face(keypoints))[0]


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """(60, 68, 2) the built-in head, turned every way and of several sizes and places."""
    rng, head = np.random.default_rng(0), make_head(np.zeros(template().identity.shape[0]), {"open": 6.0})
    return np.array([
        project_points(head, Camera(yaw=rng.uniform(-30, 30), pitch=rng.uniform(-15, 15), roll=rng.uniform(-20, 20),
                                    scale=rng.uniform(0.5, 3), centre=tuple(rng.uniform(0, 500, 2))))
        for _ in range(60)
    ])


@pytest.fixture(scope="module")
def imm() -> np.ndarray:
    folder = DATA / "imm_face_db"
    if not folder.is_dir():
        pytest.skip("the IMM portraits are not here (../shared/data/imm_face_db): they are for research use only")
    return np.array([_asf(path) for path in sorted(folder.glob("*.asf"))])


def _asf(path: Path) -> np.ndarray:
    rows = [line.split() for line in path.read_text().splitlines() if re.match(r"\d+\s+\d\s+0\.", line)]
    return np.array([[640 * float(row[2]), 480 * float(row[3])] for row in rows])


def test_infer_pairs_of_the_built_in_head_is_its_skeleton(faces: np.ndarray) -> None:
    assert infer_pairs(faces).tolist() == IBUG.flip.tolist()
    assert mirror_problems(faces, IBUG) == []


def test_infer_pairs_of_real_ibug_labels_is_their_skeleton(ibug: Path) -> None:
    keypoints = dlib_xml.read(ibug / "labels_ibug_300W_train.xml", 68).keypoints[::4]
    assert infer_pairs(keypoints).tolist() == IBUG.flip.tolist()
    assert mirror_problems(keypoints, IBUG) == []
    missing = keypoints.copy()
    missing[::2][np.random.default_rng(0).random(missing[::2].shape[:2]) < 0.3] = np.nan  # in half of the faces
    assert infer_pairs(missing).tolist() == IBUG.flip.tolist()


def test_infer_pairs_of_real_imm_labels_is_their_skeleton(imm: np.ndarray) -> None:
    assert imm.shape == (240, 58, 2)
    assert infer_pairs(imm).tolist() == IMM.flip.tolist()
    for pose in range(6):  # 3 and 4 are heads turned to one side
        assert mirror_problems(imm[pose::6], IMM) == []


def test_mirror_problems_of_a_wrong_pair_names_it_once(faces: np.ndarray) -> None:
    flip = IBUG.flip.copy()
    flip[[36, 45, 39, 42]] = [42, 39, 45, 36]
    problems = mirror_problems(faces, replace(IBUG, flip=flip))
    assert len(problems) == 3
    assert problems[0] == ("the skeleton says that points 36 and 42 are a pair, but in the mean face 36 mirrors onto "
                           "45 and 42 mirrors onto 39")
    pairs = re.search(r"^the mean face has 29 pairs; .* data\.skeleton: `pairs: (.*)`$", problems[2])[1]
    assert make_skeleton("again", 68, json.loads(pairs)).flip.tolist() == IBUG.flip.tolist()


def test_mirror_problems_of_a_missing_pair_names_its_points() -> None:
    five = np.array([[0, 0], [10, 0], [5, 5], [1, 9], [9, 9]], float)
    keypoints = five + np.random.default_rng(0).normal(0, 0.3, (40, 5, 2))
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    problems = mirror_problems(keypoints, make_skeleton("custom", 5, [(3, 4)], names=names))
    assert len(problems) == 3
    assert problems[0] == ("the skeleton says that point 0 (left_eye) is its own mirror image, but in the mean face "
                         "0 (left_eye) mirrors onto 1 (right_eye)")
    assert mirror_problems(keypoints, make_skeleton("custom", 5)) == [
        "the skeleton has no left/right pairs, but the mean face has 2; where they are right, put this into "
        "data.skeleton: `pairs: [[0, 1], [3, 4]]`"]
    assert mirror_problems(keypoints[:9], make_skeleton("custom", 5)) == []  # too few to say


def test_infer_pairs_of_absent_points_leaves_them_alone() -> None:
    keypoints = np.random.default_rng(0).uniform(0, 99, (20, 1, 2))
    assert infer_pairs(keypoints).tolist() == [0]
    assert mirror_problems(keypoints, SKELETONS["nose1"]) == []
    with_absent = np.tile([[0.0, 0], [8, 0], [4, 9], [np.nan, np.nan]], (20, 1, 1))
    assert infer_pairs(with_absent).tolist() == [1, 0, 2, 3]
    assert np.isnan(mean_face(with_absent)[3]).all()


def test_involution_of_a_cycle_is_cut_where_it_costs_least() -> None:
    """Three points whose cheapest assignment is i → j → k → i: the cheapest pair stays, the third is alone."""
    cost = np.array([[9, 1, 1.2], [1, 9, 1.1], [1.2, 1.1, 5]])
    assert _involution(cost).tolist() == [1, 0, 2]
    four = np.full((4, 4), 9.0)
    for i, j, price in ((0, 1, 1.0), (1, 2, 2), (2, 3, 1), (3, 0, 2)):
        four[i, j] = four[j, i] = price
    assert _involution(four).tolist() == [1, 0, 3, 2]
