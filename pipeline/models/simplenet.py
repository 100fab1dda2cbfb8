"""SimpleNet: a plain convolutional network with three fully connected layers."""

from torch import Tensor, nn

from pipeline.models.backbone import Normalize, halved, in_float32


class SimpleNet(nn.Module):
    """Blocks of convolution, batch norm, ReLU, max pool and dropout, then three fully connected layers.

    Every weight is drawn by Glorot & Bengio's rule (AISTATS 2010), known as Xavier's. With four blocks a view of 224
    pixels comes down to 14×14.

    Args:
        channels: of each block; each halves the resolution.
        hidden: widths of the first two fully connected layers.
        dropout: after each block, and before each fully connected layer but the first.
        num_points: K.
        in_chans: 1 or 3.
        size: side of the input in pixels.
    """

    kind = "points"
    stride = 1

    def __init__(
        self, *, channels: list[int], hidden: list[int], dropout: float, num_points: int, in_chans: int, size: int,
        padding: float = 0.0,
    ) -> None:
        super().__init__()
        side = size
        for _ in channels:
            side = halved(side)
        blocks = [
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
                nn.MaxPool2d(2), nn.Dropout(dropout),
            )
            for before, after in zip([in_chans, *channels], channels, strict=False)
        ]
        first, second = hidden
        self.normalize = Normalize(in_chans)
        self.backbone = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * side**2, first), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(first, second), nn.ReLU(), nn.Dropout(dropout), nn.Linear(second, 2 * num_points),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → (B, K, 2)."""
        return in_float32(self.head, self.backbone(self.normalize(images))).unflatten(1, (-1, 2))
