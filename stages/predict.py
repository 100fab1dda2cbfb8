"""Predict the held-out fold and the test faces with one fold of one model."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, crops_folder, fold_option, model_option, params_option


@click.command(cls=Command)
@model_option
@fold_option
@params_option
def main(model: str | None, fold: int, params_path: Path) -> None:
    """Write oof.npz (the faces of the held-out fold) and test.npz beside the weights."""
    from pipeline.inference.predict import predict_fold
    from pipeline.models.device import make_runtime
    from pipeline.params import load_params

    params = load_params(params_path)
    name, _ = params.model(model)
    predict_fold(
        PATHS, crops_folder(params, name), name, params.fold(fold), flip_indices=params.data.skeleton.flip,
        tta=params.predict, runtime=make_runtime(params.train.device, params.train.precision, params.train.threads),
    )


if __name__ == "__main__":
    main()
