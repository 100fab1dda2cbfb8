"""Face annotations: one reader a file format, one table out. `formats` knows them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

BOX = ["left", "top", "width", "height"]


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The faces of one annotation file or folder, in its order.

    Attributes:
        faces: one row a face, index 0…N-1: `image` (path relative to the data folder, with forward slashes),
            `left`, `top`, `width`, `height` (float64, photo pixels: `left`, `top` is the box's first pixel; NaN
            where the format has no box) and `where` (file and line, or file and record, for messages).
        keypoints: (N, K, 2) float32 x and y in photo pixels, the centre of the top-left pixel being (0, 0);
            NaN where a point is missing. None where the file has no points at all.
        photos: name in `faces.image` → (H, W) uint8 grey picture, for photos that came inside the annotation file.
        boxes_made: how many boxes did not come from the file; see `formats.read`.
    """

    faces: pd.DataFrame
    keypoints: np.ndarray | None
    photos: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes_made: int = 0

    def __len__(self) -> int:
        return len(self.faces)


def tabulate(
    rows: Sequence[tuple], keypoints: Sequence[np.ndarray] | np.ndarray | None,
    photos: Mapping[str, np.ndarray] | None = None,
) -> Annotations:
    """Annotations of what a reader has collected.

    Args:
        rows: face number, image, left, top, width, height, where.
        keypoints: (K, 2) of each row; None where the file has no points.
        photos: see `Annotations`.
    """
    face, image, *box, where = zip(*rows, strict=True) if rows else [()] * 7
    keypoints = keypoints if keypoints is None or rows else np.empty((0, 0, 2))
    return tabulate_columns(face, image, np.stack(box, axis=1), where, keypoints, photos)


def tabulate_columns(
    face: Sequence[int], image: Sequence[str], boxes: np.ndarray, where: Sequence[str],
    keypoints: Sequence[np.ndarray] | np.ndarray | None, photos: Mapping[str, np.ndarray] | None = None,
) -> Annotations:
    """As `tabulate`, from (N,) columns and boxes (N, 4)."""
    faces = pd.DataFrame(np.asarray(boxes, np.float64), columns=BOX, index=np.asarray(face, np.int64))
    faces.insert(0, "image", np.array(image, object))
    faces["where"] = np.array(where, object)
    keypoints = keypoints if keypoints is None else np.asarray(keypoints, np.float32)
    return Annotations(faces=faces, keypoints=keypoints, photos=photos or {})
