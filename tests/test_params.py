import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.params import load_names, load_params

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def changed(tmp_path, edit):
    values = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    edit(values)
    path = tmp_path / "params.yaml"
    YAML().dump(values, path)
    return path


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(path):
    assert len(PRESETS) >= 3
    assert load_params(path).train.models


def test_params_start_as_the_sample_preset():
    assert (ROOT / "params.yaml").read_text() == (ROOT / "presets" / "sample.yaml").read_text()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_knob_of_the_sample_preset_has_a_comment(path):
    """A comment on its line, or the key has keys of its own, or the key was explained higher up."""
    explained = set()
    for line in path.read_text().splitlines():
        key, _, rest = line.strip().partition(":")
        if "#" in line:
            explained.add(key)
        elif rest.strip() and not line.startswith("#"):
            known = key in explained or rest.strip().startswith("{") or key in {"name", "backbone"}
            assert known, f"{path.name}: {line}"
    assert len(explained) > 40


def test_scientific_notation_is_a_number(tmp_path):
    path = changed(tmp_path, lambda values: None)
    text = path.read_text()
    assert "lr: 0.002" in text
    path.write_text(text.replace("lr: 0.002", "lr: 1e-05"))
    params = load_params(path)
    assert {model.lr for model in params.models.values()} == {1e-5}


def test_all_problems_at_once_each_naming_key_value_and_what_is_allowed(tmp_path):
    def spoil(values):
        values["crop"]["size"] = "big"
        values["crop"]["sise"] = 3
        values["augment"]["flip"] = 1.5
        values["models"]["resnet"]["lr"] = -1
        values["ensemble"]["blend"] = "average"
        values["split"]["folds"] = [0, 0]
        del values["train"]["seed"]
        values["models"]["unet"]["network"]["name"] = "vnet"

    path = changed(tmp_path, spoil)
    with pytest.raises(UserError) as error:
        load_params(path)
    problems = "\n".join(error.value.problems)
    for wanted in (
        "crop.size is 'big': input should be a valid integer",
        "crop.sise: unknown key",
        "augment.flip is 1.5: input should be less than or equal to 1",
        "models.resnet.lr is -1: input should be greater than 0",
        "ensemble.blend is 'average': input should be 'mean', 'median' or 'weights'",
        "split.folds is [0, 0]: value error, a fold stands twice",
        "train.seed: missing",
        "models.unet.network",
    ):
        assert wanted in problems
    assert len(error.value.problems) == 8
    assert all(str(path) in problem for problem in error.value.problems)


def test_models_to_train_must_be_described(tmp_path):
    path = changed(tmp_path, lambda values: values["train"].update(models=["resnet", "vit"]))
    with pytest.raises(UserError, match="train.models names vit, but models has only"):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not readable as YAML"), ("", "valid dictionary"), ("- 1", "valid dictionary")]
)
def test_no_params_at_all(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_params(path)


def test_a_missing_file_says_what_to_copy(tmp_path):
    with pytest.raises(UserError, match="cp presets/sample.yaml"):
        load_params(tmp_path / "params.yaml")


def test_unknown_model_or_fold_lists_the_known():
    params = load_params(ROOT / "presets" / "sample.yaml")
    with pytest.raises(UserError, match="known are unet, unet14, resnet"):
        params.model("vit")
    with pytest.raises(UserError, match="has only 1, 2, 3"):
        params.fold(9)


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "yolo"}, "data.format is 'yolo': input should be 'auto', 'dlib_xml'"),
    ({"box": "face"}, "data.box is 'face': input should be 'photo' or 'points'"),
    ({"points": [3, 3]}, "data value error, points names a point twice"),
    ({"points": []}, "data.points is []: list should have at least 1 item"),
    ({"points": [-1]}, "data.points.0 is -1: input should be greater than or equal to 0"),
    ({"test": None}, "data value error, solution names a file, but test is null"),
])
def test_what_the_data_section_refuses(tmp_path, change, message):
    path = changed(tmp_path, lambda values: values["data"].update(change))
    with pytest.raises(UserError, match=re.escape(message)):
        load_params(path)


def test_a_competition_without_test_faces(tmp_path):
    path = changed(tmp_path, lambda values: values["data"].update(test=None, solution=None, points=[52], box="points"))
    data = load_params(path).data
    assert (data.test, data.points, data.box, data.format) == (None, [52], "points", "auto")


def test_a_skeleton_is_a_name_or_a_few_lines(tmp_path):
    own = {"points": 3, "pairs": [[0, 1]], "eyes": [0, 1], "edges": [[0, 2, 1]], "names": ["left", "right", "nose"]}
    path = changed(tmp_path, lambda values: values["data"].update(skeleton=own))
    skeleton = load_params(path).data.get_skeleton()
    assert skeleton.flip.tolist() == [1, 0, 2] and skeleton.eyes == (0, 1) and skeleton.edges == ((0, 2, 1),)
    assert skeleton.names == ("left", "right", "nose") and skeleton.regions == {}
    path = changed(tmp_path, lambda values: values["data"].update(skeleton="imm58"))
    assert load_params(path).data.get_skeleton().num_points == 58


@pytest.mark.parametrize(
    ("skeleton", "problems"),
    [
        ("ibug69", ["data.skeleton is 'ibug69': value error, unknown skeleton 'ibug69': choose one of ibug68, imm58"]),
        (68, ["data.skeleton is 68: value error, neither a name nor a mapping"]),
        ({"pairs": [[0, 1]]}, ["data.skeleton.points: missing"]),
        ({"points": 0}, ["data.skeleton.points is 0: input should be greater than or equal to 1"]),
        ({"points": 2, "flip": [1, 0]}, ["data.skeleton.flip: unknown key"]),
        ({"points": 2, "pairs": [[0, "1"]]}, ["data.skeleton.pairs.0.1 is '1': input should be a valid integer"]),
        ({"points": 2, "pairs": [[0, 2]], "eyes": [1, 1]}, [
            "data.skeleton pairs: point 2 is not one of 0 to 1", "data.skeleton eyes: [1, 1] is not two different"]),
    ],
)
def test_each_problems_of_a_skeleton_is_named(tmp_path, skeleton, problems):
    path = changed(tmp_path, lambda values: values["data"].update(skeleton=skeleton))
    with pytest.raises(UserError) as error:
        load_params(path)
    assert len(error.value.problems) == len(problems)
    for found, wanted in zip(error.value.problems, problems, strict=True):
        assert f"{path}: {wanted}" in found


def test_names_are_read_from_params_of_any_age(tmp_path):
    path = changed(tmp_path, lambda values: values.update(data={"skeleton": "nose1"}, old_section={"x": 1}))
    models, skeleton = load_names(path)
    assert models == ["unet", "unet14"] and skeleton.num_points == 1
    path.write_text("train: {models: [a]}")
    with pytest.raises(UserError, match="no train.models or no data.skeleton"):
        load_names(path)
