"""Commands in parallel through joblib: on this machine's cores and GPUs, or on a Ray or Dask cluster."""

import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import psutil
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.processes import OWNERS, describe, end_with


@dataclass(frozen=True, kw_only=True)
class Item:
    """One command: Python module and arguments, its output going to `log`."""

    name: str
    command: tuple[str, ...]
    log: Path

    @property
    def end(self) -> Path:
        """The file that says how it ended: exit code and seconds."""
        return self.log.with_suffix(".end")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an item ended."""

    item: Item
    exit_code: int
    seconds: float


def run_all(
    items: Sequence[Item], *, jobs: int, backend: str = "loky", address: str | None = None, gpus: Sequence[str] = ()
) -> list[Outcome]:
    """Run every item, `jobs` at once; an item that fails does not stop the others.

    Args:
        items: what to run, from this folder; workers on other machines must see the folder under the same path.
        jobs: how many at once; a Dask cluster has as many as its workers have threads.
        backend: "loky" (processes of this machine), "ray" or "dask".
        address: of a running Ray cluster or Dask scheduler; None starts one here for as long as it takes.
        gpus: names of this machine's GPUs, dealt out to the items that run; more jobs than GPUs share them. Ray and
            Dask deal out the GPUs of their workers themselves.

    Raises:
        UserError: the backend is not installed, cannot be reached, or deals out GPUs itself.
    """
    if gpus and backend != "loky":
        raise UserError(f"--gpus: {backend} deals out the GPUs of its own workers; leave it out")
    for item in items:
        item.log.parent.mkdir(parents=True, exist_ok=True)
        item.log.unlink(missing_ok=True)
        item.end.unlink(missing_ok=True)
    with ExitStack() as stack:
        config, close = _connect(backend, address, jobs)
        stack.callback(close)
        slots = stack.enter_context(multiprocessing.Manager()).Queue() if gpus else None
        for job in range(jobs):
            if slots:
                slots.put(gpus[job % len(gpus)])
        stack.enter_context(parallel_config(**config))
        stack.enter_context(_board(items, jobs))
        owner = (backend, socket.gethostname(), describe(psutil.Process()))
        work = (delayed(_run)(item, Path.cwd(), slots, owner) for item in items)
        return Parallel(n_jobs=jobs, batch_size=1, pre_dispatch="all")(work)


def environment() -> dict[str, str]:
    """Return this process's environment, in which `python` is its Python."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def last_line(log: Path, pattern: str = "") -> str:
    """Return the last line of a log that matches and is not blank; a bar ends its with carriage returns."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = re.split(r"[\r\n]", file.read().decode(errors="replace"))
    return next((line.strip() for line in reversed(lines) if line.strip() and re.match(pattern, line)), "")


def _run(item: Item, folder: Path, slots: Queue | None, owner: tuple[str, str, str]) -> Outcome:
    """Run one item in this worker, on the GPU of a free slot where there are slots.

    A stage ends with this worker and, on the same machine, with the owner: backend, machine and process that called.
    """
    start, (backend, machine, caller) = time.perf_counter(), owner
    if backend == "loky":
        end_with(caller)
    owners = [describe(psutil.Process()), *[caller] * (machine == socket.gethostname())]
    slot = slots.get() if slots else None
    changes = {OWNERS: " ".join(owners)} | ({} if slot is None else {"CUDA_VISIBLE_DEVICES": slot})
    try:
        with (folder / item.log).open("wb") as log:
            ended = subprocess.run([sys.executable, "-m", *item.command], cwd=folder, env=environment() | changes,
                                   check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    finally:
        if slots:
            slots.put(slot)
    seconds = time.perf_counter() - start
    write_text(folder / item.end, f"{ended.returncode} {seconds:.0f}")
    return Outcome(item=item, exit_code=ended.returncode, seconds=seconds)


def _connect(name: str, address: str | None, jobs: int) -> tuple[dict[str, Any], Callable[[], object]]:
    """Start or join a cluster; return the arguments of `parallel_config` for it, and what to call at the end."""
    try:
        if name == "ray":
            import ray
            from ray.util.joblib import register_ray

            ray.init(address=address, log_to_driver=False, num_cpus=None if address else jobs)
            register_ray()
            found = ray.cluster_resources().get("GPU", 0)
            share = {"num_gpus": min(1, found / jobs)} if found else {}
            return {"backend": "ray", "ray_remote_args": share}, ray.shutdown
        if name == "dask":
            from dask.distributed import Client

            client = Client(address, timeout=20) if address else Client(n_workers=jobs, threads_per_worker=1)
            return {"backend": "dask"}, client.close
        return {"backend": "loky"}, lambda: None
    except ImportError as error:
        raise UserError(f"--backend {name}: {error}; pip install 'keypoint-folds[{name}]'") from None
    except OSError as error:
        raise UserError(f"--address {address}: no {name} cluster answers there ({error})") from None


@contextmanager
def _board(items: Sequence[Item], jobs: int) -> Iterator[None]:
    """Show a line for each running item, redrawn from the end of its log, on a terminal; one for each that ended."""
    stop, hidden = threading.Event(), not sys.stderr.isatty()
    bars = [tqdm(bar_format="{desc}", position=row, leave=False, disable=hidden) for row in range(jobs)]
    thread = threading.Thread(target=_watch, args=(list(items), bars, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for bar in bars:
            bar.close()


def _watch(waiting: list[Item], bars: list[tqdm], stop: threading.Event) -> None:
    last = False
    while not last:
        last = stop.wait(0.5)
        for item in [item for item in waiting if item.end.is_file()]:
            waiting.remove(item)
            code, seconds = item.end.read_text().split()
            tqdm.write(f"{item.name}: {'done' if code == '0' else f'FAILED with exit code {code}'} after {seconds} s")
        lines = [f"{item.name}: {last_line(item.log)}" for item in waiting if item.log.is_file()]
        for row, bar in enumerate(bars):
            bar.set_description_str(lines[row] if row < len(lines) else "")
