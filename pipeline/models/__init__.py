"""Networks by name, and a network together with its codec."""

from typing import Any

from pipeline.common.errors import UserError
from pipeline.models.backbone import Backbone, KeypointNetwork, Shape
from pipeline.models.codecs import CODECS, Codec
from pipeline.models.resnet import ResNet
from pipeline.models.simplenet import SimpleNet
from pipeline.models.smallcnn import SmallCNN
from pipeline.models.unet import UNet

NETWORKS = {"simplenet": SimpleNet, "smallcnn": SmallCNN, "resnet": ResNet, "unet": UNet}


def build_model(
    network: dict, codec: dict, *, num_points: int, channels: int, size: int
) -> tuple[KeypointNetwork, Codec]:
    """Build a network and the codec of its output.

    Args:
        network: `name` in NETWORKS and the class's own arguments; those of a `Backbone` stand among them.
        codec: `name` in CODECS and the class's own arguments.
        num_points, channels, size: K, 1 or 3, and the side of the network's input in pixels.

    Raises:
        UserError: an unknown name, or a codec whose target has not the shape of the network's output.
    """
    network, codec = dict(network), dict(codec)
    network_class = _lookup(NETWORKS, network.pop("name"), "network")
    codec_class = _lookup(CODECS, codec.pop("name"), "codec")
    if network_class.spatial != codec_class.spatial:
        fitting = [name for name, known in CODECS.items() if known.spatial == network_class.spatial]
        raise UserError(f"a {network_class.__name__} does not fit this codec: its codec must be {' or '.join(fitting)}")
    if "backbone" in network:
        options = {name: network.pop(name) for name in ("pretrained", "width", "stem", "frozen") if name in network}
        network["backbone"] = Backbone(name=network["backbone"], **options)
    if network_class.spatial:
        model = network_class(**network, num_points=num_points, in_chans=channels, padding=codec.get("padding", 0.0))
        return model, codec_class(size=size, stride=model.stride, **codec)
    built = codec_class(size=size, **codec)
    shape = Shape(num_points=num_points, in_chans=channels, size=size, point_shape=built.point_shape)
    return network_class(**network, shape=shape), built


def _lookup(registry: dict[str, Any], name: str, key: str) -> Any:
    if name not in registry:
        raise UserError(f"{key}.name {name!r} is unknown: choose one of {', '.join(registry)}")
    return registry[name]
