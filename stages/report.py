"""Draw the report."""

from pathlib import Path

import click

from stages.cli import ALIGNED, CROPS, ENSEMBLE, FOLDS, REPORTS, RUNS, Command, params_option, run_folder


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Write reports/index.html and its pictures."""
    from pipeline.data.store import CropStore
    from pipeline.evaluation.report import write_report
    from pipeline.evaluation.results import build_metrics, load_history, load_results
    from pipeline.params import load_params

    params = load_params(params_path)
    data, names = params.data, {"models": params.members, "folds": params.split.folds}
    solution = Path(data.root) / data.solution if data.solution else None
    results = load_results(crops=CROPS, folds_file=FOLDS, runs=RUNS, ensemble=ENSEMBLE, solution=solution, **names)
    skeleton = data.get_skeleton()
    metrics = build_metrics(results, skeleton.eyes)
    trained = {model: run_folder(model, params.split.folds[0]) for model in params.members}
    write_report(
        REPORTS, results, metrics, load_history(RUNS, **names), skeleton,
        trained=trained, augmentation=params.augment.model_dump(),
        aligned={model: (CropStore.open(ALIGNED / "train"), params.augmentation(model))
                 for model in params.align.models},
    )
    click.echo(f"{REPORTS / 'index.html'}")


if __name__ == "__main__":
    main()
