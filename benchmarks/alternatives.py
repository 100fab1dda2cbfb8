"""What a user would pick instead, on the same faces and folds: dlib's shape predictor and a plain ResNet regression."""

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from pipeline.common.paths import Paths
from pipeline.data.annotations import BOX, formats
from pipeline.data.crops import write_crops
from pipeline.data.folds import fold_rows, read_folds
from pipeline.data.images import Images
from pipeline.data.store import CropStore
from pipeline.inference.ensemble import model_points
from pipeline.inference.predict import load_predictor
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.metrics import fold_summary
from pipeline.models.device import make_runtime
from pipeline.params import Params, load_params
from pipeline.training.train import train_fold
from stages.cli import PATHS

SIZE, EPOCHS = 128, 25  # of the plain ResNet-18


@click.command()
@click.option("--only", type=click.Choice(["dlib", "resnet", "run"]), multiple=True, help="Some rows.  [default: all]")
def main(only: tuple[str, ...]) -> None:
    """Print a table in Markdown: NME out of fold (mean ± sd over the folds) and core-minutes of training a fold.

    Run it where `dvc repro` ran, with a locator; every row has the faces and folds of that run. dlib's predictor
    (Kazemi and Sullivan, CVPR 2014) is trained by its own trainer with its defaults, on the photos and boxes. The plain
    ResNet-18 has random weights, pooled features and one linear layer; it sees box crops of 128 pixels for 25 epochs,
    with the loss, augmentation and learning rate of the run's locator.
    """
    params, store = load_params(PATHS.params), CropStore.open(PATHS.crops / "train")
    if not params.align.locator:
        raise click.UsageError("align.locator is empty; run it where a preset with a locator ran")
    click.echo("| | OOF NME, % | core-minutes a fold |\n|---|---|---|")
    rows = (("dlib", "dlib's shape predictor", dlib_folds), ("resnet", "plain ResNet-18", resnet_folds))
    for name, label, predict in rows:
        if not only or name in only:
            start = time.process_time()
            points = predict(params, store)
            print_row(label, points, (time.process_time() - start) / 60 / len(params.split.folds), params, store)
    if not only or "run" in only:
        print_run(params, store)


def dlib_folds(params: Params, store: CropStore) -> np.ndarray:
    """(N, K, 2) out-of-fold points of dlib's predictor, image pixels."""
    import dlib

    images = Images(Path(params.data.root))
    photos = [images.read(name, "grey") for name in store.faces.image]
    left, top, width, height = store.faces[BOX].to_numpy().round().astype(int).T
    boxes = [dlib.rectangle(*sides) for sides in zip(left, top, left + width - 1, top + height - 1, strict=True)]
    whole, points = store.truth.round().astype(int), np.empty_like(store.truth)
    for fold in tqdm(params.split.folds, "dlib"):
        train, held_out = fold_rows(PATHS.folds, fold, len(store))
        shapes = [dlib.full_object_detection(boxes[row], [dlib.point(*point) for point in whole[row]]) for row in train]
        predictor = dlib.train_shape_predictor([photos[row] for row in train], [[shape] for shape in shapes],
                                               dlib.shape_predictor_training_options())
        for row in held_out:
            points[row] = [(part.x, part.y) for part in predictor(photos[row], boxes[row]).parts()]
    return points


def resnet_folds(params: Params, store: CropStore) -> np.ndarray:
    """(N, K, 2) out-of-fold points of a plain ResNet-18, image pixels."""
    recipe, train, points = params.recipe(*params.align.locator), params.train, np.empty_like(store.truth)
    network = recipe.network | {"backbone": "resnet18", "width": 1.0, "head": "average", "dropout": 0.0}
    recipe = replace(recipe, network=network, schedule=replace(recipe.schedule, epochs=EPOCHS))
    runtime, flip = make_runtime(train.device, train.precision, train.threads), params.data.skeleton.flip
    with tempfile.TemporaryDirectory() as folder:
        paths, root = Paths(Path(folder)), Path(params.data.root)
        faces = formats.read(root, params.data.train, params.data.layout(), labelled=True)
        write_crops(faces, root, paths.crops / "train", replace(params.crop, size=SIZE), params.data.label_offset())
        shutil.copy(PATHS.folds, paths.folds)
        crops = CropStore.open(paths.crops / "train")
        for fold in params.split.folds:
            with redirect_stdout(sys.stderr):  # a line an epoch
                train_fold(paths, paths.crops / "train", "plain", fold, recipe=recipe, skeleton=params.data.skeleton,
                           runtime=runtime)
            predictor = load_predictor(paths.run("plain", fold), crops, flip_indices=flip, runtime=runtime,
                                       tta=params.predict)
            held_out = fold_rows(PATHS.folds, fold, len(store))[1]
            points[held_out] = predictor.predict(crops, held_out).points
    return points


def print_run(params: Params, store: CropStore) -> None:
    """Print the rows of the run itself; each member's minutes are with the locator's, the ensemble's are all."""
    seconds = {model: np.mean([json.loads((PATHS.run(model, fold) / "metrics.json").read_text())["seconds"]
                               for fold in params.split.folds]) for model in params.trained}
    minutes = {model: value * (params.train.threads or os.cpu_count() or 1) / 60 for model, value in seconds.items()}
    before = sum(minutes[model] for model in params.align.locator)
    for member in params.members:
        points = model_points(PATHS, member, params.split.folds, "oof")
        print_row(member, points, before + minutes[member], params, store)
    points = Predictions.load(PATHS.ensemble / "oof.npz").by_face().points
    print_row("ensemble", points, sum(minutes.values()), params, store)


def print_row(label: str, points: np.ndarray, minutes: float, params: Params, store: CropStore) -> None:
    """Print one row of the table."""
    fold = read_folds(PATHS.folds, len(store)).fold.to_numpy()
    scores = fold_summary(points, store.truth, fold, params.split.folds, params.data.skeleton.eyes)
    click.echo(f"| {label} | {scores['nme']:.3f} ± {scores['nme_sd']:.3f} | {minutes:.1f} |")


if __name__ == "__main__":
    main()
