"""Face annotations: one reader a file format, one table out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

BOX = ["left", "top", "width", "height"]


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The faces of one annotation file, in the order of the file.

    Attributes:
        faces: one row a face, index 0…N-1: `image` (path relative to the data folder, with forward slashes),
            `left`, `top`, `width`, `height` (float64, photo pixels: `left`, `top` is the box's first pixel) and
            `line` (line of the box in the file, for messages).
        keypoints: (N, K, 2) float32 x and y in photo pixels, the centre of the top-left pixel being (0, 0);
            NaN where a point is missing. None where the file has boxes only.
    """

    faces: pd.DataFrame
    keypoints: np.ndarray | None

    def __len__(self) -> int:
        return len(self.faces)
