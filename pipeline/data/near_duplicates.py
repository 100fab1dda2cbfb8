"""Near-duplicates by content: faces that show the same picture, mirrored or not, whatever their files are called.

Two searches, each over all pairs. Whole images: thumbnails that correlate. Faces: each is laid upright by its points
(by its box where it has none); faces that are alike in coarse form are registered and compared in detail.

Legend: N faces, M of them, P pairs, S side of a thumbnail.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from scipy.fft import dctn

from pipeline.data.store import CropStore
from pipeline.keypoints.geometry import compose, invert, mean_face, similarity, transform

# Chosen on the 2,208 train faces of iBUG 300-W, where every joined pair was looked at: see tests/data/test_folds.py.
# There, the details of joined faces correlate by 0.92 and more, of two photos taken a moment apart by at most 0.895;
# three prints of one poster, in other colours and with other lettering, at 0.85 to 0.89, are thus not joined with it.
MIN_ALIKE = 0.965  # cosine of coarse forms
MIN_CORRELATION = 0.95  # of two images' thumbnails
MIN_DETAIL = 0.91  # correlation of two faces' details
THUMBNAIL = 32
COARSE_SIDE = 0.9  # sides of the median box that the coarse form of a face shows
DETAIL, DETAIL_SIDE = 48, 1.4  # pixels of a face compared in detail, and how many sides of the median box they show
BLUR = 1 / 16  # details are what a Gaussian takes away whose sigma is this share of the pixels
ITERATIONS = 5  # of the registration; more find no other pairs
MIN_OVERLAP = 0.3  # share of the pixels that both faces must show
EVEN = 31  # the first numbers of a coarse form, those that stay when the picture is mirrored; the others change sign
TILE, CHUNK = 512, 1024  # pairs of faces at once, a side; pictures worked on at once
REFERENCE = 1000  # faces that the mean face is taken from


class Detail(NamedTuple):
    """Details of a face: its picture (S, S) float32 without the coarse, and where there is one (S, S) uint8, 0 or 1."""

    picture: np.ndarray
    valid: np.ndarray


def near_duplicate_pairs(store: CropStore) -> np.ndarray:
    """Find faces whose whole images, or who themselves, are the same picture: (P, 2) int64, first < second, sorted."""
    faces = face_pairs(store)
    return np.unique(np.concatenate([similar_pairs(store.photos), faces[:, :2].astype(np.int64)]), axis=0)


def similar_pairs(images: np.ndarray) -> np.ndarray:
    """Find pairs of uint8 grey images (N, H, W) that are the same picture, mirrored or not.

    Their coarse forms have a cosine of at least MIN_ALIKE, their pixels a correlation of at least MIN_CORRELATION. An
    image without contrast has none. Returns (P, 2) int64, first < second, sorted.
    """
    found = [np.empty((0, 2), np.int64)]
    pairs, mirrored = alike_pairs(coarse_forms(images), MIN_ALIKE)
    for start in range(0, len(pairs), CHUNK):
        some, turned = pairs[start : start + CHUNK], mirrored[start : start + CHUNK, None, None]
        second = images[some[:, 1]]
        second = np.where(turned, second[:, :, ::-1], second)
        correlation = np.einsum("pd,pd->p", _standardised(images[some[:, 0]]), _standardised(second))
        found.append(some[correlation >= MIN_CORRELATION])
    return np.concatenate(found)


def face_pairs(store: CropStore) -> np.ndarray:
    """Find pairs of faces that are the same picture, mirrored or not.

    Returns (P, 3) float64, sorted: first < second, and the correlation of their details, at least MIN_DETAIL.
    """
    frames, forms, found = face_frames(store), np.empty((len(store), 63), np.float32), []
    for rows in _chunks(len(store)):
        forms[rows] = coarse_forms(face_thumbnails(store, frames, rows))
    for (first, second), mirrored in zip(*alike_pairs(forms, MIN_ALIKE), strict=True):
        details = face_detail(store, frames, first), face_detail(store, frames, second, mirrored=mirrored)
        correlation, _ = register(*details)
        if correlation >= MIN_DETAIL:
            found.append((first, second, correlation))
    return np.array(found, np.float64).reshape(-1, 3)


def coarse_forms(images: np.ndarray) -> np.ndarray:
    """Describe the coarse form of grey images, (N, H, W) → (N, 63) float32 of length 1; zeros without contrast.

    The 8×8 lowest frequencies of the cosine transform but for the mean, as in pHash (Zauner, Implementation and
    Benchmarking of Perceptual Image Hash Functions, 2010), numbers in place of bits: their cosine is nearly the
    correlation of the images. Mirroring only changes the sign of all after the first EVEN.
    """
    order = np.arange(64).reshape(8, 8)
    order = np.concatenate([order[:, ::2].ravel()[1:], order[:, 1::2].ravel()])
    forms = np.empty((len(images), 63), np.float32)
    for rows in _chunks(len(images)):
        low = dctn(images[rows].astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(rows), 64)
        forms[rows] = low[:, order] / np.maximum(np.linalg.norm(low[:, 1:], axis=1, keepdims=True), 1.0)
    return forms


def alike_pairs(forms: np.ndarray, minimum: float) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs of coarse forms (N, 63) with a cosine of at least `minimum`, mirrored or not.

    Every pair is computed, by matrix products: one for both directions, since mirroring changes signs only.

    Returns:
        (P, 2) int64 pairs, first < second, sorted; (P,) bool, whether the mirror image is the more alike.
    """
    even, odd = np.ascontiguousarray(forms[:, :EVEN]), np.ascontiguousarray(forms[:, EVEN:])
    pairs, mirrored = [np.empty((0, 2), np.int64)], [np.empty(0, bool)]
    for top in range(0, len(forms), TILE):
        for left in range(top, len(forms), TILE):
            turned = odd[top : top + TILE] @ odd[left : left + TILE].T
            cosine = even[top : top + TILE] @ even[left : left + TILE].T
            cosine += np.abs(turned)
            if cosine.max() >= minimum:
                rows, columns = np.nonzero(np.triu(cosine >= minimum, 1) if top == left else cosine >= minimum)
                pairs.append(np.stack([rows + top, columns + left], axis=1))
                mirrored.append(turned[rows, columns] < 0)
    found = np.concatenate(pairs)
    order = np.lexsort(found.T[::-1])
    return found[order], np.concatenate(mirrored)[order]


