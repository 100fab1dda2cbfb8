"""Scores of a whole run of the pipeline, for `metrics.json` and tables.

Legend: N train faces, M test faces, K points, all in image pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.common.tables import Style, format_table
from pipeline.data.annotations import BOX
from pipeline.data.folds import read_folds
from pipeline.data.store import CropStore
from pipeline.evaluation.submission import read_solution
from pipeline.inference.ensemble import locator_points
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.metrics import fold_summary, mae, mean_shape_oof, mean_shape_points, nme, rmse

HEADS = {"mae": "MAE, px", "nme": "NME, %", "rmse": "RMSE, px"}  # of the tables, by the score they show


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Predictions of one model, the ensemble or the baseline: `oof` (N, K, 2) and `test` (M, K, 2)."""

    oof: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was predicted, and the truth.

    Attributes:
        train, test: the two parts of the crop store.
        fold: (N,) the fold of each train face; folds: their order in tables.
        ensemble, baseline: the blend of all models, and the mean shape.
        models: name → its pooled OOF, and its test prediction averaged over the folds.
        solution: (M, K, 2) the true points of the test faces, NaN where missing; None where they are not known.
    """

    train: CropStore
    test: CropStore
    fold: np.ndarray
    folds: Sequence[int]
    ensemble: Candidate
    baseline: Candidate
    models: dict[str, Candidate]
    solution: np.ndarray | None


def load_results(paths: Paths, models: Sequence[str], folds: Sequence[int], solution: Path | None) -> Results:
    """Read what the stages up to `ensemble` wrote and the file `solution`, and make the baseline."""
    train, test = CropStore.open(paths.crops / "train"), CropStore.open(paths.crops / "test")
    if train.keypoints is None:
        raise UserError(f"{paths.crops / 'train'}: the train faces have no points, so there is nothing to score")
    fold = read_folds(paths.folds, len(train)).fold.to_numpy()
    ensemble = [Predictions.load(paths.ensemble / f"{part}.npz").by_face().points for part in ("oof", "test")]
    points = {model: locator_points(paths, model, folds) for model in models}
    boxes, test_boxes = (part.faces[BOX].to_numpy(np.float64) for part in (train, test))
    return Results(
        train=train, test=test, fold=fold, folds=folds,
        ensemble=Candidate(oof=ensemble[0], test=ensemble[1]),
        models={model: Candidate(oof=found["train"], test=found["test"]) for model, found in points.items()},
        baseline=Candidate(oof=mean_shape_oof(train.keypoints, boxes, fold),
                           test=mean_shape_points(train.keypoints, boxes, test_boxes)),
        solution=read_solution(solution, len(test), train.keypoints.shape[1]) if solution else None,
    )


def build_metrics(results: Results, eyes: tuple[int, int] | None) -> dict:
    """Score the `ensemble`, all `models` (by name) and the `baseline`, as `metrics.json` holds them.

    Scores are those of `fold_summary`, with `test_mae`, `test_nme` and `test_rmse` where there is a solution. A score
    that does not exist is None.
    """
    truth = results.train.keypoints
    assert truth is not None

    def scores(candidate: Candidate) -> dict:
        found = fold_summary(candidate.oof, truth, results.fold, results.folds, eyes)
        if results.solution is not None:
            found["test_mae"] = mae(candidate.test, results.solution)
            found["test_nme"] = nme(candidate.test, results.solution, eyes)
            found["test_rmse"] = rmse(candidate.test, results.solution)
        return {key: _none_for_nan(value) for key, value in found.items()}

    return {
        "ensemble": scores(results.ensemble),
        "models": {name: scores(candidate) for name, candidate in results.models.items()},
        "baseline": scores(results.baseline),
    }


def format_scores(metrics: dict, folds: Sequence[int], style: Style = "text") -> str:
    """Render the metrics as tables, MAE, NME and RMSE: a row for each model, a column for each fold.

    A table that would be empty is left out: points without eyes have no NME.
    """
    rows = {"mean shape": metrics["baseline"], **metrics["models"], "ensemble": metrics["ensemble"]}
    found = []
    for name, head in HEADS.items():
        if all(scores[name] is None for scores in rows.values()):
            continue
        tests = [f"test_{name}"] if f"test_{name}" in metrics["ensemble"] else []
        heads = [head, *(f"fold {fold}" for fold in folds), "mean ± sd", "OOF", *["test"] * len(tests)]
        body = [[label, *map(_show, scores[f"{name}_folds"]),
                 f"{_show(scores[f'{name}_mean'])} ± {_show(scores[f'{name}_sd'])}",
                 *(_show(scores[total]) for total in [name, *tests])] for label, scores in rows.items()]
        found.append(format_table(heads, body, style))
    return "\n\n".join(found)


def load_history(paths: Paths, models: Sequence[str], folds: Sequence[int]) -> pd.DataFrame:
    """Read the training curves of the named models and folds, one row an epoch; a UserError names each bad file.

    Columns: `run` (MODEL/foldFOLD), `model`, `fold`, then those of the runs' `history.csv`.
    """
    parts, problems = [], []
    for model, fold in product(models, folds):
        path = paths.run(model, fold) / "history.csv"
        try:
            parts.append(pd.read_csv(path).assign(run=f"{model}/fold{fold}", model=model, fold=fold))
        except (OSError, ValueError) as error:
            problems.append(f"{path}: no training history ({error}); run `dvc repro train` first")
    if problems:
        raise UserError(*problems)
    return pd.concat(parts).set_index(["run", "model", "fold"]).reset_index()


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _none_for_nan(value: float | list) -> float | list | None:
    if isinstance(value, list):
        return [_none_for_nan(one) for one in value]
    return None if np.isnan(value) else value
