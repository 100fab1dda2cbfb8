"""Errors relative to the face: their scale, cumulative scores, classes of faces."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.annotations import BOX
from pipeline.evaluation import breakdown
from pipeline.keypoints import geometry
from tests.conftest import SHAPE, SKELETON

COUNT = 12


@pytest.fixture
def faces() -> pd.DataFrame:
    """Boxes of 10 to 120 pixels, in two sources."""
    side = 10.0 * np.arange(1, COUNT + 1)
    table = pd.DataFrame({"source": ["a", "b"] * (COUNT // 2)})
    table[BOX] = np.stack([0 * side, 0 * side, side, side / 2], axis=1)
    return table


TRUTH = np.repeat(SHAPE[None], COUNT, axis=0)  # eyes 24 px apart


def test_error_scale_is_that_of_the_eyes_unless_a_face_lacks_them(faces: pd.DataFrame) -> None:
    scale, name = breakdown.error_scale(TRUTH, faces, SKELETON.eyes)
    assert name == "outer-eye distance" and scale.tolist() == [24] * COUNT
    lacking = TRUTH.copy()
    lacking[3, 1] = np.nan
    scale, name = breakdown.error_scale(lacking, faces, SKELETON.eyes)
    assert name == "longer side of the box" and scale.tolist() == faces.width.tolist()
    lacking[3] = np.nan  # a face without any label has no error
    assert breakdown.error_scale(lacking, faces, SKELETON.eyes)[1] == "outer-eye distance"
    assert breakdown.error_scale(TRUTH, faces, None)[1] == "longer side of the box"


def test_cumulative_scores_equal_hand_computed() -> None:
    area, failures = breakdown.cumulative_scores(np.array([0.0, 4, 8, 12, np.nan]), limit=8)
    assert area == pytest.approx((1 + 0.5 + 0 + 0) / 4) and failures == 0.25
    assert np.isnan(breakdown.cumulative_scores(np.array([np.nan]))).all()


def test_break_down_of_known_errors_averages_each_class(faces: pd.DataFrame) -> None:
    errors = np.arange(COUNT)[:, None] + np.array([0.0, 0, 10, 20, 30])
    found = breakdown.break_down({"m": errors}, TRUTH, faces, SKELETON)
    assert list(found) == ["region", "source", "box size", "point"]  # all heads alike: neither turn nor tilt
    assert found["region"].m.tolist() == [5.5, 25.5]
    assert found["source"].loc["b"].tolist() == [6, 6 + 12]
    assert found["box size"].index.tolist() == ["10–47 px", "47–83 px", "83–120 px"]
    assert found["box size"].m.tolist() == [13.5, 17.5, 21.5]
    assert found["point"].m.tolist() == [5.5, 5.5, 15.5, 25.5, 35.5]


def test_head_pose_of_turned_and_tilted_faces() -> None:
    truth = np.repeat(SHAPE[None].astype(np.float64), 3, axis=0)
    truth[1, 2, 0] += 5  # the nose to the right
    angle = np.radians(20)
    truth[2] = geometry.transform(np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]]),
                                  truth[2])
    turn, tilt = breakdown.head_pose(truth, SKELETON)
    assert turn[1] - turn[0] > 0.1 and turn[2] == pytest.approx(turn[0], abs=1e-6)
    assert tilt[2] - tilt[0] == pytest.approx(20, abs=1e-6)
