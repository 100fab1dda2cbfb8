"""Arrays with a row a face that need not fit into memory: they lie in unnamed files and are filled piece by piece."""

import tempfile
from collections.abc import Iterator

import numpy as np

PIECE = 1000  # faces that are worked on at once


def pieces(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows one after another."""
    return (slice(start, min(start + PIECE, count)) for start in range(0, count, PIECE))


def scratch(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """An array of zeros in an unnamed temporary file (in TMPDIR), gone when the array is.

    The kernel can write its pages back where memory is short, as it cannot those of other arrays.
    """
    if 0 in shape:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape).view(np.ndarray)


def gather(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]` for a mask or row numbers; more than one piece of it lies in a `scratch`."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if len(rows) <= PIECE:
        return array[rows]
    found = scratch((len(rows), *array.shape[1:]), array.dtype)
    for piece in pieces(len(rows)):
        found[piece] = array[rows[piece]]
    return found
