"""Speed, as ratios to bare work."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from ruamel.yaml import YAML
from timm.optim import create_optimizer_v2
from torch import nn

from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.store import CropStore, center_input
from pipeline.inference.predict import Predictor
from pipeline.inference.tta import TTA
from pipeline.keypoints.skeleton import SKELETONS
from pipeline.models import build_model
from pipeline.models.checkpoint import ResumeState
from pipeline.models.device import Runtime, make_runtime, to_images
from pipeline.models.losses import build_loss
from pipeline.params import load_params
from pipeline.training.augment import build
from pipeline.training.engine import Trainer
from pipeline.training.loader import Batch, Batches, Key, make_batches
from pipeline.training.settings import Schedule

ROOT = Path(__file__).parents[1]
SKELETON = SKELETONS["ibug68"]
AUGMENT = load_params(ROOT / "presets" / "sample.yaml").augment
SIZE, BATCH, STEPS = 128, 32, 6
CROP = CropGeometry(size=SIZE, margin=1.4, shift_y=0.1, padding=1.4, color="grey")
EPOCH = 51  # steps of the epochs that are trained: those of 1,656 faces, a fold of the downscaled iBUG 300-W
MODELS = {
    "ResNet-18, regression": (
        {"name": "resnet", "backbone": "resnet18", "pretrained": False, "width": 1.0, "stem": "sum",
         "head": "flatten", "dropout": 0.2}, {"name": "regression"}, {"name": "smooth_l1", "beta": 0.02}),
    "UNet on ResNet-18, heatmaps": (
        {"name": "unet", "backbone": "resnet18", "pretrained": False, "width": 1.0, "decoder_channels": [128, 96, 64],
         "upsample": "nearest"}, {"name": "heatmap", "sigma": 1.0, "padding": 4.0, "decoder": "window"},
        {"name": "cross_entropy"}),
}


def measure_training(data: Path, xml: str, repeats: int) -> str:
    """Images a second of epochs of `Trainer.fit` and of a bare loop on ready tensors of the same shape."""
    runtime, rows = make_runtime("auto", "auto"), []
    store = faces(BATCH * EPOCH + 8)
    for name, (network, codec, loss) in MODELS.items():
        rows.append([name, *_ratio(_epochs(network, codec, loss, store, runtime, 2 * repeats + 1)[1:])])
    return table("Training", f"{SIZE} px, epochs of {EPOCH} batches of {BATCH}, {runtime.dtype}; `Trainer.fit` "
                  "against forward, loss, backward and AdamW on one ready batch, by turns, "
                  f"{_turn(runtime)} at a time. The ratios are of whole epochs.",
                  ["", "images/s", "bare, images/s", "ratio"], rows)


def measure_loader(data: Path, xml: str, repeats: int) -> str:
    """Images a second that one core augments, against bare calls of the albumentations pipeline."""
    store, batch = faces(BATCH), np.arange(BATCH)
    transform, crops = build(SIZE, SKELETON.flip, AUGMENT), np.array(store.crops)
    points = np.random.default_rng(0).uniform(0, SIZE, (68, 2)).astype(np.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for backend in ("torch", "albumentations"):
        batches = make_batches(store, replace(AUGMENT, backend=backend), SKELETON.flip, torch.device("cpu"))
        ours = _rate(lambda batches=batches: batches[0, batch, slice(None)], BATCH, 20)
        bare = _rate(lambda: [transform(image=crop, keypoints=points) for crop in crops], BATCH, 20)
        rows.append([backend, *turns(ours, bare, repeats)])
    if find_spec("kornia"):
        chain, images = _kornia(), to_images(crops).float() / 255
        marks = torch.from_numpy(points).expand(BATCH, -1, -1)
        rows.append(["kornia's own", *turns(_rate(lambda: chain(images, marks), BATCH, 20), bare, repeats)])
    torch.set_num_threads(threads)
    return table("Augmentation", f"{SIZE} px, one core, batches of {BATCH}; against `albumentations.Compose` alone.",
                  ["backend", "images/s", "bare, images/s", "ratio"], rows)


def _kornia() -> Callable:
    """The nearest that kornia has to the same pipeline."""
    import kornia.augmentation as K

    degrees, light = AUGMENT.rotate, (1 - AUGMENT.brightness, 1 + AUGMENT.brightness)
    return K.AugmentationSequential(
        K.RandomAffine(degrees, translate=(0.03, 0.03), scale=(0.87, 1.15), p=1.0), K.CenterCrop(SIZE),
        K.RandomHorizontalFlip(p=AUGMENT.flip), K.RandomBrightness(light, p=0.8), K.RandomContrast(light, p=0.8),
        K.RandomGaussianBlur((11, 11), (0.4, 1.6), p=AUGMENT.blur),
        K.RandomGaussianNoise(std=0.03, p=AUGMENT.noise),
        K.RandomErasing((0.01, 0.09), p=AUGMENT.dropout), data_keys=["input", "keypoints"],
    )


def measure_crop(data: Path, xml: str, repeats: int) -> str:
    """Photos a second of the crop stage, against decoding the same files."""
    annotations = dlib_xml.read(data / xml, 68)
    files = [str(data / image) for image in annotations.faces.image.unique()]

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            write_crops(annotations, data, Path(folder) / "crops", CROP)
            return len(files) / (time.perf_counter() - start)

    def bare() -> float:
        start = time.perf_counter()
        work = (delayed(cv2.imread)(file, cv2.IMREAD_GRAYSCALE) for file in files)
        Parallel(n_jobs=-1, prefer="threads", batch_size=8)(work)
        return len(files) / (time.perf_counter() - start)

    return table("Crop", f"{len(files)} photos, {len(annotations)} faces, all cores; against `cv2.imread`, in grey.",
                  ["", "photos/s", "bare, photos/s", "ratio"], [["crop stage", *turns(ours, bare, repeats)]])


def measure_predict(data: Path, xml: str, repeats: int) -> str:
    """Images a second of a `Predictor`, against bare forward passes."""
    runtime, rows, count = make_runtime("auto", "auto"), [], 64
    store = faces(2 * count)
    for name, (network, codec, _) in MODELS.items():
        model, target = _build(network, codec)
        model = runtime.place(model).eval()
        ready = to_images(center_input(store.crops[:count], SIZE))
        predictor = Predictor(network=model, codec=target, flip_indices=SKELETON.flip, runtime=runtime,
                              tta=TTA(batch_size=count, flip=False))

        def ours(predictor=predictor) -> None:
            predictor.predict(store, np.arange(2 * count))

        @torch.inference_mode()
        def bare(model=model, ready=ready) -> None:
            for _ in range(2):
                runtime.forward(model, ready)
            _wait()

        rows.append([name, *turns(_rate(ours, 2 * count, 1), _rate(bare, 2 * count, 1), repeats)])
    return table("Predict", f"{SIZE} px, batches of {count}; from the crop store to points in photo pixels, against "
                  "the forward pass of a ready batch.", ["", "images/s", "bare, images/s", "ratio"], rows)


def measure_commands(data: Path, xml: str, repeats: int) -> str:
    """Seconds until a command answers, and of a `dvc repro` with nothing to do against an empty project's."""
    commands = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem not in {"__init__", "cli"})
    times = {name: _seconds([sys.executable, "-m", f"stages.{name}", "--help"], ROOT, repeats) for name in commands}
    rows = [[f"`{name} --help`", f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"]
            for name, found in times.items()]
    with tempfile.TemporaryDirectory() as empty:
        dvc = [sys.executable, "-m", "dvc"]
        subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=empty, check=True)
        Path(empty, "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo > one\n    outs: [one]\n")
        subprocess.run([*dvc, "repro", "-q"], cwd=empty, check=True)
        for name, folder in (("a project of one stage", empty), ("this one", ROOT)):
            found = _seconds([*dvc, "repro"], folder, repeats, expect="up to date")
            rows.append([f"idle `dvc repro`, {name}",
                         f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"])
    return table("Commands", "Seconds from the start of Python to the end.", ["", "seconds"], rows)


def measure_load(data: Path, xml: str, repeats: int) -> str:
    """Images a second of `stages.train` with the default's threads and with one, while each core has other work."""
    command, cores = [sys.executable, "-m", "stages.train", "--fold", "1"], os.cpu_count() or 1
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as name:
        work, params = Path(name), YAML().load(ROOT / "presets" / "sample.yaml")
        params["models"]["resnet"]["epochs"] = 4
        (work / "data").mkdir()
        (work / "data" / "sample").symlink_to((ROOT / "data" / "sample").resolve())
        rates: dict[int, list[float]] = {0: [], 1: []}
        for threads in [0, 1] * repeats:
            params["train"]["threads"] = threads
            YAML().dump(params, work / "params.yaml")
            for stage in ("crop", "split"):
                subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=work, env=environment, check=True,
                               capture_output=True)
            others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
            try:
                subprocess.run(command, cwd=work, env=environment, check=True, capture_output=True)
            finally:
                for other in others:
                    other.kill()
            history = pd.read_csv(work / "runs" / "resnet" / "fold1" / "history.csv")
            rates[threads].append(float(history.images_per_second[1:].median()))
    found = _ratio(list(zip(rates[0], rates[1], strict=True)))
    return table("Under load", f"The default's ResNet on the sample, {cores} other processes that never rest; "
                 "`train.threads: 0`, the default, against 1.", ["", "images/s", "one thread, images/s", "ratio"],
                 [["ResNet-18, regression", *found]])


class ChannelsFirst(Runtime):
    """A runtime without the layout of memory that the real one uses."""

    def place(self, network: nn.Module) -> nn.Module:
        """As torch makes it."""
        return network.to(self.device)

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """As torch makes them."""
        return images.to(self.device)


def measure_precision(data: Path, xml: str, repeats: int) -> str:
    """Training as `train.precision: auto` has it, channels last, against float32 with channels first."""
    runtime, rows = make_runtime("auto", "auto"), []
    plain = ChannelsFirst(device=runtime.device, dtype=torch.float32)
    for name, (network, codec, loss) in MODELS.items():
        loops = [_bare_loop(network, codec, loss, each) for each in (runtime, plain)]
        rows.append([name, *turns(*loops, repeats)])
    return table("Precision", f"The bare loop at {SIZE} px: {runtime.dtype}, which is what `train.precision: auto` is "
                  "here, and channels last, against float32 and channels first.",
                  ["", "images/s", "float32, channels first, images/s", "ratio"], rows)


def measure_compile(data: Path, xml: str, repeats: int) -> str:
    """Training through `torch.compile` against without it; on a GPU with CUDA graphs too (mode reduce-overhead)."""
    runtime, rows = make_runtime("auto", "auto"), []
    modes = ["default", "reduce-overhead"] if runtime.device.type == "cuda" else ["default"]
    for name, (network, codec, loss) in MODELS.items():
        plain = _bare_loop(network, codec, loss, runtime)
        for mode in modes:
            compiled, start = _bare_loop(network, codec, loss, runtime, mode), time.perf_counter()
            compiled()
            wait = time.perf_counter() - start
            rows.append([f"{name}, {mode}", f"{wait:.0f}", *turns(compiled, plain, repeats)])
    return table("Compiling", f"The bare loop at {SIZE} px through `torch.compile` against without; the first "
                  f"column is what its first {STEPS} steps take, compilation and all.",
                  ["", "first steps, s", "images/s", "not compiled, images/s", "ratio"], rows)


def faces(count: int) -> CropStore:
    """A store of noise: what it shows does not matter for speed."""
    rng, side = np.random.default_rng(0), SIZE + 2 * 26
    rows = pd.DataFrame({"face": range(count), "width": 100.0, "height": 100.0})
    rows[["m00", "m01", "m02", "m10", "m11", "m12"]] = [1.0, 0, 0, 0, 1, 0]
    return CropStore(size=SIZE, crops=rng.integers(0, 255, (count, side, side), np.uint8),
                     photos=np.zeros((count, 32, 32), np.uint8), faces=rows,
                     keypoints=rng.uniform(30, SIZE, (count, 68, 2)).astype(np.float32))


def _build(network: dict, codec: dict) -> tuple:
    return build_model(network, codec, num_points=68, channels=1, size=SIZE)


class Interleaved:
    """Batches for the training that first do `turn` bare steps before as many of its own, so that other work on the
    machine weighs on both alike; `seconds` has what each of the bare turns took."""

    def __init__(self, batches: Batches, bare: Callable[[], float], turn: int) -> None:
        self.batches, self.bare, self.turn, self.asked, self.seconds = batches, bare, turn, 0, []

    def __getitem__(self, key: Key) -> Batch:
        if self.asked % self.turn == 0:
            _wait()
            self.seconds.append(BATCH * self.turn / self.bare())
        self.asked += 1
        return self.batches[key]


def _turn(runtime: Runtime) -> int:
    """Steps at a time: a GPU works a queue of them off, and would be kept waiting by single ones."""
    return 1 if runtime.device.type == "cpu" else EPOCH


def _epochs(
    network: dict, codec: dict, loss: dict, store: CropStore, runtime: Runtime, epochs: int
) -> list[tuple[float, float]]:
    """Images a second of each epoch of the real training, as its history tells them, and of the bare loop."""
    model, target = _build(network, codec)
    schedule = Schedule(epochs=epochs, batch_size=BATCH, optimizer="adamw", lr=1e-3, schedule="cosine",
                        weight_decay=0.05, warmup_epochs=0, freeze_epochs=0, grad_clip=5.0, ema_decay=0.99,
                        patience=None)
    batches = make_batches(store, AUGMENT, SKELETON.flip, runtime.device)
    turns = Interleaved(batches, _bare_loop(network, codec, loss, runtime, steps=_turn(runtime)), _turn(runtime))
    everyone = np.arange(len(store))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(network=model, codec=target, loss=build_loss(target, **loss), store=store, schedule=schedule,
                          runtime=runtime, seed=0, validate_every=epochs, eyes=SKELETON.eyes)
        _, history = trainer.fit(turns, everyone[:-8], everyone[-8:], ResumeState(Path(folder), "bench"))
    both = np.array([row["seconds"] for row in history])
    bare = np.reshape(turns.seconds, (epochs, -1)).sum(1)
    return list(zip(BATCH * EPOCH / (both - bare), BATCH * EPOCH / bare, strict=True))


def _bare_loop(
    network: dict, codec: dict, loss: dict, runtime: Runtime, mode: str | None = None, steps: int = STEPS
) -> Callable[[], float]:
    """Images a second of forward, loss, backward and step on a batch and targets that are ready on the device.

    `mode` is that of `torch.compile`, None for none.
    """
    model, target = _build(network, codec)
    model, criterion = runtime.place(model).train(), build_loss(target, **loss)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, fused=True)
    model = torch.compile(model, mode=mode) if mode else model
    images = runtime.images(torch.randint(0, 255, (BATCH, 1, SIZE, SIZE), dtype=torch.uint8))
    targets = target.encode(torch.rand(BATCH, 68, 2, device=runtime.device) * SIZE)
    mask = torch.ones(BATCH, 68, dtype=torch.bool, device=runtime.device)

    def step() -> None:
        criterion(runtime.forward(model, images).float(), targets, mask).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return _rate(step, BATCH, steps)


