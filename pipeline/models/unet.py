"""A U-shaped network from crops to heatmaps."""

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from torch import Tensor, nn

from pipeline.codecs import heatmap_pad
from pipeline.errors import UserError
from pipeline.models.backbone import Normalize, create_backbone


class Up(nn.Module):
    """Double the resolution, join the skip features, convolve twice."""

    def __init__(self, channels: int, skip_channels: int, out_channels: int, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.first = ConvNormAct(channels + skip_channels, out_channels, 3)
        self.second = ConvNormAct(out_channels, out_channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w), (B, C', H, W) → (B, C'', H + 2·pad, W + 2·pad)."""
        x = F.interpolate(x, skip.shape[-2:], mode="nearest")
        return self.second(self.first(F.pad(torch.cat([x, skip], dim=1), [self.pad] * 4)))


class UNet(nn.Module):
    """Encoder and decoder with skips (Ronneberger et al., MICCAI 2015), the encoder being any timm backbone.

    Each entry of `decoder` doubles the resolution, so the heatmaps have the stride of the encoder's last features
    halved `len(decoder)` times: 4 for a ResNet and three entries. The last block works on a frame of empty cells
    around the features, where its convolutions place what lies beyond the crop.

    Args:
        backbone, pretrained, width, channels: see `create_backbone`.
        decoder: channels of each decoder block, deepest first.
        num_points: K.
        size: side of the input in pixels.
        margin: pixels beyond the crop that the heatmaps cover; at most two cells, the reach of the last block.
    """

    kind = "heatmaps"

    def __init__(
        self, *, backbone: str, pretrained: bool | str, width: float, decoder: list[int],
        num_points: int, channels: int, size: int, margin: float,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(backbone, channels)
        self.backbone = create_backbone(
            backbone, pretrained=pretrained, in_chans=channels, width=width, features_only=True
        )
        widths = self.backbone.feature_info.channels()
        strides = self.backbone.feature_info.reduction()
        if len(decoder) >= len(widths):
            most = len(widths) - 1
            raise UserError(f"network.decoder has {len(decoder)} entries; {backbone} has features for {most}")
        self.stride = strides[-1 - len(decoder)]
        if margin > 2 * self.stride:
            raise UserError(f"codec.margin is {margin}: at most {2 * self.stride} (two cells of {self.stride} pixels)")
        pads = [0] * (len(decoder) - 1) + [heatmap_pad(margin, self.stride)]
        inputs = [widths[-1], *decoder[:-1]]
        skips = widths[-2 :: -1]
        self.decoder = nn.ModuleList(map(Up, inputs, skips, decoder, pads))
        self.head = nn.Conv2d(decoder[-1], num_points, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, H, W)."""
        *skips, x = self.backbone(self.normalize(images))
        for block, skip in zip(self.decoder, reversed(skips), strict=False):
            x = block(x, skip)
        return self.head(x)
