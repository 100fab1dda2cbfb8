"""Find boxes for the faces of a data set."""

from dataclasses import replace
from pathlib import Path

import click

from stages.cli import Command


@click.command(cls=Command)
@click.argument("photos", type=click.Path(path_type=Path), metavar="PHOTOS")
@click.argument("annotations", type=click.Path(path_type=Path), metavar="ANNOTATIONS")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.csv")
def main(photos: Path, annotations: Path, out: Path) -> None:
    """Copy ANNOTATIONS to OUT.csv with a box for each face that has none, found in PHOTOS by dlib's detector.

    Faces that it misses are named, and get the median box. OUT.csv is for `stages.init`; put it into the data's folder.
    """
    import numpy as np

    from pipeline.common.errors import UserError
    from pipeline.common.files import write_text
    from pipeline.common.tables import count_of
    from pipeline.data.annotations import BOX
    from pipeline.data.proposal import data_folder, look
    from pipeline.inference.annotate import to_csv
    from pipeline.inference.detect import detect_boxes

    if out.exists() and out.samefile(annotations):
        raise UserError(f"{out}: is the file of the annotations; choose another OUT.csv")
    root = data_folder(photos, [annotations])
    found = look(root, photos, annotations)
    if found.problems:
        raise UserError(*found.problems)
    faces, without = found.annotations, found.boxless
    if not without or faces.images:
        raise UserError(f"{annotations}: " + ("all faces have boxes" if not without else "its images are faces alone"))
    boxes, missed = detect_boxes(faces, root)
    for row in faces.faces[missed].itertuples():
        click.echo(f"note: {row.where}: no face found in {row.image}", err=True)
    boxed = replace(faces, faces=faces.faces.assign(**dict(zip(BOX, boxes.T, strict=True))).reset_index(drop=True))
    points = np.empty((len(faces), 0, 2)) if faces.keypoints is None else faces.keypoints
    write_text(out, to_csv(boxed, points))
    click.echo(f"{out}: {without - missed.sum()} of {count_of(without, 'face')} found; next: python -m stages.init "
               f"{photos} {out}")


if __name__ == "__main__":
    main()
