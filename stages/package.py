"""Pack a finished run for annotating elsewhere."""

from pathlib import Path

import click

from stages.cli import PATHS, Command, params_option, trained_annotator


@click.command(cls=Command)
@click.option("--model", help="Only this model.  [default: the ensemble]")
@click.option("--fold", type=int, help="Only this fold of --model.  [default: all its folds]")
@click.option("--out", type=click.Path(path_type=Path), default="package", show_default=True, help="The folder.")
@click.option("--about", default="", help="What people should know: the data, their licence.")
@params_option
def main(model: str | None, fold: int | None, out: Path, about: str, params_path: Path) -> None:
    """Write a folder with all that `stages.annotate --from` needs, and no data.

    It holds JSON and safetensors only: networks, blend, shape correction, intervals, skeleton, the geometry of the
    crops; and a README with the out-of-fold scores.
    """
    from pipeline.data.store import CropStore
    from pipeline.inference.ensemble import model_points
    from pipeline.inference.package import write_package
    from pipeline.inference.predictions import Predictions
    from pipeline.keypoints.metrics import mae, nme
    from pipeline.params import load_params

    params, notes = load_params(params_path), [about] * bool(about)
    annotator = trained_annotator(params, model, fold)
    if fold is None and (PATHS.crops / "train" / "store.json").is_file():
        truth, eyes = CropStore.open(PATHS.crops / "train").truth, params.data.skeleton.eyes
        if model:
            points = model_points(PATHS, model, params.split.folds, "oof")
        else:
            points = Predictions.load(PATHS.ensemble / "oof.npz").by_face().points
        error = f", NME {nme(points, truth, eyes):.2f}%" if eyes else ""
        notes.insert(0, f"Out-of-fold MAE {mae(points, truth):.3f} px{error}, {len(truth)} faces.")
    files = write_package(out, annotator, params.train.device, params.train.precision, notes)
    size = sum((out / name).stat().st_size for name in files)
    click.echo(f"{out}: {', '.join(annotator.members)}; {len(files)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
