"""Scores of a whole run of the pipeline, for `metrics.json` and tables.

Legend: N train faces, M test faces, K points, all in image pixels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.paths import Paths
from pipeline.common.tables import format_table
from pipeline.data.annotations import BOX
from pipeline.data.folds import read_folds
from pipeline.data.store import CropStore
from pipeline.evaluation.submission import read_solution
from pipeline.inference.ensemble import average_folds, pool_oof
from pipeline.inference.predictions import Predictions, load_runs
from pipeline.keypoints.metrics import fold_summary, mae, mean_shape_oof, mean_shape_points, nme, rmse

HEADS = {"mae": "MAE, px", "nme": "NME, %", "rmse": "RMSE, px"}  # of the tables, by the score they show


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What one model, the ensemble or the baseline predicts: `oof` (N, K, 2) and `test` (M, K, 2)."""

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
    """Read what the stages up to `ensemble` wrote, and make the baseline.

    Args:
        models, folds: the names that the params list.
        solution: file with the true points of the test faces, laid out as a submission; None where not known.
    """
    train, test = CropStore.open(paths.crops / "train"), CropStore.open(paths.crops / "test")
    if train.keypoints is None:
        raise UserError(f"{paths.crops / 'train'}: the train faces have no points, so there is nothing to score")
    fold = read_folds(paths.folds, len(train)).fold.to_numpy()
    oof, tests = load_runs(paths, models, folds, "oof"), load_runs(paths, models, folds, "test")
    blended = [Predictions.load(paths.ensemble / f"{part}.npz").by_face().points for part in ("oof", "test")]
    boxes = train.faces[BOX].to_numpy(np.float64)
    return Results(
        train=train, test=test, fold=fold, folds=folds,
        ensemble=Candidate(oof=blended[0], test=blended[1]),
        models={
            model: Candidate(oof=pool_oof(oof[model]).points, test=average_folds(list(tests[model].values())).points)
            for model in models
        },
        baseline=Candidate(
            oof=mean_shape_oof(train.keypoints, boxes, fold),
            test=mean_shape_points(train.keypoints, boxes, test.faces[BOX].to_numpy(np.float64)),
        ),
        solution=read_solution(solution, len(test), train.keypoints.shape[1]) if solution else None,
    )


def build_metrics(results: Results, eyes: tuple[int, int] | None) -> dict:
    """Score the ensemble, every model and the baseline, as `metrics.json` holds them.

    Returns:
        `ensemble`, `models` (name → scores) and `baseline`. Scores are those of `fold_summary`, with `test_mae`,
        `test_nme` and `test_rmse` where there is a solution. A score that does not exist is None.
    """
    def scores(candidate: Candidate) -> dict:
        found = fold_summary(candidate.oof, results.train.keypoints, results.fold, results.folds, eyes)
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


def save_metrics(path: Path, metrics: dict) -> None:
    """Write the metrics as JSON, atomically."""
    write_text(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def score_rows(metrics: dict) -> dict[str, dict]:
    """Order the scores by the label of their row in a table, from the baseline to the ensemble."""
    return {"mean shape": metrics["baseline"], **metrics["models"], "ensemble": metrics["ensemble"]}


def table(metrics: dict, name: str, folds: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """Make heads and rows of the table of one score of `HEADS`: each fold, their mean ± sd, pooled OOF, and test."""
    rows = score_rows(metrics)
    tested = f"test_{name}" in metrics["ensemble"]
    heads = [HEADS[name], *(f"fold {fold}" for fold in folds), "mean ± sd", "OOF"]
    body = []
    for label, scores in rows.items():
        spread = f"{_show(scores[f'{name}_mean'])} ± {_show(scores[f'{name}_sd'])}"
        totals = [scores[name], *([scores[f"test_{name}"]] if tested else [])]
        body.append([label, *map(_show, scores[f"{name}_folds"]), spread, *map(_show, totals)])
    return heads + ["test"] * tested, body


def tables(metrics: dict, folds: Sequence[int]) -> list[tuple[list[str], list[list[str]]]]:
    """Make the `table` of every score of `HEADS` that any row has: points without eyes have no NME."""
    scored = [name for name in HEADS if any(row[name] is not None for row in score_rows(metrics).values())]
    return [table(metrics, name, folds) for name in scored]


def format_scores(metrics: dict, folds: Sequence[int], style: str = "text") -> str:
    """Render the metrics as tables, MAE, NME and RMSE: a row for each model, a column for each fold."""
    return "\n\n".join(format_table(heads, body, style) for heads, body in tables(metrics, folds))


def load_history(paths: Paths, models: Sequence[str], folds: Sequence[int]) -> pd.DataFrame:
    """Read the training curves of the named models and folds, one row an epoch.

    Returns:
        `run` (MODEL/foldFOLD), `model`, `fold`, then the columns of the runs' `history.csv`.

    Raises:
        UserError: every file that is missing or broken.
    """
    parts, problems = [], []
    for model, fold in product(models, folds):
        path = paths.run(model, fold) / "history.csv"
        try:
            parts.append(pd.read_csv(path).assign(run=f"{model}/fold{fold}", model=model, fold=fold))
        except FileNotFoundError:
            problems.append(f"{path}: not found; run `dvc repro train` first")
        except ValueError as error:
            problems.append(f"{path}: no training history ({error}); delete it and train again")
    if problems:
        raise UserError(*problems)
    table = pd.concat(parts, ignore_index=True)
    return table[["run", "model", "fold", *table.columns.drop(["run", "model", "fold"])]]


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _none_for_nan(value: float | list) -> float | list | None:
    if isinstance(value, list):
        return [_none_for_nan(one) for one in value]
    return None if np.isnan(value) else value
