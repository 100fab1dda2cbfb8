"""Trained models as torch modules from crops to points in image pixels: what `export` writes as ONNX.

Legend: B faces, K points, L members, V views, T side of the crops in pixels. Crops are (B, T, T, 3) RGB or (B, T, T)
grey uint8, as OpenCV cuts them; affines (B, 2, 3) float32 are image → crop, without shear; points (B, K, 2) float32 and
spreads (B, K) are in image pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.common.errors import UserError
from pipeline.data.crops import CropGeometry, store_size
from pipeline.inference.ensemble import Blend
from pipeline.inference.intervals import Intervals
from pipeline.inference.predict import check_fit
from pipeline.inference.tta import TTA
from pipeline.keypoints.geometry import SMALLEST
from pipeline.models.checkpoint import load_model


class Member(nn.Module):
    """The folds of one model, each asked for all views of a face, as `Predictor` and `average_folds` do."""

    def __init__(
        self, runs: Sequence[Path], kind: str, geometry: CropGeometry, flip_indices: np.ndarray, tta: TTA
    ) -> None:
        super().__init__()
        loaded = [load_model(run) for run in runs]
        channels = 1 if geometry.color == "grey" else 3
        for run, (_, _, description) in zip(runs, loaded, strict=True):
            check_fit(run, description, size=geometry.size, channels=channels, num_points=len(flip_indices))
        self.networks = nn.ModuleList(network for network, _, _ in loaded)
        self.codec, self.kind, self.size = loaded[0][1], kind, geometry.size
        self.border = (store_size(geometry.size, geometry.padding) - geometry.size) // 2
        self.shifts = sorted({0, loaded[0][0].stride // 2 if tta.shift_tta else 0})
        if self.shifts[-1] > self.border:
            raise UserError(f"predict.shift_tta needs a border of {self.shifts[-1]} pixels, the crops have "
                            f"{self.border}; give --no-tta")
        self.flip, self.flip_indices = tta.flip, flip_indices.tolist()

    def forward(self, crops: Tensor, affines: Tensor) -> tuple[Tensor, Tensor]:
        """Crops and affines → points, spreads."""
        crops = crops[..., None] if crops.ndim == 3 else crops
        corners = [self.border + shift for shift in self.shifts]
        views = [crops[:, corner : corner + self.size, corner : corner + self.size] for corner in corners]
        images = torch.cat([*views, *(view.flip(2) for view in views if self.flip)]).movedim(-1, 1)  # V·B C S S
        found = [self._read(network(images)) for network in self.networks]
        points = torch.stack([each.mean(0) for each in found]).mean(0)
        spread = torch.stack([(each - each.mean(0)).square().sum(-1).mean(0) for each in found]).mean(0).sqrt()
        linear, shift = affines[:, None, :, :2], affines[:, None, :, 2]
        (a, b), (c, d) = linear[..., 0, :].unbind(-1), linear[..., 1, :].unbind(-1)
        area, (x, y) = a * d - b * c, (points - shift).unbind(-1)
        return torch.stack([(d * x - b * y) / area, (a * y - c * x) / area], dim=-1), spread / area.sqrt()

    def _read(self, output: Tensor) -> Tensor:
        """(V·B, …) output of a network → points (V, B, K, 2) in crop pixels."""
        views = len(self.shifts) * (1 + self.flip)
        points = self.codec.decode(output).unflatten(0, (views, -1))
        if self.flip:
            plain, (x, y) = points[: views // 2], points[views // 2 :, :, self.flip_indices].unbind(-1)
            points = torch.cat([plain, torch.stack([self.size - 1 - x, y], dim=-1)])
        shifts = self.border + points.new_tensor(self.shifts * (1 + self.flip))
        return points + shifts[:, None, None, None]


class Locator(nn.Module):
    """A member whose points place the upright crops, as `align_affine` does.

    Args:
        reference, geometry: see `align_affine`.
    """

    def __init__(self, member: Member, reference: np.ndarray, geometry: CropGeometry) -> None:
        super().__init__()
        self.member = member
        low, high = reference.min(0), reference.max(0)
        self.scale = geometry.size / (geometry.margin * (high - low).max())  # of the reference
        middle = (geometry.size - 1) / 2 - (low + high) / 2 * self.scale
        self.register_buffer("reference", torch.tensor(reference, dtype=torch.float32))
        self.register_buffer("middle", torch.tensor(middle, dtype=torch.float32))

    def forward(self, crops: Tensor, affines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops and affines → points, spreads, affines image → upright crop."""
        points, spread = self.member(crops, affines)
        centre = points.mean(1)
        (x, y), (u, v) = (points - centre[:, None]).unbind(-1), self.reference.unbind(-1)  # type: ignore[operator]
        real, imaginary = (x * u + y * v).sum(1), (x * v - y * u).sum(1)
        length = (real.square() + imaginary.square()).sqrt()
        radius = (x.square() + y.square()).mean(1).sqrt().clamp(min=SMALLEST)
        cosine = torch.where(length > 0, real / length, 1.0) * self.scale / radius
        sine = torch.where(length > 0, imaginary / length, 0.0) * self.scale / radius
        shift_x = self.middle[0] - cosine * centre[:, 0] + sine * centre[:, 1]  # type: ignore[index]
        shift_y = self.middle[1] - sine * centre[:, 0] - cosine * centre[:, 1]  # type: ignore[index]
        rows = [cosine, -sine, shift_x, sine, cosine, shift_y]
        return points, spread, torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


