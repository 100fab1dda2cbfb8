"""Several seeds of some variants of one model on one split, in one table."""

import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from ruamel.yaml import YAML
from tqdm import tqdm

from pipeline.common.paths import Paths
from pipeline.data.folds import fold_rows
from pipeline.data.store import CropStore
from pipeline.inference.predict import load_predictor
from pipeline.keypoints.geometry import invert, transform
from pipeline.keypoints.metrics import mae, mean_sd
from pipeline.models.device import make_runtime
from pipeline.params import Params, load_params
from pipeline.training.train import mean_points, train_fold
from stages.cli import PATHS, crops_folder

TITLES = {"mse": "squared error on [0, 1]", "mae": "MAE, px", "variance": "share of the variance"}
DECIMALS = {"mse": 5, "mae": 3, "variance": 3}


@click.command()
@click.argument("model")
@click.argument("variants", nargs=-1, required=True)
@click.option("--fold", default=1, show_default=True, help="The fold held out.")
@click.option("--seeds", default=5, show_default=True, help="How many.")
def main(model: str, variants: tuple[str, ...], fold: int, seeds: int) -> None:
    """Train each variant of MODEL with several seeds; print a table in Markdown, mean ± sd over the seeds.

    Each of VARIANTS is LABEL=CHANGES, as in 'small={lr: 0.001, network: {kernels: [5, 3, 2]}}'. The errors are those
    of the held-out faces: squared, of coordinates in sides of the input; and absolute, in image pixels. The share of
    the variance is that of the predicted points over that of the true ones, in the input, over faces: near 0 where all
    faces get the same points. Run it where the split stage ran.
    """
    shown = load_params(PATHS.params)
    store = CropStore.open(crops_folder(shown, model) / "train")
    rows, held_out = fold_rows(PATHS.folds, fold, len(store))
    constant = np.repeat(mean_points(store, rows)[None], len(held_out), axis=0)
    click.echo(f"| | {' | '.join(TITLES.values())} |\n|---|---|---|---|")
    print_row("mean of the training faces", [measure(constant, store, held_out)])
    for variant in variants:
        label, _, changes = variant.partition("=")
        params = change(model, changes)
        print_row(label, [measure(train(params, model, fold, seed, store), store, held_out)
                          for seed in tqdm(range(seeds), label)])


def change(model: str, changes: str) -> Params:
    """Load the params with some keys of a model changed."""
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(PATHS.params)
    for key, value in (yaml.load(changes) or {}).items():
        old = values["models"][model].get(key)
        values["models"][model][key] = old | value if isinstance(old, dict) else value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        yaml.dump(values, path)
        return load_params(path)


def train(params: Params, model: str, fold: int, seed: int, store: CropStore) -> np.ndarray:
    """Train one seed; return the points of the held-out faces (M, K, 2), input pixels."""
    settings = params.train
    runtime = make_runtime(settings.device, settings.precision, settings.threads)
    crops, rows = crops_folder(params, model) / "train", fold_rows(PATHS.folds, fold, len(store))[1]
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        paths.folds.parent.mkdir(parents=True)
        shutil.copy(PATHS.folds, paths.folds)
        with redirect_stdout(sys.stderr):  # a line an epoch
            train_fold(paths, crops, model, fold, recipe=replace(params.recipe(model), seed=seed),
                       skeleton=params.data.skeleton, runtime=runtime)
        predictor = load_predictor(paths.run(model, fold), store, flip_indices=params.data.skeleton.flip,
                                   runtime=runtime, tta=replace(params.predict, flip=False, shift_tta=False))
        return transform(store.input_affines[rows], predictor.predict(store, rows).points)


def measure(points: np.ndarray, store: CropStore, rows: np.ndarray) -> dict[str, float]:
    """Score points of faces `rows`, input pixels."""
    truth = transform(store.input_affines[rows], store.truth[rows])
    return {"mse": float(np.square((points - truth) / store.size).mean()),
            "mae": mae(transform(invert(store.input_affines[rows]), points), store.truth[rows]),
            "variance": float(points.var(axis=0).sum() / truth.var(axis=0).sum())}


def print_row(label: str, scores: list[dict[str, float]]) -> None:
    """Print the mean and standard deviation of each score over the seeds."""
    cells = []
    for name in TITLES:
        mean, deviation = mean_sd([score[name] for score in scores])
        spread = "" if np.isnan(deviation) else f" ± {deviation:.{DECIMALS[name]}f}"
        cells.append(f"{mean:.{DECIMALS[name]}f}{spread}")
    click.echo(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
