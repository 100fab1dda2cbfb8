"""How fast each part is against the bare work it is made of, and how much memory it takes: writes RESULTS.md."""

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

import click
import cv2
import torch
from memory import measure_memory, measure_split
from speed import (
    measure_commands,
    measure_compile,
    measure_crop,
    measure_load,
    measure_loader,
    measure_precision,
    measure_predict,
    measure_training,
)

SECTIONS = {
    "training": measure_training, "loader": measure_loader, "crop": measure_crop, "predict": measure_predict,
    "commands": measure_commands, "load": measure_load, "precision": measure_precision, "compile": measure_compile,
    "memory": measure_memory, "split": measure_split,
}


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default="data/sample", show_default=True,
              help="A competition in dlib's XML: the photos to crop.")
@click.option("--train", "xml", default="train.xml", show_default=True, help="The XML with points, in DATA.")
@click.option("--repeats", type=click.IntRange(2), default=3, show_default=True, help="Of each measurement.")
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)), help="Measure this only, and write nothing.")
def main(data: Path, xml: str, repeats: int, only: tuple[str, ...]) -> None:
    """Measure and write benchmarks/RESULTS.md. Each ratio is of two things done in turns in this process."""
    text = [f"# Results\n\n`make bench`, {date.today()}, {_machine()}. Photos: `{data.name}`. Each ratio is the median "
            f"over {repeats} turns or more, its lowest and highest in brackets."]
    for name in only or SECTIONS:
        text.append(SECTIONS[name](data, xml, repeats))
        click.echo(text[-1] + "\n")
    if not only:
        Path(__file__).with_name("RESULTS.md").write_text("\n\n".join(text) + "\n")


def _machine() -> str:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").is_file() else [platform.processor()]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "albumentations", "numpy"))
    python = f"Python {platform.python_version()}, {packages}, OpenCV {cv2.__version__}"
    return f"{len(names)} cores of {names[0]}{gpu}; {python}"


if __name__ == "__main__":
    main()
