"""Layers of the networks of the write-ups, as their presets build them, against numbers computed by hand."""

from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from pipeline.models import build_model
from pipeline.models.backbone import KeypointNetwork
from pipeline.params import load_params
from pipeline.presets import compose_preset

PRESETS = Path(__file__).parents[1] / "presets"


def build(preset: str, model: str, folder: Path) -> tuple[KeypointNetwork, dict[str, tuple[int, ...]]]:
    """A network without weights in memory, and the shape that each of its parts makes of one face."""
    path = folder / "params.yaml"
    path.write_text(compose_preset(PRESETS, preset))
    params = load_params(path)
    recipe, size = params.recipe(model), params.crop.size
    network = recipe.network | ({"pretrained": False} if "pretrained" in recipe.network else {})
    assert params.crop.color == "grey"
    with FakeTensorMode():
        built, _ = build_model(network, recipe.codec, num_points=params.data.skeleton.num_points, channels=1, size=size)
        shapes: dict[str, tuple[int, ...]] = {}
        for name, part in built.named_modules():
            part.register_forward_hook(
                lambda _, __, output, name=name: shapes.update({name: tuple(getattr(output, "shape", (1,))[1:])}))
        built(torch.zeros(1, 1, size, size, dtype=torch.uint8))
    return built, shapes


def count(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_simplenet_of_writeup_1_has_13x13_cells_and_44983368_parameters(tmp_path):
    """Sides, each (side − kernel + 1) / 2: 224 → 221 → 110 → 108 → 54 → 53 → 26 → 26 → 13.

    Convolutions 1·32·4² + 32·64·3² + 64·128·2² + 128·256·1² = 84,480; batch norm 2·(32 + 64 + 128 + 256) = 960; linear
    256·13²·1024 + 1024 + 1024·512 + 512 + 512·136 + 136 = 44,897,928.
    """
    network, shapes = build("writeup1", "simplenet", tmp_path)
    assert [shapes[f"backbone.{block}"] for block in range(4)] == [
        (32, 110, 110), (64, 54, 54), (128, 26, 26), (256, 13, 13)]
    assert [shapes[f"head.{layer}"] for layer in (0, 1, 4, 7)] == [(43264,), (1024,), (512,), (136,)]
    assert count(network) == 84_480 + 960 + 44_897_928 == 44_983_368


@pytest.mark.parametrize(("preset", "model"), [("writeup1", "transfer"), ("writeup2", "resnet")])
def test_resnet_of_both_writeups_has_one_channel_in_136_out_and_11240008_parameters(tmp_path, preset, model):
    """Stem 64·1·7² and batch norm 2·64. A stage of c channels behind b has two blocks of two convolutions.

    Of 64: 4·64²·9 + 4·2·64 = 147,968. The others, c = 2b: b·c·9 + 3·c²·9, shortcut b·c, batch norm 5·2·c: 525,568,
    2,099,712 and 8,393,728. Linear: 512·136 + 136.
    """
    network, shapes = build(preset, model, tmp_path)
    assert [shapes[f"backbone.{part}"] for part in ("conv1", "layer1", "layer2", "layer3", "layer4")] == [
        (64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert shapes["head"] == (136,) and shapes[""] == (68, 2)
    assert network.backbone.conv1.weight.shape == (64, 1, 7, 7)
    assert count(network) == 3_136 + 128 + 147_968 + 525_568 + 2_099_712 + 8_393_728 + 69_768 == 11_240_008


def test_unet_of_writeup_1_has_heatmaps_of_full_resolution_and_36960516_parameters(tmp_path):
    """Two convolutions a → b → b with batch norm have 9·a·b + 9·b² + 4·b parameters.

    Encoder, a → b of 1, 64, 128, 256, 512, 1024: 37,696 + 221,696 + 885,760 + 3,540,992 + 14,159,872. A decoder block
    has a transposed convolution of 4·a² + a, a = 1024, 512, 256, 128: 4,195,328 + 1,049,088 + 262,400 + 65,664; then
    two convolutions from a + b to b = a / 2: 9,439,232 + 2,360,320 + 590,336 + 147,712. Head: 64·68 + 68. The last
    block works on a frame of two empty cells: 224 + 2·2 = 228.
    """
    network, shapes = build("writeup1", "unet", tmp_path)
    assert [shapes[f"backbone.levels.{level}"] for level in range(5)] == [
        (64, 224, 224), (128, 112, 112), (256, 56, 56), (512, 28, 28), (1024, 14, 14)]
    assert [shapes[f"decoder.{block}"] for block in range(4)] == [
        (512, 28, 28), (256, 56, 56), (128, 112, 112), (64, 228, 228)]
    assert shapes[""] == (68, 228, 228)
    assert count(network.backbone) == 18_846_016
    assert count(network.decoder) == 5_572_480 + 12_537_600
    assert count(network.head) == 4_420
    assert count(network) == 36_960_516


def test_smallcnn_of_the_nose_tip_has_three_pools_and_604978_parameters(tmp_path):
    """1·12·7² + 12 + 12·24·5² + 24 + 24·32·3² + 32 = 14,768; 32·12²·128 + 128 + 128·2 + 2 = 590,210."""
    network, shapes = build("imm-nose", "smallcnn", tmp_path)
    assert [shapes[f"backbone.{pool}"] for pool in (2, 5, 8)] == [(12, 48, 48), (24, 24, 24), (32, 12, 12)]
    assert count(network) == 14_768 + 590_210 == 604_978


def test_smallcnn_of_the_face_has_more_layers_fewer_pools_and_9559396_parameters(tmp_path):
    """1·16·7² + 16 + 16·32·5² + 32 + 32·48·3² + 48 + 48·64·3² + 64 + 64·64·3² + 64 = 92,144.

    64·24²·256 + 256 + 256·116 + 116 = 9,467,252.
    """
    network, shapes = build("imm-face", "smallcnn", tmp_path)
    assert [shapes[f"backbone.{pool}"] for pool in (2, 5, 8, 11, 14)] == [
        (16, 48, 48), (32, 24, 24), (48, 24, 24), (64, 24, 24), (64, 24, 24)]
    assert network.backbone[0].weight.shape == (16, 1, 7, 7)
    assert count(network) == 92_144 + 9_467_252 == 9_559_396


def test_augmentation_of_the_writeups_is_none_or_rotation_only(tmp_path):
    path, drawn = tmp_path / "params.yaml", {}
    for preset, model in (("writeup1", "unet"), ("writeup2", "resnet"), ("imm-nose", "smallcnn"),
                          ("imm-face", "smallcnn"), ("imm-face", "unet")):
        path.write_text(compose_preset(PRESETS, preset))
        augmentation = load_params(path).recipe(model).augmentation
        drawn[preset, model] = {name for name, value in vars(augmentation).items() if value and name != "backend"}
    assert drawn == {
        ("writeup1", "unet"): set(), ("writeup2", "resnet"): set(), ("imm-nose", "smallcnn"): set(),
        ("imm-face", "smallcnn"): {"rotate"}, ("imm-face", "unet"): {
            "rotate", "scale", "shift", "flip", "brightness", "contrast", "blur", "noise", "dropout"}}
