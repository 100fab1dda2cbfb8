"""Batched inference with test-time augmentation, from the crop store back to photo pixels."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline import geometry
from pipeline.checkpoint import load_model
from pipeline.crops import CropStore
from pipeline.errors import UserError
from pipeline.models import Codec
from pipeline.pieces import scratch
from pipeline.predictions import Predictions
from pipeline.runtime import Runtime, make_runtime, to_images, use_threads
from pipeline.train import fold_rows


@torch.inference_mode()
def predict_points(
    network: nn.Module, codec: Codec, store: CropStore, rows: Sequence[int], *,
    partners: np.ndarray, runtime: Runtime, batch_size: int, flip: bool, scales: Sequence[float] = (1.0,),
    half_cell: bool = False, progress: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Points of faces `rows`, the mean over every scale and shift of the view, each as it is and mirrored.

    Args:
        partners: (K,) each point's partner in the mirror image.
        flip: whether to predict the mirror image too.
        scales: enlargements of the view; the border of the store serves those below 1.
        half_cell: whether to predict the view moved right and down by half a heatmap cell, too, where the network has
            heatmaps with cells of two pixels or more: what is in the middle of a cell is then at its corner.
        progress: label of a progress bar, None for none.

    Returns:
        points (M, K, 2) float32 in photo pixels, and their spread (M, K) float32: the root mean square distance of
        the single predictions to their mean, in photo pixels; 0 where there is only one.

    Raises:
        UserError: half a cell is more than the border of the store.
    """
    shifts = sorted({0, network.stride // 2 if half_cell else 0})
    if shifts[-1] > store.border:
        raise UserError(f"predict.half_cell wants a border of {shifts[-1]} pixels, the crops have {store.border}: "
                        "raise their slack, or set it to false")
    network.eval()
    rows, num_points = np.asarray(rows), len(partners)
    points, spread = scratch((len(rows), num_points, 2)), scratch((len(rows), num_points))
    for start in tqdm(range(0, len(rows), batch_size), desc=progress, unit="batch", disable=progress is None):
        batch = rows[start : start + batch_size]
        views = []  # each B K 2, photo px
        for scale, shift, mirrored in product(scales, shifts, (False, True) if flip else (False,)):
            images, affines = _view(store, batch, scale, shift)
            if mirrored:
                images = images[:, :, ::-1]
            output = runtime.forward(network, to_images(images))
            found = codec.decode(output).cpu().numpy().astype(np.float64)
            found = geometry.flip_points(found, store.size, partners) if mirrored else found
            views.append(geometry.transform(geometry.invert(affines), found))
        views = np.stack(views)  # V B K 2
        mean = views.mean(0)
        points[start : start + batch_size] = mean
        spread[start : start + batch_size] = np.sqrt(np.square(views - mean).sum(-1).mean(0))
    return points, spread


def _view(store: CropStore, rows: np.ndarray, scale: float, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The network's view of faces, moved and enlarged: (B, S, S[, C]) uint8 and (B, 2, 3) affines photo → view."""
    crops, corner = store.crops[rows], store.border + shift
    affines = geometry.compose(geometry.translation(-shift, -shift), store.view_affines[rows])
    if scale == 1:
        return crops[:, corner : corner + store.size, corner : corner + store.size], affines
    middle = (store.size - 1) / 2
    zoom = np.array([[scale, 0, middle * (1 - scale)], [0, scale, middle * (1 - scale)]])
    from_store = geometry.compose(zoom, geometry.translation(-corner, -corner))
    views = [cv2.warpAffine(crop, from_store, (store.size, store.size), flags=cv2.INTER_LINEAR) for crop in crops]
    return np.stack(views), geometry.compose(zoom, affines)


def predict_fold(
    run: Path, *, crops: Path, folds: Path, fold: int, partners: np.ndarray, device: str, precision: str, threads: int,
    label: str, batch_size: int, flip: bool, scales: Sequence[float], half_cell: bool,
) -> None:
    """Write `oof.npz` (the faces that the run held out) and `test.npz` into the run folder.

    Args:
        run: a folder that `train_fold` wrote.
        crops: folder of the train and test parts of the crop store.
        folds, fold: the fold table and the fold that the run held out.
        partners: (K,) each point's partner in the mirror image.
        device, precision: see `make_runtime`; threads: see `use_threads`.
        batch_size, flip, scales, half_cell: see `predict_points`.
    """
    network, codec, description = load_model(run)
    use_threads(threads)
    runtime = make_runtime(device, precision)
    network = runtime.place(network)
    train, test = CropStore.open(crops / "train"), CropStore.open(crops / "test")
    _, held_out = fold_rows(folds, fold, len(train))
    for part, store, rows in (("oof", train, held_out), ("test", test, np.arange(len(test)))):
        if (store.size, store.channels) != (description["size"], description["channels"]):
            raise UserError(f"{run}: trained on other crops than {crops} holds now; train it again")
        if description["num_points"] != len(partners):
            raise UserError(f"{run}: trained on {description['num_points']} points, data.skeleton has {len(partners)}; "
                            "train it again")
        points, spread = predict_points(
            network, codec, store, rows, partners=partners, runtime=runtime,
            batch_size=batch_size, flip=flip, scales=scales, half_cell=half_cell, progress=f"{label} {part}",
        )
        Predictions(face=rows, points=points, spread=spread).save(run / f"{part}.npz")
