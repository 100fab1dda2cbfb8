"""Building blocks of the networks: timm backbones, the plain U-Net encoder, input normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from timm.layers import ConvNormAct
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from pipeline.common.errors import UserError


class KeypointNetwork(nn.Module):
    """Base of all networks: (B, C, S, S) uint8 → (B, K, *point_shape), or heatmaps (B, K, H, W) where `spatial`.

    A network has a `backbone`, which may be frozen, and a `stride`: input pixels per heatmap cell, 1 for points.
    Those with heatmaps take `num_points` K and `in_chans` C, 1 or 3; the others a `Shape`.
    """

    spatial: ClassVar[bool] = False
    stride: int = 1
    point_shape: tuple[int, ...] = (2,)
    backbone: nn.Module
    normalize: nn.Module
    head: nn.Module
    frozen: tuple[str, ...] = ()  # parts of the backbone that are never trained

    def start_at(self, target: Tensor) -> None:
        """Predict `target` (1, K, …) for every face before training, where the network can; by default nothing."""

    def set_training(self, *, freeze_backbone: bool = False) -> None:
        """Switch to training; frozen parts keep their weights and the statistics of their batch norm."""
        self.train()
        self.backbone.requires_grad_(not freeze_backbone).train(not freeze_backbone)
        for name in self.frozen:
            self.backbone.get_submodule(name).requires_grad_(False).eval()

    def encode(self, images: Tensor) -> Any:
        """(B, C, S, S) uint8 → what the backbone makes of them."""
        return self.backbone(self.normalize(images))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, *point_shape)."""
        return in_float32(self.head, self.encode(images)).unflatten(1, (-1, *self.point_shape))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Input and output of a network of points: (B, C, S, S) → (B, K, *point_shape)."""

    num_points: int  # K
    in_chans: int  # C, 1 or 3
    size: int  # S, in pixels
    point_shape: tuple[int, ...]  # the codec's: (2,) for coordinates, (2, n) for n bins along each axis

    @property
    def outputs(self) -> int:
        """How many numbers the network predicts for a face."""
        return self.num_points * prod(self.point_shape)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Any timm model without its head, for 1 or 3 channels.

    `stem` is how pretrained RGB filters are reduced to one channel: "sum", timm's rule, which gives a grey image the
    features of its RGB copy, or "mean". `frozen` parts are never trained: the first layers of a network with ImageNet
    weights serve faces as they are, and cost no backward pass.
    """

    name: str
    pretrained: bool | str  # True (download from the hub), False (random weights) or the path of a weights file
    width: float  # of every layer, as a share of the usual; other than 1 only for timm's ResNets without weights
    stem: str = "sum"
    frozen: Sequence[str] = ()  # by timm's names

    def create(self, in_chans: int, **options: Any) -> nn.Module:
        """Create the timm model; `options` are for `timm.create_model`.

        Raises:
            UserError: an unknown name or part, or weights that cannot be loaded. Never falls back on random weights.
        """
        name, pretrained = self.name, self.pretrained
        if not timm.is_model(name.split(".")[0]):
            raise UserError(f"network.backbone {name!r}: timm has no such model; see timm.list_models()")
        if self.width != 1:
            if pretrained or timm.models.model_entrypoint(name.split(".")[0]).__module__ != "timm.models.resnet":
                raise UserError(f"network.width {self.width}: only timm's ResNets, without pretrained weights, come in "
                                "other widths")
            options["channels"] = tuple(round(self.width * channels) for channels in (64, 128, 256, 512))
        if isinstance(pretrained, str):
            if not Path(pretrained).is_file():
                raise UserError(f"network.pretrained: no weights file at {pretrained!r}; "
                                "give a path, true (hub) or false")
            options["pretrained_cfg_overlay"] = {"file": pretrained}
        try:
            backbone = timm.create_model(name, pretrained=bool(pretrained), in_chans=in_chans, **options)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            if not pretrained:
                raise
            source = f"from {pretrained!r}" if isinstance(pretrained, str) else "from the hub"
            raise UserError(
                f"network.pretrained: weights of {name} could not be loaded {source} "
                f"({' '.join(str(error).split())[:300]}). Choose: true (timm's hub download; needs the network), "
                "a path to a weights file, or false (random weights)"
            ) from error
        if unknown := set(self.frozen) - {part for part, _ in backbone.named_modules() if part}:
            parts = [part for part, _ in backbone.named_modules() if part and part.count(".") < 2]
            raise UserError(f"network.frozen: {name} has no {', '.join(sorted(unknown))}; choose of {', '.join(parts)}")
        if pretrained and in_chans == 1 and self.stem == "mean":
            next(layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)).weight.data /= 3
        for layer in backbone.modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:  # in place: a wrapper would rename the weights
                layer.__class__ = type(f"Float32{type(layer).__name__}", (Float32OnCPU, type(layer)), {})
        return backbone


class Float32OnCPU:
    """Mixed into a depthwise convolution, which a CPU computes faster in float32 than in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C, h', w'), in float32 on a CPU whatever autocast says."""
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float() if x.device.type == "cpu" else x)  # type: ignore[misc]


class PlainEncoder(nn.Module):
    """Blocks of two convolutions with batch norm and ReLU, a max pool between them (Ronneberger et al., MICCAI 2015).

    Level i has `channels[i]` channels and 1/2^i of the resolution.
    """

    def __init__(self, in_chans: int, channels: list[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormAct(in_channels, out_channels, 3), ConvNormAct(out_channels, out_channels, 3))
            for in_channels, out_channels in zip([in_chans, *channels], channels, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, S, S) → features of every level, finest first."""
        features = []
        for number, level in enumerate(self.levels):
            x = level(F.max_pool2d(x, 2) if number else x)
            features.append(x)
        return features


class Normalize(nn.Module):
    """Normalisation of uint8 images by mean and standard deviation, those that a timm `backbone` was pretrained with.

    Both are 0.5 of white where none is given; grey images take the mean over RGB.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, backbone: str | None = None) -> None:
        super().__init__()
        config = get_pretrained_cfg(backbone) if backbone else None
        for name in ("mean", "std"):
            tensor = 255 * torch.tensor(getattr(config, name) if config else (0.5, 0.5, 0.5))
            tensor = tensor.mean(0, keepdim=True) if channels == 1 else tensor
            self.register_buffer(name, tensor[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 → float32."""
        return (images.float() - self.mean) / self.std


def convolved(side: int, kernel: int, padding: int, pool: int) -> int:
    """Side of a feature map after a convolution of stride 1 and a max pool; a UserError where nothing is left."""
    side = (side + 2 * padding - kernel + 1) // pool
    if side < 1:
        raise UserError("crop.size is too small for so many max pools: enlarge it or name fewer network.channels")
    return side


def check_one_each(channels: list[int], **lists: list[int]) -> None:
    """Check that each list has an entry for each convolution; a UserError names the first that has not."""
    for name, entries in lists.items():
        if len(entries) != len(channels):
            raise UserError(f"network.{name} has {len(entries)} entries and network.channels {len(channels)}: "
                            "give one for each convolution")


def in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run the head in float32 whatever autocast says: bfloat16 rounds a point to 1/256 of half an input."""
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())
