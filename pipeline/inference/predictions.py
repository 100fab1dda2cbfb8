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

FIELDS = ("face", "points", "spread")


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
        face = np.asarray(self.face)
        if face.dtype.kind not in "iu" and not (np.isfinite(face) & (face == np.floor(face))).all():
            raise ValueError("faces that are no whole numbers")
        for name, dtype in zip(FIELDS, (np.int64, np.float32, np.float32), strict=True):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        if self.face.shape != self.points.shape[:1] or self.points.shape != (*self.spread.shape[:2], 2):
            shapes = f"face {self.face.shape}, points {self.points.shape}, spread {self.spread.shape}"
            raise ValueError(f"the shapes should be (M,), (M, K, 2) and (M, K), but are {shapes}")

    def __len__(self) -> int:
        return len(self.face)

    def by_face(self) -> "Predictions":
        """Sort by face, the order of the crop store."""
        return self if (np.diff(self.face) > 0).all() else Predictions.pool([self])

    def rows(self, rows: np.ndarray | slice) -> "Predictions":
        """Select some of the faces, by position, mask (M,) or slice."""
        return Predictions(face=self.face[rows], points=self.points[rows], spread=self.spread[rows])

    @classmethod
    def pool(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Join the faces of all parts, as of the folds of one model, in the order of the crop store."""
        order = np.argsort(np.concatenate([part.face for part in parts]), kind="stable")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in FIELDS})

    def check_finite(self, path: Path) -> None:
        """Raise a UserError that names `path` and the first face with a point or spread that is not finite."""
        broken = self.face[~(np.isfinite(self.points).all((1, 2)) & np.isfinite(self.spread).all(1))]
        if len(broken):
            raise UserError(f"{path}: {len(broken)} of {len(self)} faces have points that are not finite, the first is "
                            f"face {broken[0]}; train the model again, with a lower lr or a grad_clip, and predict")

    def save(self, path: Path) -> None:
        """Write an npz file atomically; nothing is written where `check_finite` raises."""
        self.check_finite(path)
        write_arrays(path, face=self.face, points=self.points, spread=self.spread)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote; a UserError names the file where it is missing, broken, or not finite."""
        what_to_do = "run `dvc repro` (or the stage that writes it) first"
        arrays = read_arrays(path, FIELDS, what_to_do)
        try:
            found = cls(**arrays)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not what was written there ({error}); delete it and {what_to_do}") from None
        found.check_finite(path)
        return found


Runs = dict[str, dict[int, Predictions]]  # model → fold → its predictions


def load_runs(paths: Paths, models: Sequence[str], folds: Sequence[int], part: str) -> Runs:
    """Read the "oof" or "test" predictions of the named models and folds; a UserError names each bad file."""
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
