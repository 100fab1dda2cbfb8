"""Batched inference with test-time augmentation, from the crop store to points in image pixels."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.data.folds import fold_rows
from pipeline.data.store import CropStore
from pipeline.inference.predictions import Predictions
from pipeline.inference.tta import TTA
from pipeline.keypoints import geometry
from pipeline.models import Codec
from pipeline.models.backbone import KeypointNetwork
from pipeline.models.checkpoint import load_model
from pipeline.models.device import Runtime, to_images


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A network, how it is asked, and (K,) `flip_indices` of each point's counterpart in the mirror image."""

    network: KeypointNetwork
    codec: Codec
    flip_indices: np.ndarray
    runtime: Runtime
    tta: TTA

    @torch.inference_mode()
    def predict(self, store: CropStore, rows: np.ndarray, progress: str | None = None) -> Predictions:
        """Predict the points of faces `rows` in image pixels: the mean over the shifts, each as it is and mirrored.

        The spread is the root mean square distance of the single predictions to their mean. `progress` labels a
        progress bar. A UserError says that half a heatmap cell is more than the border of the store.
        """
        shifts = self._shifts(store)
        network, batch_size = self.runtime.place(self.network).eval(), self.tta.batch_size
        points = np.empty((len(rows), len(self.flip_indices), 2), np.float32)
        spread = np.empty(points.shape[:2], np.float32)
        for start in tqdm(range(0, len(rows), batch_size), desc=progress, unit="batch",
                          disable=None if progress else True):
            batch = slice(start, start + batch_size)
            views = np.stack([self._view(network, store, rows[batch], shift, mirrored) for shift, mirrored
                              in product(shifts, (False, True) if self.tta.flip else (False,))])  # V B K 2
            mean = views.mean(0)
            points[batch] = mean
            spread[batch] = np.sqrt(np.square(views - mean).sum(-1).mean(0))
        return Predictions(face=rows, points=points, spread=spread)

    def _shifts(self, store: CropStore) -> list[int]:
        shifts = sorted({0, self.network.stride // 2 if self.tta.shift_tta else 0})
        if shifts[-1] > store.border:
            raise UserError(f"predict.shift_tta needs a border of {shifts[-1]} pixels, the crops have {store.border}: "
                            "raise their padding, or set it to false")
        return shifts

    def _view(self, network: nn.Module, store: CropStore, rows: np.ndarray, shift: int, mirrored: bool) -> np.ndarray:
        """(B, K, 2) float64 image pixels, predicted on the input shifted right and down, mirrored or not."""
        corner = store.border + shift
        images = store.crops[rows, corner : corner + store.size, corner : corner + store.size]
        output = self.runtime.forward(network, to_images(images[:, :, ::-1] if mirrored else images))
        points_input = self.codec.decode(output).cpu().numpy().astype(np.float64)
        if mirrored:
            points_input = geometry.flip_points(points_input, store.size, self.flip_indices)
        affines = geometry.compose(geometry.translation(-shift, -shift), store.input_affines[rows])
        return geometry.transform(geometry.invert(affines), points_input)


def load_predictor(run: Path, *stores: CropStore, flip_indices: np.ndarray, runtime: Runtime, tta: TTA) -> Predictor:
    """Load the network of a run folder to predict faces of these stores.

    A UserError says that it is missing, or was trained on other sizes, colours or numbers of points.
    """
    network, codec, description = load_model(run)
    for store in stores:
        check_fit(run, description, size=store.size, channels=store.channels, num_points=len(flip_indices))
    return Predictor(network=network, codec=codec, flip_indices=flip_indices, runtime=runtime, tta=tta)


def check_fit(run: Path, description: dict, *, size: int, channels: int, num_points: int) -> None:
    """Raise a UserError where the model of a run folder was trained on other sizes, colours or numbers of points."""
    if (description["size"], description["channels"]) != (size, channels):
        raise UserError(f"{run}: trained on other crops: of {description['size']} pixels and "
                        f"{description['channels']} channels, but these have {size} and {channels}; train it again or "
                        "use its params")
    if description["num_points"] != num_points:
        raise UserError(f"{run}: trained on {description['num_points']} points, data.skeleton has {num_points}; train "
                        "it again or use its params")


def predict_fold(
    paths: Paths, crops: Path, model: str, fold: int, *, flip_indices: np.ndarray, tta: TTA, runtime: Runtime
) -> None:
    """Write `oof.npz` (the faces held out) and `test.npz` of a run; `crops` has both parts that the model sees."""
    run, train, test = paths.run(model, fold), CropStore.open(crops / "train"), CropStore.open(crops / "test")
    _, held_out = fold_rows(paths.folds, fold, len(train))
    predictor = load_predictor(run, train, test, flip_indices=flip_indices, runtime=runtime, tta=tta)
    found = {part: predictor.predict(store, rows, f"{model}-{fold} {part}")
             for part, store, rows in (("oof", train, held_out), ("test", test, np.arange(len(test))))}
    for part, predictions in found.items():
        predictions.check_finite(run / f"{part}.npz")
    for part, predictions in found.items():
        predictions.save(run / f"{part}.npz")
