"""Losses that leave missing points out: their gradient is exactly 0.

Each is a function (output, target, mask) → scalar. `output` and `target` are (B, K, …) as the codec makes them and
`mask` (B, K) bool is True where a point is known. Each says in `LOSSES` which kind of codec it is for.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.common.errors import UserError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _mean_known(per_point: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, K) values over the known points; `where` rather than a product, so that 0·NaN cannot leak."""
    return torch.where(mask, per_point, 0.0).sum() / mask.sum().clamp(min=1)


def _blank(values: Tensor, mask: Tensor) -> Tensor:
    """`values` (B, K, …) with missing points set to 0, which also cuts their gradient."""
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


def cross_entropy(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy between the softmax over all cells of (B, K, H, W) logits and a target that sums to 1."""
    log_share = F.log_softmax(_blank(output, mask).flatten(2), dim=-1)
    return _mean_known(-(target.flatten(2) * log_share).sum(-1), mask)


LOSSES: dict[str, tuple[Loss, tuple[str, ...]]] = {
    "l1": (l1, ("points",)),
    "smooth_l1": (smooth_l1, ("points",)),
    "mse": (mse, ("points", "map")),
    "cross_entropy": (cross_entropy, ("distribution",)),
}


def build_loss(name: str, kind: str, beta: float | None = None) -> Loss:
    """The loss called `name` for targets of `kind` (a codec's); a UserError says what goes together."""
    fitting = [known for known, (_, kinds) in LOSSES.items() if kind in kinds]
    if name not in fitting:
        raise UserError(f"loss {name!r} does not fit this codec: choose one of {', '.join(fitting)}")
    if beta is None:
        return LOSSES[name][0]
    if name != "smooth_l1":
        raise UserError(f"loss {name!r} has no beta; only smooth_l1 has one")
    return partial(smooth_l1, beta=beta)
