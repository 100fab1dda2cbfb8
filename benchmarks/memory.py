"""Memory and time of the stages as the number of faces grows: at most 3 KB a face on top of the model."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from pipeline.synthetic.sample import make_sample

ROOT = Path(__file__).parents[1]
FACES = 200
STAGES = {"crop": [], "split": [], "train": ["--fold", "0"], "predict": ["--fold", "0"], "ensemble": [], "submit": [],
          "score": []}
TIMES = (10, 100)
SPLIT = (20_000, 100_000)


def measure_memory(data: Path, xml: str, repeats: int) -> str:
    """Measure seconds and peak memory of each stage for 2,000 and 20,000 train faces and as many test faces.

    They are copies of the same photos; after `crop` they become noise, or each would be a near-duplicate of 99 others.
    """
    rows: dict[str, list] = {name: [] for name in STAGES}
    for times in TIMES:
        with tempfile.TemporaryDirectory() as folder:
            _project(Path(folder), times)
            for name, options in STAGES.items():
                rows[name].append(_run([sys.executable, "-m", f"stages.{name}", *options], Path(folder)))
                if name == "crop":
                    _make_noise(Path(folder, "data", "crops", "train"))
                if name in ("train", "predict"):  # the ensemble wants the other fold too
                    _run([sys.executable, "-m", f"stages.{name}", "--fold", "1"], Path(folder))
    header = "| stage | " + " | ".join(f"2 × {times * FACES:,} faces: s, MB" for times in TIMES) + " | KB a face more |"
    lines = ["## Memory", "", "Peak of the memory that is a process's own (anonymous, workers too), from "
             "`/proc`; pages of files, which the kernel can drop, are not counted. One epoch of the sample's ResNet at "
             "32 px. Half of the faces are train faces; `split` and `train` read only these, and count only these "
             "in the last column.", "", header, "|---|---|---|---|"]
    for name, found in rows.items():
        faces = FACES * (TIMES[1] - TIMES[0]) * (1 if name in ("split", "train") else 2)
        growth = (found[1][1] - found[0][1]) * 1024 / faces
        cells = [f"{seconds:.1f}, {peak:.0f}" for seconds, peak in found]
        lines.append(f"| {name} | {' | '.join(cells)} | {growth:.1f} |")
    return "\n".join(lines)


def measure_split(data: Path, xml: str, repeats: int) -> str:
    """Measure seconds on one core and peak memory of `split` for many faces of noise; one in a hundred is a copy."""
    rows, peaks = [], []
    for count in SPLIT:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(ROOT / "presets" / "sample.yaml", Path(folder, "params.yaml"))
            _noise_store(Path(folder, "data", "crops", "train"), count)
            seconds, peak = _run([sys.executable, "-m", "stages.split"], Path(folder), OMP_NUM_THREADS="1")
            groups = pd.read_csv(Path(folder, "data", "folds.csv")).group.nunique()
        peaks.append(peak)
        rows.append(f"| {count:,} | {seconds:.0f} | {peak:.0f} | {count - groups:,} of {count // 100:,} |")
    growth = (peaks[-1] - peaks[0]) * 1024 / (SPLIT[-1] - SPLIT[0])
    return "\n".join(["## Split", "", "The whole stage, start of Python included, on one core; noise of 64 px, every "
                      "hundredth face a copy of the one before, mirrored or not, under another name. "
                      f"{growth:.1f} KB a face more.", "",
                      "| faces | s | MB | copies found |", "|---|---|---|---|", *rows])


def _noise_store(folder: Path, count: int) -> None:
    """Write a crop store of noise: in crops of 64 pixels, boxes of 48 and two points each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, side in (("crops.npy", 64), ("photos.npy", 32)):
        pictures = np.lib.format.open_memmap(folder / name, mode="w+", dtype=np.uint8, shape=(count, side, side))
        for start in range(0, count, 1000):
            pictures[start : start + 1000] = rng.integers(0, 256, (len(pictures[start : start + 1000]), side, side))
        for row in range(99, count, 100):
            pictures[row] = pictures[row - 1][:, :: -1 if row % 200 == 99 else 1]
    faces = pd.DataFrame({"image": [f"{row}.jpg" for row in range(count)], "left": 8, "top": 8, "width": 48,
                          "height": 48, "photo_width": 64, "photo_height": 64, "source": "noise"})
    faces[["m00", "m01", "m02", "m10", "m11", "m12"]] = [1.0, 0, 0, 0, 1, 0]
    faces.to_csv(folder / "faces.csv", index_label="face")
    np.save(folder / "keypoints.npy", np.tile(np.float32([[20, 28], [43, 28]]), (count, 34, 1)))
    (folder / "store.json").write_text('{"size": 64}')


def _project(folder: Path, times: int) -> None:
    """A competition of `times` copies of the same photos, with its folds."""
    root = folder / "data" / "sample"
    make_sample(root, train_faces=FACES, test_faces=FACES, seed=0, jobs=os.cpu_count() or 1)
    for part in ("train", "test"):
        for copy in range(1, times):
            for source in ("indoor", "outdoor"):
                shutil.copytree(root / source / part, root / source / f"{part}{copy}", copy_function=os.link)
        xml = root / f"{part}.xml"
        text = xml.read_text()
        start, end = text.index("<image "), text.index("</images>")
        copies = [text[start:end].replace(f"/{part}/", f"/{part}{copy or ''}/") for copy in range(times)]
        xml.write_text(text[:start] + "".join(copies) + text[end:])
    params = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    params["data"]["solution"] = None
    params["crop"]["size"] = 32
    params["split"]["folds"] = [0, 1]
    params["train"].update(models=["resnet"], validate_every=1)
    params["models"]["resnet"].update(epochs=1, batch_size=32)
    YAML().dump(params, folder / "params.yaml")


def _make_noise(store: Path) -> None:
    """Replace the pictures of a crop store by noise."""
    for name in ("crops.npy", "photos.npy"):
        shape = np.load(store / name, mmap_mode="r").shape
        np.save(store / name, np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def _run(command: list[str], folder: Path, **environment: str) -> tuple[float, float]:
    """Seconds, and the peak of the anonymous memory of the process and its children in MB."""
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        peak = max(peak, sum(_anonymous(pid) for pid in _family(process.pid)))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {process.stderr.read().decode()}")
    return time.perf_counter() - start, peak


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [child for word in task.read_text().split() for child in _family(int(word))]
        except FileNotFoundError:
            continue  # ended meanwhile
    return found


def _anonymous(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    values = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return sum(map(float, values)) / 1024
