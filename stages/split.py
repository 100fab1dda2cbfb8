"""Assign every face to a fold, keeping groups together."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option


@click.command(cls=Command)
@params_option
def main(params_path: Path) -> None:
    """Write data/folds.csv: image, group and fold of every train face. Faces of one group stay in one fold."""
    from pipeline.common.files import write_text
    from pipeline.data.folds import describe_uneven, fold_table
    from pipeline.data.split import describe_people, split_faces
    from pipeline.data.store import CropStore
    from pipeline.params import load_params

    split, paths = load_params(params_path).split, PATHS
    store = CropStore.open(paths.crops / "train")
    table = split_faces(store, **split.model_dump())
    write_text(paths.folds, table.to_csv(index=False))
    fold, group = table.fold.to_numpy(), table.group.to_numpy()
    people = describe_people(store.faces.image, fold) if split.photo_pattern is None else ""
    for note in filter(None, [describe_uneven(group, fold), people]):
        click.echo(f"note: {note}", err=True)
    click.echo(fold_table(fold, group, store.faces.source).to_string())


if __name__ == "__main__":
    main()
