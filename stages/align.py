"""Cut every face again, upright and to size, by the points that a first model found."""

from pathlib import Path

import click

from stages.cli import ALIGNED, CROPS, RUNS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Cut every face upright and to size into data/aligned/{train,test}, by the points of the model `align.by`.

    A train face is placed by its out-of-fold points, a test face by the mean of the folds.
    """
    from pipeline.data.align import first_points, mean_face, save_reference, write_aligned
    from pipeline.data.annotations import formats
    from pipeline.data.store import CropStore
    from pipeline.params import load_params

    params = load_params(params_path)
    data, align, root = params.data, params.align, Path(params.data.root)
    if not align.by:
        raise click.UsageError("align.by is []: there is no model whose points could place the crops")
    flip_indices = data.get_skeleton().flip
    reference = mean_face(CropStore.open(CROPS / "train").keypoints, flip_indices)
    save_reference(ALIGNED, reference)
    points = first_points(RUNS, align.by[0], params.split.folds)
    for part, annotations in formats.read_parts(root, data.train, data.test, **data.layout()).items():
        write_aligned(annotations, root, ALIGNED / part, points[part], reference, **params.aligned_crop(),
                      **data.label_offset())
        click.echo(f"{ALIGNED / part}: {len(annotations)} faces, placed by {align.by[0]}")


if __name__ == "__main__":
    main()
