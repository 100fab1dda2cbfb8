"""Images of a data set: files below its folder, or pictures from inside its annotation file."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image
from PIL.ExifTags import Base


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
        """Say why there is no readable image: "unreadable" or "missing", also of a name that no file can have."""
        return "unreadable" if os.path.isfile(os.path.join(self.root, image)) else "missing"

    def notes(self, images: Iterable[str]) -> dict[str, int]:
        """Count what is unusual but valid in images."""
        files = [self.root / image for image in images if image not in self.inside]
        root = Path(os.path.realpath(self.root))
        return {
            "images that EXIF rotates, which is ignored": sum(map(is_rotated, files)),
            "links to images outside the data folder": sum(
                not Path(os.path.realpath(file)).is_relative_to(root) for file in files),
        }

    def sizes(self, images: Sequence[str], jobs: int = -1) -> tuple[np.ndarray, list[str]]:
        """Measure N images, each different one once, by `jobs` threads: (N, 2) float64, and N reasons, see `look`."""
        rows, names = pd.factorize(np.asarray(images, dtype=object))
        looks = Parallel(n_jobs=jobs, prefer="threads")(delayed(self.look)(name) for name in names)
        size = np.array([look[:2] for look in looks], float).reshape(-1, 2)
        return size[rows], [looks[row][2] for row in rows]


def find_folder(root: Path, names: Sequence[str]) -> tuple[str, int]:
    """Find the folder in `root` (links followed) that holds most of the images of these names.

    Returns its path relative to `root`, "" where it is that itself, and how many it holds, 0 where none is found.
    """
    wanted, found, seen = set(names), Counter[str](), set()
    depths = {name.count("/") + 1 for name in wanted}
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to where we were
            below.clear()
            continue
        seen.add(real)
        inside = [] if folder == os.fspath(root) else Path(folder).relative_to(root).parts
        for path in ([*inside, file] for file in files):
            found.update("/".join(path[:-depth]) for depth in depths
                         if len(path) >= depth and "/".join(path[-depth:]) in wanted)
    return max(found.items(), key=lambda item: (item[1], -len(item[0])), default=("", 0))


def is_rotated(path: Path) -> bool:
    """Tell whether viewers show an image otherwise than its pixels are stored."""
    try:
        with Image.open(path) as opened:
            return opened.getexif().get(Base.Orientation, 1) != 1
    except Exception:  # a file that is no image, or broken, raises whatever its bytes make of it
        return False


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
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    except cv2.error:  # of an image larger than CV_IO_MAX_IMAGE_PIXELS, as a header of 40000×40000 says
        return None
