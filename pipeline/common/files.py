"""Atomic files: each is written under a temporary name, flushed to the disk and renamed."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError, artefact

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    What is written there may be a file or a folder; what was at `path` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    _remove(partial)  # left by a process that was killed
    try:
        yield partial
        for written in [*partial.rglob("*"), partial] if partial.is_dir() else [partial]:
            _sync(written)
        if partial.is_dir():
            _remove(path)
        os.replace(partial, path)
        _sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing into an open file names none
        raise
    finally:
        _remove(partial)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a power cut leaves the old one or the new one, whole (fsync(2))."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, its line ends as they are."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)


def reserve(path: Path) -> None:
    """Give a new file its blocks on the disk: in a memory map of one without, a full disk kills (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def exclusive(folder: Path, busy: str) -> Iterator[None]:
    """Hold a lock on a folder, made where it is missing, which the system releases however this process ends.

    Raises:
        UserError: `busy`, where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: {busy}") from None
        yield
    finally:
        os.close(descriptor)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an npz file atomically."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, names: Sequence[str], what_to_do: str) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file.

    Raises:
        UserError: the file is missing, broken or lacks one of them.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; {what_to_do}")
    with artefact(path, f"delete it and {what_to_do}"), np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in names}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
