"""A timm backbone with a head for coordinates."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.common.errors import UserError
from pipeline.models.backbone import Backbone, KeypointNetwork, Normalize, Shape

MAPS, HIDDEN = 4, 256  # of the head "maps": maps a point, and width of the layer that the points share


class Maps(nn.Module):
    """Head with a few maps for each point and two layers that all points share, as in RTMPose (Jiang et al., 2023)."""

    def __init__(self, features: int, cells: int, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.num_points = shape.num_points
        self.maps = nn.Conv2d(features, MAPS * shape.num_points, 1)
        self.shared = nn.Sequential(
            nn.Linear(MAPS * cells, HIDDEN), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(HIDDEN, shape.outputs // shape.num_points))

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w) → (B, K · outputs)."""
        maps = self.maps(features).unflatten(1, (self.num_points, -1)).flatten(2)
        return self.shared(maps).flatten(1)


class ResNet(KeypointNetwork):
    """Any timm backbone, then the points.

    Args:
        head: "average" pools the last features over space (He et al., CVPR 2016), "flatten" keeps their places; one
            linear layer follows. "maps" is `Maps`. The last two fix the input size.
        dropout: before the last layer.
        reduction: input pixels per cell of the features that the head reads, what lies behind them is cut off; null
            keeps the whole backbone. Not for "average".
    """

    def __init__(
        self, *, backbone: Backbone, head: str, dropout: float, shape: Shape, reduction: int | None = None
    ) -> None:
        super().__init__()
        if head == "flatten" and len(shape.point_shape) > 1:
            raise UserError("network.head flatten would be too large for this codec; use maps")
        if reduction and head == "average":
            raise UserError("network.reduction: head average reads the last features; use maps or flatten")
        self.point_shape, self.normalize = shape.point_shape, Normalize(shape.in_chans, backbone.name)
        self.frozen = tuple(backbone.frozen)
        timm_model: Any
        if reduction:
            level = {16: -2, 8: -3}[reduction]
            timm_model = backbone.create(shape.in_chans, features_only=True, out_indices=(level,))
            features, found = timm_model.feature_info.channels()[-1], timm_model.feature_info.reduction()[-1]
            if found != reduction:
                raise UserError(f"network.reduction: {backbone.name} has no features of {reduction} pixels a cell")
        else:
            options = {} if head == "average" else {"global_pool": ""}
            timm_model = backbone.create(shape.in_chans, num_classes=0, **options)
            features, found = timm_model.num_features, timm_model.feature_info[-1]["reduction"]
        cells = 1 if head == "average" else (-(-shape.size // found)) ** 2
        self.backbone = timm_model
        self.head = Maps(features, cells, shape, dropout) if head == "maps" else nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(features * cells, shape.outputs))

    def encode(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → the features that the head reads."""
        features = super().encode(images)
        return features[-1] if isinstance(features, list) else features

    @torch.no_grad()
    def start_at(self, target: Tensor) -> None:
        """Start from the mean of what is to be learnt, which from 0 would take the first epochs to find."""
        last = next(reversed(list(self.head.children())))
        if isinstance(last, nn.Linear) and len(self.point_shape) == 1:
            last.weight.zero_()
            last.bias.copy_(target.flatten())
