"""Grouped, stratified folds: no group of near-duplicates or of one photo crosses folds.

Faces belong together when they are from one photo by name (PHOTO_FACE, `_mirror`) or when their pictures are
identical or mirrored near-duplicates by content, whatever they are called. N: faces, P: pairs, S: side of a crop.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.common.errors import UserError
from pipeline.data.store import CropStore

# iBUG 300-W: PHOTO_FACE.jpg in AFW and HELEN, image_PHOTO.jpg in LFPW, `_mirror` before the dot. The folder counts.
PHOTO_PATTERN = re.compile(r"(?P<photo>(?:.*/)?(?:\d+(?=_\d+(?:_mirror)?\.\w+$)|[^/]+?(?=(?:_mirror)?\.\w+$)))")

# In iBUG 300-W, true near-duplicates differ in at most 12 of 64 bits and correlate by at least 0.96; of the pairs that
# show two different people in two different photos none correlates by more than 0.933 (see tests/data/test_folds.py).
MAX_DISTANCE = 14
MIN_CORRELATION = 0.95
THUMBNAIL = 32
BLOCK = 64  # faces compared with all others at once; bounds the memory, as does the next
CHUNK = 1024  # pictures whose pixels are worked on at once


def photo_names(images: Sequence[str], pattern: re.Pattern[str] | None = None) -> list[str]:
    """Name the photo that each image shows, from its path.

    Args:
        images: paths relative to the data folder; one that the pattern does not match names its own photo.
        pattern: has a group named `photo`, and is matched from the start of the path; None means PHOTO_PATTERN. For a
            data set with several photos a person, let `photo` catch the person.

    Raises:
        UserError: the pattern lacks the group, or matches no image at all.
    """
    if pattern and "photo" not in pattern.groupindex:
        raise UserError(f"split.photo_pattern {pattern.pattern!r} has no group named photo; write (?P<photo>…)")
    matches = [(pattern or PHOTO_PATTERN).match(image) for image in images]
    if pattern and matches and not any(matches):
        raise UserError(f"split.photo_pattern {pattern.pattern!r} matches no image, for example not {images[0]!r}")
    return [(match and match["photo"]) or image for image, match in zip(images, matches, strict=True)]


def near_duplicate_pairs(images: np.ndarray, crops: np.ndarray, *, centre: float = 2 / 3) -> np.ndarray:
    """Find faces whose whole images (N, 32, 32), or whose crops, are similar: see the next two functions."""
    found = [similar_pairs(part) for part in (images, centre_thumbnails(crops, centre))]
    return np.unique(np.concatenate(found), axis=0)


def centre_thumbnails(crops: np.ndarray, centre: float) -> np.ndarray:
    """Shrink the middle of crops (N, S, S[, 3]) to (N, 32, 32) uint8 grey, one by one (they may be mapped).

    `centre` is the share of a crop's side that is kept, best about the face box.
    """
    cut = round(crops.shape[1] * (1 - centre) / 2)
    thumbnails = np.empty((len(crops), THUMBNAIL, THUMBNAIL), np.uint8)
    for i, crop in enumerate(crops):
        middle = np.ascontiguousarray(crop[cut : len(crop) - cut, cut : len(crop) - cut])
        grey = middle if middle.ndim == 2 else cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
        thumbnails[i] = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return thumbnails


def similar_pairs(images: np.ndarray) -> np.ndarray:
    """Find pairs of uint8 grey images (N, H, W) that are the same picture, mirrored or not.

    Candidates are those whose perceptual hashes differ in at most MAX_DISTANCE of 64 bits; of them, pairs remain
    whose pixels have a normalised correlation of at least MIN_CORRELATION. An image without contrast has none.
    Returns (P, 2) int64, first < second, sorted, without repetition.
    """
    plain = perceptual_hash(images)
    found = [np.empty((0, 2), np.int64)]
    for other in (images, images[:, :, ::-1]):
        hashes = perceptual_hash(other)
        for start in range(0, len(images), BLOCK):
            distance = np.bitwise_count(plain[start : start + BLOCK, None] ^ hashes[None, start:])  # B N-start
            pairs = np.argwhere(np.triu(distance <= MAX_DISTANCE, 1)) + start
            for some in np.split(pairs, range(CHUNK, len(pairs), CHUNK)):
                first, second = _standardised(images[some[:, 0]]), _standardised(other[some[:, 1]])
                found.append(some[np.einsum("pd,pd->p", first, second) >= MIN_CORRELATION])
    return np.unique(np.concatenate(found), axis=0)


def perceptual_hash(images: np.ndarray) -> np.ndarray:
    """Compute the pHash of grey images, (N, H, W) → (N,) uint64.

    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010. One bit for each
    of the 8×8 lowest frequencies of the cosine transform: is it above their median? The mean brightness is left out
    of the median.
    """
    hashes = np.empty(len(images), np.uint64)
    for start in range(0, len(images), CHUNK):
        some = images[start : start + CHUNK].astype(np.float32)
        low = dctn(some, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(some), 64)
        bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
        hashes[start : start + CHUNK] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return hashes


def _standardised(images: np.ndarray) -> np.ndarray:
    """(N, H·W) float32 of mean 0 and length 1, or all 0 for an image without contrast."""
    flat = images.reshape(len(images), images.shape[1] * images.shape[2]).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)


def groups(photos: Sequence[str], pairs: np.ndarray) -> np.ndarray:
    """Group faces, (N,) int64: connected by the same photo name or by a pair (P, 2), directly or in steps.

    Groups are numbered by first appearance.
    """
    size = len(photos)
    names, unique = pd.factorize(np.asarray(photos, dtype=object))
    start, end = np.concatenate([np.arange(size), pairs[:, 0]]), np.concatenate([size + names, pairs[:, 1]])
    graph = coo_array((np.ones(len(start), bool), (start, end)), shape=(size + len(unique), size + len(unique)))
    _, label = connected_components(graph, directed=False)
    return pd.factorize(label[:size])[0].astype(np.int64)


def strata(source: Sequence[str], width: np.ndarray, height: np.ndarray, *, bins: int = 3) -> np.ndarray:
    """Number strata, (N,) int64: the source of a face and, within the source, the third its box size falls in."""
    table = pd.DataFrame({"source": np.asarray(source, dtype=object), "side": np.sqrt(np.multiply(width, height))})
    rank = table.groupby("source").side.rank(method="average", pct=True)
    third = np.ceil(rank.to_numpy() * bins - 1e-9).astype(np.int64) - 1
    return pd.factorize(table.source)[0].astype(np.int64) * bins + third


def assign_folds(group: np.ndarray, stratum: np.ndarray, folds: Sequence[int], seed: int) -> np.ndarray:
    """Assign faces to folds, (N,) int64, each one of `folds`: no group crosses folds, strata are spread evenly.

    Strata with fewer faces than folds are counted to the most common one.

    Raises:
        UserError: fewer than two folds, or fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = len(np.unique(group))
    if not 2 <= len(folds) <= count:
        raise UserError(f"split.folds names {len(folds)} folds; 2 to {count} are possible with {count} groups of faces")
    values, index, counts = np.unique(stratum, return_inverse=True, return_counts=True)
    target = np.where(counts < len(folds), counts.argmax(), np.arange(len(values)))[index]
    splitter = StratifiedGroupKFold(len(folds), shuffle=True, random_state=seed)
    fold = np.empty(len(group), np.int64)
    for name, (_, rows) in zip(folds, splitter.split(np.zeros(len(group)), target, group), strict=True):
        fold[rows] = name
    return fold


