"""Scores of a whole run of the pipeline, for `metrics.json` and tables.

Legend: N train faces, M test faces, K points, all in image pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
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
from pipeline.inference.ensemble import fit_weights, model_points
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.metrics import (
    error_correlation,
    fold_summary,
    mae,
    mean_shape_oof,
    mean_shape_points,
    nme,
    rmse,
)

BASELINE, ENSEMBLE = "mean shape", "ensemble"  # their names beside the models
HEADS = {"mae": "MAE, px", "nme": "NME, %", "rmse": "RMSE, px"}  # of the tables, by the score they show


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was predicted, read when it is asked for, and the truth.

    Attributes:
        train, test: the two parts of the crop store.
        fold: (N,) the fold of each train face; folds: their order in tables.
        models: all that were trained; members: those that are blended.
        solution: (M, K, 2) the true points of the test faces, NaN where missing; None where they are not known.
    """

    paths: Paths
    train: CropStore
    test: CropStore
    fold: np.ndarray
    folds: Sequence[int]
    models: Sequence[str]
    members: Sequence[str]
    solution: np.ndarray | None

    def points(self, name: str, part: str) -> np.ndarray:
        """Predict the train faces out of fold ("oof", (N, K, 2)), or the test faces ("test", (M, K, 2)).

        `name` is one of the models, `ENSEMBLE`, or `BASELINE`: the mean shape.
        """
        if name == ENSEMBLE:
            return Predictions.load(self.paths.ensemble / f"{part}.npz").by_face().points
        if name != BASELINE:
            return model_points(self.paths, name, self.folds, part)
        boxes, test_boxes = (store.faces[BOX].to_numpy(np.float64) for store in (self.train, self.test))
        if part == "oof":
            return mean_shape_oof(self.train.truth, boxes, self.fold)
        return mean_shape_points(self.train.truth, boxes, test_boxes)


def load_results(
    paths: Paths, models: Sequence[str], members: Sequence[str], folds: Sequence[int], solution: Path | None
) -> Results:
    """Open what the stages up to `ensemble` wrote, and read the file `solution`."""
    train, test = CropStore.open(paths.crops / "train"), CropStore.open(paths.crops / "test")
    num_points, fold = train.truth.shape[1], read_folds(paths.folds, len(train)).fold.to_numpy()
    return Results(paths=paths, train=train, test=test, fold=fold, folds=folds, models=models,
                   members=members, solution=read_solution(solution, len(test), num_points) if solution else None)


def build_metrics(results: Results, eyes: tuple[int, int] | None) -> dict:
    """Score the `ensemble`, all `models` (by name) and the `baseline`, as `metrics.json` holds them.

    Scores are those of `fold_summary`, with `test_mae`, `test_nme` and `test_rmse` where there is a solution. A score
    that does not exist is None. `pairs` is what `compare_members` finds.
    """
    def scores(name: str) -> dict:
        found = fold_summary(results.points(name, "oof"), results.train.truth, results.fold, results.folds, eyes)
        if (truth := results.solution) is not None:
            test = results.points(name, "test")
            found |= {"test_mae": mae(test, truth), "test_nme": nme(test, truth, eyes), "test_rmse": rmse(test, truth)}
        return {key: _none_for_nan(value) for key, value in found.items()}

    return {"ensemble": scores(ENSEMBLE), "models": {name: scores(name) for name in results.models},
            "baseline": scores(BASELINE), "pairs": compare_members(results)}


def compare_members(results: Results) -> list[dict]:
    """Tell for each pair of members how alike they err, and what blending the two can gain.

    Returns `models`, `correlation` of their OOF errors, and `gain`: the share by which the pair's best weighted mean
    has a lower MAE than the better one. The weight is fitted on the same faces, so this is an upper bound.
    """
    found, truth = [], results.train.truth
    for names in combinations(results.members, 2):
        pair = [results.points(name, "oof") for name in names]
        weights = fit_weights(pair, truth)
        blended = weights[0] * pair[0] + weights[1] * pair[1]
        gain = 1 - mae(blended, truth) / min(mae(points, truth) for points in pair)
        found.append({"models": list(names), "correlation": _none_for_nan(error_correlation(pair[0], pair[1], truth)),
                      "gain": _none_for_nan(gain)})
    return found


def format_members(pairs: Sequence[dict], style: Style = "text") -> str:
    """Render what `compare_members` found; "" for a single member."""
    rows = [[" and ".join(pair["models"]), _show(pair["correlation"]), f"{100 * (pair['gain'] or 0):.2f}"]
            for pair in pairs]
    return format_table(["members", "error correlation", "gain of the best blend, %"], rows, style) if rows else ""


def format_scores(metrics: dict, folds: Sequence[int], style: Style = "text") -> str:
    """Render the metrics as tables, MAE, NME and RMSE: a row for each model, a column for each fold.

    A table that would be empty is left out: points without eyes have no NME.
    """
    rows = {BASELINE: metrics["baseline"], **metrics["models"], ENSEMBLE: metrics["ensemble"]}
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


def name_unlearnt(metrics: dict) -> str:
    """Name the models that are no better than the mean shape, out of fold; "" where there are none."""
    limit = metrics["baseline"]["mae"]
    found = [f"{name} ({scores['mae']:.3f} px)" for name, scores in metrics["models"].items() if scores["mae"] >= limit]
    return f"no better than the mean shape ({limit:.3f} px): {', '.join(found)}; not trained enough?" if found else ""


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
