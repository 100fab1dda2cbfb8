"""The fold table of a crop store, and the people that image names suggest."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.data.folds import assign_folds, check_folds, groups, photo_names, strata
from pipeline.data.near_duplicates import near_duplicate_pairs
from pipeline.data.store import CropStore

# NAME_01, NAME-2m, "NAME (3)": what stands before the number is a person or a video.
NUMBERED = r"(?P<photo>(?:.*/)?[^/]+?)[-_ .]\(?\d+[A-Za-z]?\)?(?:_mirror)?\.\w+$"
FEWEST = 5  # people of whom there are several photos; fewer may be chance
SHARE = 1 / 3  # of the photos: the least that such people have together, and the most that one may have


def split_faces(
    store: CropStore, *, folds: Sequence[int], seed: int, photo_pattern: re.Pattern[str] | None, near_duplicates: bool
) -> pd.DataFrame:
    """Make the fold table: `face`, `image`, `group` and `fold`, with no group in two folds.

    See `assign_folds` and `photo_names`; with `near_duplicates`, pictures that are alike by content stay together, too.
    """
    faces, pairs = store.faces, np.empty((0, 2), np.int64)
    if near_duplicates:
        pairs = near_duplicate_pairs(store)
    group = groups(photo_names(faces.image, photo_pattern), pairs)
    fold = assign_folds(faces.image, group, strata(faces.source, faces.width, faces.height), folds, seed)
    check_folds(group, fold, folds)
    return pd.DataFrame({"face": faces.face, "image": faces.image, "group": group, "fold": fold})


def suggest_pattern(images: Sequence[str]) -> str | None:
    """Suggest a `split.photo_pattern` where folders or names suggest several photos of one person or one video."""
    unique = list(dict.fromkeys(images))
    depth = max((image.count("/") for image in unique), default=0)
    photos = photo_names(unique)
    for pattern in (*(f"(?P<photo>(?:[^/]+/){{{level}}})" for level in range(1, depth + 1)), NUMBERED):
        if not any(map(re.compile(pattern).match, unique)):
            continue
        table = pd.DataFrame({"person": photo_names(unique, re.compile(pattern)), "photo": photos, "image": unique})
        people = table.groupby("person").nunique()
        size = people.image[people.photo > 1]
        if len(size) >= FEWEST and size.sum() >= SHARE * len(unique) and size.max() <= SHARE * len(unique):
            return pattern
    return None


def describe_people(images: Sequence[str], fold: np.ndarray | None = None) -> str:
    """Say how many people or videos names suggest, how many of them cross folds, and what to set; "" where none do."""
    pattern = suggest_pattern(images)
    if pattern is None:
        return ""
    people = pd.DataFrame({"name": photo_names(images, re.compile(pattern)), "image": np.asarray(images, object)})
    people = people.assign(fold=0 if fold is None else fold).groupby("name").nunique()
    people = people[people.image > 1]
    crossing = int((people.fold > 1).sum())
    if fold is not None and not crossing:
        return ""
    shown = ", ".join(map(repr, people.index[:3]))
    return (f"image names suggest {len(people)} people or videos of several images each ({shown}, …)"
            + (f"; {crossing} of them are in several folds" if fold is not None else "")
            + f"; to keep each in one fold, set split.photo_pattern: '{pattern}'")
