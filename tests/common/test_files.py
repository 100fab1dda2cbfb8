"""Atomic files and folders, and arrays that are read back or refused."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import UserError, explain
from pipeline.common.files import atomic_path, exclusive, read_arrays, write_arrays, write_bytes, write_text


def test_atomic_path_after_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old\r\n")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"old\r\n"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_path_of_a_folder_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (tmp_path / "folder.partial").mkdir()  # left by a process that was killed
    (tmp_path / "folder.partial" / "stale").touch()
    for name in ("one", "two"):
        with atomic_path(path) as partial:
            partial.mkdir()
            (partial / name).touch()
            assert not (path / name).exists()
    assert [file.name for file in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_flushes_to_the_disk_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed is on the disk before it, the folder that has its name after it."""
    calls, sync, replace = [], os.fsync, os.replace

    def name(descriptor: int) -> str:
        paths = [tmp_path, *tmp_path.rglob("*")]
        return next(str(path) for path in paths if os.path.samestat(path.stat(), os.fstat(descriptor)))

    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(name(descriptor)) or sync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("rename") or replace(*paths))
    write_text(tmp_path / "a.txt", "new")
    with atomic_path(tmp_path / "folder") as partial:
        (partial / "below").mkdir(parents=True)
        (partial / "below" / "b.txt").write_text("b")
    folder = f"{tmp_path}/folder.partial"
    assert calls == [f"{tmp_path}/a.txt.partial", "rename", f"{tmp_path}",
                     f"{folder}/below", f"{folder}/below/b.txt", folder, "rename", f"{tmp_path}"]


@pytest.mark.parametrize("write", [
    lambda path, value: write_text(path, str(value)), lambda path, value: write_bytes(path, bytes([value])),
    lambda path, value: write_arrays(path, value=np.array([value])),
])
def test_write_replaces_the_file_and_writes_none_in_place(tmp_path: Path, write: Callable[[Path, int], None]) -> None:
    """A hard link keeps what the file held before."""
    path, before = tmp_path / "file", tmp_path / "before"
    write(path, 1)
    content = path.read_bytes()
    os.link(path, before)
    write(path, 2)
    assert before.read_bytes() == content != path.read_bytes()


def test_atomic_path_on_a_full_disk_names_the_file_and_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OSError) as caught, atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as write(2) into an open file does
    assert explain(caught.value) == (
        f"{path}: No space left on device; free some space there, then run the same command again")
    assert not list(tmp_path.iterdir())


def test_exclusive_while_another_process_holds_it_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "fold0"
    code = ("import sys; from pathlib import Path; from pipeline.common.files import exclusive\n"
            "with exclusive(Path(sys.argv[1]), ''): print(flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="fold0: it is busy"), exclusive(folder, "it is busy"):
            raise AssertionError
        other.kill()
    with exclusive(folder, "it is busy"):
        pass
    assert not list(folder.iterdir())


def test_read_arrays_returns_what_was_written(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.empty((0, 2)), "c": np.arange(3)}
    write_arrays(tmp_path / "x.npz", **arrays)
    found = read_arrays(tmp_path / "x.npz", ["a", "b"], "run it again")
    assert list(found) == ["a", "b"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


def test_read_arrays_of_missing_and_broken_files_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="x.npz: not found; run it again"):
        read_arrays(tmp_path / "x.npz", ["a"], "run it again")
    write_arrays(tmp_path / "whole.npz", a=np.arange(99))
    whole = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    spoilt = {"cut": whole[:100], "empty": b"", "text": b"no arrays", "changed": whole[:300] + b"?" + whole[301:],
              "objects": (tmp_path / "objects.npz").read_bytes(), "single": single.read_bytes()}
    for name, data in spoilt.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"{name}\.npz: not what was written there .*delete it and run it again"):
            read_arrays(path, ["a"], "run it again")
    with pytest.raises(UserError, match="not what was written there"):
        read_arrays(tmp_path / "whole.npz", ["b"], "run it again")
