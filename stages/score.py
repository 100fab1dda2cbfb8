"""Score every model, fold and the ensemble."""

from pathlib import Path

import click

from stages.cli import CROPS, ENSEMBLE, FOLDS, REPORTS, RUNS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Write metrics.json and reports/curves.csv, and print the tables."""
    from pipeline.files import write_text
    from pipeline.metrics import build_metrics, format_table, load_history, load_results, save_metrics
    from pipeline.params import load_params

    params = load_params(params_path)
    data, names = params.data, {"models": params.train.models, "folds": params.split.folds}
    solution = Path(data.root) / data.solution if data.solution else None
    results = load_results(crops=CROPS, folds_file=FOLDS, runs=RUNS, ensemble=ENSEMBLE, solution=solution, **names)
    metrics = build_metrics(results, data.get_skeleton().eyes)
    write_text(REPORTS / "curves.csv", load_history(RUNS, **names).to_csv(index=False))
    save_metrics(Path("metrics.json"), metrics)
    click.echo(format_table(metrics, params.split.folds))


if __name__ == "__main__":
    main()
