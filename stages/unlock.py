"""Remove the lock file of DVC that a kill left behind."""

import json
import os
from pathlib import Path

import click

from stages.cli import Command

LOCK = Path(".dvc/tmp/rwlock")


@click.command(cls=Command)
def main() -> None:
    """Remove .dvc/tmp/rwlock where a kill left it empty or cut, or named in it, which stops every later run of DVC.

    DVC rewrites the file in place. Nothing is removed while what it names still runs, or it is broken and another DVC
    runs in this folder.
    """
    remove_stale_lock()


def remove_stale_lock() -> None:
    """Remove the lock file if it is broken, or names only processes that have ended.

    A UserError says that it is broken, but another DVC runs here.
    """
    import psutil

    from pipeline.common.errors import UserError

    pids = _pids(LOCK) if LOCK.is_file() else set()
    if pids is not None and (not pids or any(map(psutil.pid_exists, pids))):
        return
    if pids is None and (others := _other_dvcs()):
        raise UserError(f"{LOCK}: broken, but DVC runs here as process {', '.join(map(str, others))}; wait until it "
                        "has ended, then run this again")
    LOCK.unlink(missing_ok=True)
    click.echo(f"{LOCK}: left by a kill, removed", err=True)


def _pids(path: Path) -> set[int] | None:
    """Read which processes the lock file names; None where it is broken.

    It holds {"write": {path: process}, "read": {path: [process, …]}}.
    """
    try:
        held = [found for paths in json.loads(path.read_bytes()).values() for found in paths.values()]
        return {process["pid"] for found in held for process in (found if isinstance(found, list) else [found])}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _other_dvcs() -> list[int]:
    """Find the processes of DVC that run in this folder, but for those that this one runs in."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process.pid for process in psutil.process_iter(["cmdline", "cwd"])
            if process.pid not in own and process.info["cwd"] == os.getcwd()
            and "dvc" in {Path(word).name for word in (process.info["cmdline"] or [])[:4]}]


if __name__ == "__main__":
    main()
