"""dlib's detector, where it is installed, on the faces that come with it; and the error where it is not."""

import sys

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, dlib_xml
from pipeline.data.images import read_image
from pipeline.inference.detect import load_detector
from tests.conftest import DATA


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(first[2:]) + np.prod(second[2:]) - shared)


def test_detector_on_dlib_examples_finds_labelled_faces():
    pytest.importorskip("dlib", reason="dlib is not installed (pip install -e '.[detect]')")
    folder = DATA / "dlib_faces" / "examples" / "faces"
    if not folder.is_dir():
        pytest.skip("dlib's example photos are not here (../shared/data/dlib_faces)")
    faces, find = dlib_xml.read(folder / "training_with_face_landmarks.xml").faces, load_detector()
    for image in ("2007_007763.jpg", "2008_001322.jpg"):
        labelled = faces.loc[faces.image == image, BOX].to_numpy()
        found = find(read_image(folder / image, "rgb"))
        assert len(found) == len(labelled) >= 2
        assert found[:, 0].tolist() == sorted(found[:, 0])
        assert all(max(overlap(one, other) for other in found) > 0.6 for one in labelled)


def test_detector_without_face_returns_empty_table():
    pytest.importorskip("dlib", reason="dlib is not installed (pip install -e '.[detect]')")
    assert load_detector()(np.zeros((60, 80, 3), np.uint8)).shape == (0, 4)


def test_load_detector_without_dlib_names_choices(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"--boxes.*--box LEFT.*\[detect\]"):
        load_detector()
