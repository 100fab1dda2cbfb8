"""Batch augmentation by torch on any device, with the distribution of `pipeline.training.augment`.

Legend: B faces, K points, C channels, S side of the stored crop, s side of the network's input, H holes.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.keypoints import geometry
from pipeline.training.settings import Augmentation

PHOTOMETRIC = 0.8  # probability of a change of brightness and contrast
SIGMA = (0.4, 1.6)  # of the blur, in pixels
NOISE = (0.01, 0.06)  # standard deviation, as a share of white
HOLES, HOLE = 3, (0.08, 0.3)  # most holes, and their sides in sides of the input
TAPS = 5  # of the blur's kernel on either side: 3.5 sigma


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Random numbers of one batch."""

    affine: np.ndarray  # (B, 2, 3) stored crop → input, before mirroring
    mirror: np.ndarray  # (B,) bool
    contrast: np.ndarray  # (B,) factor
    brightness: np.ndarray  # (B,) term as a share of white
    sigma: np.ndarray  # (B,) of the blur in pixels, 0 for none
    noise: np.ndarray  # (B,) standard deviation as a share of white, 0 for none
    noise_seed: np.ndarray  # (B,)
    holes: np.ndarray  # (B, H, 4) left, top, right, bottom in input pixels, the last two excluded; empty for none
    fill: np.ndarray  # (B, H, C) colour of the holes, 0 to 255

    def part(self, rows: slice) -> "Draw":
        """Select some of the faces."""
        return Draw(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class BatchAugment:
    """Transform from stored crops to the network's inputs of side `size`; see `augment.build`."""

    def __init__(self, size: int, flip_indices: np.ndarray, augmentation: Augmentation) -> None:
        self.size, self.augmentation = size, augmentation
        self.flip_indices = torch.as_tensor(flip_indices)

    def draw(self, rng: np.random.Generator, batch: int, stored: int, channels: int) -> Draw:
        """Draw the random numbers for `batch` crops of side `stored`."""
        chosen = self.augmentation
        shift = round(chosen.shift * self.size)
        angle = np.deg2rad(rng.uniform(-chosen.rotate, chosen.rotate, batch))
        zoom = np.where(rng.random(batch) < 0.5, rng.uniform(1 / (1 + chosen.scale), 1, batch),
                        rng.uniform(1, 1 + chosen.scale, batch))
        photometric = rng.random(batch) < PHOTOMETRIC
        sides = np.maximum(1, np.floor(rng.uniform(*HOLE, (batch, HOLES, 2)) * self.size))
        corner = np.floor(rng.random((batch, HOLES, 2)) * (self.size - sides + 1))
        shown = np.arange(HOLES) < rng.integers(1, HOLES + 1, batch)[:, None]
        shown &= rng.random((batch, 1)) < chosen.dropout
        holes = np.concatenate([corner, corner + sides], axis=-1) * shown[..., None]
        return Draw(
            affine=self._affine(angle, zoom, rng.integers(-shift, shift + 1, (batch, 2)), stored),
            mirror=rng.random(batch) < chosen.flip,
            contrast=np.where(photometric, 1 + rng.uniform(-chosen.contrast, chosen.contrast, batch), 1),
            brightness=np.where(photometric, rng.uniform(-chosen.brightness, chosen.brightness, batch), 0),
            sigma=np.where(rng.random(batch) < chosen.blur, rng.uniform(*SIGMA, batch), 0),
            noise=np.where(rng.random(batch) < chosen.noise, rng.uniform(*NOISE, batch), 0),
            noise_seed=rng.integers(2**31, size=batch), holes=holes,
            fill=rng.integers(0, 256, (batch, HOLES, channels)),
        )

    def _affine(self, angle: np.ndarray, zoom: np.ndarray, shift: np.ndarray, stored: int) -> np.ndarray:
        """(B, 2, 3): rotate (radians, anticlockwise as seen) and scale about the centre, then shift."""
        centre, border = (stored - 1) / 2, (stored - self.size) // 2
        cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
        linear = np.stack([cosine, sine, -sine, cosine], axis=-1).reshape(-1, 2, 2)
        offset = centre - border + shift[..., None] - linear @ np.full((2, 1), centre)
        return np.concatenate([linear, offset], axis=-1)

    def apply(self, crops: Tensor, points: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Augment a batch on its device.

        Args:
            crops: (B, C, S, S) uint8.
            points: (B, K, 2) float32, stored-crop pixels.

        Returns:
            images (B, C, s, s) uint8 and points (B, K, 2) float32 in input pixels, also those outside the input.
        """
        mirrored = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[-1.0, 0, self.size - 1], [0, 1, 0]])
        affine = geometry.compose(np.stack(mirrored)[draw.mirror.astype(int)], draw.affine)
        images, forward = self._warp(crops, affine), _send(affine, crops)
        points = points @ forward[..., :2].mT + forward[..., 2:].mT
        mirror = torch.as_tensor(draw.mirror).to(crops.device, non_blocking=True)
        points = torch.where(mirror[:, None, None], points[:, self.flip_indices.to(crops.device)], points)
        contrast, brightness = _send(draw.contrast, crops), _send(255 * draw.brightness, crops)
        images = (images * contrast[:, None, None, None] + brightness[:, None, None, None]).clamp_(0, 255)
        images = self._add_noise(self._blur(images, draw.sigma), draw)
        return self._cut_out(images, draw).round_().to(torch.uint8), points

    def _warp(self, crops: Tensor, affine: np.ndarray) -> Tensor:
        """(B, C, s, s) float32 inputs, black outside the stored crop."""
        stored = crops.shape[-1]
        unit = np.array([[self.size / 2, 0, (self.size - 1) / 2], [0, self.size / 2, (self.size - 1) / 2]])
        to_unit = np.array([[2 / stored, 0, 1 / stored - 1], [0, 2 / stored, 1 / stored - 1]])
        theta = _send(geometry.compose(to_unit, geometry.compose(geometry.invert(affine), unit)), crops)
        along_x, along_y, start = theta[..., None, None].unbind(2)  # B 2 1 1
        position = (torch.arange(self.size, device=crops.device) + 0.5) * (2 / self.size) - 1
        grid = along_x * position + (along_y * position[:, None] + start)  # F.affine_grid, but without its slow matmul
        return F.grid_sample(crops.float(), grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros",
                             align_corners=False)

    def _blur(self, images: Tensor, sigma: np.ndarray) -> Tensor:
        rows = np.flatnonzero(sigma)
        if not len(rows):
            return images
        reach, spread = np.arange(-TAPS, TAPS + 1), sigma[rows, None]
        weights = np.exp(-0.5 * np.square(reach / spread)) * (np.abs(reach) <= np.floor(3.5 * spread))
        kernel = _send(weights / weights.sum(1, keepdims=True), images)
        kernel = kernel.repeat_interleave(images.shape[1], 0)[:, None, None]
        index = torch.from_numpy(rows).to(images.device, non_blocking=True)
        chosen = F.pad(images[index].flatten(0, 1)[None], (TAPS,) * 4, mode="reflect")  # 1 BC s s
        chosen = F.conv2d(F.conv2d(chosen, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))
        images[index] = chosen.view(len(rows), *images.shape[1:])
        return images

    def _add_noise(self, images: Tensor, draw: Draw) -> Tensor:
        generator = torch.Generator(images.device)
        for row in np.flatnonzero(draw.noise):
            generator.manual_seed(int(draw.noise_seed[row]))
            noise = torch.randn(images.shape[1:], generator=generator, device=images.device)
            images[row] = (images[row] + 255 * float(draw.noise[row]) * noise).clamp_(0, 255)
        return images

    def _cut_out(self, images: Tensor, draw: Draw) -> Tensor:
        rows = np.flatnonzero(draw.holes[..., 2].any(1))
        if not len(rows):
            return images
        index = torch.from_numpy(rows).to(images.device, non_blocking=True)
        left, top, right, bottom = _send(draw.holes[rows], images)[..., None, None, None].unbind(2)  # R H 1 1 1
        position = torch.arange(self.size, device=images.device)
        inside = (position >= left) & (position < right)  # R H 1 1 s
        inside = inside & (position[:, None] >= top) & (position[:, None] < bottom)  # R H 1 s s
        fill, chosen = _send(draw.fill[rows], images)[..., None, None], images[index]
        for hole in range(HOLES):
            chosen = torch.where(inside[:, hole], fill[:, hole], chosen)
        images[index] = chosen
        return images


def _send(values: np.ndarray, images: Tensor) -> Tensor:
    """float32 values on the device of the images."""
    return torch.as_tensor(values, dtype=torch.float32).to(images.device, non_blocking=True)
