"""A study: several runs in one table (mean ± sd over folds) and one plot, from the files that each run left."""

import json
from pathlib import Path

import click
import pandas as pd

from pipeline.plots.charts import draw_curves


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("variants", nargs=-1, required=True)
def main(folder: Path, picture: Path, variants: tuple[str, ...]) -> None:
    """Print a table in Markdown and draw PICTURE.

    Each of VARIANTS is LABEL=RUN:MODEL: FOLDER/RUN holds the metrics.json and (reports/)curves.csv of a run that has
    MODEL.
    """
    curves = []
    click.echo("| | MAE, px | NME, % | images/s |\n|---|---|---|---|")
    for variant in variants:
        label, _, source = variant.rpartition("=")
        run, model = source.split(":")
        metrics = json.loads((folder / run / "metrics.json").read_text())
        history = pd.read_csv(folder / run / "curves.csv").query("model == @model")
        curves.append(history.assign(model=label, run=label + "/" + history.fold.astype(str)))
        scores = metrics["models"][model]
        speed = history.images_per_second.median()
        click.echo(f"| {label} | {_spread(scores, 'mae')} | {_spread(scores, 'nme')} | {speed:.0f} |")
    click.echo(f"| mean shape | {_spread(metrics['baseline'], 'mae')} | {_spread(metrics['baseline'], 'nme')} | |")
    draw_curves(picture, pd.concat(curves, ignore_index=True))


def _spread(scores: dict, name: str) -> str:
    mean, deviation = scores[f"{name}_mean"], scores[f"{name}_sd"]
    return "–" if mean is None else f"{mean:.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
