"""timm backbones, pretrained or not, for grey or RGB crops."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from pipeline.errors import UserError


def create_backbone(
    name: str, *, pretrained: bool | str, in_chans: int, width: float = 1.0, **options: object
) -> nn.Module:
    """Any timm model, its first convolution for 1 or 3 channels (timm sums RGB filters for 1).

    Args:
        name: timm's name.
        pretrained: True (download from the hub), False (random weights) or the path of a weights file.
        in_chans: channels of the input.
        width: of every layer, as a share of the usual; other than 1 for timm's ResNets without weights only.
        options: for `timm.create_model`.

    Raises:
        UserError: an unknown name, or weights that cannot be had. Never goes on from random weights.
    """
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"network.backbone {name!r}: timm has no such model; see timm.list_models()")
    if width != 1:
        options |= _narrow(name, pretrained, width)
    if isinstance(pretrained, str):
        if not Path(pretrained).is_file():
            raise UserError(f"network.pretrained: no weights file at {pretrained!r}; give a path, true (hub) or false")
        options["pretrained_cfg_overlay"] = {"file": pretrained}
    with _weights_errors(name, pretrained):
        return timm.create_model(name, pretrained=bool(pretrained), in_chans=in_chans, **options)


def _narrow(name: str, pretrained: bool | str, width: float) -> dict:
    if pretrained or timm.models.model_entrypoint(name.split(".")[0]).__module__ != "timm.models.resnet":
        raise UserError(f"network.width {width}: only timm's ResNets, without pretrained weights, come in other widths")
    channels = tuple(round(width * usual) for usual in (64, 128, 256, 512))
    return {"channels": channels}


@contextmanager
def _weights_errors(name: str, pretrained: bool | str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        if not pretrained:
            raise
        source = f"from {pretrained!r}" if isinstance(pretrained, str) else "from the hub"
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"network.pretrained: weights of {name} could not be loaded {source} ({reason}). "
            "Choose: true (timm's hub download; needs the network), a path to a weights file, or false (random weights)"
        ) from error


class Normalize(nn.Module):
    """uint8 (B, C, H, W) → float, with the mean and deviation the backbone was trained with; their mean for grey."""

    def __init__(self, backbone: str, channels: int) -> None:
        super().__init__()
        config = get_pretrained_cfg(backbone)
        mean, std = ((0.5,) * 3, (0.5,) * 3) if config is None else (config.mean, config.std)
        for name, values in (("mean", mean), ("std", std)):
            tensor = 255 * torch.tensor(values)
            tensor = tensor.mean(0, keepdim=True) if channels == 1 else tensor
            self.register_buffer(name, tensor[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 → the same in float32, about mean 0 and deviation 1."""
        return (images.float() - self.mean) / self.std