def face_frames(store: CropStore) -> np.ndarray:
    """Compute the affine image → frame of each face, (N, 2, 3), in which all faces lie alike.

    Faces with points are laid on the mean face, and the frame is moved and scaled so that the median box lies around
    (0, 0) and its longer side is 1. Of a face without two points apart, its own box does.
    """
    boxes = store.faces[["left", "top", "width", "height"]].to_numpy(np.float64)
    side, centre = boxes[:, 2:].max(1), boxes[:, :2] + (boxes[:, 2:] - 1) / 2
    frames = np.zeros((len(store), 2, 3))
    frames[:, 0, 0] = frames[:, 1, 1] = 1 / side
    frames[:, :, 2] = -centre / side[:, None]
    if store.keypoints is None or not np.isfinite(store.keypoints[:: max(1, len(store) // REFERENCE)]).any():
        return frames
    reference = mean_face(store.keypoints[:: max(1, len(store) // REFERENCE)])
    laid = np.empty_like(frames)
    for rows in _chunks(len(store)):
        laid[rows] = similarity(store.keypoints[rows], reference)
    placed = np.isfinite(laid).all((1, 2))
    if placed.any():
        laid, side, centre = laid[placed], side[placed], centre[placed]
        unit = np.median(np.sqrt(np.linalg.det(laid[:, :, :2])) * side)
        laid[:, :, 2] -= np.median(transform(laid, centre[:, None])[:, 0], axis=0)
        frames[placed] = laid / unit
    return frames


def frame_to_pixels(size: int, sides: float) -> np.ndarray:
    """Return the (2, 3) affine frame → pixels of a thumbnail of `size` that shows `sides` of the median box."""
    return np.array([[size / sides, 0, (size - 1) / 2], [0, size / sides, (size - 1) / 2]])


def face_thumbnails(store: CropStore, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cut faces out of their stored crops by `face_frames`: (M, 32, 32) uint8 grey."""
    affines = compose(frame_to_pixels(THUMBNAIL, COARSE_SIDE), compose(frames[rows], invert(store.affines[rows])))
    return np.stack([_cut(_grey(store, row), affine, THUMBNAIL) for row, affine in zip(rows, affines, strict=True)])


def face_detail(
    store: CropStore, frames: np.ndarray, row: int, *, mirrored: bool = False, size: int = DETAIL
) -> Detail:
    """Cut one face, larger than its thumbnail, and take its coarse form away; the mirror image where `mirrored`."""
    affine = compose(frame_to_pixels(size, DETAIL_SIDE), compose(frames[row], invert(store.affines[row])))
    picture = _cut(_grey(store, row), affine, size).astype(np.float32)
    right, bottom = store.faces.photo_width.iat[row] - 1, store.faces.photo_height.iat[row] - 1
    corners = transform(store.affines[row], np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]]))
    shown = cv2.fillConvexPoly(np.zeros(store.crops.shape[1:3], np.uint8), corners.round().astype(np.int32), 255)
    valid = cv2.erode((_cut(shown, affine, size) == 255).astype(np.uint8), np.ones((3, 3)))  # edges mix with the black
    coarse = cv2.GaussianBlur(picture * valid, (0, 0), BLUR * size)
    weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), BLUR * size)
    detail = (picture - coarse / np.maximum(weight, 1e-3)) * valid
    turn = slice(None, None, -1 if mirrored else 1)
    return Detail(np.ascontiguousarray(detail[:, turn]), np.ascontiguousarray(valid[:, turn]))


def _grey(store: CropStore, row: int) -> np.ndarray:
    crop = np.ascontiguousarray(store.crops[row])
    return crop if crop.ndim == 2 else cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)


def _cut(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """Resample into (size, size), 0 outside; several pixels are averaged where the image is finer, against aliasing."""
    finer = max(1, round(1 / np.sqrt(np.linalg.det(affine[:, :2]))))
    affine = compose(np.array([[finer, 0, (finer - 1) / 2], [0, finer, (finer - 1) / 2]]), affine)
    fine = cv2.warpAffine(image, affine, (size * finer, size * finer), flags=cv2.INTER_LINEAR)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def register(first: Detail, second: Detail, iterations: int = ITERATIONS) -> tuple[float, np.ndarray]:
    """Lay the second face on the first by an affine that maximises the correlation of their details.

    Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization, PAMI 2008.

    Returns:
        The correlation where both show something, 0 where they share less than MIN_OVERLAP; (2, 3) float64 pixels of
        the first → pixels of the second, the identity where no affine is better.
    """
    identity = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-4)
    plain = _correlation(first, second)
    try:
        _, affine = cv2.findTransformECC(
            first.picture, second.picture, identity.copy(), cv2.MOTION_AFFINE, criteria, second.valid, 1)
    except cv2.error:  # it does not converge
        return plain, identity.astype(np.float64)
    size, flags = first.picture.shape[::-1], cv2.WARP_INVERSE_MAP
    moved = Detail(cv2.warpAffine(second.picture, affine, size, flags=flags | cv2.INTER_LINEAR),
                   cv2.warpAffine(second.valid, affine, size, flags=flags | cv2.INTER_NEAREST))
    correlation = _correlation(first, moved)
    return (correlation, affine.astype(np.float64)) if correlation > plain else (plain, identity.astype(np.float64))


def _correlation(first: Detail, second: Detail) -> float:
    both = (first.valid & second.valid).astype(bool)
    if both.mean() < MIN_OVERLAP:
        return 0.0
    values = _standardised(np.stack([first.picture[both], second.picture[both]])[:, None])
    return float(values[0] @ values[1])


def _chunks(count: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def _standardised(images: np.ndarray) -> np.ndarray:
    """(N, H·W) float32 of mean 0 and length 1, or all 0 for an image without contrast."""
    flat = images.reshape(len(images), images.shape[1] * images.shape[2]).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)
