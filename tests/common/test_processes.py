"""Processes that end with the one that they work for, within five seconds."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.common.processes import OWNERS, describe, is_gone

ROOT = Path(__file__).parents[2]
STAGE = """
import time
from pathlib import Path

import click

from stages.cli import Command


@click.command(cls=Command)
def main():
    Path("started").write_text("")
    time.sleep(60)


main()
"""
DVC_YAML = """
stages:
  long:
    cmd: python -m long
"""
PARALLEL = """
import sys
from pathlib import Path
from pipeline.common.parallel import Item, run_all

if __name__ == "__main__":
    command = ("dvc", "--wait-for-lock", "repro", "-q", "-s", "long")
    run_all([Item(name="long", command=command, log=Path("long.log"))], jobs=1, backend=sys.argv[1])
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with a stage of a minute, which works as ours do."""
    for name in ("pipeline", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, text in {"long.py": STAGE, "dvc.yaml": DVC_YAML, "run.py": PARALLEL}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def children_after(command: list[str], end: int) -> list[psutil.Process]:
    """Start a command, wait for the stage in it, send the signal to it alone, and return who lives 5 s later."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not Path("started").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(end)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        member.kill()
    return alive


def test_is_gone_tells_a_process_from_a_later_one_of_its_number() -> None:
    own = psutil.Process()
    assert not is_gone(describe(own))
    assert is_gone(f"{own.pid}@{own.create_time() - 1}")
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        name = describe(psutil.Process(other.pid))
    assert is_gone(name)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_stage_ends_with_the_process_that_the_environment_names(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        monkeypatch.setenv(OWNERS, describe(psutil.Process(owner.pid)))
        stage = subprocess.Popen([sys.executable, "-m", "long"])
        while not Path("started").exists():
            assert stage.poll() is None
            time.sleep(0.05)
        owner.communicate(b"\n")
    assert stage.wait(5) == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_stage_ends_with_the_dvc_that_runs_it(place: Path, end: int) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    assert not children_after(["-m", "dvc", "repro", "-q"], end)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_all_processes_of_a_parallel_run_end_with_it(place: Path, backend: str) -> None:
    pytest.importorskip({"loky": "joblib", "dask": "distributed", "ray": "ray"}[backend])
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    assert not children_after(["run.py", backend], signal.SIGTERM)
