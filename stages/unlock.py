"""Remove the lock file of DVC that a kill left behind."""

import json
import os
from pathlib import Path

import click

from stages.cli import Command

LOCK = Path(".dvc/tmp/rwlock")


@click.command(cls=Command)
def main() -> None:
    """Remove .dvc/tmp/rwlock where a kill left it empty, cut or held, which stops every later run of DVC.

    DVC rewrites the file in place. Nothing is removed while another DVC runs in this folder.
    """
    remove_broken_lock()


def remove_broken_lock() -> None:
    """Remove the lock file if it is broken, or held by no DVC; a UserError says that it is broken, but DVC runs."""
    from pipeline.common.errors import UserError

    if not LOCK.is_file() or (held := _is_held(LOCK)) is False:
        return
    if others := _other_dvcs():
        if held:
            return  # by them
        raise UserError(f"{LOCK}: broken, but DVC runs here as process {', '.join(map(str, others))}; wait until it "
                        "has ended, then run this again")
    LOCK.unlink(missing_ok=True)
    click.echo(f"{LOCK}: left by a kill, removed", err=True)


def _is_held(path: Path) -> bool | None:
    """Tell whether the lock file names processes; None where it is broken."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return None
    return any(content.values()) if isinstance(content, dict) else None


def _other_dvcs() -> list[int]:
    """Find the processes of DVC that run in this folder, but for those that this one runs in."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process.pid for process in psutil.process_iter(["cmdline", "cwd"])
            if process.pid not in own and process.info["cwd"] == os.getcwd()
            and "dvc" in {Path(word).name for word in (process.info["cmdline"] or [])[:4]}]


if __name__ == "__main__":
    main()
