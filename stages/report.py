"""Draw the report."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option
from stages.preset import PRESETS


@click.command(cls=Command)
@click.option("--against", metavar="WHERE[:MODEL]",
              help="Write reports/against.html in its place, beside another experiment; see stages.compare.")
@params_option
def main(against: str | None, params_path: Path) -> None:
    """Write reports/index.html, a page that needs no other file, and the suspected label errors beside it."""
    from pipeline.data.store import CropStore
    from pipeline.evaluation import provenance
    from pipeline.evaluation.compare import compare_workspace
    from pipeline.evaluation.intervals import read_review
    from pipeline.evaluation.report import Member, Run, write_report
    from pipeline.evaluation.results import build_metrics, load_history, load_results
    from pipeline.params import load_params

    other = compare_workspace(against) if against else None
    params, paths = load_params(params_path), PATHS
    data, names = params.data, (params.trained, params.split.folds)
    solution = Path(data.root) / data.solution if data.solution else None
    results = load_results(paths, params.trained, params.members, params.split.folds, solution)
    shown = (results.train, results.test)
    if params.align.models:
        shown = (CropStore.open(paths.aligned / "train"), CropStore.open(paths.aligned / "test"))
    members = {
        model: Member(run=paths.run(model, params.split.folds[0]),
                      store=shown[0] if model in params.align.models else results.train,
                      augmentation=params.recipe(model).augmentation)
        for model in params.trained
    }
    click.echo(write_report(paths.reports / ("against.html" if other else "index.html"), Run(
        results=results, metrics=build_metrics(results, data.skeleton.eyes), history=load_history(paths, *names),
        skeleton=data.skeleton, shown=shown, members=members, review=read_review(Path(params.submit.review)),
        facts=provenance.describe_run(paths, results), times=provenance.training_times(paths, *names),
        changes=provenance.changed_params(PRESETS, params_path), root=Path(data.root), other=other,
    )))


if __name__ == "__main__":
    main()
