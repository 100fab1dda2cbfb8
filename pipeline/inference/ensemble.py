"""Blends of several models, fitted on out-of-fold (OOF) predictions.

Legend: L members of a blend, F faces, K points. A blend knows three rules: the mean of the members, their median
(each coordinate for itself), or weights fitted on OOF. A shape correction may follow.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, kw_only=True)
class Blend:
    """A fitted rule that blends the predictions of L members.

    Attributes:
        weights: (L,) summing to 1; None for the median.
        shape: correction of the blended points; None for none.
    """

    weights: np.ndarray | None
    shape: ShapeCorrection | None

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Blend the members, which predict the same faces in the same order."""
        found = blend_median(members) if self.weights is None else blend_weighted(members, self.weights)
        return found if self.shape is None else replace(found, points=self.shape.apply(found.points))


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A blend of all models.

    Attributes:
        oof: one prediction for every train face, in the order of the crop store.
        test: one for every test face.
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
        if self.shape is None:
            (folder / SHAPE).unlink(missing_ok=True)
        else:
            self.shape.save(folder / SHAPE)


def build_ensemble(
    oof: Runs, test: Runs, truth: np.ndarray, fold: np.ndarray, blend: str, *,
    ridge: float | None = None, flip_indices: np.ndarray | None = None,
) -> Ensemble:
    """Blend the models.

    Weights and shape correction of a fold's faces are fitted on the OOF predictions of the other folds (Wolpert,
    Stacked generalization, 1992), those of the test faces on all of them.

    Args:
        oof: predictions for the faces of each fold.
        test: predictions for all test faces; within a model the mean over the folds is taken first.
        truth: (F, K, 2) image pixels, NaN where missing.
        fold: (F,) the fold of each train face.
        blend: "mean", "median" or "weights".
        ridge: strength of the ridge of a `ShapeCorrection`, None for no correction.
        flip_indices: (K,) index of each point's counterpart in the mirror image, for the correction.

    Raises:
        UserError: a face is predicted twice, or not at all, or by a model that should not, or the members differ in
            their test faces or numbers of points; too few faces to learn a correction from.
    """
    if blend not in BLENDS:
        raise UserError(f"ensemble.blend {blend!r}: choose one of {', '.join(BLENDS)}")
    _check(oof, test, truth, fold)
    models, pooled = list(oof), [pool_oof(parts) for parts in oof.values()]

    def fit(rows: np.ndarray) -> Blend:
        return fit_blend([member.rows(rows) for member in pooled], truth[rows], blend, ridge, flip_indices)

    by_fold = {int(own): fit(fold != own) for own in np.unique(fold)}
    parts = {own: found.apply([member.rows(fold == own) for member in pooled]) for own, found in by_fold.items()}
    for_test = fit(np.ones(len(fold), bool))
    weights = {"blend": blend, "ridge": ridge}
    if blend != "median":
        shares = {str(own): dict(zip(models, found.weights.tolist(), strict=True))
                  for own, found in [*by_fold.items(), ("test", for_test)]}
        weights |= {"test": shares.pop("test"), "oof": shares}
    blended = for_test.apply([average_folds(list(test[model].values())) for model in models])
    return Ensemble(oof=pool_oof(parts), test=blended, weights=weights, shape=for_test.shape)


def fit_blend(
    members: Sequence[Predictions], truth: np.ndarray, blend: str, ridge: float | None, flip_indices: np.ndarray | None
) -> Blend:
    """Fit a blend on OOF predictions of the same faces by each member; the arguments are those of `build_ensemble`."""
    weights = None if blend == "median" else np.full(len(members), 1 / len(members))
    if blend == "weights" and len(members) > 1:
        weights = fit_weights([member.points for member in members], truth)
    plain = Blend(weights=weights, shape=None)
    if ridge is None:
        return plain
    return replace(plain, shape=ShapeCorrection.fit(plain.apply(members).points, truth, flip_indices, ridge))


def ensemble_files(
    paths: Paths, models: Sequence[str], folds: Sequence[int], blend: str, *,
    ridge: float | None = None, flip_indices: np.ndarray | None = None,
) -> Ensemble:
    """Blend the prediction files of the named models and folds and write the files of `Ensemble.save`.

    Args:
        blend, ridge, flip_indices: see `build_ensemble`.
    """
    store = CropStore.open(paths.crops / "train")
    if store.keypoints is None:
        raise UserError(f"{paths.crops / 'train'}: the train faces have no points, so nothing can be fitted")
    oof, test = load_runs(paths, models, folds, "oof"), load_runs(paths, models, folds, "test")
    fold = read_folds(paths.folds, len(store)).fold.to_numpy()
    ensemble = build_ensemble(oof, test, store.keypoints, fold, blend, ridge=ridge, flip_indices=flip_indices)
    ensemble.save(paths.ensemble)
    return ensemble


def locator_points(paths: Paths, model: str, folds: Sequence[int]) -> dict[str, np.ndarray]:
    """The points (N, K, 2) by the locator: out of fold for `train`, the mean of its folds for `test`."""
    oof, test = (load_runs(paths, [model], folds, part)[model] for part in ("oof", "test"))
    return {"train": pool_oof(oof).points, "test": average_folds(list(test.values())).points}


def pool_oof(members: dict[int, Predictions]) -> Predictions:
    """Pool the predictions of all folds of one model, in the order of the crop store."""
    return Predictions.concatenate(list(members.values())).by_face()


