"""Ablation of a finished run: what each part of the prediction brings, on the same faces and folds."""

from dataclasses import replace

import click
import numpy as np

from pipeline.data.folds import fold_rows, read_folds
from pipeline.data.store import CropStore
from pipeline.evaluation.results import BASELINE, load_results
from pipeline.inference.ensemble import build_ensemble
from pipeline.inference.predict import load_predictor
from pipeline.inference.predictions import Predictions, Runs, load_runs
from pipeline.inference.tta import TTA
from pipeline.keypoints.metrics import face_nme, fold_summary, paired_bootstrap
from pipeline.models.device import make_runtime
from pipeline.params import Params, load_params
from stages.cli import PATHS, crops_folder


@click.command()
def main() -> None:
    """Print a table in Markdown; run it where `dvc repro` ran, on a run with a locator.

    The members come first, worst to best, each from one view of a face; then test-time augmentation of the best one,
    the blend of all members, and the shape correction, each added to the row above. The interval of a difference to
    the row above is a paired bootstrap over groups, 95%.
    """
    params = load_params(PATHS.params)
    if not params.align.locator:
        raise click.UsageError("align.locator is empty; run it where a preset with a locator ran")
    folds, skeleton = params.split.folds, params.data.skeleton
    results = load_results(PATHS, params.trained, params.members, folds, None)
    truth, fold = results.train.truth, results.fold
    group = read_folds(PATHS.folds, len(truth)).group.to_numpy()
    runs = [load_runs(PATHS, params.members, folds, part) for part in ("oof", "test")]

    def score(points: np.ndarray) -> float:
        return float(face_nme(points, truth, skeleton.eyes).mean())

    members = sorted(params.members, key=lambda member: -score(results.points(member, "oof")))
    one_view = TTA(batch_size=params.predict.batch_size, flip=False, shift_tta=False)
    rows = {"mean shape": results.points(BASELINE, "oof")}
    rows |= {f"{model} alone, box crops": results.points(model, "oof") for model in params.align.locator}
    rows |= {f"{member} alone, one view": predict(params, member, one_view) for member in members}
    rows["+ mirror image"] = predict(params, members[-1], replace(one_view, flip=True))
    if params.predict.shift_tta:
        rows["+ view shifted by half a cell"] = results.points(members[-1], "oof")
    rows[f"+ blend with {', '.join(members[:-1])}"] = blend(params, runs, truth, fold, None)
    if params.ensemble.ridge:
        rows["+ shape correction"] = blend(params, runs, truth, fold, params.ensemble.ridge)

    click.echo("| | OOF NME, % | difference to the row above |\n|---|---|---|")
    before = None
    for label, points in rows.items():
        scores = fold_summary(points, truth, fold, folds, skeleton.eyes)
        errors, text = face_nme(points, truth, skeleton.eyes), ""
        if before is not None:
            found = paired_bootstrap(errors, before, group, seed=0)
            text = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        click.echo(f"| {label} | {scores['nme']:.3f} ± {scores['nme_sd']:.3f} | {text} |")
        before = errors


def predict(params: Params, model: str, tta: TTA) -> np.ndarray:
    """(N, K, 2) out-of-fold points of a model with other test-time augmentation, image pixels."""
    crops, train = crops_folder(params, model), params.train
    store, parts = CropStore.open(crops / "train"), []
    runtime = make_runtime(train.device, train.precision, train.threads)
    for fold in params.split.folds:
        predictor = load_predictor(PATHS.run(model, fold), store, flip_indices=params.data.skeleton.flip,
                                   runtime=runtime, tta=tta)
        parts.append(predictor.predict(store, fold_rows(PATHS.folds, fold, len(store))[1], f"{model}-{fold}"))
    return Predictions.pool(parts).points


def blend(params: Params, runs: list[Runs], truth: np.ndarray, fold: np.ndarray, ridge: float | None) -> np.ndarray:
    """(N, K, 2) out-of-fold points of the blend, its weights and correction fitted on the other folds."""
    return build_ensemble(*runs, truth, fold, params.ensemble.blend, ridge=ridge,
                          flip_indices=params.data.skeleton.flip).oof.points


if __name__ == "__main__":
    main()
