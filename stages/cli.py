"""Options, paths and error messages that the commands share."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.common.errors import UserError, explain, summarise
from pipeline.common.paths import Paths

if TYPE_CHECKING:
    from pipeline.inference.annotate import Annotator
    from pipeline.params import Params

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for torch: spinning threads collapse beside other work

PATHS = Paths()


def crops_folder(params: "Params", model: str) -> Path:
    """Choose the crops that a model sees; a UserError where they were cut with other params."""
    from dataclasses import asdict

    from pipeline.data.store import check_geometry

    aligned = model in params.align.models
    folder, geometry = (PATHS.aligned, params.aligned_crop()) if aligned else (PATHS.crops, params.crop)
    check_geometry(folder / "train", asdict(geometry))
    return folder


def trained_annotator(params: "Params", model: str | None = None, fold: int | None = None) -> "Annotator":
    """Gather what is trained in this folder: the ensemble, or only one model or one fold of it.

    There are intervals of the ensemble alone, where the train faces are at hand.
    """
    from dataclasses import replace

    from pipeline.data.align import load_reference
    from pipeline.data.store import CropStore
    from pipeline.inference.annotate import Annotator, Cascade, choose_members
    from pipeline.inference.boxes import are_whole_photos
    from pipeline.inference.intervals import Intervals
    from pipeline.inference.predictions import Predictions
    from pipeline.models.device import make_runtime

    if model is not None:
        params.model(model)
    if fold is not None:
        params.fold(fold)
    members, blend = choose_members(PATHS, params.members, params.split.folds, model=model, fold=fold)
    cascade, align = None, params.align
    if set(members) & set(align.models):
        cascade = Cascade(
            models=align.models, locator=align.locator[0],
            runs=[PATHS.run(align.locator[0], one) for one in params.split.folds],
            reference=load_reference(PATHS.aligned), geometry=params.aligned_crop(),
        )
    train, intervals = None, None
    if (PATHS.crops / "train" / "store.json").is_file():
        train = CropStore.open(PATHS.crops / "train")
    if train and model is None:  # they are those of the ensemble
        oof = Predictions.load(PATHS.ensemble / "oof.npz").by_face()
        intervals = replace(Intervals.fit(oof, train.truth, train.faces, params.submit.coverage), factor={})
    return Annotator(
        members=members, blend=blend, skeleton=params.data.skeleton, geometry=params.crop, cascade=cascade,
        runtime=make_runtime(params.train.device, params.train.precision), tta=params.predict,
        intervals=intervals, whole_photos=train is not None and are_whole_photos(train.faces),
    )


params_option = click.option(
    "--params", "params_path", type=click.Path(path_type=Path), default="params.yaml", show_default=True,
    help="The file with every parameter.",
)
model_option = click.option("--model", help="A name under `models` in the params.  [default: the first member]")
fold_option = click.option("--fold", type=int, required=True, help="The fold to hold out, one of split.folds.")


class Command(click.Command):
    """A Click command that turns a UserError, or one of the system, into messages on stderr and exit code 1.

    With --quiet nothing else is shown, neither by the command nor by what it starts.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += [click.Option(["-q", "--quiet"], is_flag=True, help="Show errors only."),
                        click.Option(["-v", "--verbose"], is_flag=True, help="Show where in the code an error arose.")]

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; it ends with the DVC that runs it."""
        from pipeline.common.processes import end_with_owners

        quiet, verbose = ctx.params.pop("quiet"), ctx.params.pop("verbose")
        end_with_owners()
        try:
            with _silence() if quiet else nullcontext():
                return super().invoke(ctx)
        except UserError as error:
            if verbose:
                traceback.print_exc()
            if summary := summarise(error.problems):
                click.echo(summary, err=True)
            for problem in error.problems:
                click.echo(f"error: {problem}", err=True)
            sys.exit(1)
        except BrokenPipeError:  # of what reads our output; Click ends quietly
            raise
        except OSError as error:
            click.echo(f"error: {explain(error)}", err=True)
            sys.exit(1)


@contextmanager
def _silence() -> Iterator[None]:
    """Close stdout for good, that of child processes too, and turn away what Python writes to stderr meanwhile."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        os.dup2(nowhere.fileno(), 1)
        yield
