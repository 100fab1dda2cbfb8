"""Grouped, stratified folds: no group of near-duplicates or of one photo crosses folds.

Faces belong together when they are from one photo by name (PHOTO_FACE, `_mirror`) or when their pictures are
near-duplicates by content (`near_duplicates.py`), whatever they are called. N: faces, P: pairs.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.common.errors import UserError, artefact

# iBUG 300-W: PHOTO_FACE.jpg in AFW and HELEN, image_PHOTO.jpg in LFPW, `_mirror` before the dot. The folder counts.
PHOTO_PATTERN = re.compile(r"(?P<photo>(?:.*/)?(?:\d+(?=_\d+(?:_mirror)?\.\w+$)|[^/]+?(?=(?:_mirror)?\.\w+$)))")


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


def assign_folds(
    images: Sequence[str], group: np.ndarray, stratum: np.ndarray, folds: Sequence[int], seed: int
) -> np.ndarray:
    """Assign faces to folds, (N,) int64, each one of `folds`: no group crosses folds, strata are spread evenly.

    The groups of a stratum are sorted by a hash of the seed and of their first image name, and cut into runs of equal
    length, one a fold. So two groups that become one move themselves and at most one group at each border of two runs;
    all others stay. A group is of the stratum of the face with that name; strata with fewer groups than folds are
    counted to the most common one.

    Raises:
        UserError: fewer than two folds, or fewer groups than folds.
    """
    faces = pd.DataFrame({"image": np.asarray(images, dtype=object), "group": group, "stratum": stratum})
    table = faces.sort_values("image", kind="stable").groupby("group").first()
    if not 2 <= len(folds) <= len(table):
        raise UserError(f"split.folds names {len(folds)} folds; 2 to {len(table)} are possible with {len(table)} "
                        "groups of faces")
    small = table.groupby("stratum").image.transform("size") < len(folds)
    table.loc[small, "stratum"] = table.stratum.mode()[0]
    table["key"] = [hashlib.sha256(f"{seed} {image}".encode()).hexdigest() for image in table.image]
    strata_of = table.sort_values("key").groupby("stratum")
    rank, size = strata_of.cumcount(), strata_of.image.transform("size")
    index = ((2 * rank + 1) * len(folds) // (2 * size)).loc[group].to_numpy()
    return np.asarray(folds, np.int64)[index]


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


def describe_uneven(group: np.ndarray, fold: np.ndarray) -> str:
    """Say that a fold has half as many faces again as an even one, or half as many, and why; "" where none has."""
    sizes, largest = np.unique(fold, return_counts=True)[1], np.unique(group, return_counts=True)[1].max()
    if sizes.max() <= 1.5 * sizes.mean() and sizes.min() >= 0.5 * sizes.mean():
        return ""
    return (f"folds of {sizes.min()} to {sizes.max()} faces: the largest group has {largest} of {len(group)}; scores "
            "of such folds say little of each other. Name fewer folds, or look at split.photo_pattern")


def read_folds(path: Path, num_faces: int) -> pd.DataFrame:
    """Read `face` (0…N−1), `group` and `fold` of the fold table, sorted by face whatever the order of its rows.

    Raises:
        UserError: the file is missing, is no such table, or does not list each of the `num_faces` faces once.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; run `dvc repro split` (or `python -m stages.split`) first")
    with artefact(path, "run the split stage again"):
        table = pd.read_csv(path)[["face", "group", "fold"]].sort_values("face", ignore_index=True)
        if not table.empty and not all(map(pd.api.types.is_integer_dtype, table.dtypes)):
            raise ValueError("a face, group or fold that is no whole number")
    if not np.array_equal(table["face"], np.arange(num_faces)):
        raise UserError(f"{path}: does not list each of the {num_faces} train faces once; run the split stage again")
    return table


def fold_rows(path: Path, fold: int, num_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Read which faces to train on and which are held out, as rows of the crop store."""
    held_out = (read_folds(path, num_faces)["fold"] == fold).to_numpy()
    if not held_out.any():
        raise UserError(f"{path}: fold {fold} has no faces; run the split stage again")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