class Ensemble(nn.Module):
    """A blend of members, as `Blend` does it, and the radii of its points.

    Attributes:
        kinds: of the crops that the members see, "box" before "upright".

    Args:
        intervals: None for no radii.
    """

    def __init__(self, members: Sequence[Member], blend: Blend, intervals: Intervals | None) -> None:
        super().__init__()
        self.members, self.kinds = nn.ModuleList(members), sorted({member.kind for member in members})
        self.weights, self.corrected = blend.weights, blend.shape is not None
        arrays = {"radius": intervals and np.stack([intervals.base, intervals.slope, intervals.quantile])}
        arrays |= {"matrix": blend.shape.weights.T, "offset": blend.shape.offset} if blend.shape else {}
        for name, array in arrays.items():
            self.register_buffer(name, None if array is None else torch.tensor(array, dtype=torch.float32))

    def forward(
        self, crops: list[Tensor], affines: list[Tensor], boxes: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Crops and affines by kind, and (B, 4) boxes where there are radii → points, spreads[, radii (B, K)]."""
        seen = [self.kinds.index(member.kind) for member in self.members]  # type: ignore[arg-type]
        found = [member(crops[kind], affines[kind]) for member, kind in zip(self.members, seen, strict=True)]
        points, own = (torch.stack(parts) for parts in zip(*found, strict=True))  # L B K 2, L B K
        count = len(points)
        if self.weights is None:
            ordered = points.sort(0).values
            blended = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
        else:
            blended = self._mean(points)
        spread = self._mean(own.square() + (points - blended).square().sum(-1)).sqrt()
        blended = self._correct(blended) if self.corrected else blended
        if boxes is None:
            return blended, spread
        base, slope, quantile = self.radius.unbind(0)  # type: ignore[operator]
        return blended, spread, (base * boxes[:, 2:].amax(1, keepdim=True) + slope * spread) * quantile

    def _mean(self, values: Tensor) -> Tensor:
        """(L, …) → (…), with equal weights for the median."""
        weights = np.full(len(values), 1 / len(values)) if self.weights is None else self.weights
        return sum(float(weight) * value for weight, value in zip(weights, values, strict=True))  # type: ignore

    def _correct(self, points: Tensor) -> Tensor:
        """See `ShapeCorrection.apply`."""
        centred = points - points.mean(1, keepdim=True)
        size = centred.square().sum(-1).mean(-1).sqrt()[:, None]
        shape = centred.flatten(1) / size.clamp(min=torch.finfo(size.dtype).tiny)
        return points + ((shape @ self.matrix + self.offset) * size).unflatten(1, (-1, 2))  # type: ignore[operator]
