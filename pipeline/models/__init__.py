"""The networks by name, and a network together with its codec."""

from torch import nn

from pipeline.common.errors import UserError
from pipeline.models.codecs import CODECS, Gaussian, Heatmap, Regression
from pipeline.models.resnet import ResNet
from pipeline.models.simplenet import SimpleNet
from pipeline.models.smallcnn import SmallCNN
from pipeline.models.unet import UNet

MODELS: dict[str, type[nn.Module]] = {"simplenet": SimpleNet, "smallcnn": SmallCNN, "resnet": ResNet, "unet": UNet}
Codec = Regression | Heatmap | Gaussian


def build_model(
    network: dict, codec: dict, *, num_points: int, channels: int, size: int
) -> tuple[nn.Module, Codec]:
    """A network and the codec of its output.

    Args:
        network: `name` in MODELS and the class's own arguments.
        codec: `name` in CODECS and the class's own arguments.
        num_points: K.
        channels: 1 or 3.
        size: side of the view in pixels.

    Raises:
        UserError: an unknown name, or a codec that the network cannot feed.
    """
    network, codec = dict(network), dict(codec)
    model_class = _lookup(MODELS, network.pop("name"), "network")
    codec_class = _lookup(CODECS, codec.pop("name"), "codec")
    if (model_class.kind == "points") != (codec_class is Regression):
        fitting = "regression" if model_class.kind == "points" else "heatmap or gaussian"
        raise UserError(f"a {model_class.__name__} makes {model_class.kind}: its codec must be {fitting}")
    model = model_class(
        **network, num_points=num_points, in_chans=channels, size=size, padding=codec.get("padding", 0.0)
    )
    strides = {} if codec_class is Regression else {"stride": model.stride}
    return model, codec_class(size=size, **strides, **codec)


def _lookup(registry: dict[str, type], name: str, what: str) -> type:
    if name not in registry:
        raise UserError(f"{what}.name {name!r} is unknown: choose one of {', '.join(registry)}")
    return registry[name]
