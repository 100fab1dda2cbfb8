"""What every command does with an error."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run

ROOT = Path(__file__).parents[2]
STAGES = {  # stage → what it writes first
    "crop": "data/crops", "split": "data", "ensemble": "ensemble", "submit": "submissions", "score": "reports",
    "report": "reports", "train": ".resume", "predict": "runs/resnet/fold0",
}


@pytest.mark.parametrize(("name", "number", "advice"), [
    *((name, errno.ENOSPC, "free some space there") for name in STAGES),
    ("split", errno.EROFS, "work on a disk that can be written"), ("split", errno.EACCES, "allow your user to"),
])
def test_each_stage_on_a_disk_that_takes_nothing_says_so_in_one_line(inside, monkeypatch, name, number, advice):
    """The rename of the first file fails, as it does where there is no room for the folder's new entry."""
    def refuse(*paths: Path) -> None:
        raise OSError(number, os.strerror(number), str(paths[1]))

    monkeypatch.setattr(os, "replace", refuse)
    result = run(name, *(["--fold", 0] if name in ("train", "predict") else []))
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 1 and len(errors) == 1 and advice in errors[0] and f"error: {STAGES[name]}" in errors[0]
    assert not list(inside.rglob("*.partial"))


@pytest.mark.parametrize("option", ["-q", "-v"])
def test_quiet_shows_errors_only_and_verbose_where_they_arose(inside, option):
    """In a process of its own, as --quiet closes stdout."""
    def shown(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, "-m", "stages.submit", *arguments], capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
        return done.returncode, done.stdout, done.stderr

    code, out, _ = shown(option)
    assert code == 0 and bool(out) == (option == "-v")
    code, out, err = shown(option, "--params", "none.yaml")
    assert code == 1 and not out and "error: none.yaml: not found" in err
    assert err.startswith("Traceback") == (option == "-v")
