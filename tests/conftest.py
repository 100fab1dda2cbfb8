"""Fixtures: a tiny synthetic competition, its crops, a workspace run through every stage."""

import os
import shutil
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import settings
from ruamel.yaml import YAML

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes test at once

from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import make_skeleton

settings.register_profile("fuzz", max_examples=20_000, deadline=None)  # for tests/data/test_fuzz.py
ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("KEYPOINT_FOLDS_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = DATA.parent / "weights"
SKELETON = make_skeleton("five", 5, [(0, 1), (3, 4)], eyes=(0, 1), edges=((0, 1), (3, 4)),
                         regions={"eyes": (0, 1), "rest": (2, 3, 4)})
SHAPE = np.array([[20, 22], [44, 22], [32, 34], [24, 46], [40, 46]], np.float32)


@pytest.fixture(scope="session")
def ibug() -> Path:
    """The real competition data, which is not part of the project."""
    if not (DATA / "ibug_300w").is_dir():
        pytest.skip("needs ibug_300w in the folder that KEYPOINT_FOLDS_DATA names: for research use only")
    return DATA / "ibug_300w"


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 train and 6 test faces of the built-in competition."""
    from pipeline.synthetic.sample import make_sample

    root = tmp_path_factory.mktemp("competition") / "sample"
    make_sample(root, train_faces=24, test_faces=6, seed=3)
    return root


@pytest.fixture(scope="session")
def store(competition: Path, tmp_path_factory: pytest.TempPathFactory):
    """The train part of the tiny competition, cropped to 32 pixels."""
    from pipeline.data.annotations import dlib_xml
    from pipeline.data.crops import CropGeometry, write_crops
    from pipeline.data.store import CropStore

    folder = tmp_path_factory.mktemp("crops") / "train"
    annotations = dlib_xml.read(competition / "train.xml", 68)
    geometry = CropGeometry(size=32, margin=1.4, shift_y=0.1, padding=1.5, color="grey")
    write_crops(annotations, competition, folder, geometry, jobs=1)
    return CropStore.open(folder)


@pytest.fixture
def faces():
    """Eight grey crops whose affine doubles, each with the same five points; of face 7 all are missing."""
    from pipeline.data.store import CropStore

    affine = geometry.compose(np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]), geometry.translation(-100, -50))
    table = pd.DataFrame({"face": np.arange(8), "width": 30.0, "height": 32.0})
    table[["m00", "m01", "m02", "m10", "m11", "m12"]] = affine.reshape(-1)
    truth = np.repeat(geometry.transform(geometry.invert(affine), SHAPE)[None], 8, axis=0).astype(np.float32)
    truth[7] = np.nan
    crops = np.full((8, 64, 64), 128, np.uint8)
    return CropStore(size=64, crops=crops, photos=np.zeros((8, 32, 32), np.uint8), faces=table, keypoints=truth)


def picture(path: Path, side: int = 200) -> np.ndarray:
    """(H, W, 3) RGB, after the checks that every picture must pass."""
    assert path.stat().st_size > 2000
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert min(image.shape[:2]) > side
    assert image.std() > 5
    return image


def run(name: str, *args: object) -> Result:
    """A command through Click's runner."""
    return CliRunner().invoke(import_module(f"stages.{name}").main, [str(arg) for arg in args])


def succeed(name: str, *args: object) -> str:
    """What a command prints, which must not fail."""
    result = run(name, *args)
    assert result.exit_code == 0, result.output
    return result.output


def run_stages(epochs: int) -> dict[str, str]:
    """Run every stage on a tiny competition, in the working folder; what each prints, but for train and predict."""
    params = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    params["sample"].update(train_faces=18, test_faces=5)
    params["crop"]["size"] = 32
    params["split"]["folds"] = [0, 3]
    params["train"].update(models=["resnet", "unet"], workers=0, validate_every=1)
    for model in params["models"].values():
        model.update(epochs=epochs, batch_size=6)
        model["network"].update(backbone="resnet10t", width=0.25)
    YAML().dump(params, Path("params.yaml"))
    outputs = {name: succeed(name) for name in ("sample", "crop", "split")}
    for name in ("train", "predict"):
        for model in params["train"]["models"]:
            for fold in params["split"]["folds"]:
                succeed(name, "--model", model, "--fold", fold)
    return outputs | {name: succeed(name) for name in ("ensemble", "submit", "score", "report")}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with a tiny competition, run through every stage."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, run_stages(epochs=1)


@pytest.fixture
def inside(workplace: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workplace to spoil."""
    shutil.copytree(workplace[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"
