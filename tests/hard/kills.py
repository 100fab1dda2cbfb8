"""Stages that are killed at a random moment or between writing and renaming, then run again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from tqdm import tqdm

from tests.conftest import ROOT
from tests.hard.artefacts import contents
from tests.hard.tally import Tally

ONE = ["--model", "unet", "--fold", "0"]
STAGES = {  # the command, and what it writes that is the same in every run
    "sample": (["sample"], ["data/sample"]),
    "crop": (["crop"], ["data/crops"]),
    "split": (["split"], ["data/folds.csv"]),
    "train": (["train", *ONE], ["runs/unet/fold0/model.safetensors", "runs/unet/fold0/model.json"]),
    "predict": (["predict", *ONE], ["runs/unet/fold0/oof.npz", "runs/unet/fold0/test.npz"]),
    "ensemble": (["ensemble"], ["ensemble"]),
    "submit": (["submit"], ["submissions"]),
    "score": (["score"], ["metrics.json", "reports/curves.csv"]),
    "report": (["report"], ["reports/suspects.csv", "reports/suspects.xml"]),  # the page has the time on it
}
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
DIE_AT_RENAME = """
import os
def replace(*paths, real=os.replace, left=[int(os.environ["RENAMES"])]):
    left[0] -= 1
    if left[0] < 0:
        os._exit(137)
    real(*paths)
os.replace = replace
"""


def start(place: Path, *command: str, **environment: str) -> subprocess.Popen:
    """Start a stage in a folder, silently, in a process group of its own."""
    search = [*filter(None, [environment.pop("PYTHONPATH", "")]), str(ROOT)]
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{command[0]}", *command[1:]], cwd=place, start_new_session=True,
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(search)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)


def try_kills(tally: Tally, workplace: Path, work: Path, draw: random.Random) -> None:
    """Kill each stage by each signal and before its first and second rename; run it again and compare the bytes."""
    (work / "die").mkdir()
    (work / "die/sitecustomize.py").write_text(DIE_AT_RENAME)
    for name, (command, outputs) in tqdm(STAGES.items(), "kills"):
        begin = time.perf_counter()
        with copy(workplace, work, outputs) as place:
            start(place, *command).wait()
        seconds = time.perf_counter() - begin
        for kill in [*SIGNALS, "power cut at rename 1", "power cut at rename 2"]:
            with copy(workplace, work, outputs) as place:
                if kill in SIGNALS:
                    running = start(place, *command)
                    time.sleep(seconds * draw.uniform(0.3, 0.95))
                    os.killpg(running.pid, SIGNALS[kill]) if kill == "Ctrl-C" else running.send_signal(SIGNALS[kill])
                else:
                    running = start(place, *command, PYTHONPATH=str(work / "die"), RENAMES=str(int(kill[-1]) - 1))
                judge(tally, f"kills of {name}", kill, running, place, workplace, command, outputs)


def try_parallel(tally: Tally, workplace: Path, work: Path, draw: random.Random) -> None:
    """Kill `stages.parallel` while it trains; run it again and compare the weights."""
    outputs = [f"runs/{model}/fold{fold}/model.safetensors" for model in ("resnet", "unet") for fold in (0, 3)]
    for kill, number in SIGNALS.items():
        with copy(workplace, work, ["runs", "ensemble", "submissions", "metrics.json", "reports"]) as place:
            for name in ("pipeline", "stages", "presets", "dvc.yaml"):
                (place / name).symlink_to(ROOT / name)
            for options in (["init", "--no-scm"], ["repro", "split"]):
                dvc = [sys.executable, "-m", "dvc", *options, "-q"]
                subprocess.run(dvc, cwd=place, check=True, capture_output=True)
            running = start(place, "parallel", "--jobs", "2")
            while running.poll() is None and not list(place.glob(".resume/*/state.pt")):
                time.sleep(0.1)
            time.sleep(draw.uniform(0, 2))
            os.killpg(running.pid, number) if kill == "Ctrl-C" else running.send_signal(number)
            judge(tally, "kills of parallel", kill, running, place, workplace, ["parallel", "--jobs", "2"], outputs)


def judge(
    tally: Tally, area: str, kill: str, running: subprocess.Popen, place: Path, workplace: Path, command: list[str],
    outputs: list[str],
) -> None:
    """Wait for what was killed, look for what it left running, run it again and compare."""
    running.wait()
    deadline = time.monotonic() + 5
    while (left := working_in(place)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        process.kill()
    if left:
        tally.add(area, "orphans", f"{kill}: {[process.pid for process in left]}")
        return
    exit_code = start(place, *command).wait()
    differ = [name for name in outputs if contents(workplace / name) != contents(place / name)]
    partial = [str(path.relative_to(place)) for path in place.rglob("*.partial")]
    if exit_code or differ or partial:
        tally.add(area, "silent", f"{kill}: exit code {exit_code}, differ: {differ}, left: {partial}")
    else:
        tally.add(area, "survived")


def working_in(place: Path) -> list[psutil.Process]:
    """List the processes whose working directory is `place`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(place) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@contextmanager
def copy(workplace: Path, work: Path, without: list[str]) -> Iterator[Path]:
    """Copy the finished run without some of its files, for as long as the context lasts."""
    place = work / "copy"
    shutil.copytree(workplace, place)
    for name in without:
        shutil.rmtree(place / name) if (place / name).is_dir() else (place / name).unlink(missing_ok=True)
    yield place
    shutil.rmtree(place)


def try_long(tally: Tally, workplace: Path, work: Path, epochs: int = 200) -> None:
    """Train many epochs; memory and open files must not grow after the first third."""
    with copy(workplace, work, ["runs"]) as place:
        text = (place / "params.yaml").read_text().replace("epochs: 2\n", f"epochs: {epochs}\n")
        (place / "params.yaml").write_text(text)
        running = start(place, "train", *ONE)
        process, samples = psutil.Process(running.pid), []
        while running.poll() is None:
            try:
                samples.append((process.memory_info().rss, process.num_fds()))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.2)
        lines = (place / "runs/unet/fold0/history.csv").read_text().splitlines()
        done = running.wait() == 0 and len(lines) == epochs + 1
        early, late = samples[len(samples) // 3], samples[-3]
        flat = late[0] < 1.05 * early[0] and late[1] <= early[1]
        tally.add("a long training", "survived" if done and flat else "silent",
                  f"{epochs} epochs: done {done}, (bytes, open files) from {early} to {late}")
