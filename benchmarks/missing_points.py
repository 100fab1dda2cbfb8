"""What missing points cost: a copy of a dlib XML data set without a share of its points, and the scores on the rest."""

from pathlib import Path

import click
import numpy as np

from pipeline.common.paths import Paths
from pipeline.data.annotations import formats
from pipeline.data.annotations.dlib_xml import write
from pipeline.data.folds import read_folds
from pipeline.data.store import CropStore
from pipeline.inference.predictions import Predictions, load_runs
from pipeline.keypoints.metrics import mae, mean_sd


@click.group()
def main() -> None:
    """Copy, train on both with the same params, then score."""


@main.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("train")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--share", default=0.3, show_default=True, help="Of the points, to be removed at random.")
@click.option("--seed", default=0, show_default=True)
def copy(root: Path, train: str, out: Path, share: float, seed: int) -> None:
    """Make the folder OUT: links to what is in ROOT, and its file TRAIN with fewer points."""
    out.mkdir(parents=True)
    for path in root.iterdir():
        if path.name != train:
            (out / path.name).symlink_to(path.resolve())
    annotations = formats.read(root, train)
    points = annotations.keypoints
    points[np.random.default_rng(seed).random(points.shape[:2]) < share] = np.nan
    write(out / train, annotations)
    click.echo(f"{out / train}: {np.isnan(points[..., 0]).mean():.1%} of the points are missing")


@main.command()
@click.argument("full", type=click.Path(path_type=Path))
@click.argument("fewer", type=click.Path(path_type=Path))
@click.option("--model", required=True)
def score(full: Path, fewer: Path, model: str) -> None:
    """The MAE of MODEL in two workspaces, on the points that are left in FEWER, fold by fold."""
    truth = CropStore.open(fewer / "data/crops/train").keypoints
    scores = []
    for workspace in (full, fewer):
        paths = Paths(root=workspace)
        fold = read_folds(paths.folds, len(truth)).fold.to_numpy()
        oof = Predictions.pool(list(load_runs(paths, [model], np.unique(fold), "oof")[model].values())).points
        scores.append([mae(oof[fold == one], truth[fold == one]) for one in np.unique(fold)])
        mean, deviation = mean_sd(scores[-1])
        click.echo(f"{workspace}: MAE {mean:.4f} ± {deviation:.4f} px over folds")
    mean, deviation = mean_sd(100 * (np.divide(*scores[::-1]) - 1))
    click.echo(f"with fewer points the error is {mean:+.2f}% ± {deviation:.2f}% larger")


if __name__ == "__main__":
    main()
