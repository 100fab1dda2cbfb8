"""What every command does with an error."""

import errno
import os
from pathlib import Path

import pytest

from tests.conftest import run

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
