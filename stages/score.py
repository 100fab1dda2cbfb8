"""Score every model, fold and the ensemble."""

import json
from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Write metrics.json and reports/curves.csv, and print the tables."""
    from pipeline.common.files import write_text
    from pipeline.evaluation.intervals import describe_coverage, measure_coverage
    from pipeline.evaluation.results import (
        build_metrics,
        format_members,
        format_scores,
        load_history,
        load_results,
        name_unlearnt,
    )
    from pipeline.inference.predictions import Predictions
    from pipeline.params import load_params

    params, paths = load_params(params_path), PATHS
    data, skeleton, names = params.data, params.data.skeleton, (params.trained, params.split.folds)
    solution = Path(data.root) / data.solution if data.solution else None
    results = load_results(paths, params.trained, params.members, params.split.folds, solution)
    metrics = build_metrics(results, skeleton.eyes)
    oof = Predictions.load(paths.ensemble / "oof.npz").by_face()
    metrics["intervals"] = measure_coverage(oof, results.train, results.fold, skeleton.regions, params.submit.coverage)
    write_text(paths.reports / "curves.csv", load_history(paths, *names).to_csv(index=False))
    write_text(Path("metrics.json"), json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    parts = [format_scores(metrics, params.split.folds), format_members(metrics["pairs"]),
             describe_coverage(metrics["intervals"]), name_unlearnt(metrics)]
    click.echo("\n\n".join(part for part in parts if part))


if __name__ == "__main__":
    main()
