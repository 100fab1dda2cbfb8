"""The report: one HTML page with the scores and the pictures of a whole run."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import plots
from pipeline.files import write_text
from pipeline.metrics import Results, table
from pipeline.scoring import face_mae
from pipeline.skeleton import Skeleton

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .3em .9em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
tr:last-child { font-weight: bold }
img { max-width: 100%; height: auto }
figcaption { color: #555; font-size: .9em }
"""

PICTURES = {
    "curves.png": ("Training", "A line a fold. The loss is the model's own, so it does not compare between models."),
    "histogram.png": ("Errors of faces", "Each face is predicted by networks that did not train on its fold."),
    "points.png": ("Errors of points", "The ensemble's mean distance to the truth, out of fold."),
    "worst.png": ("Worst faces", "The ensemble, out of fold. Look for wrong labels too."),
    "best.png": ("Best faces", "The ensemble, out of fold."),
    "test.png": ("Test faces", "The ensemble, on faces drawn at random. Green is the truth, where it is known."),
}


def write_report(
    folder: Path, results: Results, metrics: dict, history: pd.DataFrame, skeleton: Skeleton, *,
    faces: int = 12, test_faces: int = 24, seed: int = 0,
) -> None:
    """Write `index.html` and the folder `pictures` beside it.

    Args:
        metrics: see `build_metrics`; history: see `load_history`.
        faces: how many of the worst and of the best faces to show.
        test_faces: how many test faces to show, drawn at random with `seed`.
    """
    pictures, store, points = folder / "pictures", results.train, results.ensemble.oof
    plots.draw_curves(pictures / "curves.png", history)
    candidates = {"mean shape": results.baseline, **results.models, "ensemble": results.ensemble}
    errors = {label: face_mae(candidate.oof, store.keypoints) for label, candidate in candidates.items()}
    plots.draw_histogram(pictures / "histogram.png", errors)
    plots.draw_point_errors(pictures / "points.png", points, store.keypoints, skeleton)
    for name, worst in (("worst.png", True), ("best.png", False)):
        plots.draw_extremes(pictures / name, store, points, skeleton, worst=worst, count=faces)
    chosen = np.random.default_rng(seed).permutation(len(results.test))[:test_faces]
    plots.draw_faces(
        pictures / "test.png", results.test, np.sort(chosen), results.ensemble.test, skeleton,
        truth=results.solution, captions=[f"face {row}" for row in np.sort(chosen)],
    )
    write_text(folder / "index.html", _page(metrics, results.folds))


def _page(metrics: dict, folds: Sequence[int]) -> str:
    tables = "\n".join(_table(*table(metrics, name, folds)) for name in ("mae", "nme"))
    figures = "\n".join(
        f"<h2>{title}</h2>\n<figure><img src='pictures/{name}' alt='{title}'><figcaption>{note}</figcaption></figure>"
        for name, (title, note) in PICTURES.items()
    )
    return (
        f"<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n<title>keypoint-folds: report</title>\n"
        f"<style>{STYLE}</style>\n<h1>keypoint-folds</h1>\n<p>MAE is the mean error of x and y in pixels of the photo, "
        "NME the mean distance over the outer-eye distance. Every face is scored by networks that did not see its "
        f"group; OOF pools all faces.</p>\n{tables}\n{figures}\n</html>\n"
    )


def _table(heads: list[str], body: list[list[str]]) -> str:
    rows = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in heads)}</tr>"]
    rows += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body]
    return "<table>\n" + "\n".join(rows) + "\n</table>"
