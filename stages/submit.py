"""Write the submission and check it, or check a file that is there."""

from pathlib import Path

import click

from stages.cli import ENSEMBLE, Command, params_option


@click.command(cls=Command)
@click.option("--check", "checked", type=click.Path(path_type=Path), metavar="FILE", help="Only check this file.")
@params_option
def main(checked: Path | None, params_path: Path) -> None:
    """Write the ensemble's test points in Kaggle's layout, and check the file: rows, order, numbers, photo pixels.

    `--check FILE` needs nothing but the params and the test annotations.
    """
    from pipeline import submission
    from pipeline.annotations import dlib_xml
    from pipeline.params import load_params
    from pipeline.skeleton import get_skeleton

    params = load_params(params_path)
    if checked is None:
        checked = Path(params.submit.path)
        submission.write_predictions(checked, ENSEMBLE / "test.npz")
    faces = dlib_xml.read(Path(params.data.root) / params.data.test).faces
    click.echo(submission.check(checked, faces, get_skeleton(params.data.skeleton).num_points))


if __name__ == "__main__":
    main()
