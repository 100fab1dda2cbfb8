"""Predicted points on disk: what every stage after `predict` reads. M: faces predicted, K: points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError
from pipeline.common.files import read_arrays, write_arrays
from pipeline.common.pieces import gather, scratch


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Points of some faces.

    Attributes:
        face: (M,) int64, row of each face in the crop store (its train part for OOF, its test part for test).
        points: (M, K, 2) float32, x and y in photo pixels.
        spread: (M, K) float32, root mean square distance of the single predictions to the point, in photo pixels.
    """

    face: np.ndarray
    points: np.ndarray
    spread: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "face", np.asarray(self.face, np.int64))
        object.__setattr__(self, "points", np.asarray(self.points, np.float32))
        object.__setattr__(self, "spread", np.asarray(self.spread, np.float32))
        count = self.face.size
        fits = self.face.shape == (count,) and self.points.shape == (count, *self.spread.shape[1:], 2)
        if not fits or self.spread.shape != self.points.shape[:2]:
            shapes = f"face {self.face.shape}, points {self.points.shape}, spread {self.spread.shape}"
            raise ValueError(f"the shapes should be (M,), (M, K, 2) and (M, K), but are {shapes}")

    def __len__(self) -> int:
        return len(self.face)

    def by_face(self) -> "Predictions":
        """The same, in the order of the crop store."""
        if (self.face[1:] >= self.face[:-1]).all():
            return self
        return self.rows(np.argsort(self.face, kind="stable"))

    def rows(self, rows: np.ndarray | slice) -> "Predictions":
        """Some of the faces, by position, mask (M,) or slice."""
        if isinstance(rows, slice):
            return Predictions(face=self.face[rows], points=self.points[rows], spread=self.spread[rows])
        return Predictions(face=self.face[rows], points=gather(self.points, rows), spread=gather(self.spread, rows))

    @classmethod
    def empty(cls, face: np.ndarray, num_points: int) -> "Predictions":
        """Predictions of these faces, all zero, to be filled in."""
        return cls(face=face, points=scratch((len(face), num_points, 2)), spread=scratch((len(face), num_points)))

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The faces of all parts, one part after another."""
        found, start = cls.empty(np.concatenate([part.face for part in parts]), parts[0].points.shape[1]), 0
        for part in parts:
            found.points[start : start + len(part)], found.spread[start : start + len(part)] = part.points, part.spread
            start += len(part)
        return found

    def save(self, path: Path) -> None:
        """Write an npz file, whole or not at all."""
        write_arrays(path, face=self.face, points=self.points, spread=self.spread)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote; a UserError names the file where it is missing, broken or of other shape."""
        what_to_do = "run `dvc repro` (or the stage that writes it) first"
        arrays = read_arrays(path, ["face", "points", "spread"], what_to_do)
        try:
            return cls(**arrays)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not what was written there ({error}); delete it and {what_to_do}") from None


Runs = dict[str, dict[int, Predictions]]  # model → fold → its predictions


def load_runs(runs: Path, models: Sequence[str], folds: Sequence[int], part: str) -> Runs:
    """The `oof` or `test` predictions of every model and fold that is named: `runs/MODEL/foldFOLD/PART.npz`.

    Raises:
        UserError: every file that is missing or broken.
    """
    found: Runs = {model: {} for model in models}
    problems: list[str] = []
    for model in models:
        for fold in folds:
            try:
                found[model][fold] = Predictions.load(runs / model / f"fold{fold}" / f"{part}.npz")
            except UserError as error:
                problems.extend(error.problems)
    if problems:
        raise UserError(*problems)
    return found
