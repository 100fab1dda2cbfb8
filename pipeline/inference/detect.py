"""Face detection by dlib's frontal detector, whose boxes the iBUG competition uses; optional."""

from collections.abc import Callable

import numpy as np

from pipeline.common.errors import UserError

UPSAMPLE = 1  # how often an image is doubled first: faces of 80 pixels are found at 0, of 40 at 1
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
            "no boxes, and dlib, which could find the faces, is not installed. Choose: a file of boxes "
            "(--boxes boxes.csv), the box itself (--box LEFT,TOP,WIDTH,HEIGHT), or `pip install -e '.[detect]'`"
        ) from None
    detector = dlib.get_frontal_face_detector()

    def find(photo: np.ndarray) -> np.ndarray:
        found = [(box.left(), box.top(), box.width(), box.height()) for box in detector(photo, UPSAMPLE)]
        return np.array(sorted(found), np.float64).reshape(-1, 4)

    return find
