"""Training loop, resumable after any whole epoch."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.data.store import CropStore, center_input
from pipeline.keypoints import geometry
from pipeline.keypoints.metrics import face_nme, mae, measurable
from pipeline.models import Codec
from pipeline.models.backbone import KeypointNetwork
from pipeline.models.checkpoint import ResumeState
from pipeline.models.device import Runtime, to_images
from pipeline.models.losses import Loss
from pipeline.training.cuda_graph import GraphedStep
from pipeline.training.distributed import SINGLE, Distributed
from pipeline.training.loader import Batch, Batches, EpochSampler, train_loader
from pipeline.training.settings import Schedule

VALIDATION = ("val_loss", "val_mae", "val_nme")
SAVING = 0.05  # largest share of the time that is spent on saving the state, which for a GPU takes as long as an epoch


@dataclass(kw_only=True)
class Trainer:
    """A network, its moving average and the optimizer."""

    network: KeypointNetwork
    codec: Codec
    loss: Loss
    store: CropStore
    schedule: Schedule
    runtime: Runtime
    seed: int  # of the order of the faces, the augmentation and dropout
    validate_every: int = 1  # epochs; the last one is always validated
    eyes: tuple[int, int] | None = None  # the two outer eye corners
    label: str = "train"  # start of the progress lines
    distributed: Distributed = SINGLE

    def __post_init__(self) -> None:
        device, schedule = self.runtime.device.type, self.schedule
        self.network = self.distributed.sync_batch_norm(self.runtime.place(self.network))
        self.average = ModelEmaV3(self.network, decay=schedule.ema_decay, use_warmup=True)
        self.scaler = torch.amp.GradScaler(device, enabled=self.runtime.dtype == torch.float16)
        self.graphed = device == "cuda" and self.distributed.world_size == 1 and not self.scaler.is_enabled()
        fused = device in ("cpu", "cuda")
        options: dict[str, Any] = {"fused": fused} if schedule.optimizer == "adamw" else {"nesterov": True}
        self.optimizer = create_optimizer_v2(
            self.network, schedule.optimizer, lr=schedule.lr, weight_decay=schedule.weight_decay,
            capturable=self.graphed, **options,
        )
        self.lr = torch.tensor(schedule.lr, device=self.runtime.device)  # what a graph reads
        self.step: Callable[[Batch], Tensor] | None = None
        self.saved = 0  # epochs
        self.parts = {"network": self.network, "average": self.average.module, "optimizer": self.optimizer,
                      "scaler": self.scaler}

    def fit(
        self, batches: Batches, train_rows: np.ndarray, val_rows: np.ndarray, resume: ResumeState
    ) -> tuple[KeypointNetwork, list[dict]]:
        """Train on faces `train_rows` of the store and validate on faces `val_rows`.

        Returns:
            The averaged network and the history, one row an epoch: `epoch`, `lr`, `train_loss`, `val_loss`, `val_mae`
            (image pixels), `val_nme` (percent), `seconds`, `images_per_second`; NaN where an epoch had no validation,
            and as the NME of a skeleton without eyes.

        Raises:
            UserError: a loss is not finite; the last saved state is kept.
        """
        epochs, faces = self.schedule.epochs, min(self.schedule.batch_size, len(train_rows))
        loader = train_loader(batches, train_rows, batch_size=faces, seed=self.seed, workers=self.runtime.workers,
                              distributed=self.distributed)
        history, next_save = self._resume(resume), 0.0
        for epoch in range(len(history), epochs):
            if _stalled(history, self.schedule.patience):
                break
            start = time.perf_counter()
            train_loss = self.train_one_epoch(loader, epoch)
            seconds = time.perf_counter() - start
            due = (epoch + 1) % self.validate_every == 0 or epoch + 1 == epochs
            scores = self.evaluate(val_rows, faces) if due else dict.fromkeys(VALIDATION, np.nan)
            if due and not np.isfinite(scores["val_loss"]):
                raise _diverged(self.label, f"validation loss is {scores['val_loss']} after epoch {epoch + 1}")
            row = {"epoch": epoch + 1, "lr": float(self.optimizer.param_groups[0]["lr"]), "train_loss": train_loss,
                   **scores, "seconds": seconds, "images_per_second": len(loader) * faces / seconds}
            history.append(self.distributed.broadcast(row))
            if self.distributed.is_main:
                if (start := time.perf_counter()) > next_save:
                    resume.save({name: part.state_dict() for name, part in self.parts.items()} | {"history": history})
                    self.saved, next_save = epoch + 1, time.perf_counter() + (time.perf_counter() - start) / SAVING
                tqdm.write(describe(self.label, row))
        return self.average.module, history

    def train_one_epoch(self, loader: DataLoader, epoch: int) -> float:
        """Go through the loader once and return the mean loss; a UserError names the first batch with none."""
        torch.manual_seed(self.seed * 10_007 + epoch + 1_000_003 * self.distributed.rank)  # for dropout
        cast(EpochSampler, loader.sampler).epoch = epoch
        self.network.set_training(freeze_backbone=epoch < self.schedule.freeze_epochs)
        phase, losses = self.schedule.phase(epoch), []
        if self.step is None or epoch == phase.start:  # the phases train different weights
            alone = partial(self.train_step, self.distributed.data_parallel(self.network))
            self.step = GraphedStep(alone) if self.graphed else alone
        scheduler = build_scheduler(self.optimizer, self.schedule, epochs=len(phase), steps=len(loader))
        title = f"{self.label} epoch {epoch + 1}/{self.schedule.epochs}"
        hidden = None if self.distributed.is_main else True  # None: where no terminal shows it
        for step, batch in enumerate(tqdm(loader, title, leave=False, disable=hidden)):
            update = epoch * len(loader) + step
            scheduler.step_update(update - phase.start * len(loader))
            if self.graphed:
                for group in self.optimizer.param_groups:  # of one rate, which the scheduler has set to a number
                    group["lr"] = self.lr.fill_(group["lr"])
            losses.append(self.step(batch))
            self.average.update(self.network, step=update)
        found = self.distributed.all_reduce_mean(torch.stack(losses)).cpu()  # once an epoch, a GPU is not waited for
        if not found.isfinite().all():
            step = int((~found.isfinite()).nonzero()[0])
            _, rows, _ = [*cast(EpochSampler, loader.sampler)][step]
            raise _diverged(self.label, f"loss is {found[step]:g} in epoch {epoch + 1}, step {step + 1}, of faces "
                                        f"{', '.join(map(str, rows))}")
        return found.mean().item()

    def train_step(self, network: nn.Module, batch: Batch) -> Tensor:
        """Update the weights by one batch and return its loss."""
        value = self.batch_loss(network, batch)
        self.scaler.scale(value).backward()
        if self.schedule.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            _clip(self.network, self.schedule.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return value.detach()

    def batch_loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Compute the loss of one batch in float32; targets are encoded on the device."""
        images, points, mask = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        output = self.runtime.forward(network, images).float()
        return self.distributed.scale_loss(self.loss(output, self.codec.encode(points), mask), mask)

    @torch.inference_mode()
    def evaluate(self, rows: np.ndarray, batch_size: int) -> dict[str, float]:
        """Compute loss, MAE (image pixels) and NME (percent) of the averaged network on un-augmented faces `rows`.

        In batches as small as the training's, since large inputs at once take more memory than the training does.
        """
        network, runtime, store = self.average.module.eval(), self.runtime, self.store
        losses, maes, nmes = [], [], []  # one (sum, number of summands) per batch
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            truth, affines = store.truth[batch], store.input_affines[batch]
            known = np.isfinite(truth).all(-1)
            points_input = torch.from_numpy(np.nan_to_num(geometry.transform(affines, truth)).astype(np.float32))
            target = self.codec.encode(points_input.to(runtime.device))
            output = runtime.forward(network, to_images(center_input(store.crops[batch], store.size))).float()
            value = self.loss(output, target, torch.from_numpy(known).to(runtime.device))
            points = geometry.transform(geometry.invert(affines), self.codec.decode(output).cpu().numpy())
            losses.append((value.item() * len(batch), len(batch)))
            maes.append((mae(points, truth) * known.sum() if known.any() else 0.0, known.sum()))
            measured = measurable(truth, self.eyes)
            nmes.append((face_nme(points, truth, self.eyes)[measured].sum(), measured.sum()))
        sums = np.sum([losses, maes, nmes], axis=1)
        return dict(zip(VALIDATION, (float(total / count) if count else np.nan for total, count in sums), strict=True))

    def _resume(self, resume: ResumeState) -> list[dict]:
        """Load the saved state and return its history; without a state that fits, leave all parts as they are."""
        state = resume.load()
        if state is None:
            return []
        start = deepcopy({name: part.state_dict() for name, part in self.parts.items()})
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            _stalled(state["history"], self.schedule.patience)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            for name, part in self.parts.items():  # some may have been loaded, wholly or in part
                part.load_state_dict(start[name])
            resume.set_aside(error)
            return []
        self.saved = len(state["history"])
        tqdm.write(f"going on after epoch {self.saved}")
        return state["history"]


