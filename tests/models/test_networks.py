"""Contract of every network, and one batch overfitted with every codec and loss that fits."""

import pytest
import timm
import torch

from pipeline.common.errors import UserError
from pipeline.models import build_model
from pipeline.models.checkpoint import load_model, save_model
from pipeline.models.codecs import Regression
from pipeline.models.losses import build_loss
from tests.conftest import WEIGHTS

RESNET = {"name": "resnet", "backbone": "resnet10t", "pretrained": False, "width": 1.0, "head": "average",
          "stem": "sum", "dropout": 0.0}
UNET = {"name": "unet", "backbone": "resnet10t", "pretrained": False, "width": 1.0, "decoder_channels": [32, 32, 32],
        "upsample": "nearest"}
PLAIN = UNET | {"backbone": "plain", "width": 0.125, "decoder_channels": [64, 32, 16, 8], "upsample": "transposed"}
SIMPLENET = {"name": "simplenet", "channels": [8, 16, 32, 64], "kernels": [3, 3, 3, 3], "padding": [1, 1, 1, 1],
             "hidden": [64, 32], "dropout": 0.1}
SMALLCNN = {"name": "smallcnn", "channels": [12, 24, 32], "kernels": [7, 5, 3], "pools": [2, 2, 2], "hidden": 64}
REGRESSION = {"name": "regression"}
SIMCC = {"name": "simcc", "bins": 2, "sigma": 1.5, "padding": 4.0}
HEATMAP = {"name": "heatmap", "sigma": 1.0, "padding": 4.0, "decoder": "window"}
NETWORKS = [
    (RESNET, REGRESSION), (RESNET | {"head": "flatten", "backbone": "resnet18", "width": 0.25}, REGRESSION),
    (RESNET | {"backbone": "tf_efficientnet_lite0", "head": "flatten"}, REGRESSION),
    (RESNET | {"head": "maps"}, SIMCC), (RESNET | {"head": "maps", "dropout": 0.1}, REGRESSION), (RESNET, SIMCC),
    (RESNET | {"head": "maps", "reduction": 16}, SIMCC),
    (UNET, HEATMAP), (UNET | {"decoder_channels": [32, 16]}, HEATMAP | {"name": "gaussian"}),
    (UNET | {"backbone": "tf_efficientnet_lite0"}, HEATMAP), (UNET | {"backbone": "resnet18", "width": 0.25}, HEATMAP),
    (UNET | {"upsample": "transposed"}, HEATMAP), (PLAIN, HEATMAP | {"sigma": 2.5, "padding": 2.0}),
    (PLAIN | {"decoder_channels": [32, 16]}, HEATMAP | {"name": "gaussian", "padding": 0.0, "decoder": "argmax"}),
    (UNET | {"decoder_channels": [32, 16]}, HEATMAP | {"name": "sigmoid"}),
    (SIMPLENET, REGRESSION), (SIMPLENET | {"channels": [8, 8], "kernels": [5, 2], "padding": [0, 1]}, REGRESSION),
    (SMALLCNN, REGRESSION), (SMALLCNN | {"kernels": [10, 7, 5]}, REGRESSION),
    (SMALLCNN | {"channels": [8] * 6, "kernels": [5, 3, 2, 2, 3, 1], "pools": [2, 1, 3, 2, 1, 2]}, REGRESSION),
]
names = [f"{network['name']}-{network.get('backbone', '')}-{codec['name']}" for network, codec in NETWORKS]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "codec"), NETWORKS, ids=names)
@pytest.mark.parametrize(("num_points", "channels", "size"), [(68, 1, 64), (1, 3, 96), (15, 1, 80)])
def test_network_built_saved_and_loaded_keeps_the_contract(network, codec, num_points, channels, size, tmp_path):
    description = {"network": network, "codec": codec, "num_points": num_points, "channels": channels, "size": size}
    torch.manual_seed(0)
    model, target = build_model(**description)
    images = torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8)
    points = torch.rand(2, num_points, 2) * size
    output = model(images)
    wanted = target.encode(points)
    assert output.shape == wanted.shape
    assert target.decode(output).shape == (2, num_points, 2)
    build_loss(target, target.losses[0])(output, wanted, torch.ones(2, num_points, dtype=torch.bool)).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    assert any(weight.grad.abs().sum() > 0 for weight in model.backbone.parameters())

    save_model(tmp_path, model, description)
    loaded, codec_again, again = load_model(tmp_path)
    assert again == description
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model.eval()(images), rtol=0, atol=0)
    torch.testing.assert_close(codec_again.encode(points), wanted, rtol=0, atol=0)


