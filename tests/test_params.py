"""Parameters: types, ranges and messages."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.common.errors import UserError
from pipeline.models import CODECS, NETWORKS
from pipeline.models.losses import LOSSES
from pipeline.params import load_names, load_params

ROOT = Path(__file__).parents[1]


def changed(tmp_path, edit):
    values = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    edit(values)
    path = tmp_path / "params.yaml"
    YAML().dump(values, path)
    return path


def test_load_params_scientific_notation_is_a_number(tmp_path):
    path = changed(tmp_path, lambda values: None)
    text = path.read_text()
    assert "lr: 0.002" in text
    path.write_text(text.replace("lr: 0.002", "lr: 1e-05"))
    params = load_params(path)
    assert {model.lr for model in params.models.values()} == {1e-5}


def test_load_params_wrong_values_are_all_named(tmp_path):
    def spoil(values):
        values["crop"]["size"] = "big"
        values["crop"]["sise"] = 3
        values["augment"]["flip"] = 1.5
        values["models"]["resnet"]["lr"] = -1
        values["ensemble"]["blend"] = "average"
        values["split"]["folds"] = [0, 0]
        del values["train"]["seed"]
        values["models"]["unet"]["network"]["name"] = "vnet"
        values["data"]["mirrored"] = values["split"]["photo_pattern"] = "("

    path = changed(tmp_path, spoil)
    with pytest.raises(UserError) as error:
        load_params(path)
    problems = "\n".join(error.value.problems)
    for wanted in (
        "crop.size is 'big': must be a valid integer",
        "crop.sise: unknown key",
        "data.mirrored is '(': must be a valid regular expression",
        "split.photo_pattern is '(': must be a valid regular expression",
        "augment.flip is 1.5: must be less than or equal to 1",
        "models.resnet.lr is -1: must be greater than 0",
        "ensemble.blend is 'average': must be 'mean', 'median' or 'weights'",
        "split.folds is [0, 0]: a number stands twice",
        "train.seed: missing",
        "models.unet.network",
    ):
        assert wanted in problems
    assert len(error.value.problems) == 10
    assert all(str(path) in problem for problem in error.value.problems)


@pytest.mark.parametrize(("model", "edit", "message"), [
    ("resnet", {"loss": {"name": "wing"}},
     "loss wing does not fit codec simcc; its loss.name is one of axis_cross_entropy"),
    ("unet", {"codec": {"name": "regression"}},
     "codec regression does not fit network unet; its codec.name is one of heatmap, gaussian, sigmoid"),
    ("resnet", {"codec": {"name": "regression"}, "loss": {"name": "mse", "beta": 0.5}}, "loss mse has no beta"),
    ("unet", {"network": {"name": "vnet"}}, "network name 'vnet' is unknown; choose one of 'simplenet', "),
])
def test_load_params_of_parts_that_do_not_fit_names_the_model(tmp_path, model, edit, message):
    with pytest.raises(UserError) as error:
        load_params(changed(tmp_path, lambda values: values["models"][model].update(edit)))
    assert f"params.yaml: models.{model}" in str(error.value) and message in str(error.value)


def test_names_of_networks_codecs_and_losses_are_those_of_the_library():
    def names(union: type) -> set[str]:
        return {name for section in get_args(union) for name in get_args(section.model_fields["name"].annotation)}

    hints = get_type_hints(params.Model)
    assert names(hints["network"]) == set(NETWORKS) and names(hints["codec"]) == set(CODECS) == set(params.LOSSES)
    assert {name: codec.losses for name, codec in CODECS.items()} == params.LOSSES
    assert {loss for codec in CODECS.values() for loss in codec.losses} == set(LOSSES)
    assert {name for name, part in (CODECS | NETWORKS).items() if part.spatial} == params.SPATIAL


def test_model_augment_replaces_the_keys_that_it_gives(tmp_path):
    path = changed(tmp_path, lambda values: values["models"]["unet"].update(augment={"rotate": 10, "flip": 0.0}))
    params = load_params(path)
    assert params.recipe("resnet").augmentation == params.augment
    assert params.recipe("unet").augmentation == replace(params.augment, rotate=10.0, flip=0.0)


@pytest.mark.parametrize(("augment", "message"), [
    ({"flip": 1.5}, "models.unet.augment.flip is 1.5: must be less than or equal to 1"),
    ({"rotate": None}, "models.unet.augment.rotate is None: must be a valid number"),
    ({"turn": 3.0}, "models.unet.augment.turn: unknown key"),
    ({"backend": "kornia"}, "models.unet.augment.backend is 'kornia': must be 'auto'"),
    (None, "models.unet.augment is None: must be a mapping"),
])
def test_model_augment_wrong_value_is_an_error(tmp_path, augment, message):
    path = changed(tmp_path, lambda values: values["models"]["unet"].update(augment=augment))
    with pytest.raises(UserError, match=re.escape(message)):
        load_params(path)


def leaves(value, *path):
    """Path and value of each number."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, *path, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def test_load_params_each_number_has_an_upper_bound(tmp_path):
    def spoil(values):
        for path, value in list(leaves(values)):
            part = values
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = 10**30 if isinstance(value, int) else 1e30

    path = changed(tmp_path, spoil)
    with pytest.raises(UserError) as error:
        load_params(path)
    named = {problem.split(": ")[1].partition(" is ")[0] for problem in error.value.problems}
    values = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    wanted = {".".join(map(str, path)) for path, _ in leaves(values)}
    shown = {re.sub(r"\.(network|codec)\.(resnet|unet|simcc|heatmap)\.", r".\1.", key) for key in named}
    assert len(wanted) > 50 and shown == wanted


