"""Labels that all members contradict are found; those that are only hard are not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data.annotations import dlib_xml, formats
from pipeline.data.store import CropStore
from pipeline.evaluation.suspects import find_suspects, write_suspects
from pipeline.inference.predictions import Predictions

COUNT, K = 200, 5
SCALE = np.full(COUNT, 50.0)


@pytest.fixture
def made_up() -> tuple[Predictions, list[np.ndarray], np.ndarray]:
    """Two members that err by about a pixel; of face 7 the label of a point is 20 px off, at face 9 they disagree."""
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 80, (COUNT, K, 2))
    members = [true + rng.normal(0, 1, true.shape) for _ in range(2)]
    members[0][9, 2] += 20
    members[1][9, 2] -= 20
    label = true.copy()
    label[7, 3] += 20
    label[11] = np.nan
    spread = np.linalg.norm(members[0] - members[1], axis=-1) / 2
    return Predictions(face=np.arange(COUNT), points=np.mean(members, 0), spread=spread), members, label


def test_find_suspects_of_a_wrong_label_names_face_and_point(made_up: tuple) -> None:
    ensemble, members, label = made_up
    found = find_suspects(ensemble, members, label, SCALE)
    assert found.face.tolist() == [7] and found.contradicted[0].tolist() == [3] and found.times[0] > 1


def test_find_suspects_where_one_member_has_the_label_finds_none(made_up: tuple) -> None:
    ensemble, members, label = made_up
    members[0][7] = label[7]
    assert find_suspects(ensemble, members, label, SCALE).empty


def test_find_suspects_of_perfect_predictions_finds_none(made_up: tuple) -> None:
    _, _, label = made_up
    perfect = Predictions(face=np.arange(COUNT), points=np.nan_to_num(label), spread=np.zeros((COUNT, K)))
    assert find_suspects(perfect, [perfect.points], label, SCALE).empty


def test_write_suspects_is_read_again_and_leaves_the_faces_out(
    competition: Path, store: CropStore, tmp_path: Path
) -> None:
    suspects = pd.DataFrame({"face": [5, 2], "contradicted": [np.array([1]), np.array([3, 4])], "times": [3.0, 2.0]})
    write_suspects(tmp_path, suspects, store, np.ones(store.truth.shape[:2]))
    again = dlib_xml.read(tmp_path / "suspects.xml", 68)
    assert again.faces.image.tolist() == store.faces.image[[5, 2]].tolist()
    np.testing.assert_array_equal(again.keypoints, store.truth[[5, 2]])
    parts = formats.read_parts(competition, "train.xml", None, formats.ANY, tmp_path / "suspects.csv")
    kept = np.delete(np.arange(24), [2, 5])
    assert parts["train"].faces.image.tolist() == store.faces.image[kept].tolist()
    assert parts["train"].faces.index.tolist() == list(range(22))
    np.testing.assert_array_equal(parts["train"].keypoints, store.truth[kept])
