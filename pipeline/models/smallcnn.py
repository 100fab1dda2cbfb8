"""SmallCNN, the small network of the nose tip and of the 58-point face."""

from math import prod

from torch import nn

from pipeline.common.errors import UserError
from pipeline.models.backbone import KeypointNetwork, Normalize, halved


class SmallCNN(KeypointNetwork):
    """Convolutions with ReLU and max pool, then two fully connected layers.

    Args:
        channels: of each convolution; each is followed by a max pool that halves the resolution.
        kernels: side of each convolution's kernel, as many as channels; padded by half of it.
        hidden: width of the first fully connected layer.

    Raises:
        UserError: not as many kernels as channels, or more halvings than `size` allows.
    """

    def __init__(
        self, *, channels: list[int], kernels: list[int], hidden: int, num_points: int, in_chans: int, size: int,
        point_shape: tuple[int, ...] = (2,),
    ) -> None:
        super().__init__()
        self.point_shape = point_shape
        if len(kernels) != len(channels):
            raise UserError(f"network.kernels has {len(kernels)} entries and network.channels {len(channels)}: "
                            "give one for each convolution")
        layers: list[nn.Module] = []
        side = size
        for in_channels, out_channels, kernel in zip([in_chans, *channels], channels, kernels, strict=False):
            layers += [nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(2)]
            side = halved(side + (kernel + 1) % 2)  # an even kernel adds a pixel
        self.normalize = Normalize(in_chans)
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * side**2, hidden), nn.ReLU(),
            nn.Linear(hidden, num_points * prod(point_shape)),
        )
