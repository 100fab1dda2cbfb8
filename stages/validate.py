"""Validate a data set."""

from dataclasses import replace
from pathlib import Path

import click

from stages.cli import Command, params_option


@click.command(cls=Command)
@click.option("--root", help="The data folder.  [default: data.root of the params]")
@click.option("--train", help="In it, the faces with points: a file, folder or pattern.  [default: data.train]")
@click.option("--test", help="The faces to predict.  [default: data.test; none where --root, --train given]")
@click.option("--skeleton", help="The points of its faces.  [default: data.skeleton; any where --root, --train given]")
@click.option("--format", help="Of the annotations.  [default: data.format; auto where --root, --train given]")
@params_option
def main(
    root: str | None, train: str | None, test: str | None, skeleton: str | None, format: str | None, params_path: Path,
) -> None:
    """List every problem of a data set, and count what is unusual but valid.

    Exits with 1 where there is a problem. `--root DIR --train FILE` checks a data set without any params.
    """
    from pipeline.common.errors import UserError
    from pipeline.data.annotations import Layout
    from pipeline.data.validation import validate_files
    from pipeline.keypoints.skeleton import get_skeleton
    from pipeline.params import load_params

    points, layout, grouped = get_skeleton(skeleton) if skeleton else None, Layout(), False
    absent: list[str] = []
    if root is None or train is None:
        params = load_params(params_path)
        data, grouped = params.data, params.split.photo_pattern is not None
        if params.sample.sets and root is None and not Path(data.root).is_dir():
            raise UserError(f"{data.root}: params.yaml is the sample's, which is not drawn yet: `dvc repro` draws it; "
                            "`python -m stages.init` writes the params of your own data")
        root, train, test = root or data.root, train or data.train, test or data.test
        points = points or data.skeleton
        layout, absent = data.layout(), data.absent()
    reports = validate_files(Path(root), train, test, points, replace(layout, format=format or layout.format))
    for report in reports:
        click.echo(f"{report.file}: {report.faces} faces in {report.images} images, {len(report.problems)} problems")
        click.echo("  worth a look, but no errors:")
        for note, count in report.notes.items():
            click.echo(f"  {count:6} {note}")
        if report.advice and not grouped:
            click.echo(f"  note: {report.advice}")
    if problems := [problem for report in reports for problem in report.problems] + absent:
        raise UserError(*problems)


if __name__ == "__main__":
    main()
