"""Simple baseline: a backbone and transposed convolutions to heatmaps."""

from typing import Any

import torch.nn.functional as F
from timm.layers import ConvNormAct
from torch import Tensor, nn

from pipeline.models.backbone import Backbone, KeypointNetwork, Normalize, in_float32
from pipeline.models.codecs import heatmap_pad


class SimpleBaseline(KeypointNetwork):
    """A timm backbone and a light decoder without skip connections (Xiao, Wu & Wei, ECCV 2018).

    Each entry of `decoder_channels` doubles the resolution by a transposed convolution: the stride is that of the
    backbone's last features halved so often. A last convolution works on a frame of empty cells around the features,
    for points outside the crop.

    Args:
        decoder_channels: channels of each transposed convolution.
        padding: pixels beyond the crop that the heatmaps cover.
    """

    spatial = True

    def __init__(
        self, *, backbone: Backbone, decoder_channels: list[int], num_points: int, in_chans: int, padding: float
    ) -> None:
        super().__init__()
        self.normalize = Normalize(in_chans, backbone.name)
        timm_model: Any = backbone.create(in_chans, num_classes=0, global_pool="")
        self.backbone = timm_model
        self.stride = timm_model.feature_info[-1]["reduction"] >> len(decoder_channels)
        self.pad = heatmap_pad(padding, self.stride)
        widths = [timm_model.num_features, *decoder_channels]
        self.decoder = nn.Sequential(*(
            nn.Sequential(nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(narrow),
                          nn.ReLU())
            for wide, narrow in zip(widths, decoder_channels, strict=False)))
        self.last = ConvNormAct(widths[-1], widths[-1], 3)
        self.head = nn.Conv2d(widths[-1], num_points, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, H, W)."""
        cells = images.shape[-1] // self.stride  # a backbone rounds odd sides up
        features = self.decoder(self.encode(images))[..., :cells, :cells]
        return in_float32(self.head, self.last(F.pad(features, [self.pad] * 4)))
