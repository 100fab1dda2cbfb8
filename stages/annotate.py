"""Find the points of faces in any photos."""

from pathlib import Path
from typing import Any

import click

from stages.cli import Command, params_option, trained_annotator


@click.command(cls=Command)
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PHOTO...")
@click.option("--boxes", "boxes_file", type=click.Path(path_type=Path), metavar="FILE",
              help="CSV with image,left,top,width,height, a row a face; or any annotation file with boxes.")
@click.option("--box", "boxes", multiple=True, metavar="LEFT,TOP,WIDTH,HEIGHT",
              help="A box of the only photo; may be repeated.")
@click.option("--model", help="Only this model.  [default: the ensemble]")
@click.option("--fold", type=int, help="Only this fold of --model.  [default: the mean of its folds]")
@click.option("--from", "package", type=click.Path(path_type=Path), metavar="PACKAGE",
              help="What `stages.package` wrote, in place of params and what is trained here.")
@click.option("--out", type=click.Path(path_type=Path), default="annotated", show_default=True, help="The folder.")
@params_option
def main(
    photos: tuple[Path, ...], boxes_file: Path | None, boxes: tuple[str, ...], package: Path | None, out: Path,
    params_path: Path, **chosen: Any,
) -> None:
    """Write the points of the faces in photos as points.csv and points.xml, and draw a picture of each photo.

    Without --boxes and --box dlib's detector finds the faces (`pip install -e '.[detect]'`). A photo in which it finds
    none is named and left out; the exit code is 1 where it finds none at all. Models that were trained on whole photos
    take each photo as one face, and no boxes. Params must be those of the training; --from needs none.
    """
    from pipeline.inference.annotate import annotate
    from pipeline.inference.boxes import find_boxes
    from pipeline.inference.package import load_package
    from pipeline.params import load_params

    if package and chosen != {"model": None, "fold": None}:
        raise click.UsageError("--from asks all that is packed: give --model and --fold to stages.package")
    annotator = load_package(package) if package else trained_annotator(load_params(params_path), **chosen)
    found, notes = find_boxes(photos, boxes, boxes_file, whole_photos=annotator.whole_photos)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    files = annotate(out, found, annotator)
    for photo, file in zip(found, files, strict=False):
        click.echo(f"{file}: {len(found[photo])} faces")
    click.echo(f"{files[-2]}, {files[-1]}")


if __name__ == "__main__":
    main()
