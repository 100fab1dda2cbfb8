"""What the page's script reads is what was packed."""

import base64
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.data.store import CropStore
from pipeline.evaluation.gallery import Part, pack


@pytest.mark.parametrize("color", [False, True])
def test_pack_of_faces_is_unpacked_to_the_same(faces: CropStore, color: bool) -> None:
    if color:
        faces = replace(faces, crops=np.stack([faces.crops, faces.crops // 2, faces.crops // 4], axis=-1))
    far = np.where(np.isfinite(faces.keypoints), faces.keypoints + 1e6, np.nan)
    table = pd.DataFrame({"error": [0.5, np.nan] * 4})
    part = Part(store=faces, rows=np.array([6, 7]), layers={"truth": faces.keypoints, "far": far}, table=table)
    found = pack([part, replace(part, rows=np.array([1]))])
    assert found["faces"]["error"] == [0.5, None, None]
    assert found["faces"]["extent"] == [32.0] * 3  # 64 pixels of the crop, which doubles
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(found["faces"]["picture"][0]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (64, 64, 3)
    np.testing.assert_allclose(picture[32, 32, ::-1], (128, 64, 32) if color else (128,) * 3, atol=4)
    layers = {name: np.frombuffer(base64.b64decode(text), "<i2").reshape(3, 5, 2) for name, text in
              found["layers"].items()}
    assert (layers["truth"][1] == found["missing"]).all() and (layers["far"][[0, 2]] == 32767).all()
    places = layers["truth"][[0, 2]] / found["unit"] * 64 - 0.5
    np.testing.assert_allclose(places, faces.points_crop(np.array([6, 1])), atol=64 / 8192)
