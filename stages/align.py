"""Cut every face again, upright and to size, by the points that a locator found."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Cut every face upright and to size into data/aligned/{train,test}, by the points of `align.locator`.

    A train face is placed by its out-of-fold points, a test face by the mean of the folds.
    """
    from pipeline.data.align import mean_face, save_reference, write_aligned
    from pipeline.data.annotations import formats
    from pipeline.data.store import CropStore
    from pipeline.inference.ensemble import model_points
    from pipeline.params import load_params

    params, paths = load_params(params_path), PATHS
    data, align, root = params.data, params.align, Path(params.data.root)
    if not align.locator:
        raise click.UsageError("align.locator is []: there is no model whose points could position the crops")
    reference = mean_face(CropStore.open(paths.crops / "train").truth, data.skeleton.flip)
    save_reference(paths.aligned, reference)
    parts = formats.read_parts(root, data.train, data.test, data.layout(), data.excluded())
    for part, annotations in parts.items():
        points = model_points(paths, align.locator[0], params.split.folds, {"train": "oof", "test": "test"}[part])
        write_aligned(annotations, root, paths.aligned / part, points, reference, params.aligned_crop(),
                      data.label_offset())
        click.echo(f"{paths.aligned / part}: {len(annotations)} faces, positioned by {align.locator[0]}")


if __name__ == "__main__":
    main()