@pytest.mark.parametrize(("network", "codec"), NETWORKS, ids=names)
def test_network_under_autocast_keeps_its_head_in_float32(network, codec):
    """bfloat16 has 8 bits: a point at the edge of an input of 128 pixels would be a quarter of a pixel off."""
    torch.manual_seed(0)
    model, _ = build_model(network, codec, num_points=5, channels=1, size=64)
    with torch.autocast("cpu", torch.bfloat16):
        output = model.eval()(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8))
    assert output.dtype == torch.float32
    assert not torch.equal(output, output.bfloat16().float())


TINY = {"backbone": "resnet10t", "width": 0.25}
OVERFIT = [(RESNET | TINY, REGRESSION, name) for name in Regression.losses]
OVERFIT += [(network, REGRESSION, loss) for network in (SIMPLENET | {"dropout": 0.0}, SMALLCNN)
            for loss in Regression.losses]
OVERFIT += [(RESNET | TINY | {"head": "maps"}, SIMCC, "axis_cross_entropy")]
SHALLOW = PLAIN | {"width": 0.25, "decoder_channels": [32, 16, 16]}  # sees nothing beyond the crop at full resolution
OVERFIT += [(SHALLOW, HEATMAP | {"padding": 0.0}, "cross_entropy"),
            (SHALLOW, HEATMAP | {"name": "gaussian", "padding": 0.0, "sigma": 2.5}, "mse"),
            (SHALLOW, HEATMAP | {"name": "sigmoid", "padding": 0.0, "sigma": 2.5}, "binary_cross_entropy")]
OVERFIT += [(UNET | TINY, HEATMAP, "cross_entropy"), (UNET | TINY, HEATMAP | {"name": "gaussian"}, "mse")]
overfit_names = [f"{network['name']}-{codec['name']}-{loss}" for network, codec, loss in OVERFIT]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "codec", "loss"), OVERFIT, ids=overfit_names)
def test_network_overfitted_to_one_batch_finds_its_points(network, codec, loss):
    """Points inside the input and as far outside as possible: within a pixel, 1.5 for a Gaussian, 2 for its sigmoid."""
    size, margin = 32 if network == SHALLOW else 64, codec.get("padding", 4.0)
    torch.manual_seed(0)
    model, target = build_model(network, codec, num_points=4, channels=1, size=size)
    images, block = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8), size // 8
    images = images.repeat_interleave(block, 2).repeat_interleave(block, 3)
    points = torch.rand(2, 4, 2) * (size - 1)
    points[:, 0] = torch.tensor([-margin, 0.47 * size])
    points[:, 1] = torch.tensor([0.31 * size, size - 1 + margin])
    wanted, mask = target.encode(points), torch.ones(2, 4, dtype=torch.bool)
    criterion, steps = build_loss(target, loss), 300
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        value = criterion(model(images), wanted, mask)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    error = (target.decode(model(images)) - points).abs()
    assert error.max() < {"gaussian": 1.5, "sigmoid": 2.0}.get(codec["name"], 1.0)


def test_simplenet_starts_with_xavier_weights_in_its_fully_connected_layers_only():
    """Uniform up to √(6 / (inputs + outputs)); the convolutions up to torch's 1 / √inputs."""
    torch.manual_seed(0)
    model, _ = build_model(SIMPLENET, REGRESSION, num_points=68, channels=1, size=64)
    linear = {64 * 4 * 4: 64, 64: 32, 32: 2 * 68}
    found = {part.in_features: part.weight.abs().max().item() for part in model.head if hasattr(part, "in_features")}
    assert found == pytest.approx({i: (6 / (i + o)) ** 0.5 for i, o in linear.items()}, rel=0.01)
    largest = [block[0].weight.abs().max().item() for block in model.backbone[1:]]
    assert largest == pytest.approx([(channels * 9) ** -0.5 for channels in (8, 16, 32)], rel=0.01)


