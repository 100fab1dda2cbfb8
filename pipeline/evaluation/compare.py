"""Paired bootstrap comparison of two experiments, fold by fold.

Both must have predicted the same faces; the faces are matched by image and box, so their order may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, product
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.tables import Style, format_table
from pipeline.evaluation.experiments import Experiment, open_experiment, parse_side
from pipeline.evaluation.results import ENSEMBLE
from pipeline.keypoints.metrics import Difference, face_mae, face_nme, paired_bootstrap

FEWEST = 5  # groups that an interval is drawn from
SHOWN = 3  # examples in a message
FOLDS_DIFFER = "Folds that do not hold the same faces in both are left out; a face that changed its fold counts in all."
HEADS = {"mae": "MAE, px", "nme": "NME, %"}  # of the tables, by the score they show


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score, a key of `HEADS`, of two models on the same faces: "fold" and its number, or "all".

    a and b are NaN where no face has the score; the interval of a − b is None where fewer than `FEWEST` groups have it.
    """

    score: str
    faces: str
    a: float
    b: float
    interval: Difference | None

    @property
    def better(self) -> str | None:
        """The better one, "a" or "b"; None where the interval holds 0 or there is none."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return None
        return "a" if self.interval.difference < 0 else "b"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models: their names, what each is called, and score by score each fold, then all faces.

    `folds_differ` tells whether some folds were left out since they do not hold the same faces in both, `same` whether
    both predicted the same points.
    """

    models: tuple[str, str]
    a: str
    b: str
    rows: list[Row]
    folds_differ: bool
    same: bool

    @property
    def title(self) -> str:
        """What is compared, in a line."""
        return f"{self.models[0]}: " * (self.models[0] == self.models[1]) + f"{self.a} − {self.b}"


def compare(
    first: Experiment, second: Experiment, models: Sequence[tuple[str, str]] = (), *, seed: int = 0
) -> list[Comparison]:
    """Compare pairs of a model of the first and one of the second, by default each that both have, and the ensembles.

    `seed` is that of the bootstrap.

    Raises:
        UserError: an experiment does not have its model, or they do not have the same faces with the same points.
    """
    problems = [f"{side.label} has no model {name!r}; it has {', '.join(side.models)}"
              for pair in models for side, name in zip((first, second), pair, strict=True) if name not in side.models]
    if problems:
        raise UserError(*dict.fromkeys(problems))
    order = match_faces(first, second)
    shared = [(model, model) for model in first.models if model in second.models]
    return [_compare(first, second, pair, order, seed) for pair in models or shared]


@dataclass(frozen=True, kw_only=True)
class Other:
    """What the ensemble of the workspace is compared with.

    Attributes:
        name: WHERE:MODEL.
        points: (N, K, 2) out of fold, image pixels, in the order of the workspace's train faces.
        tables: HTML of `format_comparison`.
    """

    name: str
    points: np.ndarray
    tables: str


def compare_workspace(text: str) -> Other:
    """Compare the workspace's ensemble with WHERE[:MODEL], by default with the ensemble there; see `compare`."""
    where, model = parse_side(text)
    with TemporaryDirectory() as folder:
        here, there = open_experiment(".", Path(folder)), open_experiment(where, Path(folder))
        found = compare(here, there, [(ENSEMBLE, model or ENSEMBLE)])[0]
        points = there.oof(model or ENSEMBLE)[match_faces(here, there)]
    return Other(name=f"{where}:{model or ENSEMBLE}", points=points, tables=format_comparison(found, "html"))


def match_faces(first: Experiment, second: Experiment) -> np.ndarray:
    """(N,) the row in `second` of each face of `first`; a UserError says how the faces or their points differ."""
    problems = []
    for one, other in ((first, second), (second, first)):
        if len(alone := one.faces.difference(other.faces, sort=False)):
            problems.append(f"{len(alone)} of the {len(one.faces)} train faces of {one.label} are not in "
                            f"{other.label}: {_listed(alone)}")
    if problems:
        raise UserError(*problems, "only experiments on the same faces can be compared")
    order = second.faces.get_indexer(first.faces)
    if first.truth.shape != second.truth.shape:
        raise UserError(f"{first.label} has {first.truth.shape[1]} points a face and {second.label} "
                        f"{second.truth.shape[1]}; only experiments on the same points can be compared")
    same = np.isclose(first.truth, second.truth[order], rtol=0, atol=1e-3, equal_nan=True).all((1, 2))
    if not same.all():
        raise UserError(f"{first.label} and {second.label} have other true points for {(~same).sum()} faces: "
                        f"{_listed(first.faces[~same])}; only experiments on the same labels can be compared")
    return order


