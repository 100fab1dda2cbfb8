"""The fold table of a crop store."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.data.folds import assign_folds, check_folds, groups, photo_names, strata
from pipeline.data.near_duplicates import near_duplicate_pairs
from pipeline.data.store import CropStore


def split_faces(
    store: CropStore, *, folds: Sequence[int], seed: int, photo_pattern: re.Pattern[str] | None, near_duplicates: bool
) -> pd.DataFrame:
    """Make the fold table: `face`, `group` and `fold`, with no group in two folds.

    See `assign_folds` and `photo_names`; with `near_duplicates`, pictures that are alike by content stay together, too.
    """
    faces, pairs = store.faces, np.empty((0, 2), np.int64)
    if near_duplicates:
        pairs = near_duplicate_pairs(store)
    group = groups(photo_names(faces.image, photo_pattern), pairs)
    fold = assign_folds(group, strata(faces.source, faces.width, faces.height), folds, seed)
    check_folds(group, fold, folds)
    return pd.DataFrame({"face": faces.face, "group": group, "fold": fold})
