"""Left/right pairs from labelled faces: which points swap when the mean face is mirrored.

Legend: N faces, K points, (N, K, 2) in image pixels, NaN where missing. Inside, a point is a complex number x + iy.
"""

from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.keypoints.geometry import finite_mean, mean_face
from pipeline.keypoints.skeleton import Skeleton

ROUNDS = 10
FEWEST = 10  # faces that are worth believing
# In root mean square radii of the mean face, about a third of its height:
TOLERANCE = 0.15  # how much nearer another point must lie
SYMMETRIC = 0.2  # largest distance, root mean square, of a mean face to its mirror image; above it looks to one side


def mirror_problems(keypoints: np.ndarray, skeleton: Skeleton) -> list[str]:
    """Check the skeleton's pairs against labelled faces; return a message a pair, none where they agree.

    The last message has the pairs of the mean face, to be copied; where the skeleton has no pairs, it is the only one.
    A pair is reported where a point's mirror image lies clearly nearer to another point than to the skeleton's, since
    labels of a few faces are never quite symmetric. Fewer than `FEWEST` faces are not judged, nor are faces that all
    look to one side.
    """
    if len(keypoints) < FEWEST:
        return []
    shape = mean_face(keypoints)
    flip_indices, mirrored = _match(shape)
    given, best = (np.sqrt(np.square(mirrored - shape[flip]).sum(-1)) for flip in (skeleton.flip, flip_indices))
    if np.sqrt(finite_mean(np.square(best))) > SYMMETRIC:
        return []
    wrong = (skeleton.flip != flip_indices) & (given > best + TOLERANCE)
    if not wrong.any():
        return []
    inferred = _pairs(flip_indices)
    copy = f"where they are right, put this into data.skeleton: `pairs: {inferred}`"
    if (skeleton.flip == np.arange(len(flip_indices))).all():
        return [f"the skeleton has no left/right pairs, but the mean face has {len(inferred)}; {copy}"]
    labels = [f"{point} ({name})" if name != str(point) else name for point, name in enumerate(skeleton.names)]
    problems = []
    for pair in sorted({tuple(sorted({int(point), int(skeleton.flip[point])})) for point in np.flatnonzero(wrong)}):
        found = " and ".join(f"{labels[point]} mirrors onto {labels[flip_indices[point]]}" for point in pair)
        claim = f"points {labels[pair[0]]} and {labels[pair[1]]} are a pair" if len(pair) == 2 else (
            f"point {labels[pair[0]]} is its own mirror image")
        problems.append(f"the skeleton says that {claim}, but in the mean face {found}")
    return [*problems, f"the mean face has {len(inferred)} pairs; {copy}"]


def infer_pairs(keypoints: np.ndarray) -> list[list[int]] | None:
    """Find the left/right pairs of labelled faces; None where too few faces, or faces that look to one side, tell."""
    if len(keypoints) < FEWEST:
        return None
    shape = mean_face(keypoints)
    flip_indices, mirrored = _match(shape)
    if not np.sqrt(finite_mean(np.square(mirrored - shape[flip_indices]).sum(-1))) <= SYMMETRIC:
        return None
    return _pairs(flip_indices)


def _pairs(flip_indices: np.ndarray) -> list[list[int]]:
    return [[point, int(partner)] for point, partner in enumerate(flip_indices) if point < partner]


def _match(shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flip indices (K,) of a mean face, and (K, 2) where the mirror image of each point lies.

    Points are matched to those of the mirror image at the least sum of squared distances, and the face is mirrored
    about the line that fits the matches best, by turns, beginning with an upright line. Points near it are their own.
    """
    flip_indices, mirrored = np.arange(len(shape)), np.full_like(shape, np.nan)
    seen = np.flatnonzero(np.isfinite(shape).all(-1))
    points, turn = shape[seen] @ [1, 1j], -1 + 0j  # the mirror image of z is turn · conj(z)
    for _ in range(ROUNDS):
        image = turn * points.conj()
        flip = _involution(np.square(np.abs(image[:, None] - points)))
        best = (points * points[flip]).sum()  # in the direction of the turn with the images nearest to the points
        turn = best / abs(best) if best else turn
    flip_indices[seen], mirrored[seen] = seen[flip], np.stack([image.real, image.imag], -1)
    return flip_indices, mirrored


def _involution(cost: np.ndarray) -> np.ndarray:
    """(K,) the cheapest assignment for a symmetric cost (K, K).

    Linear assignment alone may answer i → j → k → i; the points of such a cycle are paired, the cheapest pair first.
    """
    _, flip = linear_sum_assignment(cost)
    rest = {int(point) for point in np.flatnonzero(flip[flip] != np.arange(len(cost)))}
    for first, second in sorted(combinations(sorted(rest), 2), key=lambda pair: cost[pair]):
        if {first, second} <= rest:
            flip[[first, second]] = second, first
            rest -= {first, second}
    flip[list(rest)] = list(rest)
    return flip
