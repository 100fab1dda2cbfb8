"""A tiny real competition, and what the tests share."""

import os
from pathlib import Path

import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

DATA = Path(__file__).parents[2] / "shared" / "data"
WEIGHTS = Path(__file__).parents[2] / "shared" / "weights"


@pytest.fixture(scope="session")
def ibug() -> Path:
    """The real competition data, which is not part of the project."""
    if not (DATA / "ibug_300w").is_dir():
        pytest.skip("the iBUG photos are not here (../shared/data/ibug_300w): they are for research use only")
    return DATA / "ibug_300w"


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 train and 6 test faces of the built-in competition."""
    from pipeline.sample import make_sample

    root = tmp_path_factory.mktemp("competition") / "sample"
    make_sample(root, train_faces=24, test_faces=6, seed=3)
    return root


@pytest.fixture(scope="session")
def store(competition: Path, tmp_path_factory: pytest.TempPathFactory):
    """The train part of the tiny competition, cropped to 32 pixels."""
    from pipeline.annotations import dlib_xml
    from pipeline.crops import CropStore, write_crops

    folder = tmp_path_factory.mktemp("crops") / "train"
    annotations = dlib_xml.read(competition / "train.xml", 68)
    write_crops(annotations, competition, folder, size=32, margin=1.4, down=0.1, slack=1.5, color="grey", jobs=1)
    return CropStore.open(folder)
