"""Label noise: how much two labels of the same picture differ, on near-duplicates among the train faces."""

from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from pipeline.common.errors import UserError
from pipeline.data.folds import groups
from pipeline.data.near_duplicates import DETAIL_SIDE, face_detail, face_frames, face_pairs, frame_to_pixels, register
from pipeline.data.store import CropStore
from pipeline.keypoints.geometry import compose, flip_points, invert, transform
from pipeline.keypoints.skeleton import Skeleton
from pipeline.params import load_params
from stages.cli import PATHS

SIZE, ITERATIONS = 128, 100  # pixels of a face, and steps, to register two finer than for finding them


@click.command()
@click.option("--minimum", default=0.95, show_default=True, help="Pairs whose details correlate less are left out.")
def main(minimum: float) -> None:
    """Print a table in Markdown; run it where the crop stage ran. All distances are percent of the outer-eye distance.

    Of each pair of near-duplicates, one is registered to the other by its pixels, and the two labels are compared.
    Pairs of one picture are averaged first: a picture counts once.
    """
    skeleton = load_params(Path("params.yaml")).data.skeleton
    if skeleton.eyes is None:
        raise UserError("data.skeleton has no eyes, whose distance is the unit")
    store = CropStore.open(PATHS.crops / "train")
    table = compare_labels(store, skeleton)
    kept = table[table.correlation >= minimum]
    cluster = groups([str(face) for face in range(len(store))], kept[["first", "second"]].to_numpy())[kept["first"]]
    points = kept.drop(columns=["first", "second", "correlation"]).groupby(cluster).mean().to_numpy()
    click.echo(f"{len(kept)} pairs of {len(points)} pictures, correlation of details {kept.correlation.min():.3f} to "
               f"{kept.correlation.max():.3f}; {len(table) - len(kept)} pairs below {minimum} left out\n")
    click.echo("| | difference of two labels (95% interval), % | a perfect predictor's NME, % |\n|---|---|---|")
    for name, region in {"all points": range(skeleton.num_points), **skeleton.regions}.items():
        means = points[:, list(region)].mean(1)
        low, high = bootstrap((means,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
        click.echo(f"| {name} | {means.mean():.2f} ({low:.2f} to {high:.2f}) | {means.mean() / np.sqrt(2):.2f} |")


def compare_labels(store: CropStore, skeleton: Skeleton) -> pd.DataFrame:
    """List near-duplicates with different file names: `first`, `second`, `correlation`, and a column each point.

    A point's column is the distance of its two labels, in percent of the first face's outer-eye distance.
    """
    frames, image, rows = face_frames(store), store.faces.image, []
    to_pixels, truth = frame_to_pixels(SIZE, DETAIL_SIDE), store.truth
    for first, second in face_pairs(store)[:, :2].astype(int):
        if image[first] == image[second]:
            continue
        found = []
        for mirrored in (False, True):
            detail = face_detail(store, frames, second, mirrored=mirrored, size=SIZE)
            found.append((*register(face_detail(store, frames, first, size=SIZE), detail, ITERATIONS), mirrored))
        correlation, affine, mirrored = max(found, key=lambda one: one[0])
        one, other = (transform(compose(to_pixels, frames[row]), truth[row]) for row in (first, second))
        other = transform(invert(affine), flip_points(other, SIZE, skeleton.flip) if mirrored else other)
        eyes = np.linalg.norm(np.subtract(*one[list(skeleton.eyes)]))
        rows.append([first, second, correlation, *(100 * np.linalg.norm(one - other, axis=1) / eyes)])
    return pd.DataFrame(rows, columns=["first", "second", "correlation", *skeleton.names])


if __name__ == "__main__":
    main()
