"""Paired bootstrap comparison of two experiments, fold by fold.

Both must have predicted the same faces; the faces are matched by image and box, so their order may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.tables import format_table
from pipeline.evaluation.experiments import Experiment
from pipeline.keypoints.metrics import Difference, face_mae, face_nme, paired_bootstrap

FEWEST = 5  # groups that an interval is drawn from
SHOWN = 3  # examples in a message
FOLDS_DIFFER = "Folds that do not hold the same faces in both are left out; a face that changed its fold counts in all."
HEADS = {"mae": "MAE, px", "nme": "NME, %"}  # of the tables, by the score they show


@dataclass(frozen=True, kw_only=True)
class Row:
    """One score of two models, a and b, on the same faces.

    Attributes:
        score: a key of `HEADS`.
        faces: "fold" and its number, or "all".
        a, b: the score of each; NaN where no face has it.
        interval: a − b with its 95% interval; None where fewer than `FEWEST` groups have the score.
        better: "a" or "b", None where the interval holds 0 or there is none.
    """

    score: str
    faces: str
    a: float
    b: float
    interval: Difference | None

    @property
    def better(self) -> str | None:
        """See the class."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return None
        return "a" if self.interval.difference < 0 else "b"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models.

    Attributes:
        models: the names of a and b.
        a, b: what each is called, with its model where they differ.
        rows: score by score each fold, then all faces.
        folds_differ: whether some folds were left out since they do not hold the same faces in both.
    """

    models: tuple[str, str]
    a: str
    b: str
    rows: list[Row]
    folds_differ: bool


def compare(
    first: Experiment, second: Experiment, models: Sequence[tuple[str, str]] = (), *, seed: int = 0
) -> list[Comparison]:
    """Compare models of two experiments.

    Args:
        models: pairs of a model of the first and one of the second; none: each that both have, and the ensembles.
        seed: of the bootstrap.

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


def match_faces(first: Experiment, second: Experiment) -> np.ndarray:
    """(N,) the row in `second` of each face of `first`.

    Raises:
        UserError: how the faces or their points differ.
    """
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
    rows = [
        _row(score, faces, of_faces[0][chosen], of_faces[1][chosen], weight[chosen], group[chosen], seed)
        for score, (of_faces, weight) in errors.items() for faces, chosen in subsets.items()
    ]
    labels = [label if models[0] == models[1] else f"{label} {model}".removeprefix("workspace ")
              for label, model in zip((first.label, second.label), models, strict=True)]
    return Comparison(models=models, a=labels[0], b=labels[1], rows=rows, folds_differ=len(shared) < len(numbers))


def _row(
    score: str, faces: str, a: np.ndarray, b: np.ndarray, weight: np.ndarray, group: np.ndarray, seed: int
) -> Row:
    """Make a row from the errors of some faces, NaN where a face has none, and how much each face counts."""
    known = np.isfinite(a)
    if not known.any():
        return Row(score=score, faces=faces, a=np.nan, b=np.nan, interval=None)
    means = [float(np.average(errors[known], weights=weight[known])) for errors in (a, b)]
    enough = len(np.unique(group[known])) >= FEWEST
    interval = paired_bootstrap(a, b, group, seed, weight=weight) if enough else None
    return Row(score=score, faces=faces, a=means[0], b=means[1], interval=interval)


def tables(comparison: Comparison) -> list[tuple[list[str], list[list[str]]]]:
    """Make a table for each score, heads and rows: faces, both scores, the difference, its interval, the verdict."""
    found = []
    for score in dict.fromkeys(row.score for row in comparison.rows):
        heads = [HEADS[score], comparison.a, comparison.b, "difference", "95% interval", ""]
        found.append((heads, [_cells(row, comparison) for row in comparison.rows if row.score == score]))
    return found


def _cells(row: Row, comparison: Comparison) -> list[str]:
    a, b = ("–" if np.isnan(value) else f"{value:.3f}" for value in (row.a, row.b))
    if row.interval is None:
        return [row.faces, a, b, "–", "–", "too few groups to say"]
    difference, low, high = (f"{value:+.3f}" for value in row.interval)
    labels = {"a": f"{comparison.a} better", "b": f"{comparison.b} better", None: "no difference shown"}
    return [row.faces, a, b, difference, f"{low} to {high}", labels[row.better]]


def title(comparison: Comparison) -> str:
    """Say what is compared, in a line."""
    models = f"{comparison.models[0]}: " if comparison.models[0] == comparison.models[1] else ""
    return f"{models}{comparison.a} − {comparison.b}"


def format_comparison(comparison: Comparison, style: str = "text") -> str:
    """Render the tables; see `format_table` for `style`."""
    heading = f"**{title(comparison)}**" if style == "markdown" else title(comparison)
    blocks = [heading, *(format_table(heads, body, style) for heads, body in tables(comparison))]
    return "\n\n".join(blocks + [FOLDS_DIFFER] * comparison.folds_differ)


def as_json(comparison: Comparison) -> dict:
    """Give every digit: `models`, `a`, `b`, and score → faces → `a`, `b`, `difference`, `low`, `high`, `better`.

    What does not exist is None.
    """
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
            found.setdefault(HEADS[row.score], {}).setdefault(title(one), {})[row.faces] = row.interval
    return found


def _listed(faces: pd.Index) -> str:
    return ", ".join(faces[:SHOWN]) + (", …" if len(faces) > SHOWN else "")
