"""Training: one visible loop, resumable after any whole epoch."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from pipeline.data.store import CropStore, center_input
from pipeline.keypoints import geometry
from pipeline.keypoints.metrics import face_nme, mae, measurable
from pipeline.models import Codec
from pipeline.models.checkpoint import ResumeState
from pipeline.models.device import Runtime, to_images
from pipeline.models.losses import Loss
from pipeline.training.distributed import SINGLE, Distributed
from pipeline.training.loader import Batch, Batches, train_loader


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard to train.

    Attributes:
        epochs: passes over the faces.
        batch_size: faces a step.
        lr: highest learning rate of AdamW (Loshchilov & Hutter, ICLR 2019), reached after `warmup_epochs`, then
            lowered to 0 along a cosine.
        weight_decay: of AdamW.
        warmup_epochs: of linear growth; may be a fraction.
        freeze_epochs: first epochs that leave the backbone alone, its batch norm statistics too.
        grad_clip: largest norm of the gradient, None for no limit.
        ema_decay: decay of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        patience: stop after this many validations without a better MAE; None never stops early.
        validate_every: epochs between validations; the last epoch always has one.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_epochs: float
    freeze_epochs: int
    grad_clip: float | None
    ema_decay: float
    patience: int | None
    validate_every: int


def fit(
    network: nn.Module, codec: Codec, loss: Loss, store: CropStore, train_rows: np.ndarray, val_rows: np.ndarray, *,
    batches: Batches, eyes: tuple[int, int] | None, schedule: Schedule, runtime: Runtime, seed: int, workers: int,
    resume: ResumeState, label: str = "train", distributed: Distributed = SINGLE,
) -> tuple[nn.Module, list[dict]]:
    """Train `network` on faces `train_rows` of the store, watching it on `val_rows`.

    Returns:
        The averaged network and the history, one row an epoch: `epoch`, `lr`, `train_loss`, `val_loss`, `val_mae`
        (photo pixels), `val_nme` (percent), `seconds`, `images_per_second`; NaN where an epoch had no validation,
        and as the NME of a skeleton without eyes.
    """
    loader, sampler = train_loader(batches, train_rows, batch_size=schedule.batch_size, seed=seed, workers=workers,
                                   distributed=distributed)
    steps = len(loader)
    network = distributed.prepare(runtime.place(network))
    average = ModelEmaV3(network, decay=schedule.ema_decay, use_warmup=True)
    fused = runtime.device.type in ("cpu", "cuda")
    optimizer = create_optimizer_v2(network, "adamw", lr=schedule.lr, weight_decay=schedule.weight_decay, fused=fused)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=schedule.epochs * steps, warmup_t=round(schedule.warmup_epochs * steps),
        warmup_lr_init=schedule.lr / 100, t_in_epochs=False,
    )
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.dtype == torch.float16)
    parts = {"network": network, "average": average.module, "optimizer": optimizer, "scaler": scaler}
    history = _resume(resume, parts)

    for epoch in range(len(history), schedule.epochs):
        if _stalled(history, schedule.patience):
            break
        start = time.perf_counter()
        torch.manual_seed(seed * 10_007 + epoch + 1_000_003 * distributed.rank)  # dropout; the rest is the sampler's
        sampler.epoch = epoch
        _set_training(network, frozen=epoch < schedule.freeze_epochs)
        called, total = distributed.wrap(network), torch.zeros((), device=runtime.device)
        bar = tqdm(loader, desc=f"{label} epoch {epoch + 1}/{schedule.epochs}", leave=False, disable=not distributed.first)
        for step, batch in enumerate(bar):
            scheduler.step_update(epoch * steps + step)
            value = _loss(called, codec, loss, batch, runtime, distributed)
            scaler.scale(value).backward()
            if schedule.grad_clip is not None:
                scaler.unscale_(optimizer)
                _clip(network, schedule.grad_clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            average.update(network, step=epoch * steps + step)
            total += value.detach()
        train_loss = distributed.mean(total).item() / steps
        row = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"], "train_loss": train_loss}
        seconds = time.perf_counter() - start
        due = (epoch + 1) % schedule.validate_every == 0 or epoch + 1 == schedule.epochs
        row |= dict.fromkeys(WATCHED, np.nan)
        if due:
            row |= evaluate(average.module, codec, loss, store, val_rows, eyes, runtime)
        row |= {"seconds": seconds, "images_per_second": steps * sampler.batch_size / seconds}
        history.append(distributed.from_first(row))
        if distributed.first:
            resume.save({name: part.state_dict() for name, part in parts.items()} | {"history": history})
            tqdm.write(describe(label, row))
    return average.module, history


WATCHED = ("val_loss", "val_mae", "val_nme")


def describe(label: str, row: dict) -> str:
    """One line about an epoch."""
    text = f"{label} epoch {row['epoch']}: loss {row['train_loss']:.4f}"
    if not np.isnan(row["val_mae"]):
        text += f", validation {row['val_loss']:.4f}, MAE {row['val_mae']:.3f} px"
        text += "" if np.isnan(row["val_nme"]) else f", NME {row['val_nme']:.2f}%"
    return f"{text}, {row['images_per_second']:.0f} images/s"


def _resume(resume: ResumeState, parts: dict) -> list[dict]:
    state = resume.load()
    if state is None:
        return []
    for name, part in parts.items():
        part.load_state_dict(state[name])
    tqdm.write(f"going on after epoch {len(state['history'])}")
    return state["history"]


def _stalled(history: list[dict], patience: int | None) -> bool:
    """Whether the last `patience` validations brought no better MAE."""
    watched = [row["val_mae"] for row in history if not np.isnan(row["val_mae"])]
    return patience is not None and len(watched) > patience and min(watched[-patience:]) >= min(watched[:-patience])


def _set_training(network: nn.Module, frozen: bool) -> None:
    network.train()
    network.backbone.requires_grad_(not frozen)
    if frozen:
        network.backbone.eval()


def _clip(network: nn.Module, largest: float) -> None:
    """`clip_grad_norm_`, sparing a CPU the pass over gradients that are small enough; a GPU would have to be asked."""
    norm = get_total_norm([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    if norm.device.type != "cpu" or not norm < largest:
        clip_grads_with_norm_(network.parameters(), largest, norm)


def _loss(network: nn.Module, codec: Codec, loss: Loss, batch: Batch, runtime: Runtime, distributed: Distributed) -> Tensor:
    """The loss of one batch; targets are drawn on the device, and the loss is taken in float32."""
    images, points, mask = (part.to(runtime.device, non_blocking=True) for part in batch)
    output = runtime.forward(network, images)
    return distributed.weigh(loss(output.float(), codec.encode(points), mask), mask)


@torch.inference_mode()
def evaluate(
    network: nn.Module, codec: Codec, loss: Loss, store: CropStore, rows: np.ndarray, eyes: tuple[int, int] | None,
    runtime: Runtime, batch_size: int = 128,
) -> dict[str, float]:
    """Loss, MAE (photo pixels) and NME (percent) on faces `rows`, un-augmented."""
    network.eval()
    losses, maes, nmes = [], [], []  # a row a batch of the sum, and how many summands it has
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        truth, affines = store.keypoints[batch], store.input_affines[batch]
        known = np.isfinite(truth).all(-1)
        view = torch.from_numpy(np.nan_to_num(geometry.transform(affines, truth)).astype(np.float32))
        images = runtime.images(to_images(center_input(store.crops[batch], store.size)))
        with runtime.autocast:
            output = network(images).float()
        value = loss(output, codec.encode(view.to(runtime.device)), torch.from_numpy(known).to(runtime.device))
        points = geometry.transform(geometry.invert(affines), codec.decode(output).cpu().numpy())
        losses.append((value.item() * len(batch), len(batch)))
        maes.append((mae(points, truth) * known.sum() if known.any() else 0.0, known.sum()))
        measured = measurable(truth, eyes)
        nmes.append((face_nme(points, truth, eyes)[measured].sum(), measured.sum()))
    sums = np.sum([losses, maes, nmes], axis=1)
    return dict(zip(WATCHED, (float(total / count) if count else np.nan for total, count in sums), strict=True))
