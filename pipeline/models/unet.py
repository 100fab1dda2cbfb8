"""A U-shaped network from crops to heatmaps."""

from itertools import repeat

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from torch import Tensor, nn

from pipeline.common.errors import UserError
from pipeline.models.backbone import Normalize, PlainEncoder, create_backbone, in_float32
from pipeline.models.codecs import heatmap_pad

PLAIN = [64, 128, 256, 512, 1024]  # channels of the levels of Ronneberger's encoder


class Up(nn.Module):
    """Double the resolution, join the skip features, convolve twice.

    Args:
        upsample: "nearest" repeats cells; "transposed" learns how to, by a transposed convolution.
        pad: empty cells to put around the joined features.
    """

    def __init__(self, channels: int, skip_channels: int, out_channels: int, pad: int, upsample: str) -> None:
        super().__init__()
        self.pad = pad
        transposed = upsample == "transposed"
        self.step_up = nn.ConvTranspose2d(channels, channels, 2, stride=2) if transposed else nn.Identity()
        self.first = ConvNormAct(channels + skip_channels, out_channels, 3)
        self.second = ConvNormAct(out_channels, out_channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w), (B, C', H, W) → (B, C'', H + 2·pad, W + 2·pad)."""
        x = F.interpolate(self.step_up(x), skip.shape[-2:], mode="nearest")  # also where a side was odd
        return self.second(self.first(F.pad(torch.cat([x, skip], dim=1), [self.pad] * 4)))


class UNet(nn.Module):
    """Encoder and decoder with skips (Ronneberger et al., MICCAI 2015), the encoder being theirs or a timm backbone.

    Each entry of `decoder_channels` doubles the resolution, so the heatmaps have the stride of the encoder's last features
    halved `len(decoder_channels)` times: 4 for a ResNet and three entries, 1 for the plain encoder. The last block works on a
    frame of empty cells around the features, where its convolutions place what lies beyond the crop.

    Args:
        backbone: "plain", or a name of timm's: see `create_backbone`, also for pretrained, width and in_chans.
        upsample: see `Up`.
        decoder_channels: channels of each decoder block, deepest first.
        num_points: K.
        size: side of the input in pixels.
        padding: pixels beyond the crop that the heatmaps cover; at most two cells, the reach of the last block.
    """

    kind = "heatmaps"

    def __init__(
        self, *, backbone: str, pretrained: bool | str, width: float, decoder_channels: list[int], upsample: str,
        num_points: int, in_chans: int, size: int, padding: float,
    ) -> None:
        super().__init__()
        if backbone == "plain":
            self.normalize = Normalize(in_chans)
            widths = _plain_widths(pretrained, width, len(decoder_channels))
            strides = [2**level for level in range(len(widths))]
            self.backbone = PlainEncoder(in_chans, widths)
        else:
            self.normalize = Normalize.of(backbone, in_chans)
            self.backbone = create_backbone(
                backbone, pretrained=pretrained, in_chans=in_chans, width=width, features_only=True
            )
            widths, strides = self.backbone.feature_info.channels(), self.backbone.feature_info.reduction()
        if len(decoder_channels) >= len(widths):
            most = len(widths) - 1
            raise UserError(f"network.decoder_channels has {len(decoder_channels)} entries; {backbone} has features for {most}")
        self.stride = strides[-1 - len(decoder_channels)]
        if padding > 2 * self.stride:
            raise UserError(f"codec.padding is {padding}: at most {2 * self.stride} (two cells of {self.stride} pixels)")
        pads = [0] * (len(decoder_channels) - 1) + [heatmap_pad(padding, self.stride)]
        inputs = [widths[-1], *decoder_channels[:-1]]
        skips = widths[-2 :: -1]
        self.decoder = nn.ModuleList(map(Up, inputs, skips, decoder_channels, pads, repeat(upsample)))
        self.head = nn.Conv2d(decoder_channels[-1], num_points, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, H, W)."""
        *skips, x = self.backbone(self.normalize(images))
        for block, skip in zip(self.decoder, reversed(skips), strict=False):
            x = block(x, skip)
        return in_float32(self.head, x)


def _plain_widths(pretrained: bool | str, width: float, ups: int) -> list[int]:
    """Channels of the plain encoder's levels, one more than there are steps up, where there are as many."""
    if pretrained:
        raise UserError("network.pretrained: there are no weights for the plain encoder; set it to false")
    return [max(1, round(width * usual)) for usual in PLAIN[: ups + 1]]
