"""Error against cost: what a minute of a core buys, from the files that each run left."""

import json
from pathlib import Path

import click
import pandas as pd
from matplotlib import pyplot as plt

from pipeline.plots.charts import save


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("variants", nargs=-1, required=True)
def main(folder: Path, picture: Path, variants: tuple[str, ...]) -> None:
    """Print a table in Markdown and draw PICTURE: out-of-fold NME against the core-minutes that one fold trains.

    Each of VARIANTS is LABEL=RUN:MODEL@CORES; FOLDER/RUN holds the metrics.json and the (reports/)curves.csv of a run
    that has MODEL. What is trained before it is joined by a plus, and the last is scored. In place of CORES,
    17min says the core-minutes of a run whose curves are gone.
    """
    rows = []
    for variant in variants:
        label, _, parts = variant.rpartition("=")
        parts = [part.replace("@", ":").split(":") for part in parts.split("+")]
        scores = json.loads((folder / parts[-1][0] / "metrics.json").read_text())["models"][parts[-1][1]]
        minutes = sum(_minutes(folder / run / "curves.csv", model, cores) for run, model, cores in parts)
        rows.append((label, minutes, scores["nme_mean"], scores["nme_sd"]))
    click.echo("| | core-minutes a fold | NME, % |\n|---|---|---|")
    for label, minutes, mean, deviation in rows:
        click.echo(f"| {label} | {minutes:.1f} | {mean:.3f} ± {deviation:.3f} |")
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for number, (label, minutes, mean, deviation) in enumerate(rows):
        axis.errorbar(minutes, mean, deviation, fmt="o", capsize=3)
        close = any(abs(minutes / row[1] - 1) < 0.2 and abs(mean / row[2] - 1) < 0.05 for row in rows[:number])
        place = {"xytext": (-7, -13), "ha": "right"} if close else {"xytext": (7, 5)}
        axis.annotate(label, (minutes, mean), **place, textcoords="offset points", fontsize=9)
    axis.set(xscale="log", yscale="log", xlabel="core-minutes to train one fold", ylabel="out-of-fold NME, %",
             xlim=(min(row[1] for row in rows) * 0.8, max(row[1] for row in rows) * 3))
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter("{x:g}")
        direction.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.25, which="both")
    save(figure, picture)


def _minutes(curves: Path, model: str, cores: str) -> float:
    """Core-minutes that a fold of a model trained, on average."""
    if cores.endswith("min"):
        return float(cores.removesuffix("min"))
    history = pd.read_csv(curves).query("model == @model")
    return float(cores) * history.groupby("fold").seconds.sum().mean() / 60


if __name__ == "__main__":
    main()
