"""Find the points of faces in any photos."""

from pathlib import Path

import click

from stages.cli import ALIGNED, ENSEMBLE, RUNS, Command, params_option, run_folder


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
    from pipeline.inference.annotate import SecondLook, annotate, choose_members
    from pipeline.inference.boxes import find_boxes
    from pipeline.params import load_params

    params = load_params(params_path)
    if model is not None:
        params.model(model)
    if fold is not None:
        params.fold(fold)
    members, blend = choose_members(
        RUNS, ENSEMBLE, params.members, params.split.folds, model=model, fold=fold)
    second, align = None, params.align
    if set(members) & set(align.models):
        second = SecondLook(
            models=align.models, by=align.by[0], runs=[run_folder(align.by[0], one) for one in params.split.folds],
            reference=load_reference(ALIGNED), crop=params.aligned_crop(),
        )
    found, notes = find_boxes(photos, boxes, boxes_file)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    files = annotate(
        out, found, members, blend, skeleton=params.data.get_skeleton(), crop=params.crop.model_dump(),
        second=second, device=params.train.device, precision=params.train.precision, **params.predict.model_dump(),
    )
    for photo, file in zip(found, files, strict=False):
        click.echo(f"{file}: {len(found[photo])} faces")
    click.echo(f"{files[-2]}, {files[-1]}")


if __name__ == "__main__":
    main()
