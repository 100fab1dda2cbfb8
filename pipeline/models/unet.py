"""U-Net from crops to heatmaps."""

from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from torch import Tensor, nn

from pipeline.common.errors import UserError
from pipeline.models.backbone import Backbone, KeypointNetwork, Normalize, PlainEncoder, in_float32
from pipeline.models.codecs import heatmap_pad

PLAIN = [64, 128, 256, 512, 1024]  # channels of the plain encoder's levels


class Up(nn.Module):
    """Decoder block: double the resolution, concatenate the skip features, add `pad` empty cells, convolve twice.

    `upsample` "nearest" repeats cells, "transposed" is a transposed convolution.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, pad: int, upsample: str) -> None:
        super().__init__()
        self.pad = pad
        transposed = upsample == "transposed"
        self.step_up = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2) if transposed else nn.Identity()
        self.first = ConvNormAct(in_channels + skip_channels, out_channels, 3)
        self.second = ConvNormAct(out_channels, out_channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w), (B, C', H, W) → (B, C'', H + 2·pad, W + 2·pad)."""
        x = F.interpolate(self.step_up(x), skip.shape[-2:], mode="nearest")  # also fits odd sides
        return self.second(self.first(F.pad(torch.cat([x, skip], dim=1), [self.pad] * 4)))


class UNet(KeypointNetwork):
    """Encoder and decoder with skip connections (Ronneberger et al., MICCAI 2015); the encoder is plain or timm's.

    Each entry of `decoder_channels` doubles the resolution, so the heatmaps have the stride of the encoder's last
    features halved `len(decoder_channels)` times: 4 for a ResNet and three entries, 1 for the plain encoder. The last
    block works on a frame of empty cells around the features, for points outside the crop.

    Args:
        backbone: its name may be "plain".
        decoder_channels: channels of each decoder block, deepest first.
        upsample: see `Up`.
        padding: pixels beyond the crop that the heatmaps cover; at most two cells, the reach of the last block.
    """

    spatial = True

    def __init__(
        self, *, backbone: Backbone, decoder_channels: list[int], upsample: str, num_points: int, in_chans: int,
        padding: float,
    ) -> None:
        super().__init__()
        if backbone.name == "plain":
            self.normalize = Normalize(in_chans)
            if backbone.pretrained or backbone.frozen:
                raise UserError("network.pretrained: there are no weights for the plain encoder; set it to false, and "
                                "network.frozen to []")
            widths = [max(1, round(backbone.width * width)) for width in PLAIN[: len(decoder_channels) + 1]]
            strides = [2**level for level in range(len(widths))]
            self.backbone = PlainEncoder(in_chans, widths)
        else:
            self.normalize, self.frozen = Normalize(in_chans, backbone.name), tuple(backbone.frozen)
            timm_model: Any = backbone.create(in_chans, features_only=True)
            widths, strides = timm_model.feature_info.channels(), timm_model.feature_info.reduction()
            self.backbone = timm_model
        if len(decoder_channels) >= len(widths):
            raise UserError(f"network.decoder_channels has {len(decoder_channels)} entries; {backbone.name} has "
                            f"features for {len(widths) - 1}")
        self.stride = strides[-1 - len(decoder_channels)]
        if padding > 2 * self.stride:
            raise UserError(f"codec.padding is {padding}: at most {2 * self.stride}, two cells of {self.stride} pixels")
        pads = [0] * (len(decoder_channels) - 1) + [heatmap_pad(padding, self.stride)]
        in_channels, skip_channels = [widths[-1], *decoder_channels[:-1]], widths[-2::-1]
        self.decoder = nn.ModuleList(map(Up, in_channels, skip_channels, decoder_channels, pads, repeat(upsample)))
        self.head = nn.Conv2d(decoder_channels[-1], num_points, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, H, W)."""
        *skips, x = self.encode(images)
        for block, skip in zip(self.decoder, reversed(skips), strict=False):
            x = block(x, skip)
        return in_float32(self.head, x)
