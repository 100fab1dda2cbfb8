"""Settings of one training: schedule, augmentation, seed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.types import (
    CHECKED,
    Count,
    NotNegative,
    NotNegativeInteger,
    Number,
    Positive,
    Share,
    ShareBelowOne,
)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard to train.

    Attributes:
        epochs: passes over the faces.
        batch_size: faces a step.
        lr: highest learning rate of AdamW (Loshchilov & Hutter, ICLR 2019), reached after `warmup_epochs`, then
            lowered to 0 along a cosine.
        weight_decay: of AdamW.
        warmup_epochs: epochs of linear growth; may be a fraction.
        freeze_epochs: first epochs that leave the backbone alone, its batch norm statistics too.
        grad_clip: largest norm of the gradient, None for no limit.
        ema_decay: of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        patience: stop after this many validations without a better MAE; None never stops early.
    """

    __pydantic_config__ = CHECKED

    epochs: Count
    batch_size: Count
    lr: Positive
    weight_decay: NotNegative
    warmup_epochs: NotNegative
    freeze_epochs: NotNegativeInteger
    grad_clip: Positive | None
    ema_decay: ShareBelowOne
    patience: Count | None


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Random similarity transform of a face about its crop.

    Attributes:
        rotate: largest angle in degrees, either way.
        scale: largest enlargement; 0.2 draws the factor between 1/1.2 and 1.2.
        shift: largest shift, in sides of the input.
    """

    __pydantic_config__ = CHECKED

    rotate: Annotated[Number, Field(ge=0, le=180)]
    scale: ShareBelowOne
    shift: Share


@dataclass(frozen=True, kw_only=True)
class Augmentation(Jitter):
    """Training-time augmentation.

    Attributes:
        backend: "albumentations" (face by face), "torch" (whole batches) or "auto", which is torch: on one core twice
            as fast at 96 pixels, as fast at 128, and without worker processes.
        flip: probability of mirroring.
        brightness, contrast: largest change, as a share.
        blur, noise, dropout: probability of a Gaussian blur, of Gaussian noise, of blanked patches.
    """

    backend: Literal["auto", "albumentations", "torch"]
    flip: Share
    brightness: Share
    contrast: Share
    blur: Share
    noise: Share
    dropout: Share


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything beside the faces that decides what a training ends with.

    Attributes:
        network, codec: arguments of `models.build_model`; loss: of `losses.build_loss`.
        schedule, augmentation: see the classes.
        validate_every: epochs between validations; the last epoch always has one.
        seed: fold F trains with seed + F.
    """

    network: dict
    codec: dict
    loss: dict
    schedule: Schedule
    augmentation: Augmentation
    validate_every: int = 1
    seed: int = 0
