"""Batched inference with test-time augmentation, from the crop store back to photo pixels."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.pieces import scratch
from pipeline.data.folds import fold_rows
from pipeline.data.store import CropStore
from pipeline.inference.predictions import Predictions
from pipeline.keypoints import geometry
from pipeline.models import Codec
from pipeline.models.checkpoint import load_model
from pipeline.models.device import Runtime, make_runtime, to_images


@torch.inference_mode()
def predict_points(
    network: nn.Module, codec: Codec, store: CropStore, rows: Sequence[int], *,
    flip_indices: np.ndarray, runtime: Runtime, batch_size: int, flip: bool,
    shift_tta: bool = False, progress: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Points of faces `rows`, the mean over every shift of the view, each as it is and mirrored.

    Args:
        flip_indices: (K,) each point's partner in the mirror image.
        flip: whether to predict the mirror image too.
        shift_tta: whether to predict the view moved right and down by half a heatmap cell, too, where the network has
            heatmaps with cells of two pixels or more: what is in the middle of a cell is then at its corner.
        progress: label of a progress bar, None for none.

    Returns:
        points (M, K, 2) float32 in photo pixels, and their spread (M, K) float32: the root mean square distance of
        the single predictions to their mean, in photo pixels; 0 where there is only one.

    Raises:
        UserError: half a cell is more than the border of the store.
    """
    shifts = sorted({0, network.stride // 2 if shift_tta else 0})
    if shifts[-1] > store.border:
        raise UserError(f"predict.shift_tta wants a border of {shifts[-1]} pixels, the crops have {store.border}: "
                        "raise their padding, or set it to false")
    network.eval()
    rows, num_points = np.asarray(rows), len(flip_indices)
    points, spread = scratch((len(rows), num_points, 2)), scratch((len(rows), num_points))
    for start in tqdm(range(0, len(rows), batch_size), desc=progress, unit="batch", disable=progress is None):
        batch = rows[start : start + batch_size]
        views = []  # each B K 2, photo px
        for shift, mirrored in product(shifts, (False, True) if flip else (False,)):
            images, affines = _view(store, batch, shift)
            if mirrored:
                images = images[:, :, ::-1]
            output = runtime.forward(network, to_images(images))
            found = codec.decode(output).cpu().numpy().astype(np.float64)
            found = geometry.flip_points(found, store.size, flip_indices) if mirrored else found
            views.append(geometry.transform(geometry.invert(affines), found))
        views = np.stack(views)  # V B K 2
        mean = views.mean(0)
        points[start : start + batch_size] = mean
        spread[start : start + batch_size] = np.sqrt(np.square(views - mean).sum(-1).mean(0))
    return points, spread


def _view(store: CropStore, rows: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The network's view of faces, moved right and down: (B, S, S[, C]) uint8 and (B, 2, 3) affines photo → view."""
    corner = store.border + shift
    affines = geometry.compose(geometry.translation(-shift, -shift), store.input_affines[rows])
    return store.crops[rows, corner : corner + store.size, corner : corner + store.size], affines


def predict_fold(
    run: Path, *, crops: Path, folds: Path, fold: int, flip_indices: np.ndarray, device: str, precision: str, threads: int,
    label: str, batch_size: int, flip: bool, shift_tta: bool,
) -> None:
    """Write `oof.npz` (the faces that the run held out) and `test.npz` into the run folder.

    Args:
        run: a folder that `train_fold` wrote.
        crops: folder of the train and test parts of the crop store.
        folds, fold: the fold table and the fold that the run held out.
        flip_indices: (K,) each point's partner in the mirror image.
        device, precision: see `make_runtime`; threads: see `use_threads`.
        batch_size, flip, shift_tta: see `predict_points`.
    """
    network, codec, description = load_model(run)
    runtime = make_runtime(device, precision, threads)
    network = runtime.place(network)
    train, test = CropStore.open(crops / "train"), CropStore.open(crops / "test")
    _, held_out = fold_rows(folds, fold, len(train))
    for part, store, rows in (("oof", train, held_out), ("test", test, np.arange(len(test)))):
        if (store.size, store.channels) != (description["size"], description["channels"]):
            raise UserError(f"{run}: trained on other crops than {crops} holds now; train it again")
        if description["num_points"] != len(flip_indices):
            raise UserError(f"{run}: trained on {description['num_points']} points, data.skeleton has {len(flip_indices)}; "
                            "train it again")
        points, spread = predict_points(
            network, codec, store, rows, flip_indices=flip_indices, runtime=runtime,
            batch_size=batch_size, flip=flip, shift_tta=shift_tta, progress=f"{label} {part}",
        )
        Predictions(face=rows, points=points, spread=spread).save(run / f"{part}.npz")
