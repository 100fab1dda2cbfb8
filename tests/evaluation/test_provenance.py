"""What was run: params against presets, times, revision."""

import json
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.evaluation.provenance import changed_params, git_revision, training_times
from pipeline.presets import compose_preset

PRESETS = Path(__file__).parents[2] / "presets"


@pytest.mark.parametrize("name", ["sample", "ibug300w-cpu", "imm-nose"])
def test_changed_params_of_a_preset_are_only_those_that_were_changed(name: str, tmp_path: Path) -> None:
    text = compose_preset(PRESETS, name)
    (tmp_path / "params.yaml").write_text(text)
    assert changed_params(PRESETS, tmp_path / "params.yaml") == (name, [])
    (tmp_path / "params.yaml").write_text(text.replace("coverage: 0.9", "coverage: 0.8"))
    found = changed_params(PRESETS, tmp_path / "params.yaml")
    assert found == (name, [("submit.coverage", "0.9", "0.8")])


def test_git_revision_outside_git_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision() == "none"


def test_training_times_add_up_the_folds_of_a_model(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    for model, fold, epoch in (("a", 1, 20), ("a", 2, 18), ("b", 1, 5), ("b", 2, 5)):
        paths.run(model, fold).mkdir(parents=True)
        metrics = {"epoch": epoch, "seconds": 90.0, "device": "cpu", "dtype": "float32", "train_faces": 100}
        (paths.run(model, fold) / "metrics.json").write_text(json.dumps(metrics))
    table = training_times(paths, ["a", "b"], [1, 2])
    assert table.loc["a"].tolist() == [2, "18, 20", "100", "cpu, float32", 3.0]
    (paths.run("b", 2) / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="metrics.json"):
        training_times(paths, ["a", "b"], [1, 2])
