"""Settings of one training: schedule, augmentation, seed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.types import CHECKED, Count, NotNegative, NotNegativeInteger, Positive, Share, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard to train.

    `optimizer` is "adamw" (Loshchilov & Hutter, ICLR 2019) or "muon" (Jordan et al., 2024), which makes the update of a
    matrix of weights orthogonal, in longer steps; at the same lr its updates are as large as AdamW's (Liu et al., arXiv
    2502.16982), which it leaves the vectors of weights to.
    """

    __pydantic_config__ = CHECKED

    epochs: Count  # passes over the faces
    batch_size: Count  # faces a step
    optimizer: Literal["adamw", "muon"]
    lr: Positive  # the highest learning rate, after the warm-up
    schedule: Literal["cosine", "constant"]  # of the rate after the warm-up: it falls to 0 along a cosine, or stays
    weight_decay: NotNegative
    warmup_epochs: NotNegative  # of linear growth; may be a fraction
    freeze_epochs: NotNegativeInteger  # first epochs that leave the backbone alone, its batch norm statistics too
    grad_clip: Positive | None  # largest norm of the gradient, None for no limit
    ema_decay: ShareBelowOne  # of the moving average of the weights, which is kept; 0 keeps the last weights
    patience: Count | None  # validations without a better MAE after which to stop; None never stops early

    def phase(self, epoch: int) -> range:
        """The frozen epochs or those after them, whichever `epoch`, from 0, is one of; each has its own schedule."""
        frozen = min(self.freeze_epochs, self.epochs)
        return range(frozen) if epoch < frozen else range(frozen, self.epochs)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Training-time augmentation.

    `backend` is "albumentations" (face by face), "torch" (whole batches) or "auto", which is torch on every device:
    also on a CPU it is the faster one (benchmarks/README.md), and it needs no worker processes.
    """

    __pydantic_config__ = CHECKED

    backend: Literal["auto", "albumentations", "torch"]
    rotate: Annotated[NotNegative, Field(le=180)]  # largest angle in degrees, either way
    scale: ShareBelowOne  # largest enlargement; 0.2 draws the factor between 1/1.2 and 1.2
    shift: Share  # largest shift, in sides of the input
    flip: Share  # probability of mirroring
    brightness: Share  # largest change, as a share
    contrast: Share
    blur: Share  # probability
    noise: Share
    dropout: Share  # probability of blanked patches


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything beside the faces that decides what a training ends with."""

    network: dict  # arguments of `models.build_model`
    codec: dict
    loss: dict  # of `losses.build_loss`
    schedule: Schedule
    augmentation: Augmentation
    validate_every: int = 1  # epochs between validations; the last epoch always has one
    seed: int = 0  # fold F trains with seed + F
