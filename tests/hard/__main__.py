"""Run the hard tests: `python -m tests.hard`."""

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.conftest import ROOT, run_stages
from tests.hard.artefacts import try_artefacts
from tests.hard.inputs import try_annotations, try_params
from tests.hard.kills import try_kills, try_long, try_parallel
from tests.hard.tally import Tally

PARTS = ("inputs", "artefacts", "kills", "long")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(PARTS), default=PARTS, help="Some of the parts.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn: places, values, moments.")
def main(only: tuple[str, ...], seed: int) -> None:
    """Kill, spoil and tamper; print a table, and exit with 1 where anything went wrong.

    Survived: run again after a kill, a stage ends with the same bytes. Refused: by a message. Accepted rightly: what
    was spoiled makes no difference, or one that is told. Silent: wrong without a word. Orphans: still running five
    seconds after a kill.
    """
    tally, draw, work = Tally(), random.Random(seed), Path(tempfile.mkdtemp())
    try:
        os.chdir(work)
        if "inputs" in only:
            try_annotations(tally, work, draw)
            try_params(tally, work, draw)
        if set(only) - {"inputs"}:
            workplace = finished_run(work / "workplace")
        if "artefacts" in only:
            try_artefacts(tally, workplace, work, draw)
        if "kills" in only:
            try_kills(tally, workplace, work, draw)
            try_parallel(tally, workplace, work, draw)
        if "long" in only:
            try_long(tally, workplace, work)
    finally:
        os.chdir(ROOT)
        shutil.rmtree(work)
    click.echo(str(tally))
    sys.exit(bool(tally.lines))


def finished_run(folder: Path) -> Path:
    """Run every stage on a tiny competition."""
    folder.mkdir()
    os.chdir(folder)
    run_stages(epochs=2)
    os.chdir(folder.parent)
    return folder


if __name__ == "__main__":
    main()