def test_resnet_flattened_features_do_not_fit_simcc():
    with pytest.raises(UserError, match="head flatten would be too large"):
        build_model(RESNET | {"head": "flatten"}, SIMCC, num_points=4, channels=1, size=64)


@pytest.mark.parametrize("network", [RESNET | {"backbone": "resnet18", "width": 0.25}, UNET | {"backbone": "resnet18"}])
def test_set_training_frozen_keeps_weights_and_batch_norm_statistics(network):
    """All of the backbone for the first epochs, or some of its parts for good."""
    codec = HEATMAP if network["name"] == "unet" else REGRESSION
    model, _ = build_model(network | {"frozen": ["conv1", "bn1", "layer1"]}, codec, num_points=2, channels=1, size=64)
    parts = ("conv1.", "bn1.", "layer1.")
    for freeze_backbone in (True, False):
        before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
        model.set_training(freeze_backbone=freeze_backbone)
        model(torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)).sum().backward()
        after = model.backbone.state_dict()
        frozen = {name for name in before if freeze_backbone or name.startswith(parts)}
        assert all(torch.equal(after[name], before[name]) for name in frozen)
        assert {name for name, weight in model.backbone.named_parameters() if weight.grad is None} == {
            name for name, _ in model.backbone.named_parameters() if name in frozen}
        assert all(weight.grad is not None for weight in model.head.parameters())
    assert not torch.equal(after["layer4.1.bn2.running_mean"], before["layer4.1.bn2.running_mean"])


def test_backbone_under_autocast_computes_depthwise_convolutions_in_float32_and_others_in_bfloat16():
    lite = RESNET | {"backbone": "tf_efficientnet_lite0"}
    network, _ = build_model(lite, REGRESSION, num_points=5, channels=3, size=64)
    found = {}

    def note(layer, inputs, output):
        found.setdefault(layer.groups > 1, set()).add(output.dtype)

    for layer in network.backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(note)
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert found == {True: {torch.float32}, False: {torch.bfloat16}}


def test_resnet_reduction_cuts_the_backbone_off_behind_its_features():
    whole, cut = (build_model(RESNET | {"backbone": "resnet18", "head": "maps", "reduction": reduction}, SIMCC,
                              num_points=4, channels=1, size=64)[0] for reduction in (None, 16))
    assert whole.encode(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).shape == (1, 512, 2, 2)
    assert cut.encode(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).shape == (1, 256, 4, 4)
    assert not any(name.startswith("layer4") for name in cut.backbone.state_dict())


def test_backbone_pretrained_grey_sums_or_averages_the_stem():
    path = WEIGHTS / "tf_efficientnet_lite0.safetensors"
    if not path.is_file():
        pytest.skip("no ImageNet weights here (../shared/weights)")
    network = UNET | {"backbone": "tf_efficientnet_lite0", "pretrained": str(path)}
    grey, _ = build_model(network, HEATMAP, num_points=2, channels=1, size=64)
    rgb, _ = build_model(network, HEATMAP, num_points=2, channels=3, size=64)
    torch.testing.assert_close(grey.backbone.conv_stem.weight, rgb.backbone.conv_stem.weight.sum(1, keepdim=True))
    network = RESNET | {"backbone": "tf_efficientnet_lite0", "pretrained": str(path), "stem": "mean"}
    mean, _ = build_model(network, REGRESSION, num_points=2, channels=1, size=64)
    torch.testing.assert_close(mean.backbone.conv_stem.weight, rgb.backbone.conv_stem.weight.mean(1, keepdim=True))
    random = timm.create_model("tf_efficientnet_lite0", features_only=True)
    assert not torch.equal(random.conv_stem.weight, rgb.backbone.conv_stem.weight)


