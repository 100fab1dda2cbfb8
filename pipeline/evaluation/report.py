"""Report of a whole run: one HTML page that needs no other file, and the suspected label errors.

Legend: N train faces, K points; errors (N, K) are out of fold, in percent of a size of the face.
"""

import base64
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import torch

from pipeline.common.files import write_text
from pipeline.common.tables import format_table
from pipeline.data.store import CropStore
from pipeline.evaluation import breakdown, gallery
from pipeline.evaluation.compare import Other
from pipeline.evaluation.intervals import calibration
from pipeline.evaluation.results import BASELINE, ENSEMBLE, Results, format_members, format_scores
from pipeline.evaluation.suspects import find_suspects, write_suspects
from pipeline.inference.intervals import face_size
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.geometry import finite_mean
from pipeline.keypoints.metrics import face_mae
from pipeline.keypoints.skeleton import Skeleton, segments
from pipeline.models.checkpoint import load_model
from pipeline.models.codecs import Heatmap
from pipeline.plots import charts, faces, heatmaps
from pipeline.training.loader import make_batches
from pipeline.training.settings import Augmentation

NUM_FACES = 12  # training samples that are shown
NUM_TEST_FACES = 24
NUM_HEATMAPS = 3
SEED = 0  # of everything that is drawn at random
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of the intervals whose calibration is shown
COLORS = ("#35a7ff", "#ffd21f", "#d56bff", "#ff9d2e", "#4ff0e6", "#ff7ab8")  # of the members' points, in turn
OTHER = "#ffffff"  # of the points of another experiment
TRUTH = "truth"  # the layer of the gallery

Picture = tuple[str, str, str]  # file name, title, note


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model to look into: the folder of one trained fold, the train crops that it sees, and their augmentation."""

    run: Path
    store: CropStore
    augmentation: Augmentation


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the page shows.

    Attributes:
        metrics: see `build_metrics`; history: see `load_history`.
        shown: the train and the test part of the crops that the gallery shows: those of `results`, or upright ones.
        members: all that were trained, by model.
        review: see `review_table`: the test faces that a person should look at.
        facts: what was run, name → text; times: see `training_times`; changes: see `changed_params`.
        root: the data folder, which the images' names are relative to.
        other: an experiment to compare the ensemble with, or None.
    """

    results: Results
    metrics: dict
    history: pd.DataFrame
    skeleton: Skeleton
    shown: tuple[CropStore, CropStore]
    members: Mapping[str, Member]
    review: pd.DataFrame
    facts: Mapping[str, str]
    times: pd.DataFrame
    changes: tuple[str, list[tuple[str, str, str]]]
    root: Path
    other: Other | None = None

    @property
    def truth(self) -> np.ndarray:
        """(N, K, 2) image pixels, NaN where missing."""
        return self.results.train.truth

    @cached_property
    def oof(self) -> Predictions:
        """The ensemble's predictions out of fold, in the order of the crop store."""
        return Predictions.load(self.results.paths.ensemble / "oof.npz").by_face()

    @cached_property
    def points(self) -> dict[str, np.ndarray]:
        """Points (N, K, 2) out of fold of the mean shape, every model and the ensemble."""
        return {name: self.results.points(name, "oof") for name in (BASELINE, *self.results.models, ENSEMBLE)}

    @cached_property
    def scale(self) -> tuple[np.ndarray, str]:
        """What errors are divided by: see `error_scale`."""
        return breakdown.error_scale(self.truth, self.results.train.faces, self.skeleton.eyes)

    @cached_property
    def errors(self) -> dict[str, np.ndarray]:
        """Errors of `points`."""
        return {name: breakdown.relative_errors(own, self.truth, self.scale[0]) for name, own in self.points.items()}

    @cached_property
    def face_error(self) -> np.ndarray:
        """(N,) the ensemble's mean error of each face."""
        return finite_mean(self.errors[ENSEMBLE])

    @cached_property
    def levels(self) -> pd.DataFrame:
        """The calibration of the intervals."""
        return calibration(self.oof, self.results.train, self.results.fold, LEVELS)

    @cached_property
    def suspects(self) -> pd.DataFrame:
        """See `find_suspects`."""
        members = [self.points[name] for name in self.results.members]
        return find_suspects(self.oof, members, self.truth, self.scale[0])


