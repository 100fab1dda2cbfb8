"""Commands in parallel through joblib: on this machine's cores and GPUs, or on a Ray or Dask cluster."""

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import write_text


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
        config = stack.enter_context(_backend(backend, address, jobs))
        slots = None
        if gpus:
            slots = stack.enter_context(multiprocessing.Manager()).Queue()
            for job in range(jobs):
                slots.put(gpus[job % len(gpus)])
        stack.enter_context(parallel_config(**config))
        stack.enter_context(_Board(items, jobs))
        work = (delayed(_run)(item, Path.cwd(), slots) for item in items)
        return Parallel(n_jobs=jobs, batch_size=1, pre_dispatch="all")(work)


def environment() -> dict[str, str]:
    """Return this process's environment, in which `python` is its Python."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def last_line(log: Path, start: str = "") -> str:
    """Return the last line of a log that begins with `start` and is not blank; a bar ends its with carriage returns."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = re.split(r"[\r\n]", file.read().decode(errors="replace"))
    return next((line.strip() for line in reversed(lines) if line.strip() and line.startswith(start)), "")


def _run(item: Item, folder: Path, slots: Queue | None) -> Outcome:
    """Run one item in this worker, on the GPU of a free slot where there are slots."""
    start = time.perf_counter()
    slot = slots.get() if slots else None
    gpu = {} if slot is None else {"CUDA_VISIBLE_DEVICES": slot}
    try:
        with (folder / item.log).open("wb") as log:
            ended = subprocess.run([sys.executable, "-m", *item.command], cwd=folder, env=environment() | gpu,
                                   check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    finally:
        if slot is not None:
            slots.put(slot)
    seconds = time.perf_counter() - start
    write_text(folder / item.end, f"{ended.returncode} {seconds:.0f}")
    return Outcome(item=item, exit_code=ended.returncode, seconds=seconds)


@contextmanager
def _backend(name: str, address: str | None, jobs: int) -> Iterator[dict]:
    """Yield the arguments of `parallel_config` while the cluster is up."""
    if name == "loky":
        yield {"backend": "loky"}
        return
    try:
        if name == "ray":
            import ray
            from ray.util.joblib import register_ray
        else:
            from dask.distributed import Client
    except ImportError as error:
        raise UserError(f"--backend {name}: {error}; pip install 'keypoint-folds[{name}]'") from None
    if name == "ray":
        try:
            ray.init(address=address, log_to_driver=False, **({} if address else {"num_cpus": jobs}))
        except ConnectionError as error:
            raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None
        register_ray()
        found = ray.cluster_resources().get("GPU", 0)
        yield {"backend": "ray", "ray_remote_args": {"num_gpus": min(1, found / jobs)} if found else {}}
        ray.shutdown()
    else:
        try:
            client = Client(address, timeout=20) if address else Client(n_workers=jobs, threads_per_worker=1)
        except OSError as error:
            raise UserError(f"--address {address}: no Dask scheduler answers there ({error})") from None
        with client:
            yield {"backend": "dask"}


class _Board:
    """A line for each running item, redrawn from the end of its log, on a terminal; a line for each that ended."""

    def __init__(self, items: Sequence[Item], jobs: int) -> None:
        self.waiting, self.stop = list(items), threading.Event()
        hidden = not sys.stderr.isatty()
        self.bars = [tqdm(bar_format="{desc}", position=row, leave=False, disable=hidden) for row in range(jobs)]
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Board":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
        for bar in self.bars:
            bar.close()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self.stop.wait(0.5)
            for item in [item for item in self.waiting if item.end.is_file()]:
                self.waiting.remove(item)
                code, seconds = item.end.read_text().split()
                state = "done" if code == "0" else f"FAILED with exit code {code}"
                tqdm.write(f"{item.name}: {state} after {seconds} s")
            running = [item for item in self.waiting if item.log.is_file()]
            for row, bar in enumerate(self.bars):
                bar.set_description_str(f"{running[row].name}: {last_line(running[row].log)}"
                                        if row < len(running) else "")
