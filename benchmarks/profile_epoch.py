"""Where the time of a training epoch goes, with each augmentation backend: shares of the epoch, by cProfile."""

import cProfile
import pstats
import tempfile
from pathlib import Path

import click
import numpy as np
import torch

from pipeline.data.store import CropStore
from pipeline.models import build_model
from pipeline.models.checkpoint import ResumeState
from pipeline.models.device import make_runtime, use_threads
from pipeline.models.losses import build_loss
from pipeline.params import load_params
from pipeline.training import engine
from pipeline.training.loader import make_batches

PARTS = {  # what a line of the table adds up: file and function
    "augmentation": [("batches.py", "__getitem__")],
    "forward": [("runtime.py", "forward")],
    "targets and loss": [("codecs.py", "encode"), ("losses.py", "cross_entropy"), ("losses.py", "smooth_l1"),
                         ("losses.py", "mse")],
    "backward": [("_tensor.py", "backward")],
    "gradient clipping": [("clip_grad.py", "clip_grad_norm_")],
    "optimizer": [("adamw.py", "step"), ("adam.py", "step")],
    "averaged weights": [("model_ema.py", "update")],
}


@click.command()
@click.option("--params", "params_path", default="params.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--faces", default=256, show_default=True, help="Faces of the epoch, from data/crops/train.")
def main(params_path: Path, faces: int) -> None:
    """Print a table for each model of the params."""
    params, store = load_params(params_path), CropStore.open(Path("data/crops/train"))
    use_threads(params.train.threads)
    runtime, skeleton = make_runtime(params.train.device, params.train.precision), params.data.get_skeleton()
    rows = np.arange(min(faces, len(store)))
    for name in params.train.models:
        shares = {}
        for backend in ("albumentations", "torch"):
            chosen = params.model(name)[1].model_dump(exclude={"jitter"})
            model, codec = build_model(chosen.pop("network"), chosen.pop("codec"), num_points=skeleton.num_points,
                                       channels=store.channels, size=store.size)
            loss = build_loss(kind=codec.kind, **{key: value for key, value in chosen.pop("loss").items() if value})
            augmentation = params.augment.model_dump() | {"backend": backend}
            batches = make_batches(store, device=runtime.device, flip_indices=skeleton.flip, **augmentation)
            schedule = engine.Schedule(**chosen | {"epochs": 1, "validate_every": 1})
            profile = cProfile.Profile()
            with tempfile.TemporaryDirectory() as folder:
                torch.manual_seed(0)
                profile.enable()
                _, history = engine.fit(
                    model, codec, loss, store, rows, rows[:2], batches=batches, eyes=skeleton.eyes, schedule=schedule,
                    runtime=runtime, seed=0, workers=0, resume=ResumeState(Path(folder), "profile"))
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
