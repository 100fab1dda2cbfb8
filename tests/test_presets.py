"""Presets: composition, validity, comments."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.params import load_params
from pipeline.presets import DEFAULT, compose_preset
from tests.conftest import succeed

ROOT = Path(__file__).parents[1]
PRESETS = ROOT / "presets"
NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read(text: str) -> dict:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("name", NAMES)
def test_preset_composed_is_valid_and_keeps_what_it_says(name: str, tmp_path: Path) -> None:
    assert len(NAMES) >= 7
    succeed("preset", name, "--out", tmp_path / "params.yaml")
    params = load_params(tmp_path / "params.yaml")
    own, whole = read((PRESETS / f"{name}.yaml").read_text()), read((tmp_path / "params.yaml").read_text())
    assert list(whole) == list(read((PRESETS / f"{DEFAULT}.yaml").read_text()))
    assert list(params.models) == list(own["models"])

    def check(base: dict, changes: dict) -> int:
        return sum(check(base[key], value) if isinstance(value, dict) else int(base[key] == value) or pytest.fail(key)
                   for key, value in changes.items())

    assert check(whole, own) > 20


def test_preset_model_starts_from_the_default_with_its_name_or_network(tmp_path: Path) -> None:
    (tmp_path / f"{DEFAULT}.yaml").write_text((PRESETS / f"{DEFAULT}.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(
        "models: {resnet: {lr: 0.1}, deep: {network: {name: unet, width: 0.5}}, net: {network: {name: smallcnn}}}")
    models = read(compose_preset(tmp_path, "mine"))["models"]
    default = read((PRESETS / f"{DEFAULT}.yaml").read_text())["models"]
    assert models["resnet"] == default["resnet"] | {"lr": 0.1}
    assert models["deep"] == default["unet"] | {"network": default["unet"]["network"] | {"width": 0.5}}
    assert models["net"] == default["resnet"] | {"network": {"name": "smallcnn"}}


def test_params_file_starts_as_the_default_preset() -> None:
    assert (ROOT / "params.yaml").read_text() == compose_preset(PRESETS, DEFAULT)


def test_default_preset_has_a_comment_for_every_parameter() -> None:
    """On its line, unless the key has keys of its own or was explained higher up."""
    explained = set()
    for line in (PRESETS / f"{DEFAULT}.yaml").read_text().splitlines():
        key, _, rest = line.strip().partition(":")
        if "#" in line:
            explained.add(key)
        elif rest.strip():
            assert key in explained or rest.strip().startswith("{") or key in {"name", "backbone"}, line
    assert len(explained) > 40


def test_preset_composed_keeps_the_comments_of_the_default() -> None:
    text = compose_preset(PRESETS, "ibug300w-cpu")
    assert text.startswith("# iBUG 300-W on two CPU cores")
    assert "photo_pattern: null  # regular expression" in text
    assert sum("#" in line for line in text.splitlines()) > 70


def test_preset_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="choose one of ibug300w, ibug300w-cpu"):
        compose_preset(PRESETS, "ibug")
