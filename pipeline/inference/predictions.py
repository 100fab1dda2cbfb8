"""Predicted points in files, which every stage after `predict` reads.

Legend: M faces predicted, K points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError
from pipeline.common.files import read_arrays, write_arrays
from pipeline.common.paths import Paths


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Points of some faces.

    Attributes:
        face: (M,) int64, row of each face in the crop store (its train part for OOF, its test part for test).
        points: (M, K, 2) float32, x and y in image pixels.
        spread: (M, K) float32, root mean square distance of the single predictions to the point, in image pixels.
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
        """Sort by face, the order of the crop store."""
        return self.rows(np.argsort(self.face, kind="stable"))

    def rows(self, rows: np.ndarray | slice) -> "Predictions":
        """Select some of the faces, by position, mask (M,) or slice."""
        return Predictions(face=self.face[rows], points=self.points[rows], spread=self.spread[rows])

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Join the faces of all parts, one part after another."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts])
                      for name in ("face", "points", "spread")})

    def save(self, path: Path) -> None:
        """Write an npz file atomically."""
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


def load_runs(paths: Paths, models: Sequence[str], folds: Sequence[int], part: str) -> Runs:
    """Read the predictions of the named models and folds; `part` is "oof" or "test".

    Raises:
        UserError: every file that is missing or broken.
    """
    found: Runs = {model: {} for model in models}
    problems: list[str] = []
    for model, fold in product(models, folds):
        try:
            found[model][fold] = Predictions.load(paths.run(model, fold) / f"{part}.npz")
        except UserError as error:
            problems.extend(error.problems)
    if problems:
        raise UserError(*problems)
    return found
