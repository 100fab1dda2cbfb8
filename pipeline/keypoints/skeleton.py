"""Point sets: how many points, which swap under mirroring, which measure the face, which lines to draw."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pipeline.common.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A set of K points.

    Attributes:
        name: its key in `SKELETONS`, or "custom".
        flip: (K,) int64, flip indices: the point that each becomes in the mirror image; on the middle line, itself.
        eyes: indices of the two outer eye corners, whose distance normalises the NME; None: there is no NME.
        edges: lines to draw, each a run of point indices.
        regions: name → point indices, for errors by region.
        names: of the K points; their numbers, counted from 0, where none are given.
    """

    name: str
    flip: np.ndarray
    eyes: tuple[int, int] | None = None
    edges: tuple[tuple[int, ...], ...] = ()
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", self.names or tuple(map(str, range(len(self.flip)))))

    @property
    def num_points(self) -> int:
        """K."""
        return len(self.flip)


def make_skeleton(
    name: str, points: int, pairs: Iterable[Sequence[int]] = (), *, eyes: Sequence[int] | None = None,
    edges: Iterable[Sequence[int]] = (), regions: Mapping[str, Sequence[int]] | None = None,
    names: Sequence[str] | None = None,
) -> Skeleton:
    """Build a skeleton from the numbers of its points.

    Args:
        points: K.
        pairs: the two points of each left/right pair; any other point is its own mirror image.
        eyes, edges, regions, names: see `Skeleton`.

    Raises:
        UserError: every number out of range, every point that stands in two pairs or twice in a region, eyes that
            are not two points, and names that are not K different ones.
    """
    pairs, edges = [tuple(pair) for pair in pairs], [tuple(edge) for edge in edges]
    regions = {region: tuple(run) for region, run in (regions or {}).items()}
    paired = [point for pair in pairs for point in set(pair)]
    uses = [*(("pairs", pair) for pair in pairs), *(("edges", edge) for edge in edges), ("eyes", tuple(eyes or ())),
            *((f"regions.{region}", run) for region, run in regions.items())]
    twos = [*(("pairs", pair) for pair in pairs), *([("eyes", tuple(eyes))] if eyes is not None else [])]
    problems = [f"{key}: point {point} is not one of 0 to {points - 1}"
              for key, run in uses for point in run if not 0 <= point < points]
    problems += [f"{key}: {list(two)} is not two different points"
               for key, two in twos if len(two) != 2 or two[0] == two[1]]
    problems += [f"pairs: point {point} stands in more than one pair" for point in _repeated(paired)]
    problems += [f"regions.{region}: point {point} stands there twice"
               for region, run in regions.items() for point in _repeated(run)]
    if names is not None and (len(names) != points or len(set(names)) != points):
        problems.append(f"names: {len(names)} names, of them {len(set(names))} different, for {points} points")
    if problems:
        raise UserError(*problems)
    flip = np.arange(points)
    for first, second in pairs:
        flip[first], flip[second] = second, first
    return Skeleton(
        name=name, flip=flip, eyes=tuple(eyes) if eyes is not None else None, edges=tuple(edges),
        regions=regions, names=tuple(names or ()),
    )


def _repeated(points: Sequence[int]) -> list[int]:
    return sorted({point for point in points if points.count(point) > 1})


def _run(first: int, last: int, *more: int) -> tuple[int, ...]:
    """first to last, both included, then `more`."""
    return (*range(first, last + 1), *more)


def _mirrored(first: int, last: int, total: int) -> list[tuple[int, int]]:
    """The pairs (i, total − i) for i from first to last."""
    return [(i, total - i) for i in _run(first, last)]