def _rate(step: Callable[[], object], count: int, steps: int) -> Callable[[], float]:
    """A measurement: images a second of `steps` calls of `step`, each of `count` images."""

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        _wait()
        return count * steps / (time.perf_counter() - start)

    return measure


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def turns(ours: Callable[[], float], bare: Callable[[], float], repeats: int) -> tuple[str, str, str]:
    """Both rates and their ratio, in `repeats` turns or more, 30 s together, after a warm-up of each.

    Each turn of ours is held against the mean of the bare ones before and after it: other work on the machine then
    weighs on both alike.
    """
    ours(), bare()
    start, last, pairs = time.perf_counter(), bare(), []
    while len(pairs) < repeats or time.perf_counter() - start < 30:
        before, rate, last = last, ours(), bare()
        pairs.append((rate, (before + last) / 2))
    return _ratio(pairs)


def _ratio(pairs: list[tuple[float, float]]) -> tuple[str, str, str]:
    """Medians of both rates and of their ratio, with its lowest and highest."""
    ratios = [first / second for first, second in pairs]
    medians = [statistics.median(values) for values in zip(*pairs, strict=True)]
    return (f"{medians[0]:.0f}", f"{medians[1]:.0f}",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})")


def _seconds(command: list[str], folder: Path | str, repeats: int, expect: str = "") -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
        found.append(time.perf_counter() - start)
        if expect not in shown.stdout:
            raise RuntimeError(f"{' '.join(command)} in {folder}: no {expect!r} in its output:\n{shown.stdout}")
    return found


def table(title: str, note: str, header: list[str], rows: list[list[str]]) -> str:
    lines = [f"## {title}", "", note, "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
