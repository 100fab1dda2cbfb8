"""Point sets: how many points, which swap under mirroring, which measure the face, which lines to draw."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A set of K points.

    Attributes:
        name: its key in `SKELETONS`.
        flip: (K,) int64, index of each point's partner in the mirror image; a point on the middle line is its own.
        eyes: indices of the two outer eye corners, whose distance normalises the NME.
        edges: lines to draw, each a run of point indices.
        regions: name → point indices, for errors by region.
    """

    name: str
    flip: np.ndarray
    eyes: tuple[int, int]
    edges: tuple[tuple[int, ...], ...]
    regions: dict[str, tuple[int, ...]]

    @property
    def num_points(self) -> int:
        """K."""
        return len(self.flip)


def _ibug68() -> Skeleton:
    """The 68 points of iBUG 300-W (Sagonas et al., ICCV Workshops 2013), counted from 0."""
    flip = np.arange(68)
    pairs = [(i, 16 - i) for i in range(8)] + [(i, 43 - i) for i in range(17, 22)]
    pairs += [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    for i, j in pairs:
        flip[i], flip[j] = j, i
    def run(i: int, j: int, *more: int) -> tuple[int, ...]:
        return (*range(i, j), *more)

    regions = {"jaw": run(0, 17), "brows": run(17, 27), "nose": run(27, 36), "eyes": run(36, 48), "mouth": run(48, 68)}
    edges = (run(0, 17), run(17, 22), run(22, 27), run(27, 31), run(31, 36), run(36, 42, 36), run(42, 48, 42),
             run(48, 60, 48), run(60, 68, 60))
    return Skeleton(name="ibug68", flip=flip, eyes=(36, 45), edges=edges, regions=regions)


SKELETONS = {"ibug68": _ibug68()}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton called `name`; a UserError that lists the known ones where there is none."""
    if name not in SKELETONS:
        raise UserError(f"unknown skeleton {name!r}: choose one of {', '.join(SKELETONS)}")
    return SKELETONS[name]


def segments(skeleton: Skeleton) -> list[tuple[int, int]]:
    """The lines of `skeleton.edges`, cut into pairs of points."""
    return [pair for edge in skeleton.edges for pair in pairwise(edge)]
