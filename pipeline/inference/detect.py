"""Face detection by dlib's frontal detector, whose boxes the iBUG competition uses; optional."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Annotations
from pipeline.data.images import read_image

UPSAMPLE = 1  # how often an image is doubled first: faces of 80 pixels are found at 0, of 40 at 1
OVERLAP = 0.2  # intersection over union of a detected box and the tight box of a face's points, at least
Detector = Callable[[np.ndarray], np.ndarray]


def load_detector() -> Detector:
    """Load dlib's frontal face detector (histograms of oriented gradients: Dalal and Triggs, CVPR 2005; King, 2015).

    Returns:
        A function from an image (H, W, 3) RGB or (H, W) grey, uint8, to the boxes (N, 4) float64 of its faces: left,
        top, width and height in image pixels, from left to right. A box may leave the image.

    Raises:
        UserError: dlib is not installed.
    """
    try:
        import dlib
    except ImportError:
        raise UserError(
            "no boxes, and dlib, which finds faces, is not installed. Choose: `pip install -e '.[detect]'`, boxes in "
            "the annotations, or, to annotate, --boxes boxes.csv or --box LEFT,TOP,WIDTH,HEIGHT"
        ) from None
    detector = dlib.get_frontal_face_detector()

    def find(photo: np.ndarray) -> np.ndarray:
        found = [(box.left(), box.top(), box.width(), box.height()) for box in detector(photo, UPSAMPLE)]
        return np.array(sorted(found), np.float64).reshape(-1, 4)

    return find


def detect_boxes(annotations: Annotations, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Find a box for each of N faces that has none, in images in `root`.

    A face with points gets the detected box that overlaps most with the tight box around them, one without the largest
    box of its image, if it is the only face there. One that is missed gets the median box, in sides of its image.

    Returns:
        The boxes (N, 4) of all faces, and whether each was missed (N,).

    Raises:
        UserError: images that cannot be read, no face found at all, or no dlib.
    """
    boxes, points = annotations.faces[BOX].to_numpy(np.float64, copy=True), annotations.keypoints
    without, image = np.isnan(boxes).all(axis=1), annotations.faces.image.to_numpy()
    missed, size, problems = np.zeros(len(boxes), bool), np.ones_like(boxes), []
    detector = load_detector()
    for name in tqdm(dict.fromkeys(image[without]), "detect", unit="photo", disable=None):
        rows, pixels = np.flatnonzero(without & (image == name)), read_image(root / name, "rgb")
        if pixels is None:
            problems.append(f"{root / name}: cannot be read as an image")
            continue
        size[rows], found = [*pixels.shape[1::-1]] * 2, detector(pixels)
        for row in rows:
            known = np.empty((0, 2)) if points is None else points[row][np.isfinite(points[row]).all(axis=1)]
            match = _overlap(found, known) if len(known) > 1 else found[:, 2] * found[:, 3] * (len(rows) == 1)
            missed[row] = not len(found) or match.max() < (OVERLAP if len(known) > 1 else 1)
            if not missed[row]:
                boxes[row] = found[match.argmax()]
    if problems:
        raise UserError(*problems)
    seen = without & ~missed
    if without.any() and not seen.any():
        raise UserError("no face found in any photo; give the boxes in the annotations")
    boxes[missed] = size[missed] * np.median(boxes[seen] / size[seen], axis=0)
    return boxes, missed


def _overlap(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Measure the intersection over union (N,) of boxes and the tight box around points (K, 2)."""
    start, end = points.min(axis=0), points.max(axis=0)
    low, high = np.maximum(boxes[:, :2], start), np.minimum(boxes[:, :2] + boxes[:, 2:], end)
    shared = np.clip(high - low, 0, None).prod(axis=1)
    return shared / np.maximum(boxes[:, 2:].prod(axis=1) + (end - start).prod() - shared, 1)