def write_report(path: Path, run: Run) -> str:
    """Write the page, and `suspects.csv` and `suspects.xml` beside it; sum up in a line what was written."""
    folder, other = path.parent, run.other
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        figures = {chart.stem: charts.inline_svg(chart) for chart in _draw_charts(work, run)}
        pictures = [(_data_uri(work / file), title, note) for file, title, note in _draw_pictures(work, run)]
    data = gallery.pack(list(_parts(run)))
    on_disk = all((run.root / image).is_file() for image in run.results.train.faces.image[:1])
    colors = {TRUTH: faces.TRUTH, ENSEMBLE: faces.PREDICTED} | ({other.name: OTHER} if other else {})
    colors |= zip(run.results.members, COLORS * 10, strict=False)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # the order of the keys as it is
    page = environment.get_template("report.html.j2").render(
        run=run, data=data | {
            "names": run.skeleton.names, "edges": segments(run.skeleton), "unit_name": run.scale[1],
            "colors": colors, "other": other and other.name,
            "root": Path(os.path.relpath(run.root, folder)).as_posix() if on_disk else None},
        tables=_tables(run), figures=figures, pictures=pictures, limit=breakdown.LIMIT, most=gallery.MOST,
    )
    write_suspects(folder, run.suspects, run.results.train, run.errors[ENSEMBLE])
    write_text(path, page + "\n")
    return (f"{path}: {len(data['faces']['face'])} faces to look at, test faces to review among them; "
            f"{folder / 'suspects.csv'}: {len(run.suspects)} suspected label errors")


def _parts(run: Run) -> Iterator[gallery.Part]:
    """Choose what the gallery shows: train faces, the worst if they are too many, and the test faces to review."""
    results, names = run.results, [ENSEMBLE, *run.results.members]
    error, spread = run.face_error, run.oof.spread.mean(1)
    train = _columns(results.train.faces, results.fold.astype(str), error, spread / run.scale[0])
    train["mae"] = face_mae(run.points[ENSEMBLE], run.truth).round(3)
    train["suspect"] = pd.Series(run.suspects.times.to_numpy(), index=run.suspects.face)
    rows = np.sort(np.argsort(-np.nan_to_num(error, nan=-1), kind="stable")[: gallery.MOST])
    layers = {TRUTH: run.truth}
    if other := run.other:
        before = finite_mean(breakdown.relative_errors(other.points, run.truth, run.scale[0]))
        train["change"], layers[other.name] = (error - before).round(3), other.points
    layers |= {name: run.points[name] for name in names}
    yield gallery.Part(store=run.shown[0], rows=rows, layers=layers, table=train)
    if not len(run.review):
        return
    layers = {name: results.points(name, "test") for name in names}
    known = results.solution is not None
    layers[TRUTH] = np.full_like(layers[ENSEMBLE], np.nan) if results.solution is None else results.solution
    if other:
        layers[other.name] = np.full_like(layers[ENSEMBLE], np.nan)
    scale, _ = breakdown.error_scale(layers[TRUTH if known else ENSEMBLE], results.test.faces, run.skeleton.eyes)
    error = finite_mean(breakdown.relative_errors(layers[ENSEMBLE], layers[TRUTH], scale))
    spread = Predictions.load(results.paths.ensemble / "test.npz").by_face().spread.mean(1)
    test = _columns(results.test.faces, "test", error, spread / scale)
    test["mae"] = face_mae(layers[ENSEMBLE], layers[TRUTH]).round(3)
    yield gallery.Part(store=run.shown[1], rows=run.review.face.to_numpy(), layers=layers, table=test)


def _columns(table: pd.DataFrame, fold: np.ndarray | str, error: np.ndarray, spread: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"face": table.face, "image": table.image, "source": table.source.astype(str), "fold": fold,
                         "box": face_size(table).round(), "error": error.round(3), "spread": (100 * spread).round(3)})


def _tables(run: Run) -> dict[str, Any]:
    """Render the tables of the page: title → HTML, and `parts`: title → HTML."""
    cumulative = pd.DataFrame({name: [np.nanmedian(own), *(100 * share for share in breakdown.cumulative_scores(own))]
                               for name, own in ((name, finite_mean(own)) for name, own in run.errors.items())}).T
    cumulative.columns = pd.Index(["median error, %", f"AUC to {breakdown.LIMIT:g}%, %", "failure rate, %"])
    levels = run.levels.assign(stated=(100 * run.levels.stated).map("{:g}%".format), within=100 * run.levels.within)
    shown = {name: own for name, own in run.errors.items() if name != BASELINE}
    parts = breakdown.break_down(shown, run.truth, run.results.train.faces, run.skeleton)
    return {
        "scores": format_scores(run.metrics, run.results.folds, "html"),
        "members": format_members(run.metrics["pairs"], "html"),
        "times": _html(run.times),
        "cumulative": _html(cumulative),
        "calibration": _html(levels.set_index("stated"), "stated", ["within, %", "mean radius, px"]),
        "parts": {title: _html(table, title) for title, table in parts.items()},
    }


