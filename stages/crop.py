"""Cut every face from its image into the crop store."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option

BOXES = {"photo": "the whole image", "points": "a tight box around their points"}


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Cut every face from its image into data/crops/{train,test}."""
    from pipeline.common.errors import UserError
    from pipeline.data.annotations import formats
    from pipeline.data.crops import write_crops
    from pipeline.params import load_params

    params, crops = load_params(params_path), PATHS.crops
    data, root = params.data, Path(params.data.root)
    if absent := data.absent():  # said here, not after all training
        raise UserError(*absent)
    parts = formats.read_parts(root, data.train, data.test, data.layout(), data.excluded())
    for part, annotations in parts.items():
        report = write_crops(annotations, root, crops / part, params.crop, data.label_offset())
        click.echo(f"{crops / part}: {len(annotations)} faces")
        if annotations.boxes_made:
            click.echo(f"  {annotations.boxes_made} of them without a box of their own; they get {BOXES[data.box]}")
        for note, count in annotations.notes.items():
            click.echo(f"  {count} {note}")
        if report.doubts:
            click.echo(f"  {len(report.doubts)} doubtful labels or boxes; `python -m stages.validate` names them")


if __name__ == "__main__":
    main()
