"""Train one fold: from the crop store and the fold table to a run folder."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.pieces import pieces
from pipeline.data.store import CropStore
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models import ResNet, build_model
from pipeline.models.checkpoint import ResumeState, fingerprint, save_model
from pipeline.models.device import make_runtime, use_threads
from pipeline.models.losses import build_loss
from pipeline.training.distributed import init_distributed
from pipeline.training.engine import Schedule, fit
from pipeline.training.loader import make_batches


def train_fold(
    out: Path, *, crops: Path, folds: Path, fold: int, skeleton: Skeleton, network: dict, codec: dict, loss: dict,
    augmentation: dict, device: str, precision: str, threads: int, workers: int, seed: int,
    resume_folder: Path, label: str, **schedule: object,
) -> None:
    """Train on every fold but `fold` and write `model.safetensors`, `model.json`, `history.csv`, `metrics.json`.

    Started by `torchrun`, all its processes train the one model together, and the first of them writes.

    Args:
        out: the run folder.
        crops, folds: the train part of the crop store, and the fold table.
        skeleton: which points mirror which, and which measure the face.
        network, codec: see `build_model`; loss: see `build_loss`; augmentation: see `make_batches`.
        device, precision: see `make_runtime`; threads: see `use_threads`; workers: processes that augment.
        seed: the fold's own is seed + fold.
        resume_folder: where an interrupted run keeps its state.
        label: for the progress lines.
        schedule: the fields of `Schedule`.
    """
    store = CropStore.open(crops)
    train_rows, val_rows = fold_rows(folds, fold, len(store))
    description = {
        "network": network, "codec": codec,
        "num_points": skeleton.num_points, "channels": store.channels, "size": store.size,
    }
    use_threads(threads)
    runtime = make_runtime(device, precision)
    key = fingerprint(
        [description, loss, augmentation, schedule, seed, fold, runtime.device.type, str(runtime.dtype), threads,
         skeleton.flip.tolist(), skeleton.eyes],
        folds, *(crops / name for name in ("crops.npy", "faces.csv", "keypoints.npy")),
    )
    resume = ResumeState(resume_folder, f"{label}-{key}")
    torch.manual_seed(seed + fold)
    model, target = build_model(**description)
    if isinstance(model, ResNet):
        model.start_at(target.encode(torch.from_numpy(mean_points(store, train_rows))))
    with init_distributed(runtime.device) as distributed:
        model, history = fit(
            model, target, build_loss(kind=target.kind, **loss), store, train_rows, val_rows,
            batches=make_batches(store, device=runtime.device, flip_indices=skeleton.flip, **augmentation),
            eyes=skeleton.eyes, schedule=Schedule(**schedule), runtime=runtime, seed=seed + fold, workers=workers,
            resume=resume, label=label, distributed=distributed,
        )
    if not distributed.first:
        return
    save_model(out, model, description)
    write_text(out / "history.csv", pd.DataFrame(history).to_csv(index=False))
    last = {name: history[-1][name] for name in ("epoch", "val_loss", "val_mae", "val_nme")}
    last = {name: None if np.isnan(value) else value for name, value in last.items()}
    costs = {"device": str(runtime.device), "dtype": str(runtime.dtype).removeprefix("torch."),
             "seconds": sum(row["seconds"] for row in history), "train_faces": len(train_rows)}
    write_text(out / "metrics.json", json.dumps(last | costs, indent=2) + "\n")
    resume.remove()


def mean_points(store: CropStore, rows: np.ndarray) -> np.ndarray:
    """(K, 2) mean of each point over faces `rows`, in view pixels; the middle for a point that none of them has."""
    total, count, affines = 0.0, 0, store.input_affines
    for piece in pieces(len(rows)):
        points = geometry.transform(affines[rows[piece]], store.keypoints[rows[piece]])
        known = np.isfinite(points).all(-1, keepdims=True)
        total, count = total + np.where(known, points, 0).sum(0), count + known.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), (store.size - 1) / 2)


def fold_rows(folds: Path, fold: int, num_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """The faces to train on and the faces held out, as rows of the crop store."""
    if not folds.is_file():
        raise UserError(f"{folds}: not found; run `dvc repro split` (or `python -m stages.split`) first")
    table = pd.read_csv(folds)
    if len(table) != num_faces:
        raise UserError(f"{folds} has {len(table)} faces and the crop store {num_faces}; run the split stage again")
    held_out = (table.fold == fold).to_numpy()
    if not held_out.any():
        raise UserError(f"{folds}: fold {fold} has no faces; run the split stage again")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
