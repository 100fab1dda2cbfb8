"""Out-of-fold MAE and NME of other heatmap decoders, without training."""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.data.folds import fold_rows
from pipeline.data.store import CropStore, center_input
from pipeline.keypoints import geometry
from pipeline.keypoints.metrics import mae, nme
from pipeline.models.checkpoint import load_model
from pipeline.models.codecs import Heatmap
from pipeline.models.device import to_images
from pipeline.params import load_params
from stages.cli import PATHS, crops_folder

RADII = (1, 2, 3, 4, 6)


@click.command()
@click.argument("model")
def main(model: str) -> None:
    """Print a table in Markdown for MODEL, a network with softmax heatmaps; run it where `dvc repro` ran."""
    params = load_params(Path("params.yaml"))
    skeleton = params.data.skeleton
    store = CropStore.open(crops_folder(params, model) / "train")
    found = {}
    for fold in params.split.folds:
        network, codec, _ = load_model(PATHS.run(model, fold))
        _, rows = fold_rows(PATHS.folds, fold, len(store))
        for name, points in _decode(network, codec, store, rows, skeleton.flip, f"{model}-{fold}").items():
            found.setdefault(name, np.empty(store.keypoints.shape))[rows] = points
    click.echo("| | MAE, px | NME, % |\n|---|---|---|")
    truth = CropStore.open(PATHS.crops / "train").keypoints
    for name, points in found.items():
        click.echo(f"| {name} | {mae(points, truth):.4f} | {nme(points, truth, skeleton.eyes):.4f} |")


@torch.inference_mode()
def _decode(
    network: nn.Module, codec: Heatmap, store: CropStore, rows: np.ndarray, flip_indices: np.ndarray, label: str
) -> dict[str, np.ndarray]:
    """name of a way → (M, K, 2) image pixels, the mean over the input and its mirror image."""
    def window(heatmaps: Tensor, radius: int) -> Tensor:
        codec.radius = radius
        return codec.decode(heatmaps)

    ways = {f"mean of {2 * radius + 1}×{2 * radius + 1} cells": lambda maps, radius=radius: window(maps, radius)
            for radius in RADII}
    ways |= {"mean of all cells": lambda maps: window(maps, codec.cells), "median of x and of y": _median(codec)}
    found = {name: [] for name in ways}
    for start in tqdm(range(0, len(rows), 64), desc=label, unit="batch"):
        batch = rows[start : start + 64]
        views, back = center_input(store.crops[batch], store.size), geometry.invert(store.input_affines[batch])
        plain, mirrored = network(to_images(views)), network(to_images(views[:, :, ::-1]))
        for name, way in ways.items():
            flipped = geometry.flip_points(way(mirrored).numpy(), store.size, flip_indices)
            found[name].append(geometry.transform(back, (way(plain).numpy() + flipped) / 2))
    return {name: np.concatenate(points) for name, points in found.items()}


def _median(codec: Heatmap) -> Callable[[Tensor], Tensor]:
    """The median of each coordinate, of all points the one with the least mean absolute error; within a cell linear."""
    def decode(heatmaps: Tensor) -> Tensor:
        shares = heatmaps.float().flatten(2).softmax(-1).unflatten(2, heatmaps.shape[2:])
        cells = []
        for across in (-2, -1):
            share = shares.sum(across)
            total = share.cumsum(-1)
            cell = (total < 0.5).sum(-1, keepdim=True).clamp(max=codec.cells - 1)
            own = share.gather(-1, cell)
            cells.append((cell + (0.5 - total.gather(-1, cell) + own) / own.clamp(min=1e-9) - 0.5).squeeze(-1))
        return codec._to_pixels(torch.stack(cells, dim=-1))

    return decode


if __name__ == "__main__":
    main()
