"""Masked losses: the gradient of a missing point is exactly 0.

Each is a function (output, target, mask) → scalar. `output` and `target` are (B, K, …) as the codec makes them and
`mask` (B, K) bool is True where a point is known. A codec names the losses that fit it.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.common.errors import UserError
from pipeline.models import Codec

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _mean_known(per_point: Tensor, mask: Tensor) -> Tensor:
    """Average (B, K) values over the known points; by `where`, as 0·NaN would leak through a product."""
    return torch.where(mask, per_point, 0.0).sum() / mask.sum().clamp(min=1)


def _blank(values: Tensor, mask: Tensor) -> Tensor:
    """Set the missing points of (B, K, …) to 0, which also cuts their gradient."""
    return torch.where(mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), values, 0.0)


def l1(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of (B, K, 2) points."""
    return _mean_known((_blank(output, mask) - _blank(target, mask)).abs().mean(-1), mask)


def smooth_l1(output: Tensor, target: Tensor, mask: Tensor, *, beta: float = 0.02) -> Tensor:
    """Smooth L1 of (B, K, 2) points (Girshick, 2015): a parabola below `beta`, then a line."""
    loss = F.smooth_l1_loss(_blank(output, mask), _blank(target, mask), reduction="none", beta=beta)
    return _mean_known(loss.mean(-1), mask)


def mse(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of points (B, K, 2) or of heatmaps (B, K, H, W)."""
    square = (_blank(output, mask) - _blank(target, mask)).square()
    return _mean_known(square.flatten(2).mean(-1), mask)


def binary_cross_entropy(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy between the sigmoid of (B, K, H, W) logits and a target between 0 and 1."""
    loss = F.binary_cross_entropy_with_logits(_blank(output, mask), _blank(target, mask), reduction="none")
    return _mean_known(loss.flatten(2).mean(-1), mask)


def cross_entropy(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between the softmax over all cells of (B, K, H, W) logits and a target that sums to 1."""
    log_share = F.log_softmax(_blank(output, mask).flatten(2), dim=-1)
    return _mean_known(-(target.flatten(2) * log_share).sum(-1), mask)


def axis_cross_entropy(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between the softmax along each axis of (B, K, 2, n) logits and a target that sums to 1 over n."""
    log_share = F.log_softmax(_blank(output, mask), dim=-1)
    return _mean_known(-(target * log_share).sum((-1, -2)), mask)


LOSSES: dict[str, Loss] = {"l1": l1, "smooth_l1": smooth_l1, "mse": mse, "binary_cross_entropy": binary_cross_entropy,
                           "cross_entropy": cross_entropy, "axis_cross_entropy": axis_cross_entropy}


def build_loss(codec: Codec, name: str, **arguments: float | None) -> Loss:
    """Look up a loss for the codec's targets; a UserError lists those that fit. An argument of None is left out."""
    if name not in codec.losses:
        raise UserError(f"loss {name!r} does not fit this codec: choose one of {', '.join(codec.losses)}")
    return partial(LOSSES[name], **{key: value for key, value in arguments.items() if value is not None})
