"""Write params.yaml from a preset."""

from pathlib import Path

import click

from stages.cli import Command

PRESETS = Path(__file__).parents[1] / "presets"


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
@click.option("--out", type=click.Path(path_type=Path), default="params.yaml", show_default=True, help="The file.")
def main(name: str, out: Path) -> None:
    """Write all parameters, with comments, as the preset NAME has them; the file is replaced.

    A preset, presets/NAME.yaml, holds what differs from the default, presets/sample.yaml.
    """
    from pipeline.common.files import write_text
    from pipeline.presets import compose_preset

    write_text(out, compose_preset(PRESETS, name))
    click.echo(f"{out}: preset {name}")


if __name__ == "__main__":
    main()
