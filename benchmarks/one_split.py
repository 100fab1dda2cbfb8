"""Scores and pictures of models that were trained on one split."""

import json
from pathlib import Path

import click
import numpy as np

from pipeline.data.annotations import BOX
from pipeline.data.folds import fold_rows
from pipeline.data.store import CropStore
from pipeline.evaluation.results import load_history
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.metrics import face_nme, mae, mean_shape_points, nme
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models.checkpoint import load_model
from pipeline.models.codecs import Heatmap
from pipeline.params import load_params
from pipeline.plots.charts import draw_curves
from pipeline.plots.faces import draw_faces, draw_filters, draw_heatmaps
from pipeline.plots.heatmaps import compute_heatmaps, first_filters
from stages.cli import PATHS, crops_folder

FACES = 4  # of the best, and of the worst, that are drawn


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--fold", default=1, show_default=True, help="The fold held out.")
@click.option("--pictures", type=click.Path(path_type=Path), help="A folder for the pictures.  [default: none]")
def main(models: tuple[str, ...], fold: int, pictures: Path | None) -> None:
    """Print a table in Markdown: the errors of the held-out faces, and the training's epochs and minutes.

    Run it where `stages.train --fold F` and `stages.predict --fold F` ran for each of MODELS. The pictures are the best
    and the worst faces of each model, its first filters and heatmaps, and the curves of all.
    """
    params = load_params(PATHS.params)
    skeleton = params.data.skeleton
    click.echo("| | epochs | minutes | MAE, px | NME, % |\n|---|---|---|---|---|")
    for model in models:
        store = CropStore.open(crops_folder(params, model) / "train")
        train, rows = fold_rows(PATHS.folds, fold, len(store))
        truth, boxes = store.truth, store.faces[BOX].to_numpy()
        if model == models[0]:
            mean_shape = mean_shape_points(truth[train], boxes[train], boxes[rows])
            print_row("mean shape | |", mean_shape, truth[rows], skeleton.eyes)
        run = PATHS.run(model, fold)
        metrics = json.loads((run / "metrics.json").read_text())
        found, points = Predictions.load(run / "oof.npz"), np.full(truth.shape, np.nan)
        points[found.face] = found.points
        print_row(f"{model} | {metrics['epoch']} | {metrics['seconds'] / 60:.0f}", points[rows], truth[rows],
                  skeleton.eyes)
        if pictures:
            errors = face_nme(points[rows], truth[rows], skeleton.eyes)
            order = rows[np.argsort(errors)]
            captions = {int(row): f"{errors[rows == row][0]:.1f}%" for row in [*order[:FACES], *order[-FACES:]]}
            draw_faces(pictures / f"{model}-faces.jpg", store, captions, points, skeleton, truth,
                       f"{model}: best and worst held-out faces; truth green, prediction red")
            draw_network(pictures, run, store, order[len(order) // 2], skeleton)
    if pictures:
        draw_curves(pictures / "curves.png", load_history(PATHS, models, [fold]))


def draw_network(pictures: Path, run: Path, store: CropStore, row: int, skeleton: Skeleton) -> None:
    """Draw the first filters of a trained network and, where it makes heatmaps, those of a face."""
    model = run.parent.name
    network, codec, _ = load_model(run)
    filters = first_filters(network)
    if filters is not None:
        draw_filters(pictures / f"{model}-filters.png", filters, model)
    if isinstance(codec, Heatmap):
        maps = compute_heatmaps(network, codec, store, np.array([row]))
        draw_heatmaps(pictures / f"{model}-heatmaps.jpg", store, maps, skeleton, label=model)


def print_row(label: str, points: np.ndarray, truth: np.ndarray, eyes: tuple[int, int] | None) -> None:
    """Print one row of the table."""
    click.echo(f"| {label} | {mae(points, truth):.3f} | {nme(points, truth, eyes):.3f} |")


if __name__ == "__main__":
    main()
