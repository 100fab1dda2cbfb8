"""DVC's lock file, left behind by a kill."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import run, succeed


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    return path


def held_by(pid: int) -> str:
    return json.dumps({"write": {"data/folds.csv": {"pid": pid, "cmd": "dvc repro"}},
                       "read": {"data/crops": [{"pid": pid, "cmd": "dvc repro"}]}})


@pytest.mark.parametrize("content", ["", '{"read": {', "[]", '{"read": {"data": [{}]}}'])
def test_unlock_removes_a_broken_lock(lock: Path, content: str) -> None:
    lock.write_text(content)
    assert "rwlock: left by a kill, removed" in run("unlock").stderr
    assert not lock.exists()


@pytest.mark.parametrize("length", [0, 5, 25, 55, -4])
def test_unlock_sets_a_cut_dvc_lock_aside(lock: Path, length: int) -> None:
    whole = "schema: '2.0'\nstages:\n  a:\n    cmd: echo\n    outs:\n    - path: b\n      size: 3\n"
    record = Path("dvc.lock")
    record.write_text(whole)
    assert succeed("unlock") == "" and record.read_text() == whole
    record.write_text(whole[:length])
    assert "dvc.lock: cut by a kill, moved to .dvc/tmp/dvc.lock.broken" in run("unlock").stderr
    assert not record.exists() and (lock.parent / "dvc.lock.broken").read_text() == whole[:length]


def test_unlock_removes_a_lock_only_when_the_process_that_holds_it_has_ended(lock: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as holder:
        lock.write_text(held_by(holder.pid))
        assert succeed("unlock") == "" and lock.exists()
        holder.communicate(b"\n")
    assert "rwlock: left by a kill, removed" in run("unlock").stderr
    assert not lock.exists()


def test_unlock_removes_the_lock_of_a_process_that_has_ended_but_is_not_reaped(lock: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as ended:
        assert ended.stdout is not None and ended.stdout.read() == b""
        lock.write_text(held_by(ended.pid))
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert "rwlock: left by a kill, removed" in run("unlock").stderr


def test_unlock_leaves_a_free_lock_and_needs_none(lock: Path) -> None:
    lock.write_text('{"read": {}}')
    assert succeed("unlock") == "" and lock.exists()
    lock.unlink()
    assert succeed("unlock") == ""


def test_unlock_while_another_dvc_runs_removes_nothing(lock: Path) -> None:
    lock.write_text("")
    with subprocess.Popen([sys.executable, "-c", "input()", "dvc", "repro"], stdin=subprocess.PIPE) as other:
        result = run("unlock")
        other.communicate(b"\n")
    assert result.exit_code == 1 and f"DVC runs here as process {other.pid}; wait" in result.stderr
    assert lock.exists()


def test_parallel_removes_a_broken_lock_first(lock: Path) -> None:
    lock.write_text("")
    result = run("parallel")
    assert "params.yaml: not found" in result.stderr and not lock.exists()
