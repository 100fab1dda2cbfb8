"""Compare experiments fold by fold."""

from pathlib import Path

import click

from stages.cli import Command


@click.command(cls=Command)
@click.argument("experiments", nargs=-1, metavar="[WHERE[:MODEL]]...")
@click.option("--model", "models", multiple=True, help="Compare only this model (may be given more than once).")
@click.option("--md", "form", flag_value="markdown", help="Print the tables in Markdown.")
@click.option("--json", "form", flag_value="json", help="Print every number as JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the differences, too.")
def main(experiments: tuple[str, ...], models: tuple[str, ...], form: str | None, plot: Path | None) -> None:
    """Compare the first experiment with each of the others: MAE and NME of every fold, out of fold, side by side.

    WHERE is a git revision, a DVC experiment, or a folder that holds `runs` as the workspace does; nothing or a dot
    is the workspace. One experiment is compared with the workspace; none: the workspace with HEAD.

    Without MODEL each model that both have is compared, and the ensembles. With it, other models can be: `:resnet
    :unet` are two models of the workspace, `:ensemble HEAD:ensemble` its ensemble and that of the last commit.

    Each difference comes with a 95% interval, from 2000 draws of the groups. Where it holds 0, no difference is
    shown.
    """
    from json import dumps
    from tempfile import TemporaryDirectory

    from pipeline.evaluation.compare import as_json, compare, format_comparison, panels
    from pipeline.evaluation.experiments import open_experiment, parse_side

    sides = [parse_side(text) for text in (experiments if len(experiments) > 1 else ("", *(experiments or ("HEAD",))))]
    found = []
    with TemporaryDirectory() as folder:
        loaded = {where: open_experiment(where, Path(folder, str(number)))
                  for number, where in enumerate(dict.fromkeys(where for where, _ in sides))}
        (where, model), *others = sides
        for other_where, other_model in others:
            own, other = model or other_model, other_model or model
            pair = [(own, other)] if own and other else [(name, name) for name in models]
            found += compare(loaded[where], loaded[other_where], pair)
    if plot:
        from pipeline.plots.charts import draw_differences

        draw_differences(plot, panels(found))
    click.echo(dumps([as_json(one) for one in found], indent=2) if form == "json" else
               "\n\n".join(format_comparison(one, "markdown" if form else "text") for one in found))


if __name__ == "__main__":
    main()
