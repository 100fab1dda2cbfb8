"""A timm backbone with a regression head."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.backbone import Backbone, KeypointNetwork, Normalize


class ResNet(KeypointNetwork):
    """Any timm backbone, then points by one linear layer.

    Args:
        head: "average" pools the last features over space (He et al., CVPR 2016); "flatten" keeps their places,
            which fixes the input size.
        dropout: before the linear layer.
    """

    def __init__(
        self, *, backbone: Backbone, head: str, dropout: float, num_points: int, in_chans: int, size: int
    ) -> None:
        super().__init__()
        self.normalize = Normalize(in_chans, backbone.name)
        options = {"global_pool": ""} if head == "flatten" else {}
        timm_model: Any = backbone.create(in_chans, num_classes=0, **options)
        features = timm_model.num_features
        if head == "flatten":
            features *= (-(-size // timm_model.feature_info[-1]["reduction"])) ** 2
        self.backbone = timm_model
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, 2 * num_points))

    @torch.no_grad()
    def start_at(self, target: Tensor) -> None:
        """Start from the mean of what is to be learnt, which from 0 would take the first epochs to find."""
        last: Any = [*self.head.children()][-1]
        last.weight.zero_()
        last.bias.copy_(target.flatten())
