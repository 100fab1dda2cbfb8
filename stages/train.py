"""Train one fold of one model."""

from pathlib import Path

import click

from stages.cli import Command, fold_option, model_option, params_option


@click.command(cls=Command)
@model_option
@fold_option
@params_option
def main(model: str | None, fold: int, params_path: Path) -> None:
    """Train one fold of one model; goes on where an interrupted run of the same params stopped."""
    from pipeline.params import load_params
    from pipeline.training.train import train_fold
    from stages.cli import FOLDS, RESUME, crops_folder, run_folder

    params = load_params(params_path)
    name, chosen = params.model(model)
    train_fold(
        run_folder(name, params.fold(fold)), crops=crops_folder(params, name) / "train", folds=FOLDS,
        fold=fold,
        skeleton=params.data.get_skeleton(), augmentation=params.augmentation(name),
        resume_folder=RESUME, label=f"{name}-{fold}",
        **chosen.model_dump(exclude={"jitter"}), **params.train.model_dump(exclude={"models"}),
    )


if __name__ == "__main__":
    main()
