"""Point sets: how many points, which swap under mirroring, which measure the face, which lines to draw."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.common.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A set of K points."""

    name: str  # its key in `SKELETONS`, or "custom"
    flip: np.ndarray  # (K,) int64, flip indices: the point that each becomes in the mirror image
    eyes: tuple[int, int] | None  # the two outer eye corners, whose distance normalises the NME; None: there is no NME
    edges: tuple[tuple[int, ...], ...]  # lines to draw
    regions: Mapping[str, tuple[int, ...]]  # for errors by region
    names: tuple[str, ...]  # of the K points; their numbers, counted from 0, where none are given

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
    mirrored, lines = [tuple(pair) for pair in pairs], [tuple(edge) for edge in edges]
    areas = {region: tuple(run) for region, run in (regions or {}).items()}
    twos = [*(("pairs", pair) for pair in mirrored), *([] if eyes is None else [("eyes", tuple(eyes))])]
    uses = [*twos, *(("edges", line) for line in lines), *((f"regions.{name}", run) for name, run in areas.items())]
    problems = [f"{key}: point {point} is not one of 0 to {points - 1}"
                for key, run in uses for point in run if not 0 <= point < points]
    problems += [f"{key}: {list(two)} is not two different points"
                 for key, two in twos if len(two) != 2 or two[0] == two[1]]
    paired = [point for pair in mirrored for point in set(pair)]
    problems += [f"pairs: point {point} stands in more than one pair" for point in _repeated(paired)]
    problems += [f"regions.{region}: point {point} stands there twice"
                 for region, run in areas.items() for point in _repeated(run)]
    if names is not None and (len(names) != points or len(set(names)) != points):
        problems.append(f"names: {len(names)} names, of them {len(set(names))} different, for {points} points")
    if problems:
        raise UserError(*problems)
    flip = np.arange(points)
    for first, second in mirrored:
        flip[first], flip[second] = second, first
    return Skeleton(
        name=name, flip=flip, eyes=None if eyes is None else (eyes[0], eyes[1]), edges=tuple(lines), regions=areas,
        names=tuple(names or map(str, range(points))),
    )


def _repeated(points: Sequence[int]) -> list[int]:
    return sorted({point for point in points if points.count(point) > 1})


def _run(text: str) -> tuple[int, ...]:
    """Read the points of a run: "0-2,9" is (0, 1, 2, 9) and "3-1" is (3, 2, 1)."""
    points: list[int] = []
    for part in text.split(","):
        first, last = map(int, (part.split("-") * 2)[:2])
        step = 1 if first <= last else -1
        points += range(first, last + step, step)
    return tuple(points)


def _known(
    name: str, points: int, pairs: dict[str, str], eyes: tuple[int, int], edges: str, regions: dict[str, str],
    names: str = "",
) -> Skeleton:
    """Make a skeleton from runs of points; `pairs` has a run on one side of the face → the run on the other side."""
    mirrored = [pair for runs in pairs.items() for pair in zip(*map(_run, runs), strict=True)]
    return make_skeleton(
        name, points, mirrored, eyes=eyes, edges=map(_run, edges.split()), names=names.split() or None,
        regions={region: _run(run) for region, run in regions.items()},
    )


SKELETONS = {skeleton.name: skeleton for skeleton in (
    _known(  # iBUG 300-W (Sagonas et al., ICCV Workshops 2013), counted from 0
        "ibug68", 68, eyes=(36, 45),
        pairs={"0-7": "16-9", "17-21": "26-22", "31-32": "35-34", "36-39": "45-42", "40-41": "47-46", "48-50": "54-52",
               "55-56": "59-58", "60-61": "64-63", "65": "67"},
        edges="0-16 17-21 22-26 27-30 31-35 36-41,36 42-47,42 48-59,48 60-67,60",
        regions={"jaw": "0-16", "brows": "17-26", "nose": "27-35", "eyes": "36-47", "mouth": "48-67"},
    ),
    _known(  # the IMM Face Database (Nordstrøm et al., DTU 2004), counted from 0, lines as in its files
        "imm58", 58, eyes=(21, 13),
        pairs={"0-5": "12-7", "13-20": "21-28", "29-33": "34-38", "39-40": "43-42", "44": "46", "47-51": "57-53"},
        edges="0-12 13-20,13 21-28,21 29-33 34-38 39-46,39 47-57",
        regions={"jaw": "0-12", "eyes": "13-28", "brows": "29-38", "mouth": "39-46", "nose": "47-57"},
    ),
    _known(  # WFLW (Wu et al., Look at Boundary, CVPR 2018), counted from 0
        "wflw98", 98, eyes=(60, 72),
        pairs={"0-15": "32-17", "33-37": "46-42", "38-41": "50-47", "55-56": "59-58", "60-64": "72-68",
               "65-67": "75-73", "76-78": "82-80", "83-84": "87-86", "88-89": "92-91", "93": "95", "96": "97"},
        edges="0-32 33-41,33 42-50,42 51-54 55-59 60-67,60 68-75,68 76-87,76 88-95,88",
        regions={"jaw": "0-32", "brows": "33-50", "nose": "51-59", "eyes": "60-75,96-97", "mouth": "76-95"},
    ),
    _known(  # Kaggle's Facial Keypoints Detection, in the order of its training.csv; left is the person's
        "kaggle15", 15, eyes=(5, 3), pairs={"0": "1", "2-3": "4-5", "6-7": "8-9", "11": "12"},
        edges="5,1,4 2,0,3 9,8 6,7 12,13,11,14,12",
        regions={"eyes": "0-5", "brows": "6-9", "nose": "10", "mouth": "11-14"},
        names="left_eye_center right_eye_center left_eye_inner_corner left_eye_outer_corner right_eye_inner_corner "
              "right_eye_outer_corner left_eyebrow_inner_end left_eyebrow_outer_end right_eyebrow_inner_end "
              "right_eyebrow_outer_end nose_tip mouth_left_corner mouth_right_corner mouth_center_top_lip "
              "mouth_center_bottom_lip",
    ),
    make_skeleton("nose1", 1, regions={"nose": (0,)}, names=("nose_tip",)),
)}


def get_skeleton(name: str) -> Skeleton:
    """Return the skeleton called `name`; a UserError that lists the known ones where there is none."""
    if name not in SKELETONS:
        raise UserError(f"unknown skeleton {name!r}: choose one of {', '.join(SKELETONS)}")
    return SKELETONS[name]


def segments(skeleton: Skeleton) -> list[tuple[int, int]]:
    """List the lines of `skeleton.edges`, cut into pairs of points."""
    return [pair for edge in skeleton.edges for pair in pairwise(edge)]
