"""Score every model, fold and the ensemble."""

from pathlib import Path

import click

from stages.cli import CROPS, ENSEMBLE, FOLDS, REPORTS, RUNS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Write metrics.json and reports/curves.csv, and print the tables."""
    from pipeline.common.files import write_text
    from pipeline.evaluation.intervals import describe_coverage, measure_coverage
    from pipeline.evaluation.results import build_metrics, format_table, load_history, load_results, save_metrics
    from pipeline.inference.predictions import Predictions
    from pipeline.params import load_params

    params = load_params(params_path)
    data, names = params.data, {"models": params.members, "folds": params.split.folds}
    solution = Path(data.root) / data.solution if data.solution else None
    results = load_results(crops=CROPS, folds_file=FOLDS, runs=RUNS, ensemble=ENSEMBLE, solution=solution, **names)
    skeleton = data.get_skeleton()
    metrics = build_metrics(results, skeleton.eyes)
    oof = Predictions.load(ENSEMBLE / "oof.npz").by_face()
    metrics["intervals"] = measure_coverage(oof, results.train, results.fold, skeleton.regions, params.submit.coverage)
    write_text(REPORTS / "curves.csv", load_history(RUNS, **names).to_csv(index=False))
    save_metrics(Path("metrics.json"), metrics)
    click.echo(f"{format_table(metrics, params.split.folds)}\n\n{describe_coverage(metrics['intervals'])}")


if __name__ == "__main__":
    main()
