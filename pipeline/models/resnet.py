"""A timm backbone with a regression head."""

import torch
from torch import Tensor, nn

from pipeline.models.backbone import Normalize, create_backbone, in_float32


class ResNet(nn.Module):
    """Any timm backbone, then points by one linear layer.

    Args:
        backbone, pretrained, width, stem, in_chans: see `create_backbone`.
        head: "average" pools the last features over space (He et al., CVPR 2016); "flatten" keeps their places,
            which fixes the input size.
        dropout: before the linear layer.
        num_points: K.
        size: side of the input in pixels.
    """

    kind = "points"
    stride = 1

    def __init__(
        self, *, backbone: str, pretrained: bool | str, width: float, stem: str, head: str,
        dropout: float, num_points: int, in_chans: int, size: int, padding: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalize = Normalize.of(backbone, in_chans)
        options = {"global_pool": ""} if head == "flatten" else {}
        self.backbone = create_backbone(
            backbone, pretrained=pretrained, in_chans=in_chans, width=width, stem=stem, num_classes=0, **options
        )
        features = self.backbone.num_features
        if head == "flatten":
            reduction = self.backbone.feature_info[-1]["reduction"]
            features *= (-(-size // reduction)) ** 2
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, 2 * num_points))

    @torch.no_grad()
    def start_at(self, target: Tensor) -> None:
        """Let the untrained head say `target` (K, 2) of every face: the mean of what it is to learn.

        From 0 the first epochs find no more than that mean, and those of a frozen backbone not even it.
        """
        self.head[-1].weight.zero_()
        self.head[-1].bias.copy_(target.flatten())

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, 2)."""
        return in_float32(self.head, self.backbone(self.normalize(images))).unflatten(1, (-1, 2))
