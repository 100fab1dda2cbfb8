"""Profile of a training epoch with each augmentation backend, by cProfile."""

import cProfile
import pstats
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from pipeline.data.store import CropStore
from pipeline.models import build_model
from pipeline.models.checkpoint import ResumeState
from pipeline.models.device import make_runtime
from pipeline.models.losses import build_loss
from pipeline.params import load_params
from pipeline.training.engine import Trainer
from pipeline.training.loader import make_batches

PARTS = {  # what a line of the table adds up: file and function
    "augmentation": [("loader.py", "__getitem__")],
    "forward": [("device.py", "forward")],
    "targets and loss": [("codecs.py", "encode"), ("losses.py", "cross_entropy"), ("losses.py", "smooth_l1"),
                         ("losses.py", "mse")],
    "backward": [("_tensor.py", "backward")],
    "gradient clipping": [("engine.py", "_clip")],
    "optimizer": [("adamw.py", "step"), ("adam.py", "step")],
    "averaged weights": [("model_ema.py", "update")],
}


@click.command()
@click.option("--params", "params_path", default="params.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--faces", default=256, show_default=True, help="Faces of the epoch, from data/crops/train.")
def main(params_path: Path, faces: int) -> None:
    """Print a table for each model of the params."""
    params, store = load_params(params_path), CropStore.open(Path("data/crops/train"))
    runtime = make_runtime(params.train.device, params.train.precision, params.train.threads)
    skeleton, rows = params.data.skeleton, np.arange(min(faces, len(store)))
    for name in params.train.models:
        shares, recipe = {}, params.recipe(name)
        schedule = replace(recipe.schedule, epochs=1)
        for backend in ("albumentations", "torch"):
            network, codec = build_model(recipe.network, recipe.codec, num_points=skeleton.num_points,
                                         channels=store.channels, size=store.size)
            augmentation = replace(recipe.augmentation, backend=backend)
            batches = make_batches(store, augmentation, skeleton.flip, runtime.device)
            profile = cProfile.Profile()
            with tempfile.TemporaryDirectory() as folder:
                torch.manual_seed(0)
                profile.enable()
                trainer = Trainer(network=network, codec=codec, loss=build_loss(codec, **recipe.loss), store=store,
                                  schedule=schedule, runtime=runtime, seed=0, eyes=skeleton.eyes)
                _, history = trainer.fit(batches, rows, rows[:2], ResumeState(Path(folder), "profile"))
                profile.disable()
            shares[backend] = _shares(pstats.Stats(profile), history[0]["seconds"])
        click.echo(f"\n{name}: {len(rows)} faces, {store.size} px, batches of {schedule.batch_size}\n\n"
                   "| | albumentations | torch |\n|---|---|---|")
        for part in ("seconds", *PARTS):
            click.echo(f"| {part} | {shares['albumentations'][part]} | {shares['torch'][part]} |")


def _shares(stats: pstats.Stats, seconds: float) -> dict[str, str]:
    found = {"seconds": f"{seconds:.2f}"}
    for part, functions in PARTS.items():
        total = sum(values[3] for (file, _, function), values in stats.stats.items()
                    if (Path(file).name, function) in functions)
        found[part] = f"{100 * total / seconds:.1f}%"
    return found


if __name__ == "__main__":
    main()