def average_folds(members: Sequence[Predictions]) -> Predictions:
    """Average the folds of one model, which predict the same faces, in the order of the crop store.

    The spread is the root mean square of the folds' own. How far the folds lie apart is not in it, for an OOF
    prediction, with which it will be compared, is that of one fold.
    """
    members = [member.by_face() for member in members]
    own = np.stack([member.spread for member in members]).astype(np.float64)
    mean = blend_weighted(members, np.full(len(members), 1 / len(members)))
    return replace(mean, spread=np.sqrt(np.square(own).mean(0)))


def blend_weighted(members: Sequence[Predictions], weights: np.ndarray) -> Predictions:
    """Average L members with weights; they predict the same faces in the same order.

    The spread is that of a mixture of the members (law of total variance): the root of the weighted mean of each
    member's own squared spread plus its squared distance to the blend.

    Args:
        weights: (L,) summing to 1.
    """
    points = np.stack([member.points for member in members]).astype(np.float64)  # L F K 2
    own = np.stack([member.spread for member in members]).astype(np.float64)  # L F K
    mean = (weights[:, None, None, None] * points).sum(0)
    squares = np.square(own) + np.square(points - mean).sum(-1)
    spread = np.sqrt((weights[:, None, None] * squares).sum(0))
    return Predictions(face=members[0].face, points=mean, spread=spread)


def blend_median(members: Sequence[Predictions]) -> Predictions:
    """Take the median of each coordinate over members, which predict the same faces in the same order.

    The spread is as in `blend_weighted`, with equal weights and around the median.
    """
    points = np.stack([member.points for member in members]).astype(np.float64)
    own = np.stack([member.spread for member in members]).astype(np.float64)
    median = np.median(points, axis=0)
    spread = np.sqrt((np.square(own) + np.square(points - median).sum(-1)).mean(0))
    return Predictions(face=members[0].face, points=median, spread=spread)


def fit_weights(points: Sequence[np.ndarray], truth: np.ndarray, rounds: int = 100) -> np.ndarray:
    """Fit the weights, none negative and summing to 1, with which the members' mean has the least MAE.

    Least absolute deviations by iteratively reweighted least squares (Schlossmacher, JASA 1973). As the weights sum
    to 1, the blend's error is the blend of the members' errors E (n, L), and each round minimises |√d E w|², d being
    1/|error| of the round before. Its minimum on the simplex is the direction of the non-negative least squares
    solution of [R; 1ᵀ] w = [0; 1], R being the triangle of the QR decomposition of √d E. The best round counts, single
    members included, so that the blend is never worse than any of them on the faces it was fitted on.

    Args:
        points: (F, K, 2) predictions of each of L members.
        truth: (F, K, 2), NaN where missing; missing points are left out.

    Returns:
        (L,) float64.
    """
    present, equal = np.isfinite(truth).all(-1), np.full(len(points), 1 / len(points))
    if not present.any():
        return equal
    errors = np.stack([(member.astype(np.float64) - truth)[present].ravel() for member in points], axis=1)  # n L

    def mean_error(weights: np.ndarray) -> float:
        return np.abs(errors @ weights).sum() / len(errors)

    candidates, weights = [equal, *np.eye(len(points))], equal
    smallest = 1e-6 * np.mean([mean_error(single) for single in candidates[1:]]) + 1e-12
    for _ in range(rounds):
        root = 1 / np.sqrt(np.maximum(np.abs(errors @ weights), smallest))
        triangle = np.linalg.qr(root[:, None] * errors, mode="r") / np.sqrt(len(errors))
        found, _ = nnls(np.vstack([triangle, np.ones(len(equal))]), np.append(np.zeros(len(triangle)), 1.0))
        previous, weights = weights, found / found.sum()
        candidates.append(weights)
        if np.abs(weights - previous).max() < 1e-6:
            break
    return min(candidates, key=mean_error)


def _check(oof: Runs, test: Runs, truth: np.ndarray, fold: np.ndarray) -> None:
    """Raise a UserError with every way in which the members do not fit each other or the train faces."""
    problems = []
    for model in oof:
        problems += _oof_problems(model, oof[model], fold)
        if not test.get(model):
            problems.append(f"{model}: no test predictions; run its predict stage")
    members = [(f"{model}, fold {own}", part) for model in test for own, part in test[model].items()]
    for name, part in members:
        faces, first = np.sort(part.face), np.unique(members[0][1].face)
        if not np.array_equal(faces, first):
            problems.append(f"{name}: its {len(faces)} test faces are not the {len(first)} of {members[0][0]}, each "
                          "once; run its predict stage again")
    for name, part in members + [(f"{model}, fold {own}", part) for model in oof for own, part in oof[model].items()]:
        if part.points.shape[1] != truth.shape[1]:
            problems.append(f"{name}: {part.points.shape[1]} points a face, but the train faces have {truth.shape[1]}; "
                          "train it again")
    if problems:
        raise UserError(*problems)


def _oof_problems(model: str, parts: dict[int, Predictions], fold: np.ndarray) -> list[str]:
    """Find why a model's OOF predictions do not cover every train face exactly once, each in its own fold."""
    problems = []
    for own, part in parts.items():
        should = np.flatnonzero(fold == own)
        if not np.array_equal(np.sort(part.face), should):
            twice = len(part) - len(np.unique(part.face))
            missing, foreign = len(np.setdiff1d(should, part.face)), len(np.setdiff1d(part.face, should))
            problems.append(f"{model}, fold {own}: the OOF faces are not those of the fold ({missing} missing, {twice} "
                          f"twice, {foreign} of other folds); run its predict stage again")
    left_out = sorted(set(fold.tolist()) - set(parts))
    if left_out:
        problems.append(f"{model}: no OOF predictions for fold {', '.join(map(str, left_out))}, so not every face is "
                      "covered; name every fold in split.folds")
    return problems
