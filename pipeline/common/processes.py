"""Processes that end with the one that they work for."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

OWNERS = "KEYPOINT_FOLDS_OWNERS"  # processes that a command works for, as `describe` names them
PERIOD = 1.0  # seconds from one look at the owners to the next
RUNNERS = {"dvc", "stages.parallel"}


def describe(process: psutil.Process) -> str:
    """Name a process of this machine by its number and start, as numbers are used again."""
    return f"{process.pid}@{process.create_time()}"


def is_gone(owner: str) -> bool:
    """Tell whether the process that `describe` named has ended."""
    pid, _, start = owner.partition("@")
    try:
        process = psutil.Process(int(pid))
        return process.create_time() != float(start) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_with_owners() -> None:
    """End this process, and those that it started, when one that it works for ends: see `end_with`.

    These are the processes that the environment names, the DVC or `stages.parallel` that it runs in, and all between.
    What a person started works for none.
    """
    parents = psutil.Process().parents()
    runners = [place for place, parent in enumerate(parents) if _is_runner(parent)]
    owners = [describe(parent) for parent in parents[: runners[-1] + 1]] if runners else []
    end_with(*owners, *os.environ.get(OWNERS, "").split())


@cache
def end_with(*owners: str) -> None:
    """End this process, and those that it started, within seconds of the first owner's end, however that ended."""
    if owners:
        threading.Thread(target=_watch, args=(owners,), daemon=True).start()


def _watch(owners: Sequence[str]) -> None:
    while not any(map(is_gone, owners)):
        time.sleep(PERIOD)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    os.kill(os.getpid(), signal.SIGTERM)


def _is_runner(process: psutil.Process) -> bool:
    try:
        return bool(RUNNERS & {Path(word).name for word in process.cmdline()[:4]})
    except psutil.Error:
        return False
