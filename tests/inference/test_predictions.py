"""Prediction files: what is written is what is read, and a bad file is named."""

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.inference.predictions import Predictions, load_runs


def make(faces: list[int], value: float = 0.1) -> Predictions:
    shape = (len(faces), 2)
    return Predictions(face=np.array(faces), points=np.full((*shape, 2), value), spread=np.full(shape, 0.5))


def test_predictions_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "new" / "oof.npz"
    make([4, 2, 7]).save(path)
    found = Predictions.load(path)
    assert found.face.tolist() == [4, 2, 7]
    assert found.face.dtype == np.int64
    assert found.points.dtype == found.spread.dtype == np.float32
    assert (found.points == np.float32(0.1)).all()
    assert found.points.shape == (3, 2, 2)
    assert (found.spread == 0.5).all()
    assert [file.name for file in path.parent.iterdir()] == ["oof.npz"]


def test_by_face_unsorted_sorts_all_arrays_alike() -> None:
    points = np.arange(12.0).reshape(3, 2, 2)
    found = Predictions(face=np.array([2, 0, 1]), points=points, spread=points[..., 0]).by_face()
    assert found.face.tolist() == [0, 1, 2]
    assert found.points[:, 0, 0].tolist() == [4, 8, 0]
    assert found.spread[:, 0].tolist() == [4, 8, 0]


def test_predictions_of_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("points (3, 2, 2)")):
        Predictions(face=np.arange(2), points=np.zeros((3, 2, 2)), spread=np.zeros((3, 2)))


@pytest.mark.parametrize("faces", [[0.5, 1], [np.nan, 1], [np.inf, 1]])
def test_load_fractional_faces_are_refused(tmp_path: Path, faces: list[float]) -> None:
    np.savez(tmp_path / "oof.npz", face=np.array(faces), points=np.zeros((2, 1, 2)), spread=np.zeros((2, 1)))
    with pytest.raises(UserError, match=r"oof\.npz: not what was written there \(faces that are no whole numbers\)"):
        Predictions.load(tmp_path / "oof.npz")


def test_load_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.npz: not found"):
        Predictions.load(tmp_path / "gone.npz")
    broken = tmp_path / "broken.npz"
    make([0]).save(broken)
    broken.write_bytes(broken.read_bytes()[:100])
    foreign, single, pickled = tmp_path / "foreign.npz", tmp_path / "single.npz", tmp_path / "pickled.npz"
    np.savez(foreign, face=np.arange(2), points=np.zeros((3, 2, 2)), spread=np.zeros((3, 2)))
    with single.open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(pickled, face=np.array([0], object), points=np.zeros((1, 1, 2)), spread=np.zeros((1, 1)))
    for path in (broken, foreign, single, pickled):
        with pytest.raises(UserError, match=re.escape(f"{path}: not what was written there")):
            Predictions.load(path)

@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path, value: float) -> None:
    path, bad = tmp_path / "oof.npz", make([4, 2, 7])
    bad.points[1, 0, 1] = value
    message = re.escape(f"{path}: 1 of 3 faces have points that are not finite, the first is face 2; train")
    with pytest.raises(UserError, match=message):
        bad.save(path)
    assert not path.exists()
    np.savez(path, face=bad.face, points=bad.points, spread=bad.spread)
    with pytest.raises(UserError, match=message):
        Predictions.load(path)


def test_load_runs_missing_files_are_all_named(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    for model, fold in (("a", 0), ("a", 3), ("stale", 0)):
        make([fold]).save(paths.run(model, fold) / "oof.npz")
    found = load_runs(paths, ["a"], [0, 3], "oof")
    assert {model: list(folds) for model, folds in found.items()} == {"a": [0, 3]}
    assert found["a"][3].face.tolist() == [3]
    with pytest.raises(UserError) as caught:
        load_runs(paths, ["a", "b"], [0, 1], "oof")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        str(paths.run(*run) / "oof.npz") for run in (("a", 1), ("b", 0), ("b", 1))
    ]
