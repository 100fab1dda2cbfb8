"""Training while other work keeps every core busy."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML
from speed import ROOT, table, turns

EPOCHS = 3


def measure_load(data: Path, xml: str, repeats: int) -> str:
    """Images a second of `stages.train` on all cores against one thread, a process spinning on each core beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage in ("sample", "crop", "split"):
            _run(folder, stage, threads=0)
        rows = []
        for model in ("resnet", "unet"):
            idle = turns(*[lambda t=t, model=model: _images_per_second(folder, model, t) for t in (0, 1)], repeats)
            with _spinning():
                busy = turns(*[lambda t=t, model=model: _images_per_second(folder, model, t) for t in (0, 1)], repeats)
            rows += [[f"{model}, nothing beside it", *idle], [f"{model}, every core busy", *busy]]
    return table(
        "Load", f"`stages.train` on the built-in sample, the best of {EPOCHS} epochs, with `train.threads: 0` against "
        "1; where every core is busy, one other process spins on each.",
        ["", "images/s", "one thread, images/s", "ratio"], rows)


def _run(folder: Path, stage: str, *arguments: str, threads: int) -> None:
    params = YAML(typ="safe").load(ROOT / "presets" / "sample.yaml")
    params["train"]["threads"] = threads
    for model in params["models"].values():
        model.update(epochs=EPOCHS, warmup_epochs=0)
    YAML(typ="safe").dump(params, folder / "params.yaml")
    subprocess.run([sys.executable, "-m", f"stages.{stage}", *arguments], cwd=folder, check=True, capture_output=True,
                   env=os.environ | {"PYTHONPATH": str(ROOT)})


def _images_per_second(folder: Path, model: str, threads: int) -> float:
    _run(folder, "train", "--model", model, "--fold", "1", threads=threads)
    return pd.read_csv(folder / "runs" / model / "fold1" / "history.csv").images_per_second.max()


@contextmanager
def _spinning() -> Iterator[None]:
    """Keep every core busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
