"""Batches of augmented faces, drawn alike whatever the number of worker processes."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline import geometry
from pipeline.augment import Transform
from pipeline.crops import CropStore

Batch = tuple[Tensor, Tensor, Tensor]  # images B C S S uint8, points B K 2 float32 view px, mask B K bool


class FaceBatches(Dataset):
    """Item (seed, rows) is the batch of those faces, augmented from that seed."""

    def __init__(self, store: CropStore, transform: Transform) -> None:
        self.crops = store.crops
        self.points = geometry.transform(store.affines, store.keypoints)  # N K 2 stored-crop px, NaN where missing
        self.transform = transform

    def __getitem__(self, key: tuple[int, np.ndarray]) -> Batch:
        seed, rows = key
        self.transform.set_random_seed(seed)
        images, points, masks = [], [], []
        for row in rows:
            drawn = self.transform(image=np.array(self.crops[row]), keypoints=self.points[row].astype(np.float32))
            images.append(drawn["image"])
            points.append(drawn["keypoints"])
        points = np.stack(points).astype(np.float32)
        masks = np.isfinite(points).all(-1)
        points = np.where(masks[..., None], points, 0)
        return to_images(np.stack(images)), torch.from_numpy(points), torch.from_numpy(masks)


class EpochSampler(Sampler):
    """Shuffled batches of `rows`; the order and each batch's seed depend on `seed` and `epoch` alone."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed, self.epoch = rows, min(batch_size, len(rows)), seed, 0

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.rows)
        for batch in range(len(self)):
            yield int(rng.integers(2**31)), order[batch * self.batch_size : (batch + 1) * self.batch_size]


def train_loader(
    store: CropStore, rows: Sequence[int], transform: Transform, *, batch_size: int, seed: int, workers: int, pin: bool
) -> tuple[DataLoader, EpochSampler]:
    """A loader of `Batch`es over faces `rows`, and the sampler whose `epoch` to set before each pass."""
    sampler = EpochSampler(np.asarray(rows), batch_size, seed)
    loader = DataLoader(
        FaceBatches(store, transform), sampler=sampler, batch_size=None, num_workers=workers, pin_memory=pin,
        persistent_workers=workers > 0, worker_init_fn=_one_thread,
        generator=torch.Generator(),  # else starting workers would draw from the global one, which dropout needs
    )
    return loader, sampler


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)


def to_images(crops: np.ndarray) -> Tensor:
    """(B, S, S[, C]) uint8 → (B, C, S, S) uint8."""
    crops = crops[..., None] if crops.ndim == 3 else crops
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
