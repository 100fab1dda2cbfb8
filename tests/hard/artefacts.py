"""Tampered files that one stage leaves and another reads."""

import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.conftest import run
from tests.hard.tally import Tally

# file → the command that reads it, and what that writes
READERS = {
    **{f"data/crops/train/{name}": (["split"], ["data/folds.csv"])
       for name in ("store.json", "crops.npy", "photos.npy", "faces.csv", "keypoints.npy")},
    "data/folds.csv": (["ensemble"], ["ensemble"]),
    "runs/unet/fold0/model.json": (["predict", "--model", "unet", "--fold", "0"], ["runs/unet/fold0/oof.npz"]),
    "runs/unet/fold0/model.safetensors": (["predict", "--model", "unet", "--fold", "0"], ["runs/unet/fold0/oof.npz"]),
    "runs/unet/fold0/oof.npz": (["ensemble"], ["ensemble"]),
    "runs/unet/fold0/test.npz": (["ensemble"], ["ensemble"]),
    "runs/unet/fold0/history.csv": (["report"], ["reports/curves.csv"]),
    "ensemble/oof.npz": (["score"], ["metrics.json"]),
    "ensemble/test.npz": (["submit"], ["submissions/submission.csv"]),
    "ensemble/weights.json": (["score"], ["metrics.json"]),
    "submissions/submission.csv": (["submit", "--check", "submissions/submission.csv"], []),
}


class Hostile:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch hit",)


def tampered(path: Path, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield what was done to a file, and what came of it."""
    data = path.read_bytes()
    yield "empty", b""
    yield "half", data[: len(data) // 2]
    yield "junk", draw.randbytes(300)
    yield "pickle", pickle.dumps(Hostile())
    if path.suffix in (".npy", ".npz", ".safetensors"):
        for place in draw.sample(range(4, 60), 3):
            flipped = data[place] ^ 1 << draw.randrange(8)
            yield f"byte {place} now {flipped}", data[:place] + bytes([flipped]) + data[place + 1:]
    if path.suffix in (".npy", ".npz"):
        file = io.BytesIO()
        objects = np.array([Hostile()], dtype=object)
        names = ("points", "face", "spread")
        np.save(file, objects) if path.suffix == ".npy" else np.savez(file, **dict.fromkeys(names, objects))
        yield "objects", file.getvalue()
    if path.suffix == ".json":
        values = json.loads(data)
        for key in values:
            for value in (None, -1, "x", 10**30, []):
                yield f"{key}: {value!r}", json.dumps(values | {key: value}).encode()
        yield "list", b"[]"
    if path.suffix == ".csv":
        lines = data.splitlines(keepends=True)
        yield "line gone", b"".join(lines[:2] + lines[3:])
        yield "line twice", b"".join([*lines[:2], lines[1], *lines[2:]])
        yield "header gone", b"".join(lines[1:])
        yield "text", b"".join([lines[0], *(b"x" + line for line in lines[1:])])
        yield "column gone", b"".join(line.partition(b",")[2] for line in lines)
        yield "NaN", b"".join([lines[0], b",".join([b"nan"] * (lines[1].count(b",") + 1)) + b"\n", *lines[2:]])


def try_artefacts(tally: Tally, workplace: Path, work: Path, draw: random.Random) -> None:
    """Tamper with each file in a copy of a finished run, and run what reads it."""
    for name, ((command, *options), outputs) in READERS.items():
        for what, data in tampered(workplace / name, draw):
            shutil.copytree(workplace, work / "copy")
            os.chdir(work / "copy")
            Path(name).write_bytes(data)
            result = run(command, *options)
            what = f"{name} {what}"
            if Path("hit").exists():
                tally.add("artefacts", "silent", f"{what}: was run")
            elif result.exception and not isinstance(result.exception, SystemExit):
                tally.add("artefacts", "tracebacks", f"{what}: {result.exception!r}")
            elif result.exit_code:
                tally.add("artefacts", "refused")
            else:
                same = all(contents(workplace / output) == contents(Path(output)) for output in outputs)
                tally.add("artefacts", "accepted rightly" if same and outputs else "silent", f"{what}: accepted")
            os.chdir(work)
            shutil.rmtree(work / "copy")


def contents(path: Path) -> dict[str, bytes]:
    """Read a file, or all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}
