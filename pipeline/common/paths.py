"""Paths of the files that the stages exchange."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The layout of a workspace, relative to its root.

    Attributes:
        root: folder that holds params.yaml.
    """

    root: Path = Path()

    @property
    def params(self) -> Path:
        """All parameters."""
        return self.root / "params.yaml"

    @property
    def crops(self) -> Path:
        """Crop store around the boxes, parts `train` and `test`."""
        return self.root / "data/crops"

    @property
    def aligned(self) -> Path:
        """Crop store of upright crops, parts `train` and `test`."""
        return self.root / "data/aligned"

    @property
    def folds(self) -> Path:
        """Fold table."""
        return self.root / "data/folds.csv"

    @property
    def ensemble(self) -> Path:
        """Blended predictions and weights."""
        return self.root / "ensemble"

    @property
    def reports(self) -> Path:
        """Report page, its pictures, training curves."""
        return self.root / "reports"

    @property
    def resume(self) -> Path:
        """States of interrupted trainings."""
        return self.root / ".resume"

    def run(self, model: str, fold: int) -> Path:
        """Weights, history and predictions of one fold of one model."""
        return self.root / "runs" / model / f"fold{fold}"
