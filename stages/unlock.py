"""Remove the lock file of DVC that a kill left behind, and a dvc.lock that it cut."""

import json
import os
from pathlib import Path

import click

from stages.cli import Command

LOCK = Path(".dvc/tmp/rwlock")
RECORD, ASIDE = Path("dvc.lock"), Path(".dvc/tmp/dvc.lock.broken")


@click.command(cls=Command)
def main() -> None:
    """Remove .dvc/tmp/rwlock where a kill left it empty or cut, or named in it, which stops every later run of DVC.

    A dvc.lock that is empty or cut does so, too; it is set aside, and the next `dvc repro` takes what ran from DVC's
    cache. DVC rewrites both in place. Nothing is removed while what the first names still runs, or another DVC runs in
    this folder.
    """
    remove_stale_lock()


def remove_stale_lock() -> None:
    """Remove the lock file if it is broken, or names only processes that have ended; set a broken dvc.lock aside.

    A UserError says that one is broken, but another DVC runs here.
    """
    from pipeline.common.errors import UserError

    pids = _pids(LOCK) if LOCK.is_file() else set()
    broken = [LOCK] * (pids is None) + [RECORD] * _is_cut(RECORD)
    if broken and (others := _other_dvcs()):
        raise UserError(f"{broken[0]}: broken, but DVC runs here as process {', '.join(map(str, others))}; wait until "
                        "it has ended, then run this again")
    if LOCK in broken or (pids and not any(map(_runs, pids))):
        LOCK.unlink()
        click.echo(f"{LOCK}: left by a kill, removed", err=True)
    if RECORD in broken:
        RECORD.replace(ASIDE)
        click.echo(f"{RECORD}: cut by a kill, moved to {ASIDE}; dvc repro takes what ran from DVC's cache", err=True)


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended: one whose parent died may wait for the system to reap it."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _pids(path: Path) -> set[int] | None:
    """Read which processes the lock file names; None where it is broken.

    It holds {"write": {path: process}, "read": {path: [process, …]}}.
    """
    try:
        held = [found for paths in json.loads(path.read_bytes()).values() for found in paths.values()]
        return {process["pid"] for found in held for process in (found if isinstance(found, list) else [found])}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _is_cut(path: Path) -> bool:
    """Whether dvc.lock is there, but DVC refuses it."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML, YAMLError
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path))
    except FileNotFoundError:
        return False
    except (YAMLError, Invalid, UnicodeDecodeError):
        return True
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
