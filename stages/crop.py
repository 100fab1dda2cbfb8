"""Cut every face from its photo into the crop store."""

from pathlib import Path

import click

from stages.cli import CROPS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Cut every face from its photo into data/crops/{train,test}."""
    from pipeline.annotations import dlib_xml
    from pipeline.crops import write_crops
    from pipeline.params import load_params
    from pipeline.skeleton import get_skeleton

    params = load_params(params_path)
    root = Path(params.data.root)
    num_points = get_skeleton(params.data.skeleton).num_points
    parts = {
        "train": dlib_xml.read(root / params.data.train, num_points),
        "test": dlib_xml.read(root / params.data.test, None),
    }
    for part, annotations in parts.items():
        write_crops(annotations, root, CROPS / part, **params.crop.model_dump())
        click.echo(f"{CROPS / part}: {len(annotations)} faces")


if __name__ == "__main__":
    main()
