"""Pack a finished run for annotating elsewhere."""

from pathlib import Path

import click

from stages.cli import Command, params_option, trained_annotator


@click.command(cls=Command)
@click.option("--model", help="Only this model.  [default: the ensemble]")
@click.option("--fold", type=int, help="Only this fold of --model.  [default: all its folds]")
@click.option("--out", type=click.Path(path_type=Path), default="package", show_default=True, help="The folder.")
@click.option("--about", default="", help="What people should know: the data, their licence.")
@params_option
def main(model: str | None, fold: int | None, out: Path, about: str, params_path: Path) -> None:
    """Write a folder with all that `stages.annotate --from` needs, and no data.

    It holds JSON and safetensors only: networks, blend, shape correction, skeleton, the geometry of the crops.
    """
    from pipeline.inference.package import write_package
    from pipeline.params import load_params

    params = load_params(params_path)
    annotator = trained_annotator(params, model, fold)
    files = write_package(out, annotator, params.train.device, params.train.precision, about)
    size = sum((out / name).stat().st_size for name in files)
    click.echo(f"{out}: {', '.join(annotator.members)}; {len(files)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
