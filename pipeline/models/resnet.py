"""A timm backbone with a regression head."""

import torch
from torch import Tensor, nn

from pipeline.models.backbone import Backbone, KeypointNetwork, Normalize, in_float32


class ResNet(KeypointNetwork):
    """Any timm backbone, then points by one linear layer.

    Args:
        head: "average" pools the last features over space (He et al., CVPR 2016); "flatten" keeps their places,
            which fixes the input size.
        dropout: before the linear layer.
        num_points: K.
        in_chans: 1 or 3.
        size: side of the input in pixels.
    """

    def __init__(
        self, *, backbone: Backbone, head: str, dropout: float, num_points: int, in_chans: int, size: int
    ) -> None:
        super().__init__()
        self.normalize = Normalize.of(backbone.name, in_chans)
        options = {"global_pool": ""} if head == "flatten" else {}
        self.backbone = backbone.create(in_chans, num_classes=0, **options)
        features = self.backbone.num_features
        if head == "flatten":
            reduction = self.backbone.feature_info[-1]["reduction"]
            features *= (-(-size // reduction)) ** 2
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, 2 * num_points))

    @torch.no_grad()
    def start_at(self, target: Tensor) -> None:
        """Start from the mean of what is to be learnt, which from 0 would take the first epochs to find."""
        self.head[-1].weight.zero_()
        self.head[-1].bias.copy_(target.flatten())

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, 2)."""
        return in_float32(self.head, self.backbone(self.normalize(images))).unflatten(1, (-1, 2))
