"""Cost of a preset on this machine: the time of a training step of each network times the steps that it asks for."""

import time
from pathlib import Path

import click
import torch

from pipeline.models import build_model
from pipeline.models.device import make_runtime
from pipeline.models.losses import build_loss
from pipeline.params import load_params


@click.command()
@click.argument("preset", type=click.Path(path_type=Path))
@click.option("--faces", default=2208, show_default=True, help="Labelled faces of the competition.")
@click.option("--steps", default=3, show_default=True, help="That are timed, after one that is not.")
def main(preset: Path, faces: int, steps: int) -> None:
    """Print a table in Markdown: images a second of each network of PRESET, from random weights, and hours in all."""
    params = load_params(preset)
    runtime, folds = make_runtime(params.train.device, params.train.precision), len(params.split.folds)
    click.echo("| network | side, px | images/s | hours for all folds |\n|---|---|---|---|")
    for name in params.trained:
        model, size = params.models[name], (params.align if name in params.align.models else params.crop).size
        channels = 1 if params.crop.color == "grey" else 3
        network, codec = build_model(model.network.model_dump() | {"pretrained": False}, model.codec.model_dump(),
                                     num_points=params.data.skeleton.num_points, channels=channels, size=size)
        network = runtime.place(network).train()
        loss = build_loss(codec, **model.loss.model_dump())
        optimizer = torch.optim.AdamW(network.parameters(), lr=model.lr, fused=True)
        images = torch.zeros((model.batch_size, channels, size, size), dtype=torch.uint8, device=runtime.device)
        shape = (model.batch_size, params.data.skeleton.num_points, 2)
        points = torch.full(shape, size / 2, device=runtime.device)
        for step in range(steps + 1):
            if step == 1:
                start = time.perf_counter()
            optimizer.zero_grad()
            output = runtime.forward(network, images).float()
            value = loss(output, codec.encode(points), torch.ones_like(points[..., 0], dtype=torch.bool))
            value.backward()
            optimizer.step()
            value.item()  # waits for a GPU
        rate = steps * model.batch_size / (time.perf_counter() - start)
        hours = folds * model.epochs * faces * (1 - 1 / folds) / rate / 3600
        click.echo(f"| {name} | {size} | {rate:.1f} | {hours:.1f} |")


if __name__ == "__main__":
    main()
