"""Training of one fold: from the crop store and the fold table to a run folder."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import exclusive, write_text
from pipeline.common.paths import Paths
from pipeline.data.folds import fold_rows
from pipeline.data.store import CropStore
from pipeline.keypoints import geometry
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models import build_model
from pipeline.models.checkpoint import ResumeState, fingerprint, save_model
from pipeline.models.device import Runtime
from pipeline.models.losses import build_loss
from pipeline.training.distributed import init_distributed
from pipeline.training.engine import VALIDATION, Trainer
from pipeline.training.loader import make_batches
from pipeline.training.settings import Recipe


def train_fold(
    paths: Paths, crops: Path, model: str, fold: int, *, recipe: Recipe, skeleton: Skeleton, runtime: Runtime
) -> None:
    """Train on every fold but `fold`; write `model.safetensors`, `model.json`, `history.csv` and `metrics.json`.

    The processes that `torchrun` starts train the one model together, and rank 0 writes. An interrupted training goes
    on where it stopped, if nothing that decides its result has changed.

    `crops` is the train part of a crop store. A UserError says that it does not fit, that another training of the fold
    runs, or that the loss is not finite.
    """
    store, label, seed = CropStore.open(crops), f"{model}-{fold}", recipe.seed + fold
    train_rows, val_rows = fold_rows(paths.folds, fold, len(store))
    _check_points(crops / "keypoints.npy", store.truth[train_rows], skeleton.num_points)
    description: dict[str, Any] = {"network": recipe.network, "codec": recipe.codec, "num_points": skeleton.num_points,
                                   "channels": store.channels, "size": store.size}
    settings = [description, asdict(recipe), fold, runtime.device.type, str(runtime.dtype), runtime.threads,
                skeleton.flip.tolist(), skeleton.eyes]
    inputs = [paths.folds, *(crops / name for name in ("crops.npy", "faces.csv", "keypoints.npy"))]
    resume = ResumeState(paths.resume, f"{label}-{fingerprint(settings, *inputs)}")
    torch.manual_seed(seed)
    network, codec = build_model(**description)
    network.start_at(codec.encode(torch.from_numpy(mean_points(store, train_rows)[None])))
    out, busy = paths.run(model, fold), "another training of this fold runs; wait until it has ended"
    with init_distributed(runtime.device) as distributed, ExitStack() as stack:
        if distributed.is_main:
            stack.enter_context(exclusive(out, busy))
        batches = make_batches(store, recipe.augmentation, skeleton.flip, runtime.device)
        trainer = Trainer(
            network=network, codec=codec, loss=build_loss(codec, **recipe.loss), store=store, schedule=recipe.schedule,
            runtime=runtime, seed=seed, validate_every=recipe.validate_every, eyes=skeleton.eyes, label=label,
            distributed=distributed,
        )
        try:
            network, history = trainer.fit(batches, train_rows, val_rows, resume)
        except KeyboardInterrupt:
            if distributed.is_main:
                tqdm.write(f"{label}: stopped; the same command goes on from epoch {trainer.saved + 1}")
            raise
        if distributed.is_main:
            save_model(out, network, description)
            write_text(out / "history.csv", pd.DataFrame(history).to_csv(index=False))
            write_text(out / "metrics.json", json.dumps(_metrics(history, runtime, len(train_rows)), indent=2) + "\n")
            resume.remove()


def _check_points(path: Path, points: np.ndarray, num_points: int) -> None:
    """Raise a UserError where points (N, K, 2) to train on are of another skeleton, or all missing."""
    if points.shape[1] != num_points:
        raise UserError(f"{path}: {points.shape[1]} points a face, data.skeleton has {num_points}; run the crop stage "
                        "again")
    if not np.isfinite(points).any():
        raise UserError(f"{path}: none of the {len(points)} faces outside the fold has a point to train on; look at "
                        "data.train and data.points, then run the crop stage again")


def _metrics(history: list[dict], runtime: Runtime, train_faces: int) -> dict:
    """Summarise a training: the last epoch's scores and what it took."""
    last = {name: history[-1][name] for name in ("epoch", *VALIDATION)}
    return {name: None if np.isnan(value) else value for name, value in last.items()} | {
        "device": str(runtime.device), "dtype": str(runtime.dtype).removeprefix("torch."),
        "seconds": sum(row["seconds"] for row in history), "train_faces": train_faces,
    }


def mean_points(store: CropStore, rows: np.ndarray) -> np.ndarray:
    """Average each point over faces `rows`: (K, 2) input pixels, the middle for a point that none of them has."""
    mean = geometry.finite_mean(geometry.transform(store.input_affines[rows], store.truth[rows]), axis=0)
    return np.where(np.isnan(mean), (store.size - 1) / 2, mean)
