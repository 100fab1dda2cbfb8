"""Face annotations: one reader a file format, one table out. `formats` knows them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

BOX = ["left", "top", "width", "height"]
NO_BOX = (float("nan"),) * 4


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The faces of one annotation file or folder, in its order.

    Attributes:
        faces: one row a face, index 0…N-1: `image` (path relative to the data folder, with forward slashes),
            `left`, `top`, `width`, `height` (float64, image pixels: `left`, `top` is the box's first pixel; NaN
            where the format has no box) and `where` (file and line, or file and record, for messages).
        keypoints: (N, K, 2) float32 x and y in image pixels, the centre of the top-left pixel being (0, 0);
            NaN where a point is missing. None where the file has no points at all.
        images: name in `faces.image` → (H, W) uint8 grey picture, for images that came inside the annotation file.
        boxes_made: how many boxes did not come from the file; see `Layout`.
        notes: what the file has that is not used → how often.
        names: of the K points; empty where the file has none.
    """

    faces: pd.DataFrame
    keypoints: np.ndarray | None
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes_made: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the annotations of a data set are read.

    Attributes:
        num_points: K of the skeleton; None: as many as the data set has.
        format: a key of `formats.FORMATS`, or "auto": see `formats.recognise`.
        points: which of the data set's points to keep, by their indices, in this order; None keeps all.
        box: what a face without a box gets: "photo" (the whole image) or "points" (the tightest box that holds the
            centres of all its points, also those that are not kept).
        photos, test_photos: folder, relative to the data folder, that the files' image names start from; "" where
            they start from the data folder. `test_photos` is that of the faces to predict: see `for_test`.
    """

    num_points: int | None = None
    format: str = "auto"
    points: Sequence[int] | None = None
    box: str = "photo"
    photos: str = ""
    test_photos: str = ""

    def for_test(self) -> "Layout":
        """How the faces to predict are read, which may have points of their own number or none."""
        return replace(self, num_points=None, photos=self.test_photos)


ANY = Layout()


def tabulate(rows: Sequence[tuple], keypoints: Sequence | np.ndarray | None) -> Annotations:
    """Build annotations from rows (face number, image, left, top, width, height, where) and their points (K, 2)."""
    face, image, *box, where = zip(*rows, strict=True) if rows else [()] * 7
    faces = pd.DataFrame(np.stack(box, axis=1).astype(np.float64), columns=BOX, index=np.asarray(face, np.int64))
    faces.insert(0, "image", np.array(image, object))
    faces["where"] = np.array(where, object)
    if keypoints is not None:
        keypoints = np.asarray(keypoints, np.float32) if rows else np.empty((0, 0, 2), np.float32)
    return Annotations(faces=faces, keypoints=keypoints)


class Faces:
    """Faces and problems, as a reader meets them; the first good face sets the number of points where none is given."""

    def __init__(self, num_points: int | None, problems: Sequence[str] = ()) -> None:
        self.num_points, self.problems, self.count = num_points, list(problems), 0
        self.rows: list[tuple] = []
        self.points: list = []

    def add(
        self, where: str, image: str, points: Sequence | np.ndarray, box: Sequence[float] = NO_BOX, *,
        reasons: Sequence[str] = (), problems: Sequence[str] = (),
    ) -> None:
        """Take the next face of the file, unless it has problems: `reasons`, to be told with the face, or messages."""
        told = [f"{where}: face {self.count} ({image[:80]}): {reason}" for reason in reasons]
        self.problems += [*problems, *told]
        if not reasons and not problems:
            self.num_points = len(points)
            self.rows.append((self.count, PurePosixPath(image).as_posix(), *box, where))
            self.points.append(points)
        self.count += 1

    def result(self, labelled: bool = True) -> tuple[Annotations, list[str]]:
        """Return what every reader does: the faces, without keypoints unless `labelled`, and the problems."""
        return tabulate(self.rows, self.points if labelled else None), self.problems
