"""Files that appear whole or not at all."""

import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from pipeline.common.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed on success and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
    """The arrays of an npz file that `write_arrays` wrote, memory-mapped, not to be written to.

    Raises:
        UserError: the file is missing, broken or lacks one of them.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; {what_to_do}")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _map_member(path, archive.getinfo(f"{name}.npy")) for name in names}
    except (OSError, EOFError, ValueError, KeyError, struct.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not what was written there ({error}); delete it and {what_to_do}") from None


def _map_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """An uncompressed npy file within a zip file, memory-mapped (PKWARE's APPNOTE 4.3.7 and numpy.lib.format)."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # of the local header's 30 bytes: the lengths of the two fields after it
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        read_header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}[read_magic(file)]
        shape, fortran_order, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        if 0 in shape:
            return np.empty(shape, dtype)
        order = "F" if fortran_order else "C"
        return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order).view(np.ndarray)
