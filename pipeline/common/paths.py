"""Paths of the files that the stages exchange."""

from pathlib import Path


class Paths:
    """The layout of a workspace.

    Attributes:
        params: all parameters.
        crops, aligned: crop stores around the boxes, and of upright crops; parts `train` and `test`.
        folds: fold table.
        ensemble: blended predictions and weights.
        reports: report page, suspected label errors, training curves.
        resume: states of interrupted trainings.
    """

    def __init__(self, root: Path = Path()) -> None:
        self.root, self.params = root, root / "params.yaml"
        self.crops, self.aligned, self.folds = root / "data/crops", root / "data/aligned", root / "data/folds.csv"
        self.ensemble, self.reports, self.resume = root / "ensemble", root / "reports", root / ".resume"

    def run(self, model: str, fold: int) -> Path:
        """Weights, history and predictions of one fold of one model."""
        return self.root / "runs" / model / f"fold{fold}"
