"""Write trained models as ONNX files."""

from dataclasses import replace
from pathlib import Path

import click

from stages.cli import Command, params_option, trained_annotator


@click.command(cls=Command)
@click.option("--model", help="Only this model.  [default: the ensemble]")
@click.option("--fold", type=int, help="Only this fold of --model.  [default: the mean of its folds]")
@click.option("--precision", type=click.Choice(["float32", "float16"]), default="float32", show_default=True,
              help="Of the networks; the points stay in float32.")
@click.option("--tta/--no-tta", default=True, help="Test-time augmentation as in the params, or none.  [default: tta]")
@click.option("--out", type=click.Path(path_type=Path), default="export", show_default=True, help="The folder.")
@click.option("--about", default="", help="What people should know: the data, their licence.")
@params_option
def main(
    model: str | None, fold: int | None, precision: str, tta: bool, out: Path, about: str, params_path: Path
) -> None:
    """Write the ensemble, or one model, as ONNX files that need neither torch nor this project.

    ensemble.onnx (or MODEL.onnx) takes crops to points in image pixels; where it sees upright crops, locator.onnx
    places them. The files are compared with torch on 100 test faces. docs/export.md has a program that uses them.
    """
    from pipeline.data.annotations import formats
    from pipeline.inference.export import choose_faces, write_export
    from pipeline.models.device import make_runtime
    from pipeline.params import load_params

    params = load_params(params_path)
    data, runtime = params.data, make_runtime("cpu", "float32", params.train.threads)
    annotator = replace(trained_annotator(params, model, fold), runtime=runtime)
    if not tta:
        annotator = replace(annotator, tta=replace(annotator.tta, flip=False, shift_tta=False), intervals=None)
    parts = formats.read_parts(Path(data.root), data.train, data.test, data.layout())
    faces = choose_faces(parts["test"] if len(parts["test"]) else parts["train"])
    lines = write_export(out, annotator, root=Path(data.root), faces=faces, precision=precision, about=about)
    click.echo("\n".join([f"{out}, {precision}:", *lines]))


if __name__ == "__main__":
    main()