def build_scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule, *, epochs: int, steps: int) -> Scheduler:
    """Build the schedule of the learning rate over `epochs` epochs of `steps` steps, counted from 0.

    The rate grows linearly from a hundredth, then falls to 0 along a cosine (Loshchilov & Hutter, ICLR 2017) or stays.
    """
    warmup: dict[str, Any] = {"warmup_t": round(schedule.warmup_epochs * steps), "warmup_lr_init": schedule.lr / 100}
    if schedule.schedule == "constant":
        return MultiStepLRScheduler(optimizer, decay_t=[], t_in_epochs=False, **warmup)
    return CosineLRScheduler(optimizer, t_initial=epochs * steps, t_in_epochs=False, **warmup)


def describe(label: str, row: dict) -> str:
    """Format the history row of an epoch as one line."""
    text = f"{label} epoch {row['epoch']}: loss {row['train_loss']:.4f}"
    if not np.isnan(row["val_mae"]):
        text += f", validation {row['val_loss']:.4f}, MAE {row['val_mae']:.3f} px"
        text += "" if np.isnan(row["val_nme"]) else f", NME {row['val_nme']:.2f}%"
    return f"{text}, {row['images_per_second']:.0f} images/s"


def _diverged(label: str, what: str) -> UserError:
    return UserError(f"{label}: {what}; lower the model's lr, set its grad_clip or look at these faces (the last "
                     "saved state is kept)")


def _stalled(history: list[dict], patience: int | None) -> bool:
    """Whether the last `patience` validations brought no better MAE."""
    maes = [row["val_mae"] for row in history if not np.isnan(row["val_mae"])]
    return patience is not None and len(maes) > patience and min(maes[-patience:]) >= min(maes[:-patience])


def _clip(network: nn.Module, max_norm: float) -> None:
    """Clip the gradient; a CPU skips the pass over gradients that are small enough, a GPU would have to be asked."""
    norm = get_total_norm([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    if norm.device.type != "cpu" or not norm < max_norm:
        clip_grads_with_norm_(network.parameters(), max_norm, norm)