@pytest.mark.parametrize(("key", "value"), [("width", 1e-9), ("width", 1e30)])
def test_load_params_width_of_no_network_is_refused(tmp_path, key, value):
    path = changed(tmp_path, lambda values: values["models"]["resnet"]["network"].update({key: value}))
    with pytest.raises(UserError, match=re.escape(f"models.resnet.network.resnet.{key} is {value}: ")):
        load_params(path)


def test_load_params_of_a_folder_or_hostile_yaml_is_one_short_message(tmp_path):
    levels = (f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise("abcdefghijkl"))
    bomb = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *levels])
    texts = {"deep": "[" * 50_000, "bomb": bomb, "date": "a: 2024-99-99", "bytes": "a: \x00", "large": "#" * (1 << 21)}
    (tmp_path / "folder").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin").write_bytes("a: ä".encode("latin-1"))
    for name in ("folder", "latin", *texts):
        with pytest.raises(UserError, match=name) as error:
            load_params(tmp_path / name)
        assert len(str(error.value)) < 20_000


def test_load_params_undescribed_model_is_an_error(tmp_path):
    path = changed(tmp_path, lambda values: values["train"].update(models=["resnet", "vit"]))
    with pytest.raises(UserError, match="train.models names vit, but models has only"):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not readable as YAML"), ("", "must be a mapping$"), ("- 1", "must be a mapping$")]
)
def test_load_params_no_mapping_is_an_error(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_params(path)


def test_load_params_missing_file_names_the_preset_command(tmp_path):
    with pytest.raises(UserError, match="python -m stages.preset sample"):
        load_params(tmp_path / "params.yaml")


def test_params_unknown_model_or_fold_lists_the_known():
    params = load_params(ROOT / "presets" / "sample.yaml")
    with pytest.raises(UserError, match="known are resnet, unet"):
        params.model("vit")
    with pytest.raises(UserError, match="has only 1, 2, 3"):
        params.fold(9)


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "yolo"}, "data.format is 'yolo': must be 'auto', 'dlib_xml'"),
    ({"box": "face"}, "data.box is 'face': must be 'photo' or 'points'"),
    ({"points": [3, 3]}, "data.points is [3, 3]: a number stands twice"),
    ({"points": []}, "data.points is []: must have at least 1 item"),
    ({"points": [-1]}, "data.points.0 is -1: must be greater than or equal to 0"),
    ({"test": None}, "data.solution names a file, but data.test is null"),
])
def test_data_section_wrong_value_is_an_error(tmp_path, change, message):
    path = changed(tmp_path, lambda values: values["data"].update(change))
    with pytest.raises(UserError, match=re.escape(message)):
        load_params(path)


def test_data_section_without_test_faces_is_valid(tmp_path):
    path = changed(tmp_path, lambda values: values["data"].update(test=None, solution=None, points=[52], box="points"))
    data = load_params(path).data
    assert (data.test, data.points, data.box, data.format) == (None, [52], "points", "auto")


def test_skeleton_name_or_mapping_is_valid(tmp_path):
    own = {"points": 3, "pairs": [[0, 1]], "eyes": [0, 1], "edges": [[0, 2, 1]], "names": ["left", "right", "nose"]}
    path = changed(tmp_path, lambda values: values["data"].update(skeleton=own))
    skeleton = load_params(path).data.skeleton
    assert skeleton.flip.tolist() == [1, 0, 2] and skeleton.eyes == (0, 1) and skeleton.edges == ((0, 2, 1),)
    assert skeleton.names == ("left", "right", "nose") and skeleton.regions == {}
    path = changed(tmp_path, lambda values: values["data"].update(skeleton="imm58"))
    assert load_params(path).data.skeleton.num_points == 58


@pytest.mark.parametrize(
    ("skeleton", "problems"),
    [
        ("ibug69", ["data.skeleton is 'ibug69': unknown skeleton 'ibug69': choose one of ibug68, imm58"]),
        (68, ["data.skeleton is 68: neither a name nor a mapping"]),
        ({"pairs": [[0, 1]]}, ["data.skeleton.points: missing"]),
        ({"points": 0}, ["data.skeleton.points is 0: must be greater than or equal to 1"]),
        ({"points": 2, "flip": [1, 0]}, ["data.skeleton.flip: unknown key"]),
        ({"points": 2, "pairs": [[0, "1"]]}, ["data.skeleton.pairs.0.1 is '1': must be a valid integer"]),
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
    assert models == ["resnet", "unet"] and skeleton.num_points == 1
    path.write_text("train: {models: [a]}")
    with pytest.raises(UserError, match="no train.models or no data.skeleton"):
        load_names(path)
