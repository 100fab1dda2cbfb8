"""The report: one HTML page with the scores and the pictures of a whole run."""

import shutil
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.common.files import write_text
from pipeline.data.store import CropStore
from pipeline.evaluation.results import Results, tables
from pipeline.keypoints.metrics import face_mae
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models.checkpoint import load_model
from pipeline.plots import charts, faces, heatmaps
from pipeline.training.loader import make_batches

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .3em .9em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
tr:last-child { font-weight: bold }
img { max-width: 100%; height: auto }
figcaption { color: #555; font-size: .9em }
"""

Figure = tuple[str, str, str]  # name of the picture, title, note


def write_report(
    folder: Path, results: Results, metrics: dict, history: pd.DataFrame, skeleton: Skeleton, *,
    trained: Mapping[str, Path], augmentation: dict, aligned: Mapping[str, tuple[CropStore, dict]],
    faces: int = 12, test_faces: int = 24, seed: int = 0,
) -> None:
    """Write `index.html` and the folder `pictures` beside it, which is emptied first.

    Args:
        metrics: see `build_metrics`; history: see `load_history`.
        trained: model → folder of one trained fold of it, to look into.
        augmentation: of the training samples, see `make_batches`.
        aligned: model → its train crops and its augmentation, for those that see aligned crops.
        faces: how many training samples, worst faces and best faces to show.
        test_faces: how many test faces to show, drawn at random.
        seed: of everything that is drawn at random.
    """
    out = folder / "pictures"
    shutil.rmtree(out, ignore_errors=True)
    figures = [
        *_draw_scores(out, results, history, skeleton),
        *_draw_faces(out, results, skeleton, faces),
        *_draw_test(out, results, skeleton, test_faces, seed),
        *_draw_samples(out / "samples.png", "Training samples", results.train, skeleton, augmentation, faces, seed),
    ]
    for model, (store, own) in aligned.items():
        title = f"Training samples of {model}"
        figures += _draw_samples(out / f"samples-{model}.png", title, store, skeleton, own, faces, seed)
    for model, run in trained.items():
        store, _ = aligned.get(model, (results.train, None))
        figures += _draw_network(out, store, skeleton, model, run, seed)
    write_text(folder / "index.html", _page(metrics, results, figures))


def _draw_scores(out: Path, results: Results, history: pd.DataFrame, skeleton: Skeleton) -> list[Figure]:
    truth = results.train.keypoints
    charts.draw_curves(out / "curves.png", history)
    candidates = {"mean shape": results.baseline, **results.models, "ensemble": results.ensemble}
    errors = {label: face_mae(candidate.oof, truth) for label, candidate in candidates.items()}
    charts.draw_histogram(out / "histogram.png", errors)
    figures = [
        ("curves.png", "Training", "The loss is the model's own, so it does not compare between models."),
        ("histogram.png", "Errors of faces", "Each face is predicted by networks that did not train on its fold."),
    ]
    if skeleton.num_points == 1:
        return figures
    charts.draw_point_errors(out / "points.png", results.ensemble.oof, truth, skeleton)
    return [*figures, ("points.png", "Errors of points", "The ensemble's mean distance to the truth, out of fold.")]


def _draw_faces(out: Path, results: Results, skeleton: Skeleton, count: int) -> list[Figure]:
    for name, worst in (("worst.png", True), ("best.png", False)):
        faces.draw_extremes(
            out / name, results.train, results.ensemble.oof, skeleton, worst=worst, count=count)
    return [
        ("worst.png", "Worst faces", "The ensemble, out of fold. Look for wrong labels too."),
        ("best.png", "Best faces", "The ensemble, out of fold."),
    ]


def _draw_test(out: Path, results: Results, skeleton: Skeleton, count: int, seed: int) -> list[Figure]:
    """Faces drawn at random; nothing where there are no test faces."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(results.test))[:count])
    if not len(rows):
        return []
    title = "Test faces: prediction red" if results.solution is None else "Test faces: truth green, prediction red"
    faces.draw_faces(
        out / "test.png", results.test, {row: f"face {row}" for row in rows.tolist()}, results.ensemble.test, skeleton,
        results.solution, title,
    )
    return [("test.png", "Test faces", "The ensemble, on faces drawn at random.")]


def _draw_samples(
    path: Path, title: str, store: CropStore, skeleton: Skeleton, augmentation: dict, count: int, seed: int
) -> list[Figure]:
    """Train faces drawn at random, as the training's own loader augments them."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
    batches = make_batches(store, augmentation, skeleton.flip, torch.device("cpu"))
    images, points, present = (values.numpy() for values in batches[seed, rows, slice(None)])
    images = images[:, 0] if store.channels == 1 else images.transpose(0, 2, 3, 1)
    points = np.where(present[..., None], points, np.nan)
    faces.draw_samples(path, images, points, skeleton, [f"face {row}" for row in rows])
    return [(path.name, title, "Green is the truth; points outside the picture are trained on too.")]


def _draw_network(
    out: Path, store: CropStore, skeleton: Skeleton, model: str, run: Path, seed: int, count: int = 3
) -> list[Figure]:
    """The first filters of a trained network and, where it makes heatmaps, those of `count` random faces."""
    network, codec, _ = load_model(run)
    figures, filters = [], heatmaps.first_filters(network)
    if filters is not None:
        faces.draw_filters(out / f"filters-{model}.png", filters, model)
        figures.append((f"filters-{model}.png", f"First filters of {model}", f"Of {run.name}."))
    if codec.spatial:
        rows = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
        maps = heatmaps.compute_heatmaps(network, codec, store, rows)
        faces.draw_heatmaps(out / f"heatmaps-{model}.png", store, maps, skeleton, label=model)
        note = f"Of {run.name}, on train faces drawn at random; white is the decoded point."
        figures.append((f"heatmaps-{model}.png", f"Heatmaps of {model}", note))
    return figures


def _page(metrics: dict, results: Results, figures: list[Figure]) -> str:
    scores = "\n".join(_table(*found) for found in tables(metrics, results.folds))
    shown = "\n".join(
        f"<h2>{title}</h2>\n<figure><img src='pictures/{name}' alt='{title}'><figcaption>{note}</figcaption></figure>"
        for name, title, note in figures
    )
    return (
        f"<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n<title>keypoint-folds: report</title>\n"
        f"<style>{STYLE}</style>\n<h1>keypoint-folds</h1>\n<p>MAE is the mean error of x and y in pixels of the photo, "
        "NME the mean distance over the outer-eye distance, RMSE the root of the mean squared error of x and y. Every "
        f"face is scored by networks that did not see its group; OOF pools all faces.</p>\n{scores}\n{shown}\n</html>\n"
    )


def _table(heads: list[str], body: list[list[str]]) -> str:
    rows = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in heads)}</tr>"]
    rows += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body]
    return "<table>\n" + "\n".join(rows) + "\n</table>"
