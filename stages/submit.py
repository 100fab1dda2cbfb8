"""Write the submission and check it, or check a file that is there."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@click.option("--check", "checked", type=click.Path(path_type=Path), metavar="FILE", help="Only check this file.")
@params_option
def main(checked: Path | None, params_path: Path) -> None:
    """Write the ensemble's test points in Kaggle's layout, and check the file: rows, order, numbers, image pixels.

    Beside it go a radius for each point (submit.intervals) and the faces to look at (submit.review).
    `--check FILE` needs nothing but the params and the test faces: data/crops/test, or else their annotations.
    """
    from pipeline.data.annotations import formats
    from pipeline.data.store import CropStore
    from pipeline.evaluation import lookup, submission
    from pipeline.evaluation.intervals import write_intervals
    from pipeline.params import load_params

    params, paths = load_params(params_path), PATHS
    data, path = params.data, checked or Path(params.submit.path)
    if checked is None or (paths.crops / "test" / "store.json").is_file():
        faces = CropStore.open(paths.crops / "test").faces
    elif data.test:
        faces = formats.read(Path(data.root), data.test, data.layout().for_test()).faces
    else:
        raise click.UsageError("data.test is null: there are no test faces that a submission could be checked against")
    table = None
    if params.submit.lookup:
        table = lookup.read_lookup(Path(data.root) / params.submit.lookup, faces.image, data.skeleton.names)
    if checked is None:
        train = CropStore.open(paths.crops / "train")
        oof = submission.read_predictions(paths.ensemble / "oof.npz", len(train))
        test = submission.read_predictions(paths.ensemble / "test.npz", len(faces))
        lookup.write(path, test.points, table) if table else submission.write(path, test.points)
    if checked is None and not len(faces):
        click.echo(f"{path}: nothing to submit, data.test names no faces; only the header is written")
    elif table:
        click.echo(lookup.check(path, faces, table))
    else:
        click.echo(submission.check(path, faces, data.skeleton.num_points))
    if checked is None:
        click.echo(write_intervals(
            Path(params.submit.intervals), Path(params.submit.review), oof=oof, test=test, train=train, faces=faces,
            coverage=params.submit.coverage,
        ))


if __name__ == "__main__":
    main()