def _html(table: pd.DataFrame, name: str = "", heads: list[str] | None = None) -> str:
    rows = [[str(label), *((f"{cell:.2f}" if np.isfinite(cell) else "–") if isinstance(cell, float) else str(cell)
                           for cell in row)]
            for label, row in zip(table.index, table.itertuples(index=False, name=None), strict=True)]
    return format_table([name, *(heads or table.columns)], rows, "html")


def _draw_charts(out: Path, run: Run) -> Iterator[Path]:
    """Draw the charts that the page holds as SVG: cumulative errors, histogram, points, calibration, training."""
    by_face = {name: finite_mean(own) for name, own in run.errors.items()}
    charts.draw_cumulative(out / "cumulative.svg", by_face, breakdown.LIMIT, run.scale[1])
    charts.draw_histogram(out / "histogram.svg", {name: face_mae(own, run.truth) for name, own in run.points.items()})
    charts.draw_calibration(out / "calibration.svg", run.levels.stated.to_numpy(), run.levels.within.to_numpy())
    charts.draw_curves(out / "curves.svg", run.history)
    yield from (out / f"{name}.svg" for name in ("cumulative", "histogram", "calibration", "curves"))
    if run.skeleton.num_points > 1:
        charts.draw_point_errors(out / "points.svg", run.points[ENSEMBLE], run.truth, run.skeleton)
        yield out / "points.svg"


def _draw_pictures(out: Path, run: Run) -> Iterator[Picture]:
    """Draw test faces at random, training samples, filters and heatmaps."""
    results = run.results
    captions = {row: f"face {row}" for row in _random_rows(len(results.test), NUM_TEST_FACES).tolist()}
    if captions:
        title = "Test faces: prediction red" + ", truth green" * (results.solution is not None)
        points = results.points(ENSEMBLE, "test")
        faces.draw_faces(out / "test.webp", results.test, captions, points, run.skeleton, results.solution, title)
        yield "test.webp", "Test faces", "The ensemble, on faces drawn at random."
    seen: list[tuple[CropStore, Augmentation]] = []
    for model, member in run.members.items():
        if not any(member.store is store and member.augmentation == other for store, other in seen):
            seen.append((member.store, member.augmentation))
            _draw_samples(out / f"samples-{model}.webp", member, run.skeleton)
            note = "Green is the truth; points outside the picture are trained on too."
            yield f"samples-{model}.webp", f"Training samples of {model}", note
    for model, member in run.members.items():
        yield from _draw_network(out, run.skeleton, model, member)


def _draw_samples(path: Path, member: Member, skeleton: Skeleton) -> None:
    """Draw random train faces as the training's own loader augments them."""
    store = member.store
    rows = _random_rows(len(store), NUM_FACES)
    batches = make_batches(store, member.augmentation, skeleton.flip, torch.device("cpu"))
    images, points, present = (values.numpy() for values in batches[SEED, rows, slice(None)])
    images = images[:, 0] if store.channels == 1 else images.transpose(0, 2, 3, 1)
    points = np.where(present[..., None], points, np.nan)
    faces.draw_samples(path, images, points, skeleton, [f"face {row}" for row in rows])


def _draw_network(out: Path, skeleton: Skeleton, model: str, member: Member) -> Iterator[Picture]:
    """Draw the first filters of a trained network and, where it makes heatmaps, those of random faces."""
    store, run = member.store, member.run
    network, codec, _ = load_model(run)
    filters = heatmaps.first_filters(network)
    if filters is not None:
        faces.draw_filters(out / f"filters-{model}.webp", filters, model)
        yield f"filters-{model}.webp", f"First filters of {model}", f"Of {run.name}."
    if isinstance(codec, Heatmap):
        rows = _random_rows(len(store), NUM_HEATMAPS)
        maps = heatmaps.compute_heatmaps(network, codec, store, rows)
        faces.draw_heatmaps(out / f"heatmaps-{model}.webp", store, maps, skeleton, label=model)
        note = f"Of {run.name}, on train faces drawn at random; white is the decoded point."
        yield f"heatmaps-{model}.webp", f"Heatmaps of {model}", note


def _data_uri(path: Path) -> str:
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _random_rows(size: int, count: int) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).permutation(size)[:count])
