"""Report of a whole run: one HTML page with the scores and pictures."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import torch

from pipeline.common.files import write_text
from pipeline.data.store import CropStore
from pipeline.evaluation.results import BASELINE, ENSEMBLE, Results, format_members, format_scores
from pipeline.keypoints.metrics import face_mae
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models.checkpoint import load_model
from pipeline.models.codecs import Heatmap
from pipeline.plots import charts, faces, heatmaps
from pipeline.training.loader import make_batches
from pipeline.training.settings import Augmentation

TEMPLATE = Path(__file__).with_name("report.html.j2")
NUM_FACES = 12  # training samples, worst faces and best faces that are shown
NUM_TEST_FACES = 24
NUM_HEATMAPS = 3
SEED = 0  # of everything that is drawn at random

Figure = tuple[str, str, str]  # name of the picture, title, note


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model to look into: the folder of one trained fold, the train crops that it sees, and their augmentation."""

    run: Path
    store: CropStore
    augmentation: Augmentation


def write_report(
    folder: Path, results: Results, metrics: dict, history: pd.DataFrame, skeleton: Skeleton,
    augmentation: Augmentation, members: Mapping[str, Member],
) -> None:
    """Write `index.html` and the folder `pictures` beside it, which is emptied first.

    Args:
        metrics: see `build_metrics`; history: see `load_history`.
        augmentation: of the training samples on the crops of `results`.
        members: by model; of one with other crops or another augmentation, training samples are shown, too.
    """
    out = folder / "pictures"
    shutil.rmtree(out, ignore_errors=True)
    figures = [
        *_draw_scores(out, results, history, skeleton),
        *_draw_faces(out, results, skeleton),
        _draw_samples(out / "samples.png", "Training samples", results.train, skeleton, augmentation),
    ]
    for model, member in members.items():
        if member.store is not results.train or member.augmentation != augmentation:
            path, title = out / f"samples-{model}.png", f"Training samples of {model}"
            figures.append(_draw_samples(path, title, member.store, skeleton, member.augmentation))
    for model, member in members.items():
        figures += _draw_network(out, skeleton, model, member)
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    scores = [format_scores(metrics, results.folds, "html"), format_members(metrics["pairs"], "html")]
    write_text(folder / "index.html", template.render(scores=scores, figures=figures) + "\n")


def _draw_scores(out: Path, results: Results, history: pd.DataFrame, skeleton: Skeleton) -> list[Figure]:
    truth = results.train.truth
    charts.draw_curves(out / "curves.png", history)
    names = (BASELINE, *results.models, ENSEMBLE)
    errors = {name: face_mae(results.points(name, "oof"), truth) for name in names}
    charts.draw_histogram(out / "histogram.png", errors)
    figures = [
        ("curves.png", "Training", "The loss is the model's own, so it does not compare between models."),
        ("histogram.png", "Errors of faces", "Each face is predicted by networks that did not train on its fold."),
    ]
    if skeleton.num_points == 1:
        return figures
    charts.draw_point_errors(out / "points.png", results.points(ENSEMBLE, "oof"), truth, skeleton)
    return [*figures, ("points.png", "Errors of points", "The ensemble's mean distance to the truth, out of fold.")]


def _draw_faces(out: Path, results: Results, skeleton: Skeleton) -> list[Figure]:
    """Draw the worst and the best train faces, and test faces at random, where there are any."""
    oof = results.points(ENSEMBLE, "oof")
    for name, worst in (("worst.png", True), ("best.png", False)):
        faces.draw_extremes(out / name, results.train, oof, skeleton, worst=worst, count=NUM_FACES)
    figures = [
        ("worst.png", "Worst faces", "The ensemble, out of fold. Look for wrong labels too."),
        ("best.png", "Best faces", "The ensemble, out of fold."),
    ]
    captions = {row: f"face {row}" for row in _random_rows(len(results.test), NUM_TEST_FACES).tolist()}
    if not captions:
        return figures
    title = "Test faces: prediction red" if results.solution is None else "Test faces: truth green, prediction red"
    points = results.points(ENSEMBLE, "test")
    faces.draw_faces(out / "test.png", results.test, captions, points, skeleton, results.solution, title)
    return [*figures, ("test.png", "Test faces", "The ensemble, on faces drawn at random.")]


def _draw_samples(path: Path, title: str, store: CropStore, skeleton: Skeleton, augmentation: Augmentation) -> Figure:
    """Draw random train faces as the training's own loader augments them."""
    rows = _random_rows(len(store), NUM_FACES)
    batches = make_batches(store, augmentation, skeleton.flip, torch.device("cpu"))
    images, points, present = (values.numpy() for values in batches[SEED, rows, slice(None)])
    images = images[:, 0] if store.channels == 1 else images.transpose(0, 2, 3, 1)
    points = np.where(present[..., None], points, np.nan)
    faces.draw_samples(path, images, points, skeleton, [f"face {row}" for row in rows])
    return path.name, title, "Green is the truth; points outside the picture are trained on too."


def _draw_network(out: Path, skeleton: Skeleton, model: str, member: Member) -> list[Figure]:
    """Draw the first filters of a trained network and, where it makes heatmaps, those of random faces."""
    store, run = member.store, member.run
    network, codec, _ = load_model(run)
    figures, filters = [], heatmaps.first_filters(network)
    if filters is not None:
        faces.draw_filters(out / f"filters-{model}.png", filters, model)
        figures.append((f"filters-{model}.png", f"First filters of {model}", f"Of {run.name}."))
    if isinstance(codec, Heatmap):
        rows = _random_rows(len(store), NUM_HEATMAPS)
        maps = heatmaps.compute_heatmaps(network, codec, store, rows)
        faces.draw_heatmaps(out / f"heatmaps-{model}.png", store, maps, skeleton, label=model)
        note = f"Of {run.name}, on train faces drawn at random; white is the decoded point."
        figures.append((f"heatmaps-{model}.png", f"Heatmaps of {model}", note))
    return figures


def _random_rows(size: int, count: int) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).permutation(size)[:count])
