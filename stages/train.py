"""Train one fold of one model."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, crops_folder, fold_option, model_option, params_option


@click.command(cls=Command)
@model_option
@fold_option
@params_option
def main(model: str | None, fold: int, params_path: Path) -> None:
    """Train one fold of one model; resume an interrupted run of the same params."""
    import torch

    from pipeline.models.device import make_deterministic, make_runtime
    from pipeline.params import load_params
    from pipeline.training.train import train_fold

    params = load_params(params_path)
    (name, _), train = params.model(model), params.train
    if train.deterministic:
        make_deterministic()
    runtime = make_runtime(train.device, train.precision, train.threads, train.workers)
    if runtime.device.type == "cpu":
        click.echo(f"{name}-{fold}: CPU threads: {torch.get_num_threads()} (train.threads)")
    train_fold(
        PATHS, crops_folder(params, name) / "train", name, params.fold(fold), recipe=params.recipe(name),
        skeleton=params.data.skeleton, runtime=runtime,
    )


if __name__ == "__main__":
    main()
