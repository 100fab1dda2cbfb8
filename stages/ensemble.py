"""Blend the models."""

from pathlib import Path

import click

from stages.cli import CROPS, ENSEMBLE, FOLDS, RUNS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Blend the predictions of every model and fold that the params name."""
    from pipeline.inference.ensemble import ensemble_files
    from pipeline.params import load_params

    params = load_params(params_path)
    ensemble = ensemble_files(
        ENSEMBLE, crops=CROPS / "train", folds_file=FOLDS, runs=RUNS, models=params.members,
        folds=params.split.folds, **params.ensemble.model_dump(), flip_indices=params.data.get_skeleton().flip,
    )
    shares = ", ".join(f"{model} {weight:.3f}" for model, weight in ensemble.weights.get("test", {}).items())
    click.echo(f"{ENSEMBLE}: {params.ensemble.blend} of {shares or ', '.join(params.members)}")


if __name__ == "__main__":
    main()
