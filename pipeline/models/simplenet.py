"""SimpleNet, a plain convolutional network with three fully connected layers."""

from math import prod

from torch import nn

from pipeline.models.backbone import KeypointNetwork, Normalize, halved


class SimpleNet(KeypointNetwork):
    """Blocks of convolution, batch norm, ReLU, max pool and dropout, then three fully connected layers.

    Weights are initialised by Glorot & Bengio (AISTATS 2010). Four blocks reduce an input of 224 pixels to 14×14.

    Args:
        channels: of each block; each halves the resolution.
        hidden: widths of the first two fully connected layers.
        dropout: after each block, and before each fully connected layer but the first.
    """

    def __init__(
        self, *, channels: list[int], hidden: list[int], dropout: float, num_points: int, in_chans: int, size: int,
        point_shape: tuple[int, ...] = (2,),
    ) -> None:
        super().__init__()
        self.point_shape = point_shape
        side = size
        for _ in channels:
            side = halved(side)
        blocks = [
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(),
                nn.MaxPool2d(2), nn.Dropout(dropout),
            )
            for in_channels, out_channels in zip([in_chans, *channels], channels, strict=False)
        ]
        first, second = hidden
        self.normalize = Normalize(in_chans)
        self.backbone = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * side**2, first), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(first, second), nn.ReLU(), nn.Dropout(dropout), nn.Linear(second, num_points * prod(point_shape)),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
