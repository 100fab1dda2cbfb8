"""Remove the lock file of DVC that a kill left broken."""

import json
import os
from pathlib import Path

import click

from stages.cli import Command

LOCK = Path(".dvc/tmp/rwlock")


@click.command(cls=Command)
def main() -> None:
    """Remove .dvc/tmp/rwlock where a kill left it empty or cut, which stops every later run of DVC.

    DVC rewrites the file in place. Nothing is removed while another DVC runs in this folder.
    """
    remove_broken_lock()


def remove_broken_lock() -> None:
    """Remove the lock file if it is broken; a UserError says that another DVC still runs."""
    from pipeline.common.errors import UserError

    if not LOCK.is_file() or _is_whole(LOCK):
        return
    if others := _other_dvcs():
        raise UserError(f"{LOCK}: broken, but DVC runs here as process {', '.join(map(str, others))}; wait until it "
                        "has ended, then run this again")
    LOCK.unlink(missing_ok=True)
    click.echo(f"{LOCK}: broken by a kill, removed", err=True)


def _is_whole(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _other_dvcs() -> list[int]:
    """Find the processes of DVC that run in this folder, but for those that this one runs in."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process.pid for process in psutil.process_iter(["cmdline", "cwd"])
            if process.pid not in own and process.info["cwd"] == os.getcwd()
            and "dvc" in {Path(word).name for word in (process.info["cmdline"] or [])[:4]}]


if __name__ == "__main__":
    main()
