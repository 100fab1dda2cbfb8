"""Codecs: encoding of points as a network's target, and decoding of its output.

A codec names its shape (`spatial`: heatmaps, not points) and the `losses` that fit its target.

Legend: B faces, K points, S side of the network's input in pixels, H = W cells of a heatmap.
Points are (B, K, 2) float32 x and y in input pixels; the centre of the top-left pixel is (0, 0).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.common.errors import UserError


class Regression:
    """Coordinates, with the centre of the input at 0 and its edges at ±1."""

    spatial = False
    point_shape: tuple[int, ...] = (2,)
    losses = ("l1", "smooth_l1", "mse")

    def __init__(self, *, size: int) -> None:
        self.size = size

    def encode(self, points: Tensor) -> Tensor:
        """(B, K, 2) input pixels → (B, K, 2) target."""
        return (points - (self.size - 1) / 2) / (self.size / 2)

    def decode(self, output: Tensor) -> Tensor:
        """(B, K, 2) output → (B, K, 2) input pixels."""
        return output.float() * (self.size / 2) + (self.size - 1) / 2


class SimCC:
    """Classification of each coordinate over bins finer than a pixel (Li et al., ECCV 2022).

    The target is a Gaussian that sums to 1, along x and along y. Bin b is centred on pixel
    (b + 1/2) / bins − 1/2 − padding.

    Args:
        size: S. bins: per pixel. sigma: of the Gaussian, in pixels.
        padding: pixels beyond the input within which a point can still be placed.
    """

    spatial = False
    losses = ("axis_cross_entropy",)

    def __init__(self, *, size: int, bins: int, sigma: float, padding: float) -> None:
        self.bins, self.sigma, self.padding = bins, sigma, padding
        self.point_shape = (2, math.ceil((size + 2 * padding) * bins))
        self.radius = math.ceil(max(3.5 * sigma, size / 8) * bins)

    def encode(self, points: Tensor) -> Tensor:
        """(B, K, 2) input pixels → (B, K, 2, n) that sums to 1 over n; a far point's mass is at the edge."""
        grid = torch.arange(self.point_shape[1], device=points.device, dtype=points.dtype)
        centres = (grid + 0.5) / self.bins - 0.5 - self.padding
        return ((points[..., None] - centres).square() / (-2 * self.sigma**2)).softmax(-1)

    def decode(self, output: Tensor) -> Tensor:
        """(B, K, 2, n) output → (B, K, 2) input pixels: the mean of the bins within S/8 pixels of the highest one."""
        output = output.float()
        reach = torch.arange(-self.radius, self.radius + 1, device=output.device)
        bins = output.argmax(-1, keepdim=True) + reach
        inside = (bins >= 0) & (bins < output.shape[-1])
        window = output.gather(-1, bins.clamp(0, output.shape[-1] - 1)).masked_fill(~inside, -torch.inf)
        return ((window.softmax(-1) * bins).sum(-1) + 0.5) / self.bins - 0.5 - self.padding


