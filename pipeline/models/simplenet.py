"""SimpleNet, a plain convolutional network with three fully connected layers."""

from torch import nn

from pipeline.models.backbone import KeypointNetwork, Normalize, Shape, check_one_each, convolved


class SimpleNet(KeypointNetwork):
    """Blocks of convolution, batch norm, ReLU, max pool and dropout, then three fully connected layers.

    The weights of the fully connected layers are initialised by Glorot & Bengio (AISTATS 2010), those of the
    convolutions as torch does. Kernels 4, 3, 2, 1 without padding, as in NaimishNet (Agarwal et al., 2017), reduce an
    input of 224 pixels to 13×13.

    Args:
        channels: of each block; each halves the resolution.
        kernels: side of each convolution's kernel. padding: zeros around its input. Both as many as channels.
        hidden: widths of the first two fully connected layers.
        dropout: after each block, and before each fully connected layer but the first.

    Raises:
        UserError: not as many kernels or paddings as channels, or more blocks than `size` allows.
    """

    def __init__(
        self, *, channels: list[int], kernels: list[int], padding: list[int], hidden: list[int], dropout: float,
        shape: Shape,
    ) -> None:
        super().__init__()
        check_one_each(channels, kernels=kernels, padding=padding)
        self.point_shape, side = shape.point_shape, shape.size
        blocks, sizes = [], zip([shape.in_chans, *channels[:-1]], channels, kernels, padding, strict=True)
        for in_channels, out_channels, kernel, pad in sizes:
            side = convolved(side, kernel, pad, pool=2)
            blocks.append(nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel, padding=pad, bias=False), nn.BatchNorm2d(out_channels),
                nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout),
            ))
        first, second = hidden
        self.normalize = Normalize(shape.in_chans)
        self.backbone = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * side**2, first), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(first, second), nn.ReLU(), nn.Dropout(dropout), nn.Linear(second, shape.outputs),
        )
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
