"""Blends of several models, fitted on out-of-fold (OOF) predictions.

Legend: L members of a blend, F faces, K points. A blend knows three rules: the mean of the members, their median
(each coordinate for itself), or weights fitted on OOF. A shape correction may follow.
"""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.paths import Paths
from pipeline.data.folds import read_folds
from pipeline.data.store import CropStore
from pipeline.inference.predictions import Predictions, Runs, load_runs
from pipeline.inference.shape import ShapeCorrection

BLENDS = ("mean", "median", "weights")
SHAPE = "shape.npz"
BLOCK = 1000  # faces that are blended, or fitted on, at once; bounds the memory


@dataclass(frozen=True, kw_only=True)
class Blend:
    """A fitted blend of L members: weights (L,) summing to 1, None for the median; and a correction, None for none."""

    weights: np.ndarray | None
    shape: ShapeCorrection | None

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Blend the members, which predict the same faces in the same order."""
        found = blend_members(members, self.weights)
        return found if self.shape is None else replace(found, points=self.shape.apply(found.points))


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A blend of all models.

    Attributes:
        oof, test: one prediction for every train face, in the order of the crop store, and for every test face.
        weights: what `weights.json` holds: `blend`, `ridge`; and, but for the median, `test` (model → its weight in the
            test blend) and `oof` (fold → model → its weight in the blend of that fold's faces).
        shape: the correction of the test blend, None without one.
    """

    oof: Predictions
    test: Predictions
    weights: dict
    shape: ShapeCorrection | None

    def save(self, folder: Path) -> None:
        """Write `oof.npz`, `test.npz`, `weights.json` and, where there is a correction, `shape.npz`."""
        self.oof.save(folder / "oof.npz")
        self.test.save(folder / "test.npz")
        write_text(folder / "weights.json", json.dumps(self.weights, indent=2) + "\n")
        (folder / SHAPE).unlink(missing_ok=True)
        if self.shape:
            self.shape.save(folder / SHAPE)


def build_ensemble(
    oof: Runs, test: Runs, truth: np.ndarray, fold: np.ndarray, blend: str, *,
    ridge: float | None = None, flip_indices: np.ndarray | None = None,
) -> Ensemble:
    """Blend the models.

    Weights and shape correction of a fold's faces are fitted on the OOF predictions of the other folds (Wolpert,
    Stacked generalization, 1992), those of the test faces on all of them.

    Args:
        truth: (F, K, 2) image pixels, NaN where missing; fold: (F,) the fold of each train face.
        ridge, flip_indices: see `ShapeCorrection.fit`; None for no correction.

    Raises:
        UserError: members that do not fit each other or the train faces; too few faces to learn a correction from.
    """
    if blend not in BLENDS:
        raise UserError(f"ensemble.blend {blend!r}: choose one of {', '.join(BLENDS)}")
    _check(oof, test, truth, fold)
    models, pooled = list(oof), [Predictions.pool(list(parts.values())) for parts in oof.values()]
    del oof  # for the memory

    fit = partial(_fit, pooled, truth, blend, ridge, flip_indices)
    by_fold = {int(own): fit(fold != own) for own in np.unique(fold)}
    for_test = fit(np.ones(len(fold), bool))
    whole = deepcopy(pooled[0])
    for own, found in by_fold.items():
        part = found.apply([member.rows(fold == own) for member in pooled])
        whole.points[fold == own], whole.spread[fold == own] = part.points, part.spread
    weights: dict = {"blend": blend, "ridge": ridge}
    if blend != "median":
        shares = {str(own): dict(zip(models, found.weights.tolist(), strict=True))
                  for own, found in [*by_fold.items(), ("test", for_test)] if found.weights is not None}
        weights |= {"test": shares.pop("test"), "oof": shares}
    members = [average_folds(list(test[model].values())) for model in models]
    return Ensemble(oof=whole, test=for_test.apply(members), weights=weights, shape=for_test.shape)


def _fit(
    pooled: Sequence[Predictions], truth: np.ndarray, blend: str, ridge: float | None, flip_indices: np.ndarray | None,
    rows: np.ndarray,
) -> Blend:
    """Fit a blend on the OOF predictions of some faces, given by a mask (F,)."""
    weights = None if blend == "median" else np.full(len(pooled), 1 / len(pooled))
    if blend == "weights" and len(pooled) > 1:
        weights = fit_weights([member.points[rows] for member in pooled], truth[rows])
    if ridge is None:
        return Blend(weights=weights, shape=None)
    assert flip_indices is not None
    points = blend_members([member.rows(rows) for member in pooled], weights).points
    return Blend(weights=weights, shape=ShapeCorrection.fit(points, truth[rows], flip_indices, ridge))


def ensemble_files(
    paths: Paths, models: Sequence[str], folds: Sequence[int], blend: str, *,
    ridge: float | None = None, flip_indices: np.ndarray | None = None,
) -> Ensemble:
    """Blend the prediction files of the named models and folds by `build_ensemble`, and save the result."""
    store = CropStore.open(paths.crops / "train")
    fold = read_folds(paths.folds, len(store)).fold.to_numpy()
    found = build_ensemble(
        load_runs(paths, models, folds, "oof"), load_runs(paths, models, folds, "test"), store.truth, fold, blend,
        ridge=ridge, flip_indices=flip_indices)
    found.save(paths.ensemble)
    return found


