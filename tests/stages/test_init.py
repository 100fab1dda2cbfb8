"""`init` through Click's runner, and the stages after it without a file edited."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.annotations import dlib_xml
from pipeline.params import load_params
from tests.conftest import ROOT, run, succeed


@pytest.fixture
def mine(competition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """20 and 6 faces of the tiny competition as people have such: two folders, CSV with pandas' index, no boxes."""
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        faces, folder = dlib_xml.read(competition / f"{part}.xml"), tmp_path / "faces" / part
        for image in faces.faces.image.unique():
            (folder / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(competition / image, folder / image)
        table = pd.DataFrame({"image_name": faces.faces.image.to_numpy()})
        if part == "train":
            points = pd.DataFrame(faces.keypoints.reshape(len(faces), -1),
                                  columns=[f"part_{i}_{axis}" for i in range(68) for axis in "xy"])
            table = pd.concat([table, points], axis=1).assign(age=1)
        table.drop_duplicates("image_name").to_csv(tmp_path / "faces" / f"{part}.csv")
    return tmp_path / "faces"


def test_init_writes_params_that_the_stages_run_with(mine):
    shown = succeed("init", mine, mine / "train.csv", "--test", mine / "test.csv")
    assert "csv_points, 20 faces" in shown and "columns ignored: age" in shown and "params.yaml: written" in shown
    params = load_params(Path("params.yaml"))
    assert params.data.solution is None and not params.sample.sets and params.data.skeleton.name == "ibug68"
    assert Path("params.yaml").read_text().count("#") > 70
    assert params.models["resnet"].epochs == 10 * load_params(ROOT / "presets" / "sample.yaml").models["resnet"].epochs
    assert "0 problems" in succeed("validate")
    assert " box" not in succeed("validate")  # none of them has one of its own
    shown = succeed("crop")
    assert "data/crops/train: 20 faces" in shown and "1 columns ignored: age" in shown
    succeed("split")


def test_init_keeps_params_that_someone_wrote(mine):
    call = ["init", mine, mine / "train.csv"]
    shutil.copy(ROOT / "presets" / "sample.yaml", "params.yaml")  # as it comes with the project
    succeed(*call)
    written = Path("params.yaml").read_text()
    result = run(*call)
    assert result.exit_code == 1 and "--force replaces it" in result.output
    Path("params.yaml").write_text("mine")
    assert run(*call).exit_code == 1 and Path("params.yaml").read_text() == "mine"
    succeed(*call, "--force")
    assert Path("params.yaml").read_text() == written
    succeed(*call, "--out", "other.yaml")


def test_init_of_bad_files_writes_nothing(mine):
    result = run("init", mine, mine / "gone.csv")
    assert result.exit_code == 1 and "gone.csv: not found" in result.output and not Path("params.yaml").exists()


def test_a_solution_that_is_not_there_is_said_before_all_training(mine):
    succeed("init", mine, mine / "train.csv", "--test", mine / "test.csv")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("solution: null", "solution: answers.csv"))
    for name in ("validate", "crop"):
        result = run(name)
        assert result.exit_code == 1 and "answers.csv is not there; set it to null" in result.output


def test_validate_and_split_name_people_that_cross_folds(mine):
    table = pd.read_csv(mine / "train.csv", index_col=0)[:18]
    names = [f"person{i // 3}_{i}{Path(name).suffix}" for i, name in enumerate(table.image_name)]
    for old, new in zip(table.image_name, names, strict=True):
        (mine / "train" / old).rename(mine / "train" / new)
    table.assign(image_name=names).to_csv(mine / "train.csv")
    shown = succeed("init", mine, mine / "train.csv")
    assert "suggest 6 people" in shown
    assert "suggest 6 people" not in succeed("validate")
    pattern = load_params(Path("params.yaml")).split.photo_pattern.pattern
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace(pattern, "null", 1))
    assert "suggest 6 people or videos" in succeed("validate")
    succeed("crop")
    shown = succeed("split")
    assert "suggest 6 people or videos" in shown and "of them are in several folds" in shown and pattern in shown