class Heatmap:
    """Heatmap of a Gaussian that sums to 1, for a softmax over the cells.

    The grid covers the input and `pad` cells around it: a point may lie up to `padding` pixels outside the input and
    still have the two cells beyond it that sub-pixel decoding needs. Cell (i, j) is centred on pixel
    (j − pad)·stride + (stride − 1)/2 in x, and likewise in y.

    Args:
        size: S, a multiple of `stride`.
        stride: pixels per cell, the network's.
        sigma: of the Gaussian, in cells.
        padding: pixels beyond the input within which a point can still be placed.
        decoder: "window", the softmax-weighted mean of the cells within S/8 pixels of the highest one (a local
            soft-argmax, Sun et al., ECCV 2018), or "argmax", the centre of the highest cell.
    """

    spatial = True
    losses = ("cross_entropy",)

    def __init__(self, *, size: int, stride: int, sigma: float, padding: float, decoder: str) -> None:
        if size % stride:
            raise UserError(f"crop.size {size} is not a multiple of {stride}, the pixels a heatmap cell")
        self.size, self.stride, self.sigma, self.decoder = size, stride, sigma, decoder
        self.pad = heatmap_pad(padding, stride)
        self.cells = size // stride + 2 * self.pad
        self.radius = self._window_radius()

    def _window_radius(self) -> int:
        return math.ceil(max(3.5 * self.sigma, self.size / 8 / self.stride))

    def _to_pixels(self, cells: Tensor) -> Tensor:
        return (cells - self.pad) * self.stride + (self.stride - 1) / 2

    def _profiles(self, points: Tensor) -> Tensor:
        """(B, K, 2, n) log of a Gaussian of height 1 around each point, along x and along y."""
        grid = torch.arange(self.cells, device=points.device, dtype=points.dtype)
        cells = (points - (self.stride - 1) / 2) / self.stride + self.pad
        return (cells[..., None] - grid).square() / (-2 * self.sigma**2)

    def encode(self, points: Tensor) -> Tensor:
        """(B, K, 2) input pixels → (B, K, H, W) that sums to 1 over the cells; a far point's mass is at the edge."""
        return _outer(self._profiles(points).softmax(-1))

    def normalize(self, output: Tensor) -> Tensor:
        """(B, K, H, W) output → what the target is made of: probabilities of the cells."""
        return output.flatten(2).softmax(-1).unflatten(2, output.shape[2:])

    def _weights(self, window: Tensor) -> Tensor:
        """(B, K, n) output → weights of the cells of a window."""
        return window.softmax(-1)

    def decode(self, output: Tensor) -> Tensor:
        """(B, K, H, W) output → (B, K, 2) input pixels, not rounded or clipped to the input."""
        output = output.float()
        top = output.flatten(2).argmax(-1)  # B K
        x, y = top % self.cells, top // self.cells
        if self.decoder == "argmax":
            return self._to_pixels(torch.stack([x, y], dim=-1).float())
        reach = torch.arange(-self.radius, self.radius + 1, device=output.device)
        x, y = x[..., None] + reach, y[..., None] + reach  # B K w
        inside = ((x >= 0) & (x < self.cells))[..., None, :] & ((y >= 0) & (y < self.cells))[..., :, None]
        x, y = x.clamp(0, self.cells - 1), y.clamp(0, self.cells - 1)
        index = (y[..., :, None] * self.cells + x[..., None, :]).flatten(2)  # B K w·w
        window = output.flatten(2).gather(2, index).masked_fill(~inside.flatten(2), -torch.inf)
        weights = self._weights(window).unflatten(2, (len(reach), len(reach)))
        return self._to_pixels(torch.stack([(weights.sum(-2) * x).sum(-1), (weights.sum(-1) * y).sum(-1)], dim=-1))


class Gaussian(Heatmap):
    """Heatmap of a Gaussian of height 1 (Tompson et al., NeurIPS 2014), decoded by its centre of mass."""

    losses = ("mse",)

    def encode(self, points: Tensor) -> Tensor:
        """(B, K, 2) input pixels → (B, K, H, W) between 0 and 1."""
        return _outer(self._profiles(points).exp())

    def normalize(self, output: Tensor) -> Tensor:
        """(B, K, H, W) output → heights, cut off at 0."""
        return output.clamp(min=0)

    def _window_radius(self) -> int:
        return math.ceil(3.5 * self.sigma)  # the noise of farther cells would weigh as much as the peak's

    def _weights(self, window: Tensor) -> Tensor:
        weights = F.relu(window) + torch.finfo(window.dtype).tiny * window.isfinite()
        return weights / weights.sum(-1, keepdim=True)


class Sigmoid(Gaussian):
    """Heatmap of a Gaussian of height 1 whose sigmoid the network predicts, each cell a probability of its own."""

    losses = ("binary_cross_entropy",)

    def normalize(self, output: Tensor) -> Tensor:
        """(B, K, H, W) output → heights between 0 and 1."""
        return output.sigmoid()

    def _weights(self, window: Tensor) -> Tensor:
        return F.logsigmoid(window).softmax(-1)  # the sigmoids over their sum, where they are tiny, too


def _outer(profiles: Tensor) -> Tensor:
    """(B, K, 2, n) along x and y → (B, K, n, n), rows being y."""
    x, y = profiles.unbind(2)
    return y[..., :, None] * x[..., None, :]


Codec = Regression | SimCC | Heatmap
CODECS: dict[str, type[Codec]] = {
    "regression": Regression, "simcc": SimCC, "heatmap": Heatmap, "gaussian": Gaussian, "sigmoid": Sigmoid}


def heatmap_pad(padding: float, stride: int) -> int:
    """Count the cells around the input: those that `padding` pixels need, and two for the Gaussian's tail."""
    return math.ceil(padding / stride) + 2
