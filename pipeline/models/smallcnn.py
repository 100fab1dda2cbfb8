"""SmallCNN, the small network of the nose tip and of the 58-point face."""

from torch import nn

from pipeline.models.backbone import KeypointNetwork, Normalize, Shape, check_one_each, convolved


class SmallCNN(KeypointNetwork):
    """Convolutions with ReLU and max pool, then two fully connected layers.

    Args:
        channels: of each convolution.
        kernels: side of each convolution's kernel; padded by half of it.
        pools: side of the max pool after each convolution, by which it divides the resolution; 1 for none.
        hidden: width of the first fully connected layer.

    Raises:
        UserError: not as many kernels or pools as channels, or larger pools than `size` allows.
    """

    def __init__(
        self, *, channels: list[int], kernels: list[int], pools: list[int], hidden: int, shape: Shape
    ) -> None:
        super().__init__()
        check_one_each(channels, kernels=kernels, pools=pools)
        self.point_shape, side = shape.point_shape, shape.size
        layers: list[nn.Module] = []
        sizes = zip([shape.in_chans, *channels[:-1]], channels, kernels, pools, strict=True)
        for in_channels, out_channels, kernel, pool in sizes:
            side = convolved(side, kernel, kernel // 2, pool)  # an even kernel adds a pixel
            layers += [nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2), nn.ReLU(),
                       nn.MaxPool2d(pool) if pool > 1 else nn.Identity()]
        self.normalize = Normalize(shape.in_chans)
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * side**2, hidden), nn.ReLU(), nn.Linear(hidden, shape.outputs))
