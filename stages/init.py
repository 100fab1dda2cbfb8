"""Write params.yaml for a data set of one's own."""

from pathlib import Path

import click

from stages.cli import Command
from stages.preset import PRESETS


@click.command(cls=Command)
@click.argument("photos", type=click.Path(path_type=Path), metavar="PHOTOS")
@click.argument("annotations", type=click.Path(path_type=Path), metavar="ANNOTATIONS")
@click.option("--test", type=click.Path(path_type=Path), metavar="ANNOTATIONS", help="The faces to predict.")
@click.option("--out", type=click.Path(path_type=Path), default="params.yaml", show_default=True, help="The file.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def main(photos: Path, annotations: Path, test: Path | None, out: Path, force: bool) -> None:
    """Look at the folder PHOTOS and the file (or folder) ANNOTATIONS, and write all parameters for them.

    Says what it recognises: format, faces, points, boxes, skeleton, and what the photos' names tell. A params file that
    is there is kept, unless it is the one that comes with the project, or with --force.
    """
    from pipeline.common.errors import UserError
    from pipeline.common.files import write_text
    from pipeline.data.proposal import propose
    from pipeline.presets import DEFAULT, compose, compose_preset, load_default

    if out.exists() and not force and out.read_text(encoding="utf-8") != compose_preset(PRESETS, DEFAULT):
        raise UserError(f"{out}: exists, and is not the default's; --force replaces it, --out FILE writes another")
    changes, lines, notes = propose(photos, annotations, test, load_default(PRESETS))
    for line in lines:
        click.echo(line)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    write_text(out, compose(PRESETS, changes, "# A data set of one's own, as `python -m stages.init` found it.\n"))
    click.echo(f"{out}: written; next: python -m stages.validate, then dvc repro")


if __name__ == "__main__":
    main()
