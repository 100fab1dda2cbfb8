"""Files that appear whole or not at all."""

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file by way of a temporary name."""
    write_pieces(path, [text])


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """As `write_text`, piece by piece, so that the whole need not fit into memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
    os.replace(partial, path)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an npz file by way of a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)


def read_arrays(path: Path, names: Sequence[str], what_to_do: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file; a UserError names the file where it is missing, broken or lacks one of them."""
    if not path.is_file():
        raise UserError(f"{path}: not found; {what_to_do}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not what was written there ({error}); delete it and {what_to_do}") from None
