"""Test-time augmentation (TTA)."""

from dataclasses import dataclass

from pipeline.common.types import CHECKED, Count, Flag


@dataclass(frozen=True, kw_only=True)
class TTA:
    """The views of a face whose predictions are averaged.

    Attributes:
        batch_size: faces predicted at once.
        flip: whether the mirror image is predicted too.
        shift_tta: whether the view shifted right and down by half a heatmap cell is predicted too, for networks with
            cells of two pixels or more: what lies in the middle of a cell is then at its corner.
    """

    __pydantic_config__ = CHECKED

    batch_size: Count = 64
    flip: Flag = True
    shift_tta: Flag = False
