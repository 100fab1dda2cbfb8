"""Gallery of faces: small pictures and points, packed for the report page.

Legend: N faces of a part of the crop store, n of them shown, K points.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from pipeline.data.store import CropStore
from pipeline.keypoints import geometry

PIXELS = 2208 * 168**2  # of all pictures together: these make some 9 MB of a page, whatever the number of faces
SIDES = (64, 192)  # pixels of a picture, at least and at most
QUALITY = 60  # of WebP
MOST = 4000  # train faces that a page holds
UNIT = 8192  # a side of the stored crop, in units of the packed points
MISSING = -(1 << 15)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Faces of one part of a crop store.

    Attributes:
        rows: (n,) the faces that are shown.
        layers: name → points (N, K, 2) in image pixels, NaN where missing.
        table: N rows, whatever columns the page sorts, filters or names.
    """

    store: CropStore
    rows: np.ndarray
    layers: Mapping[str, np.ndarray]
    table: pd.DataFrame


def pack(parts: Sequence[Part]) -> dict:
    """Pack faces as the page's script reads them.

    Returns:
        `faces`: column → n values, among them `picture` (WebP in base64) and `extent`, the side of the stored crop in
        image pixels; `layers`: name → (n, K, 2) little-endian int16 in base64; `unit` and `missing`.
    """
    side = _side(sum(len(part.rows) for part in parts), max(part.store.crops.shape[1] for part in parts))
    tables = [part.table.iloc[part.rows].assign(picture=_pictures(part.store, part.rows, side),
                                                extent=_extent(part.store, part.rows).round(2)) for part in parts]
    table = pd.concat(tables, ignore_index=True).astype(object)
    layers = {name: np.concatenate([_points(part.store, part.rows, part.layers[name]) for part in parts])
              for name in parts[0].layers}
    return {"faces": table.where(table.notna(), None).to_dict("list"), "unit": UNIT, "missing": MISSING,
            "layers": {name: base64.b64encode(points.tobytes()).decode("ascii") for name, points in layers.items()}}


def _side(count: int, stored: int) -> int:
    """Choose the side of so many pictures, in pixels; `stored` is that of the stored crops."""
    return int(min(np.clip(np.sqrt(PIXELS / max(count, 1)), *SIDES), stored))


def _extent(store: CropStore, rows: np.ndarray) -> np.ndarray:
    return store.crops.shape[1] / np.sqrt(np.linalg.det(store.affines[rows, :, :2]))


def _pictures(store: CropStore, rows: np.ndarray, side: int) -> list[str]:
    found = []
    for row in rows:
        crop = store.crops[row] if store.channels == 1 else cv2.cvtColor(store.crops[row], cv2.COLOR_RGB2BGR)
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
        found.append(base64.b64encode(encoded.tobytes()).decode("ascii"))
    return found


def _points(store: CropStore, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pack points as (n, K, 2): 0 and `UNIT` are the outer edges of the stored crop; four sides out they stop."""
    places = (geometry.transform(store.affines[rows], points[rows]) + 0.5) * (UNIT / store.crops.shape[1])
    return np.where(np.isfinite(places), np.clip(places, 1 + MISSING, -1 - MISSING).round(), MISSING).astype("<i2")
