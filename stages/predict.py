"""Predict the held-out fold and the test faces with one fold of one model."""

from pathlib import Path

import click

from stages.cli import FOLDS, Command, crops_folder, fold_option, model_option, params_option, run_folder


@click.command(cls=Command)
@model_option
@fold_option
@params_option
def main(model: str | None, fold: int, params_path: Path) -> None:
    """Write oof.npz (the faces of the held-out fold) and test.npz beside the weights."""
    from pipeline.inference.predict import predict_fold
    from pipeline.params import load_params

    params = load_params(params_path)
    name, _ = params.model(model)
    predict_fold(
        run_folder(name, params.fold(fold)), crops=crops_folder(params, name), folds=FOLDS, fold=fold,
        flip_indices=params.data.get_skeleton().flip, device=params.train.device, precision=params.train.precision,
        threads=params.train.threads, label=f"{name}-{fold}",
        **params.predict.model_dump(),
    )


if __name__ == "__main__":
    main()
