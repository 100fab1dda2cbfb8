"""Crop store: every face cut from its image once, by one affine, memory-mapped.

The stored crop is wider than the network's input, so that augmentation can rotate and shift it without running out of
image: a store of S pixels holds the input of `size` pixels in its exact middle.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError, artefact
from pipeline.data.annotations import BOX
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
        """Open a part read-only; a UserError says what to run where it is not there, or not as it was written."""
        stage = _stage(folder)
        what_to_do = f"run the {stage} stage again"
        if not (folder / "store.json").is_file():
            raise UserError(f"{folder}: no crops here; run `dvc repro {stage}` (or `python -m stages.{stage}`) first")

        def read(name: str, load: Callable[[Path], Any]) -> Any:
            with artefact(folder / name, what_to_do):
                return load(folder / name)

        found = cls(
            size=read("store.json", lambda path: json.loads(path.read_text())["size"]),
            crops=read("crops.npy", _map),
            photos=read("photos.npy", _map),
            faces=read("faces.csv", lambda path: pd.read_csv(path, dtype={"image": str, "source": str})),
            keypoints=read("keypoints.npy", _map) if (folder / "keypoints.npy").is_file() else None,
        )
        if problems := [f"{folder / name}: {reason}; {what_to_do}" for name, reason in found.problems()]:
            raise UserError(*problems)
        return found

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield file and reason of each part that does not fit the others."""
        faces, count, shape = self.faces, len(self.faces), self.crops.shape
        if absent := [name for name in ("face", "image", "source", *BOX, *AFFINE) if name not in faces]:
            yield "faces.csv", f"no column {', '.join(absent)}"
        elif not np.array_equal(faces["face"], np.arange(count)):
            yield "faces.csv", "its faces are not numbered from 0"
        elif not (_numbers(faces[[*BOX, *AFFINE]]) and (np.linalg.det(self.affines[:, :, :2]) > 0).all()):
            yield "faces.csv", "a box or an affine that is not one"
        square = len(shape) in (3, 4) and shape[:3] == (count, shape[1], shape[1]) and shape[3:] in ((), (3,))
        if self.crops.dtype != np.uint8 or not square:
            yield "crops.npy", f"{self.crops.dtype} {shape}, but {count} square uint8 pictures are expected"
        elif not (isinstance(self.size, int) and 0 < self.size <= shape[1] and (shape[1] - self.size) % 2 == 0):
            yield "store.json", f"size {str(self.size)[:20]} does not lie in the middle of {shape[1]} pixels"
        if self.photos.dtype != np.uint8 or self.photos.shape != (count, 32, 32):
            yield "photos.npy", f"{self.photos.dtype} {self.photos.shape}, but {count} thumbnails are expected"
        points = self.keypoints
        if points is not None and (points.dtype != np.float32 or points.ndim != 3 or points.shape[::2] != (count, 2)):
            yield "keypoints.npy", f"{points.dtype} {points.shape}, but float32 points of {count} faces are expected"
        elif points is not None and np.isinf(points).any():
            yield "keypoints.npy", "points that are infinite"


def check_geometry(folder: Path, wanted: dict) -> None:
    """Raise a UserError where a part was cut with another geometry than `wanted` (a `CropGeometry` as a dict)."""
    stage, path = _stage(folder), folder / "store.json"
    with artefact(path, f"run the {stage} stage again"):
        found = json.loads(path.read_text()) if path.is_file() else wanted
        other = [f"{name} {found.get(name)}, now {value}" for name, value in wanted.items() if found.get(name) != value]
    if other:
        raise UserError(f"{path}: cut with other params ({'; '.join(other)}); run the {stage} stage again")


def _stage(folder: Path) -> str:
    """The stage that writes a part of a crop store."""
    return "align" if folder.parent.name == "aligned" else "crop"


def _numbers(table: pd.DataFrame) -> bool:
    """Whether all cells are finite numbers."""
    numeric = table.empty or all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes)
    return numeric and bool(np.isfinite(table.to_numpy(np.float64)).all())


def _map(path: Path) -> np.ndarray:
    """Memory-map an npy file, read-only."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def center_input(crops: np.ndarray, size: int) -> np.ndarray:
    """Cut the un-augmented input from the exact middle of stored crops (N, S, S[, 3]) → (N, size, size[, 3])."""
    border = (crops.shape[1] - size) // 2
    return crops[:, border : border + size, border : border + size]