def _ibug68() -> Skeleton:
    """The 68 points of iBUG 300-W (Sagonas et al., ICCV Workshops 2013), counted from 0."""
    pairs = _mirrored(0, 7, 16) + _mirrored(17, 21, 43)
    pairs += [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    regions = {"jaw": _run(0, 16), "brows": _run(17, 26), "nose": _run(27, 35), "eyes": _run(36, 47),
               "mouth": _run(48, 67)}
    edges = (_run(0, 16), _run(17, 21), _run(22, 26), _run(27, 30), _run(31, 35), _run(36, 41, 36), _run(42, 47, 42),
             _run(48, 59, 48), _run(60, 67, 60))
    return make_skeleton("ibug68", 68, pairs, eyes=(36, 45), edges=edges, regions=regions)


def _imm58() -> Skeleton:
    """The 58 points of the IMM Face Database (Nordstrøm et al., DTU 2004), counted from 0, lines as in its files."""
    pairs = _mirrored(0, 5, 12) + [(i, i + 8) for i in _run(13, 20)] + [(i, i + 5) for i in _run(29, 33)]
    pairs += [(39, 43), (40, 42), (44, 46), *_mirrored(47, 51, 104)]
    regions = {"jaw": _run(0, 12), "eyes": _run(13, 28), "brows": _run(29, 38), "mouth": _run(39, 46),
               "nose": _run(47, 57)}
    edges = (_run(0, 12), _run(13, 20, 13), _run(21, 28, 21), _run(29, 33), _run(34, 38), _run(39, 46, 39),
             _run(47, 57))
    return make_skeleton("imm58", 58, pairs, eyes=(21, 13), edges=edges, regions=regions)


def _wflw98() -> Skeleton:
    """The 98 points of WFLW (Wu et al., Look at Boundary, CVPR 2018), counted from 0."""
    pairs = _mirrored(0, 15, 32) + _mirrored(33, 37, 79) + _mirrored(38, 41, 88) + [(55, 59), (56, 58)]
    pairs += _mirrored(60, 64, 132) + _mirrored(65, 67, 140) + _mirrored(76, 78, 158) + _mirrored(83, 84, 170)
    pairs += [(88, 92), (89, 91), (93, 95), (96, 97)]
    regions = {"jaw": _run(0, 32), "brows": _run(33, 50), "nose": _run(51, 59), "eyes": _run(60, 75, 96, 97),
               "mouth": _run(76, 95)}
    edges = (_run(0, 32), _run(33, 41, 33), _run(42, 50, 42), _run(51, 54), _run(55, 59), _run(60, 67, 60),
             _run(68, 75, 68), _run(76, 87, 76), _run(88, 95, 88))
    return make_skeleton("wflw98", 98, pairs, eyes=(60, 72), edges=edges, regions=regions)


def _kaggle15() -> Skeleton:
    """The 15 points of Kaggle's Facial Keypoints Detection, in the order of its training.csv; left is the person's."""
    names = (
        "left_eye_center", "right_eye_center", "left_eye_inner_corner", "left_eye_outer_corner",
        "right_eye_inner_corner", "right_eye_outer_corner", "left_eyebrow_inner_end", "left_eyebrow_outer_end",
        "right_eyebrow_inner_end", "right_eyebrow_outer_end", "nose_tip", "mouth_left_corner", "mouth_right_corner",
        "mouth_center_top_lip", "mouth_center_bottom_lip",
    )
    pairs = [(0, 1), (2, 4), (3, 5), (6, 8), (7, 9), (11, 12)]
    regions = {"eyes": _run(0, 5), "brows": _run(6, 9), "nose": (10,), "mouth": _run(11, 14)}
    edges = ((5, 1, 4), (2, 0, 3), (9, 8), (6, 7), (12, 13, 11, 14, 12))
    return make_skeleton("kaggle15", 15, pairs, eyes=(5, 3), edges=edges, regions=regions, names=names)


SKELETONS = {
    "ibug68": _ibug68(),
    "imm58": _imm58(),
    "wflw98": _wflw98(),
    "kaggle15": _kaggle15(),
    "nose1": make_skeleton("nose1", 1, regions={"nose": (0,)}, names=("nose_tip",)),
}


def get_skeleton(name: str) -> Skeleton:
    """Return the skeleton called `name`; a UserError that lists the known ones where there is none."""
    if name not in SKELETONS:
        raise UserError(f"unknown skeleton {name!r}: choose one of {', '.join(SKELETONS)}")
    return SKELETONS[name]


def segments(skeleton: Skeleton) -> list[tuple[int, int]]:
    """List the lines of `skeleton.edges`, cut into pairs of points."""
    return [pair for edge in skeleton.edges for pair in pairwise(edge)]