def _compare(
    first: Experiment, second: Experiment, models: tuple[str, str], order: np.ndarray, seed: int
) -> Comparison:
    points = first.oof(models[0]), second.oof(models[1])[order]
    truth, fold, other_fold = first.truth, first.fold, second.fold[order]
    group = min(first.group, second.group[order], key=lambda own: len(np.unique(own)))  # the coarser of the two
    numbers = np.unique(fold)
    shared = [number for number in numbers if np.array_equal(fold == number, other_fold == number)]
    subsets = {f"fold {number}": fold == number for number in shared} | {"all": np.ones(len(fold), bool)}
    errors = {"mae": ([face_mae(one, truth) for one in points], np.isfinite(truth).all(-1).sum(-1))}
    if first.eyes is not None and first.eyes == second.eyes:
        errors["nme"] = ([face_nme(one, truth, first.eyes) for one in points], np.ones(len(truth)))
    rows = []
    for (score, (pair, weight)), (faces, chosen) in product(errors.items(), subsets.items()):
        known = chosen & np.isfinite(pair[0])
        means = [float(np.average(one[known], weights=weight[known])) if known.any() else np.nan for one in pair]
        interval = None
        if len(np.unique(group[known])) >= FEWEST:
            interval = paired_bootstrap(pair[0][known], pair[1][known], group[known], seed, weight=weight[known])
        rows.append(Row(score=score, faces=faces, a=means[0], b=means[1], interval=interval))
    labels = [label if models[0] == models[1] else f"{label} {model}".removeprefix("workspace ")
              for label, model in zip((first.label, second.label), models, strict=True)]
    return Comparison(models=models, a=labels[0], b=labels[1], rows=rows, folds_differ=len(shared) < len(numbers),
                      same=np.array_equal(*points))


def _cells(row: Row, comparison: Comparison) -> list[str]:
    a, b = ("–" if np.isnan(value) else f"{value:.3f}" for value in (row.a, row.b))
    if row.interval is None:
        return [row.faces, a, b, "–", "–", "too few groups to say"]
    difference, low, high = (f"{value:+.3f}" for value in row.interval)
    labels = {"a": f"{comparison.a} better", "b": f"{comparison.b} better", None: "no difference shown"}
    return [row.faces, a, b, difference, f"{low} to {high}", labels[row.better]]


def format_comparison(comparison: Comparison, style: Style = "text") -> str:
    """Render a table for each score: faces, both scores, the difference, its interval, the verdict."""
    marks = {"markdown": "**{}**", "html": "<h3>{}</h3>"}
    blocks = [marks.get(style, "{}").format(escape(comparison.title) if style == "html" else comparison.title)]
    if comparison.same:
        return f"{blocks[0]}: the same predictions"
    for score, rows in groupby(comparison.rows, attrgetter("score")):
        heads = [HEADS[score], comparison.a, comparison.b, "difference", "95% interval", ""]
        blocks.append(format_table(heads, [_cells(row, comparison) for row in rows], style))
    return "\n\n".join(blocks + [FOLDS_DIFFER] * comparison.folds_differ)


def as_json(comparison: Comparison) -> dict:
    """Give every digit: `models`, `a`, `b`, and score → faces → a `Row`; what does not exist is None."""
    scores: dict = {}
    for row in comparison.rows:
        interval = row.interval._asdict() if row.interval else dict.fromkeys(Difference._fields)
        values = {"a": row.a, "b": row.b, **interval, "better": row.better}
        scores.setdefault(row.score, {})[row.faces] = {
            name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}
    return {"models": list(comparison.models), "a": comparison.a, "b": comparison.b, **scores}


def panels(comparisons: Sequence[Comparison]) -> dict[str, dict[str, dict[str, Difference | None]]]:
    """Give what `plots.draw_differences` shows: head of a score → title → faces → the difference."""
    found: dict = {}
    for one in comparisons:
        for row in one.rows:
            found.setdefault(HEADS[row.score], {}).setdefault(one.title, {})[row.faces] = row.interval
    return found


def _listed(faces: pd.Index) -> str:
    return ", ".join(faces[:SHOWN]) + (", …" if len(faces) > SHOWN else "")
