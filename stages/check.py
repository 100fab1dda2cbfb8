"""Check params.yaml before any of it reaches a path or a command."""

from pathlib import Path

import click

from stages.cli import Command, params_option


@click.command(cls=Command)
@params_option
@click.option("--out", type=click.Path(path_type=Path), default="data/checked.txt", show_default=True, help="The file.")
def main(params_path: Path, out: Path) -> None:
    """Check the params and write a file that says so; DVC runs no other stage before.

    DVC puts names from the params into paths and commands, whatever they are, and a shell runs these.
    """
    from pipeline.common.files import write_text
    from pipeline.params import load_params

    load_params(params_path)
    write_text(out, "The params are valid.\n")
    click.echo(f"{params_path} is valid")


if __name__ == "__main__":
    main()
