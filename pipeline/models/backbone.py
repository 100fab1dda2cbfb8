"""What networks stand on: timm backbones, pretrained or not, and the plain encoder of the first U-Net."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from timm.layers import ConvNormAct
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from pipeline.common.errors import UserError


def create_backbone(
    name: str, *, pretrained: bool | str, in_chans: int, width: float = 1.0, stem: str = "sum", **options: object
) -> nn.Module:
    """Any timm model, its first convolution for 1 or 3 channels.

    Args:
        name: timm's name.
        pretrained: True (download from the hub), False (random weights) or the path of a weights file.
        in_chans: channels of the input.
        width: of every layer, as a share of the usual; other than 1 for timm's ResNets without weights only.
        stem: what becomes of pretrained RGB filters where in_chans is 1: their "sum", which is timm's rule and gives a
            grey picture the features of its RGB copy, or their "mean".
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
        backbone = timm.create_model(name, pretrained=bool(pretrained), in_chans=in_chans, **options)
    if pretrained and in_chans == 1 and stem == "mean":
        first = next(layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d))
        first.weight.data /= 3
    return backbone


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


class PlainEncoder(nn.Module):
    """Blocks of two convolutions with batch norm and ReLU, a max pool between them (Ronneberger et al., MICCAI 2015).

    Args:
        in_chans: channels of the input.
        channels: of each level; level i has 1/2^i of the resolution.
    """

    def __init__(self, in_chans: int, channels: list[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormAct(before, after, 3), ConvNormAct(after, after, 3))
            for before, after in zip([in_chans, *channels], channels, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, S, S) → the features of every level, finest first."""
        features = []
        for number, level in enumerate(self.levels):
            x = level(F.max_pool2d(x, 2) if number else x)
            features.append(x)
        return features


class Normalize(nn.Module):
    """uint8 (B, C, H, W) → float, less a mean and over a deviation, both in 0…1: those a backbone was trained with.

    Grey pictures take the mean over the three channels.
    """

    def __init__(
        self, channels: int, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)
    ) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            tensor = 255 * torch.tensor(values)
            tensor = tensor.mean(0, keepdim=True) if channels == 1 else tensor
            self.register_buffer(name, tensor[:, None, None], persistent=False)

    @classmethod
    def of(cls, backbone: str, channels: int) -> "Normalize":
        """That of a timm model."""
        config = get_pretrained_cfg(backbone)
        return cls(channels) if config is None else cls(channels, config.mean, config.std)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 → the same in float32, about mean 0 and deviation 1."""
        return (images.float() - self.mean) / self.std


def halved(side: int) -> int:
    """The side of a map after a max pool over 2×2 cells; a UserError where nothing is left."""
    if side < 2:
        raise UserError("crop.size is too small for so many max pools: enlarge it or name fewer network.channels")
    return side // 2


def in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run the last layers in float32, whatever autocast says: bfloat16 rounds a point to 1/256 of half a view."""
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())
