"""Crop store: every face cut from its image once, by one affine, memory-mapped.

The stored crop is wider than the network's input, so that augmentation can rotate and shift it without running out of
image: a store of S pixels holds the input of `size` pixels in its exact middle.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.keypoints import geometry

AFFINE = ["m00", "m01", "m02", "m10", "m11", "m12"]


@dataclass(frozen=True, kw_only=True)
class CropStore:
    """One part (train or test) of the crops on disk.

    Attributes:
        size: side of the input, in pixels.
        crops: (N, S, S) grey or (N, S, S, 3) RGB uint8, memory-mapped; S ≥ size, of the same parity.
        photos: (N, 32, 32) uint8 grey thumbnail of each face's whole image, memory-mapped.
        faces: one row a face: `face`, `image`, box, `photo_width`, `photo_height`, `source`, and `m00`…`m12`, the
            affine label → stored crop; of the image's pixels, unless the labels are offset.
        keypoints: (N, K, 2) float32 in image pixels, memory-mapped, NaN where missing; None where the part has boxes
            only.
    """

    size: int
    crops: np.ndarray
    photos: np.ndarray
    faces: pd.DataFrame
    keypoints: np.ndarray | None

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.crops.ndim == 3 else 3

    @property
    def border(self) -> int:
        """Pixels of stored crop around the input, on each side."""
        return (self.crops.shape[1] - self.size) // 2

    @cached_property
    def affines(self) -> np.ndarray:
        """(N, 2, 3) float64, image → stored crop."""
        return self.faces[AFFINE].to_numpy(np.float64).reshape(-1, 2, 3)

    @cached_property
    def input_affines(self) -> np.ndarray:
        """(N, 2, 3) float64, image → input."""
        return geometry.compose(geometry.translation(-self.border, -self.border), self.affines)

    @property
    def truth(self) -> np.ndarray:
        """The keypoints of a part that must have them; a UserError where it has not."""
        if self.keypoints is None:
            raise UserError("the faces of this part have no points; train on a part with points")
        return self.keypoints

    def points_crop(self, rows: np.ndarray) -> np.ndarray:
        """Map the keypoints of M faces to crop pixels: (M, K, 2) float32, NaN where missing."""
        return geometry.transform(self.affines[rows], self.truth[rows]).astype(np.float32)

    @classmethod
    def open(cls, folder: Path) -> "CropStore":
        """Open a part read-only; a UserError says what to run where it is not there."""
        if not (folder / "store.json").is_file():
            stage = "align" if folder.parent.name == "aligned" else "crop"
            raise UserError(f"{folder}: no crops here; run `dvc repro {stage}` (or `python -m stages.{stage}`) first")
        keypoints = folder / "keypoints.npy"
        return cls(
            size=json.loads((folder / "store.json").read_text())["size"],
            crops=_map(folder / "crops.npy"),
            photos=_map(folder / "photos.npy"),
            faces=pd.read_csv(folder / "faces.csv", dtype={"image": str, "source": str}),
            keypoints=_map(keypoints) if keypoints.is_file() else None,
        )


def _map(path: Path) -> np.ndarray:
    """Memory-map an npy file, read-only."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def center_input(crops: np.ndarray, size: int) -> np.ndarray:
    """Cut the un-augmented input from the exact middle of stored crops (N, S, S[, 3]) → (N, size, size[, 3])."""
    border = (crops.shape[1] - size) // 2
    return crops[:, border : border + size, border : border + size]