def test_backbone_pretrained_grey_image_has_the_features_of_its_rgb_copy():
    path = WEIGHTS / "tf_efficientnet_lite0.safetensors"
    if not path.is_file():
        pytest.skip("no ImageNet weights here (../shared/weights)")
    network = UNET | {"backbone": "tf_efficientnet_lite0", "pretrained": str(path)}
    grey, rgb = (build_model(network, HEATMAP, num_points=2, channels=c, size=64)[0].eval() for c in (1, 3))
    images = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features = [m.backbone(m.normalize(x))[-1] for m, x in ((grey, images), (rgb, images.expand(-1, 3, -1, -1)))]
    torch.testing.assert_close(*features, rtol=1e-3, atol=1e-3)


def test_backbone_pretrained_without_hub_is_an_error(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"from the hub \(no network\).*path to a weights file, or false"):
        build_model(RESNET | {"pretrained": True}, REGRESSION, num_points=2, channels=1, size=32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrained": "gone.safetensors"}, "no weights file at 'gone.safetensors'"),
        ({"backbone": "resnet19"}, "timm has no such model"),
        ({"name": "vgg"}, "choose one of simplenet, smallcnn, resnet, unet"),
        ({"backbone": "tf_efficientnet_lite0", "width": 0.5}, "only timm's ResNets"),
        ({"backbone": "resnet18", "frozen": ["bn1", "stem"]}, "resnet18 has no stem; choose of conv1, bn1, "),
        ({"reduction": 16}, "head average reads the last features"),
        ({"backbone": "vit_tiny_patch16_224", "head": "maps", "reduction": 8}, "has no features of 8 pixels a cell"),
    ],
)
def test_build_model_invalid_network_is_an_error(change, message):
    with pytest.raises(UserError, match=message):
        build_model(RESNET | change, REGRESSION, num_points=2, channels=1, size=32)


def test_backbone_broken_weights_file_is_an_error(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"could not be loaded from .*broken.safetensors"):
        build_model(RESNET | {"pretrained": str(path)}, REGRESSION, num_points=2, channels=1, size=32)


@pytest.mark.parametrize(
    ("network", "codec", "message"),
    [
        (RESNET, HEATMAP, "its codec must be regression"),
        (UNET, REGRESSION, "its codec must be heatmap or gaussian or sigmoid"),
        (SMALLCNN, HEATMAP, "its codec must be regression"),
        (SMALLCNN | {"kernels": [3] * 4}, REGRESSION, "one for each convolution"),
        (SMALLCNN | {"pools": [2, 2]}, REGRESSION, r"network.pools has 2 entries and network.channels 3"),
        (SIMPLENET | {"padding": [1]}, REGRESSION, r"network.padding has 1 entries and network.channels 4"),
        (SIMPLENET | {"channels": [8] * 7, "kernels": [3] * 7, "padding": [1] * 7}, REGRESSION,
         "too small for so many max pools"),
        (PLAIN | {"pretrained": True}, HEATMAP, "no weights for the plain encoder"),
        (UNET, HEATMAP | {"padding": 9.0}, "at most 8"),
        (UNET | {"decoder_channels": [8] * 5}, HEATMAP, "decoder_channels has 5 entries"),
    ],
)
def test_build_model_unfit_arguments_are_an_error(network, codec, message):
    with pytest.raises(UserError, match=message):
        build_model(network, codec, num_points=2, channels=1, size=64)


@pytest.mark.parametrize(("network", "codec"), NETWORKS, ids=names)
def test_start_at_target_is_predicted_by_linear_heads_and_changes_no_other_network(network, codec):
    torch.manual_seed(0)
    model, target = build_model(network, codec, num_points=5, channels=1, size=64)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = target.encode(10 + torch.arange(10.0).reshape(1, 5, 2))
    model.start_at(wanted)
    if network["name"] == "resnet" and network["head"] != "maps" and len(target.point_shape) == 1:
        torch.testing.assert_close(model.eval()(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)), wanted, rtol=0, atol=0)
    else:
        assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
