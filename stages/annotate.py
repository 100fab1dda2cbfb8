"""Find the points of faces in any photos."""

import time
from pathlib import Path
from typing import Any

import click

from stages.cli import Command, params_option, trained_annotator


@click.command(cls=Command)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...")
@click.option("--boxes", "boxes_file", type=click.Path(path_type=Path), metavar="FILE",
              help="CSV with image,left,top,width,height, a row a face; or any annotation file with boxes.")
@click.option("--box", "boxes", multiple=True, metavar="LEFT,TOP,WIDTH,HEIGHT",
              help="A box of the only photo; may be repeated.")
@click.option("--model", help="Only this model.  [default: the ensemble]")
@click.option("--fold", type=int, help="Only this fold of --model.  [default: the mean of its folds]")
@click.option("--from", "package", type=click.Path(path_type=Path), metavar="PACKAGE",
              help="What `stages.package` wrote, in place of params and what is trained here.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Of a video, every n-th frame.")
@click.option("--frames", type=click.IntRange(1), help="At most so many of each video.  [default: all; webcam: 100]")
@click.option("--out", type=click.Path(path_type=Path), default="annotated", show_default=True, help="The folder.")
@params_option
def main(
    photos: tuple[str, ...], boxes_file: Path | None, boxes: tuple[str, ...], package: Path | None, every: int,
    frames: int | None, out: Path, params_path: Path, **chosen: Any,
) -> None:
    """Write the points of the faces in photos as points.csv, points.xml (dlib) and points.json (COCO), and draw them.

    A PHOTO is an image, a folder of them, a video or the number of a webcam, whose frames go to OUT/frames.

    Without --boxes and --box dlib's detector finds the faces (`pip install -e '.[detect]'`). A photo in which it finds
    none is named and left out; the exit code is 1 where it finds none at all. Models that were trained on whole photos
    take each photo as one face, and no boxes. Params must be those of the training; --from needs none.
    """
    from pipeline.common.tables import count_of
    from pipeline.data.photos import find_photos
    from pipeline.inference.annotate import annotate
    from pipeline.inference.boxes import find_boxes
    from pipeline.inference.package import load_package
    from pipeline.params import load_params

    if package and chosen != {"model": None, "fold": None}:
        raise click.UsageError("--from asks all that is packed: give --model and --fold to stages.package")
    annotator = load_package(package) if package else trained_annotator(load_params(params_path), **chosen)
    start = time.perf_counter()
    images = find_photos(photos, out / "frames", every=every, limit=frames)
    found, notes = find_boxes(images, boxes, boxes_file, whole_photos=annotator.whole_photos)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    (files, radii), faces = annotate(out, found, annotator), sum(map(len, found.values()))
    seconds = time.perf_counter() - start
    click.echo(f"{out}: {count_of(faces, 'face')} in {count_of(len(found), 'photo')}, {faces / seconds:.1f} faces/s; "
               f"{', '.join(file.name for file in files[len(found):])} and a picture of each photo")
    if radii:
        click.echo(radii)


if __name__ == "__main__":
    main()
