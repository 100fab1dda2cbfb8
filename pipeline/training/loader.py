"""Batches of augmented faces, the same for any number of worker processes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.data.store import CropStore
from pipeline.models.device import to_images
from pipeline.training.batch_augment import BatchAugment
from pipeline.training.distributed import SINGLE, Distributed
from pipeline.training.settings import Augmentation

if TYPE_CHECKING:
    import albumentations

Batch = tuple[Tensor, Tensor, Tensor]  # images B C S S uint8, points B K 2 float32 input px, mask B K bool
Key = tuple[int, np.ndarray, slice]  # seed and faces of a batch, and this process's shard of it


class AlbumentationsBatches(Dataset):
    """Item (seed, rows, shard) is a shard of the batch of faces `rows`, augmented one by one from `seed`."""

    def __init__(self, store: CropStore, transform: "albumentations.Compose") -> None:
        self.store, self.transform = store, transform

    def __getitem__(self, key: Key) -> Batch:
        seed, rows, shard = key
        self.transform.set_random_seed(seed)
        images, points = [], []
        for crop, points_crop in zip(self.store.crops[rows], self.store.points_crop(rows), strict=True):
            drawn = self.transform(image=crop, keypoints=points_crop)
            images.append(drawn["image"])
            points.append(drawn["keypoints"])
        found = torch.from_numpy(np.stack(points[shard]).astype(np.float32))
        masks = found.isfinite().all(-1)
        return to_images(np.stack(images[shard])), found.where(masks[..., None], 0), masks


class TorchBatches(Dataset):
    """Item (seed, rows, shard) is a shard of the batch of faces `rows`, augmented at once from `seed` on `device`.

    A GPU holds all crops if they fill less than half of its free memory.
    """

    def __init__(self, store: CropStore, transform: BatchAugment, device: torch.device) -> None:
        self.store, self.transform, self.device, self.resident = store, transform, device, None
        if device.type == "cuda" and 2 * store.crops.nbytes < torch.cuda.mem_get_info(device)[0]:
            self.resident = to_images(store.crops).to(device)

    def __getitem__(self, key: Key) -> Batch:
        seed, rows, shard = key
        store, rng = self.store, np.random.default_rng(seed)
        draw = self.transform.draw(rng, len(rows), store.crops.shape[1], store.channels).part(shard)
        rows = rows[shard]
        if self.resident is None:
            crops = to_images(store.crops[rows]).to(self.device)
        else:
            crops = self.resident[torch.from_numpy(rows).to(self.device, non_blocking=True)]
        points = torch.from_numpy(store.points_crop(rows)).to(self.device, non_blocking=True)
        images, points = self.transform.apply(crops, points, draw)
        masks = points.isfinite().all(-1)
        return images, points.where(masks[..., None], 0), masks


Batches = AlbumentationsBatches | TorchBatches


def make_batches(
    store: CropStore, augmentation: Augmentation, flip_indices: np.ndarray, device: torch.device
) -> Batches:
    """Make the augmented batches of a store, on `device` where torch augments them."""
    if augmentation.backend == "albumentations":
        from pipeline.training.augment import build  # late: albumentations takes a second to import

        return AlbumentationsBatches(store, build(store.size, flip_indices, augmentation))
    return TorchBatches(store, BatchAugment(store.size, flip_indices, augmentation), device)


class EpochSampler(Sampler):
    """Shuffled batches of `rows`; order and seed of each batch depend on `seed` and `epoch` alone."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, distributed: Distributed = SINGLE) -> None:
        self.rows, self.batch_size, self.seed, self.epoch = rows, min(batch_size, len(rows)), seed, 0
        self.shard = distributed.shard(self.batch_size)

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.rows)
        for batch in range(len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield int(rng.integers(2**31)), rows, self.shard


def train_loader(
    batches: Batches, rows: np.ndarray, *, batch_size: int, seed: int, workers: int, distributed: Distributed
) -> DataLoader:
    """Load `Batch`es of faces `rows`, augmented by `workers` processes; set the sampler's `epoch` before each pass."""
    sampler = EpochSampler(rows, batch_size, seed, distributed)
    workers = 0 if isinstance(batches, TorchBatches) else workers
    return DataLoader(
        batches, sampler=sampler, batch_size=None, num_workers=workers,
        pin_memory=torch.cuda.is_available() and isinstance(batches, AlbumentationsBatches),
        persistent_workers=workers > 0, worker_init_fn=_one_thread,
        generator=torch.Generator(),  # starting workers would draw from the global one, which dropout uses
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