def check_folds(group: np.ndarray, fold: np.ndarray, folds: Sequence[int]) -> None:
    """Raise a UserError that names every fold without faces and every group in more than one fold."""
    table = pd.DataFrame({"group": group, "fold": fold})
    problems = [f"fold {name} has no faces; name fewer folds in split.folds" for name in folds if name not in set(fold)]
    for name, rows in table[table.groupby("group").fold.transform("nunique") > 1].groupby("group"):
        where = ", ".join(map(str, sorted(rows.fold.unique())))
        problems.append(f"group {name} crosses folds {where}: faces {', '.join(map(str, rows.index))}")
    if problems:
        raise UserError(*problems)


def fold_table(fold: np.ndarray, group: np.ndarray, source: Sequence[str]) -> pd.DataFrame:
    """Count by fold, a row each and a last one, `all`: numbers of faces and groups, and of faces from each source."""
    table = pd.DataFrame({"fold": fold, "group": group, "source": np.asarray(source, dtype=object)})
    rows = {"faces": table.groupby("fold").size(), "groups": table.groupby("fold").group.nunique()}
    counts = pd.concat([pd.DataFrame(rows), pd.crosstab(table.fold, table.source)], axis=1)
    counts.loc["all"] = counts.sum()
    return counts.rename_axis("fold")


def split_faces(
    store: CropStore, *, folds: Sequence[int], seed: int, photo_pattern: re.Pattern[str] | None, near_duplicates: bool
) -> pd.DataFrame:
    """Make the fold table of a crop store: `face`, `group` and `fold`, with no group in two folds.

    See `assign_folds` and `photo_names`; with `near_duplicates`, pictures that are alike by content stay together, too.
    """
    faces, pairs = store.faces, np.empty((0, 2), np.int64)
    if near_duplicates:
        longer = faces[["width", "height"]].max(axis=1)
        box = float((longer * np.sqrt(np.abs(np.linalg.det(store.affines[:, :, :2])))).median())  # in stored-crop px
        pairs = near_duplicate_pairs(store.photos, store.crops, centre=min(1.0, box / store.crops.shape[1]))
    group = groups(photo_names(faces.image, photo_pattern), pairs)
    fold = assign_folds(group, strata(faces.source, faces.width, faces.height), folds, seed)
    check_folds(group, fold, folds)
    return pd.DataFrame({"face": faces.face, "group": group, "fold": fold})


def read_folds(path: Path, num_faces: int) -> pd.DataFrame:
    """Read the fold table: columns `face` (0…N−1), `group` and `fold`, sorted by face whatever the order of its rows.

    Raises:
        UserError: the file is missing, is no such table, or does not list each of the `num_faces` faces once.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; run `dvc repro split` (or `python -m stages.split`) first")
    try:
        table = pd.read_csv(path)[["face", "group", "fold"]].sort_values("face", ignore_index=True)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no fold table ({error}); run the split stage again") from None
    if not np.array_equal(table["face"], np.arange(num_faces)):
        raise UserError(f"{path}: does not list each of the {num_faces} train faces once; run the split stage again")
    return table


def fold_rows(path: Path, fold: int, num_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Read which faces to train on and which are held out, as rows of the crop store."""
    held_out = (read_folds(path, num_faces)["fold"] == fold).to_numpy()
    if not held_out.any():
        raise UserError(f"{path}: fold {fold} has no faces; run the split stage again")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
