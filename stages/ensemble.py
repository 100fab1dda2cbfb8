"""Blend the models."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Blend the predictions of every model and fold that the params name."""
    from pipeline.inference.ensemble import ensemble_files
    from pipeline.params import load_params

    params, paths = load_params(params_path), PATHS
    ensemble = ensemble_files(paths, params.members, params.split.folds, **params.ensemble.model_dump(),
                              flip_indices=params.data.skeleton.flip)
    shares = ", ".join(f"{model} {weight:.3f}" for model, weight in ensemble.weights.get("test", {}).items())
    click.echo(f"{paths.ensemble}: {params.ensemble.blend} of {shares or ', '.join(params.members)}")


if __name__ == "__main__":
    main()