def model_points(paths: Paths, model: str, folds: Sequence[int], part: str) -> np.ndarray:
    """Read the points (N, K, 2) of one model: of the train faces for `oof`, the mean of its folds for `test`."""
    runs = list(load_runs(paths, [model], folds, part)[model].values())
    return (Predictions.pool(runs) if part == "oof" else average_folds(runs)).points


def average_folds(members: Sequence[Predictions]) -> Predictions:
    """Average the folds of one model, which predict the same faces, in the order of the crop store.

    The spread is the root mean square of the folds' own. How far the folds lie apart is not in it, for an OOF
    prediction, with which it will be compared, is that of one fold.
    """
    members = [member.by_face() for member in members]
    mean = blend_members(members, np.full(len(members), 1 / len(members)))
    for block in _blocks(len(mean)):
        squares = sum(np.square(member.spread[block], dtype=np.float64) for member in members)
        mean.spread[block] = np.sqrt(squares / len(members))
    return mean


def blend_members(members: Sequence[Predictions], weights: np.ndarray | None) -> Predictions:
    """Blend L members, which predict the same faces in the same order: their weighted mean, or median for None.

    The median is that of each coordinate. The spread is that of a mixture of the members (law of total variance): the
    root of the weighted mean of each member's own squared spread plus its squared distance to the blend; for the median
    with equal weights.
    """
    def mean(values: np.ndarray) -> np.ndarray:
        return values.mean(0) if weights is None else (weights * values.T).T.sum(0)

    blended = deepcopy(members[0])
    for block in _blocks(len(blended)):
        points = np.stack([member.points[block] for member in members], dtype=np.float64)  # L F K 2
        own = np.stack([member.spread[block] for member in members], dtype=np.float64)  # L F K
        middle = np.median(points, axis=0) if weights is None else mean(points)
        blended.points[block] = middle
        blended.spread[block] = np.sqrt(mean(np.square(own) + np.square(points - middle).sum(-1)))
    return blended


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))


def fit_weights(points: Sequence[np.ndarray], truth: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Fit the weights, none negative and summing to 1, with which the members' mean has the least MAE.

    Least absolute deviations by iteratively reweighted least squares (Schlossmacher, JASA 1973). As the weights sum
    to 1, the blend's error is the blend of the members' errors E (n, L), and each round minimises |√d E w|², d being
    1/|error| of the round before. Its minimum on the simplex is the direction of the non-negative least squares
    solution of [R; 1ᵀ] w = [0; 1], R being the triangle of the QR decomposition of √d E. The best round counts, single
    members included, so that the blend is never worse than any of them on the faces it was fitted on.

    Points are (F, K, 2) predictions of each of L members, truth (F, K, 2); what is NaN there is left out.
    """
    def errors() -> Iterator[np.ndarray]:
        for block in _blocks(len(truth)):
            present = np.isfinite(truth[block]).all(-1)
            yield np.stack([(member[block].astype(np.float64) - truth[block])[present].ravel() for member in points], 1)

    def mean_error(weights: np.ndarray) -> float:
        return sum(np.abs(part @ weights).sum() for part in errors()) / count

    equal, count = np.full(len(points), 1 / len(points)), sum(map(len, errors()))
    if not count:
        return equal
    candidates, weights = [equal, *np.eye(len(points))], equal
    smallest = 1e-6 * np.mean([mean_error(single) for single in candidates[1:]]) + 1e-12
    for _ in range(rounds):
        triangle: np.ndarray = np.empty((0, len(points)))
        for part in errors():
            root = 1 / np.sqrt(np.maximum(np.abs(part @ weights), smallest))
            triangle = np.asarray(np.linalg.qr(np.vstack([triangle, root[:, None] * part]), mode="r"))
        triangle /= np.sqrt(count)
        found, _ = nnls(np.vstack([triangle, np.ones(len(equal))]), np.append(np.zeros(len(triangle)), 1.0))
        previous, weights = weights, found / found.sum()
        candidates.append(weights)
        if np.abs(weights - previous).max() < 1e-6:
            break
    return min(candidates, key=mean_error)


def _check(oof: Runs, test: Runs, truth: np.ndarray, fold: np.ndarray) -> None:
    """Raise a UserError with every way in which the members do not fit each other or the train faces."""
    problems = [problem for model, parts in oof.items() for problem in _oof_problems(model, parts, fold)]
    members = [(f"{model}, fold {own}", part) for model in test for own, part in test[model].items()]
    for name, part in members:
        first = np.unique(members[0][1].face)
        if not np.array_equal(np.sort(part.face), first):
            problems.append(f"{name}: its {len(part)} test faces are not the {len(first)} of {members[0][0]}, each "
                          "once; run its predict stage again")
    for name, part in members + [(f"{model}, fold {own}", part) for model in oof for own, part in oof[model].items()]:
        if part.points.shape[1] != truth.shape[1]:
            problems.append(f"{name}: {part.points.shape[1]} points a face, but the train faces have {truth.shape[1]}; "
                          "train it again")
    if problems:
        raise UserError(*problems)


def _oof_problems(model: str, parts: dict[int, Predictions], fold: np.ndarray) -> list[str]:
    """Find why a model's OOF predictions do not cover every train face exactly once, each in its own fold."""
    problems = [f"{model}, fold {own}: its OOF faces are not those of the fold, each once; run its predict stage again"
                for own, part in parts.items() if not np.array_equal(np.sort(part.face), np.flatnonzero(fold == own))]
    if left_out := sorted(set(fold.tolist()) - set(parts)):
        problems.append(f"{model}: no OOF predictions for fold {', '.join(map(str, left_out))}, so not every face is "
                      "covered; name every fold in split.folds")
    return problems
