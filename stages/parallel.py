"""Train and predict every stale fold, several at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from stages.cli import Command

CAUSE = r"error: |[\w.]+(Error|Exception)\b"  # start of our own message, or of the last line of a traceback


@click.command(cls=Command)
@click.option("--jobs", type=click.IntRange(1),
              help="Folds at once.  [default: one a GPU, else cores over train.threads]")
@click.option("--gpus", default="", help="GPUs to deal out, as in 0,1; more jobs than GPUs share them.")
@click.option("--backend", type=click.Choice(["loky", "ray", "dask"]), default="loky", show_default=True,
              help="This machine (loky), or a cluster.")
@click.option("--address", help="Of a running Ray cluster or Dask scheduler.  [default: started here]")
def main(jobs: int | None, gpus: str, backend: str, address: str | None) -> None:
    """Do what `dvc repro` does, with the folds of all models in parallel.

    First whatever comes before training, then each stale fold (train, predict) as a `dvc repro` of its own, likewise
    those of the models on aligned crops, then the rest. A fold that fails stops neither the others nor is forgotten:
    the command names it at the end.
    """
    from pipeline.common.errors import UserError
    from pipeline.common.parallel import Item, last_line, run_all
    from pipeline.params import load_params
    from stages.unlock import remove_stale_lock

    remove_stale_lock()
    params = load_params(Path("params.yaml"))
    threads, cores = params.train.threads, os.cpu_count() or 1
    names = [gpu.strip() for gpu in gpus.split(",") if gpu.strip()]
    fitting = max(cores // (threads or 1), 1)
    jobs = jobs or len(names) or fitting
    if threads and jobs > fitting and not names:
        click.echo(f"--jobs {jobs}: {cores} cores have room for {fitting} of train.threads: {threads} each, "
                   f"more slow each other down; 0 gives each fold its share", err=True)
    for before, kind in [("split", ""), ("align", "-aligned")][: 2 if params.align.models else 1]:
        _dvc("repro", before)
        stale = json.loads(_dvc("status", "--json", f"train{kind}", f"predict{kind}", capture=True))
        folds = sorted({stage.partition("@")[2] for stage in stale})
        items = [
            Item(
                name=fold, log=Path("logs") / f"{fold}.log",
                command=("dvc", "--wait-for-lock", "repro", "-s", f"train{kind}@{fold}", f"predict{kind}@{fold}"),
            )
            for fold in folds
        ]
        outcomes = run_all(items, jobs=min(jobs, max(len(items), 1)), backend=backend, address=address, gpus=names)
        failed = sorted((end for end in outcomes if end.exit_code), key=lambda end: end.item.name)
        if failed:
            raise UserError(*[f"{end.item.name}: exit code {end.exit_code}; see {end.item.log}: "
                              f"{last_line(end.item.log, CAUSE) or last_line(end.item.log)}" for end in failed])
    _dvc("repro")


def _dvc(*arguments: str, capture: bool = False) -> str:
    """Run DVC; its own messages are the user's."""
    from pipeline.common.parallel import environment

    ended = subprocess.run([sys.executable, "-m", "dvc", *arguments], env=environment(), check=False, text=True,
                           stdout=subprocess.PIPE if capture else None)
    if ended.returncode:
        sys.exit(ended.returncode)
    return ended.stdout or ""


if __name__ == "__main__":
    main()
