"""Images of a data set: files below its folder, or pictures from inside its annotation file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed


@dataclass(frozen=True)
class Images:
    """Images by their names relative to `root`; `inside`: name → (H, W) uint8 grey, for those without a file."""

    root: Path
    inside: Mapping[str, np.ndarray] = field(default_factory=dict)

    def read(self, image: str, color: str) -> np.ndarray | None:
        """Read an image as (H, W) grey or (H, W, 3) RGB uint8, or None where there is no readable one."""
        if image not in self.inside:
            return read_image(os.path.join(self.root, image), color)
        grey = self.inside[image]
        return grey if color == "grey" else cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)

    def look(self, image: str) -> tuple[float, float, str]:
        """Measure width and height; NaN, and a reason that is not "", where there is no readable image."""
        pixels = self.read(image, "grey")
        if pixels is not None:
            return float(pixels.shape[1]), float(pixels.shape[0]), ""
        return np.nan, np.nan, self.reason(image)

    def reason(self, image: str) -> str:
        """Say why there is no readable image: "unreadable" or "missing"."""
        return "unreadable" if (self.root / image).is_file() else "missing"

    def sizes(self, images: Sequence[str], jobs: int = -1) -> tuple[np.ndarray, list[str]]:
        """Measure N images, each different one once, by `jobs` threads: (N, 2) float64, and N reasons, see `look`."""
        rows, names = pd.factorize(np.asarray(images, dtype=object))
        looks = Parallel(n_jobs=jobs, prefer="threads")(delayed(self.look)(name) for name in names)
        size = np.array([look[:2] for look in looks], float).reshape(-1, 2)
        return size[rows], [looks[row][2] for row in rows]


def read_image(path: str | Path, color: str) -> np.ndarray | None:
    """Read an image as (H, W) grey or (H, W, 3) RGB uint8, or None where there is no readable one.

    EXIF rotation is ignored: annotations are made on the pixels as they are stored.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    flags = cv2.IMREAD_GRAYSCALE if color == "grey" else cv2.IMREAD_COLOR_RGB
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
