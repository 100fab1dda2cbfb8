"""Draw the built-in competition: photos, annotations and a solution."""

import os
from pathlib import Path

import click

from stages.cli import Command, params_option


@click.command(cls=Command)
@params_option
@click.option("--out", type=click.Path(path_type=Path), default="data/sample", show_default=True, help="The folder.")
def main(params_path: Path, out: Path) -> None:
    """Draw the built-in competition: photos, annotations and a solution."""
    from pipeline.params import load_params
    from pipeline.synthetic.sample import make_sample

    sample = load_params(params_path).sample
    size = {"train_faces": sample.train_faces, "test_faces": sample.test_faces}
    make_sample(out, **size, seed=sample.seed, jobs=os.cpu_count() or 1)
    click.echo(f"{out}: {sample.train_faces} train and {sample.test_faces} test faces")


if __name__ == "__main__":
    main()
