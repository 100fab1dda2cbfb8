"""Find the points of faces in any photos."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PHOTO...")
@click.option("--boxes", "boxes_file", type=click.Path(path_type=Path), metavar="FILE",
              help="CSV with image,left,top,width,height, a row a face; or any annotation file with boxes.")
@click.option("--box", "boxes", multiple=True, metavar="LEFT,TOP,WIDTH,HEIGHT",
              help="A box of the only photo; may be repeated.")
@click.option("--model", help="Only this model.  [default: the ensemble]")
@click.option("--fold", type=int, help="Only this fold of --model.  [default: the mean of its folds]")
@click.option("--out", type=click.Path(path_type=Path), default="annotated", show_default=True, help="The folder.")
@params_option
def main(
    photos: tuple[Path, ...], boxes_file: Path | None, boxes: tuple[str, ...], model: str | None, fold: int | None,
    out: Path, params_path: Path,
) -> None:
    """Write the points of the faces in photos as points.csv and points.xml, and draw a picture of each photo.

    Without --boxes and --box dlib's detector finds the faces (`pip install -e '.[detect]'`). A photo in which it finds
    none is named and left out; the exit code is 1 where it finds none at all. Params must be those of the training.
    """
    from pipeline.data.align import load_reference
    from pipeline.inference.annotate import Annotator, Cascade, annotate, choose_members
    from pipeline.inference.boxes import find_boxes
    from pipeline.models.device import make_runtime
    from pipeline.params import load_params

    params, paths = load_params(params_path), PATHS
    if model is not None:
        params.model(model)
    if fold is not None:
        params.fold(fold)
    members, blend = choose_members(paths, params.members, params.split.folds, model=model, fold=fold)
    cascade, align = None, params.align
    if set(members) & set(align.models):
        cascade = Cascade(
            models=align.models, locator=align.locator[0],
            runs=[paths.run(align.locator[0], one) for one in params.split.folds],
            reference=load_reference(paths.aligned), geometry=params.aligned_crop(),
        )
    found, notes = find_boxes(photos, boxes, boxes_file)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    files = annotate(out, found, Annotator(
        members=members, blend=blend, skeleton=params.data.skeleton, geometry=params.crop, cascade=cascade,
        runtime=make_runtime(params.train.device, params.train.precision), tta=params.predict,
    ))
    for photo, file in zip(found, files, strict=False):
        click.echo(f"{file}: {len(found[photo])} faces")
    click.echo(f"{files[-2]}, {files[-1]}")


if __name__ == "__main__":
    main()
