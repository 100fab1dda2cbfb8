"""Draw the report."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Write reports/index.html and its pictures."""
    from pipeline.data.store import CropStore
    from pipeline.evaluation.report import Member, write_report
    from pipeline.evaluation.results import build_metrics, load_history, load_results
    from pipeline.params import load_params

    params, paths = load_params(params_path), PATHS
    data, skeleton, names = params.data, params.data.skeleton, (params.trained, params.split.folds)
    solution = Path(data.root) / data.solution if data.solution else None
    results = load_results(paths, params.trained, params.members, params.split.folds, solution)
    upright = CropStore.open(paths.aligned / "train") if params.align.models else results.train
    members = {
        model: Member(run=paths.run(model, params.split.folds[0]),
                      store=upright if model in params.align.models else results.train,
                      augmentation=params.recipe(model).augmentation)
        for model in params.trained
    }
    write_report(paths.reports, results, build_metrics(results, skeleton.eyes), load_history(paths, *names), skeleton,
                 params.augment, members)
    click.echo(f"{paths.reports / 'index.html'}")


if __name__ == "__main__":
    main()
