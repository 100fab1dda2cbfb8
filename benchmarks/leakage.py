"""What the labels of a fold do to its own out-of-fold points, which they reach through the locator alone.

A member that holds out a fold trains on upright crops which locators have placed that saw the labels of this fold, as
each of them held out another one; and the mean face that all crops are laid on is one of all labels.
"""

import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import pandas as pd

from pipeline.common.paths import Paths
from pipeline.data.align import mean_face, write_aligned
from pipeline.data.annotations import formats
from pipeline.data.folds import read_folds
from pipeline.data.store import CropStore
from pipeline.inference.ensemble import model_points
from pipeline.inference.predict import load_predictor
from pipeline.keypoints.metrics import face_nme, paired_bootstrap
from pipeline.models.device import make_runtime
from pipeline.params import Params, load_params
from pipeline.training.train import train_fold
from stages.cli import PATHS


@click.command()
@click.option("--member", help="The model whose points are looked at.  [default: the last of align.models]")
@click.option("--shift", default=0.1, show_default=True, help="How far to move labels down, in heights of the box.")
@click.option("--seeds", default=1, show_default=True, help="How many seeds to measure nested placement with.")
def main(member: str | None, shift: float, seeds: int) -> None:
    """Measure the leak in two ways, where `dvc repro` ran on params with a locator.

    The labels of the first fold are moved down, and the cascade is trained anew: how far do this fold's out-of-fold
    points move? Then each member is trained on crops that no locator has placed that saw its fold (nested placement):
    how much larger is its out-of-fold error? Such a locator has a fold less to train on, so the same is done with
    others that have as few, its fold among them. Intervals are a paired bootstrap over groups, 95%.
    """
    params = load_params(PATHS.params)
    if not params.align.locator:
        raise click.UsageError("align.locator is empty; run it where a preset with a locator ran")
    with tempfile.TemporaryDirectory() as folder:
        cascade = Cascade(params=params, member=member or params.align.models[-1], work=Path(folder))
        first = params.split.folds[0]
        moved = cascade.shifted(first, shift)
        click.echo(f"Labels of fold {first} moved by {shift:+.4f} box heights: its points move by "
                   f"{moved.mean():+.4f} (standard error {moved.std(ddof=1) / len(moved) ** 0.5:.4f})")
        plain = cascade.errors(cascade.points(cascade.member))
        click.echo(f"{cascade.member}, OOF NME: {plain.mean():.3f}%")
        found = []
        for seed in range(seeds):
            again = replace(cascade, seed=seed)
            nested, control = (again.errors(again.placed_by_fewer(saw_fold)) for saw_fold in (False, True))
            found.append(paired_bootstrap(nested, control, cascade.table.group.to_numpy(), seed=0))
            click.echo(f"seed {seed}: nested placement {nested.mean():.3f}%, locators of as few faces that saw the "
                       f"fold {control.mean():.3f}%, difference {found[-1].difference:+.3f} ({found[-1].low:+.3f} to "
                       f"{found[-1].high:+.3f}); by fold " + ", ".join(
                           f"{each:+.3f}" for each in pd.Series(nested - control).groupby(cascade.table.fold).mean()))
        differences = np.array([each.difference for each in found])
        if seeds > 1:
            click.echo(f"difference {differences.mean():+.3f} ± {differences.std(ddof=1):.3f} over {seeds} seeds")


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """The locator and a member of a finished run, to be trained anew in the folder `work`."""

    params: Params
    member: str
    work: Path
    seed: int = 0

    @cached_property
    def store(self) -> CropStore:
        """The box crops of the train faces."""
        return CropStore.open(PATHS.crops / "train")

    @cached_property
    def table(self) -> pd.DataFrame:
        """Group and fold of each face."""
        return read_folds(PATHS.folds, len(self.store))

    def points(self, model: str) -> np.ndarray:
        """(N, K, 2) out-of-fold points of the finished run, image pixels."""
        return model_points(PATHS, model, self.params.split.folds, "oof")

    def errors(self, points: np.ndarray) -> np.ndarray:
        """(N,) NME in percent."""
        return face_nme(points, self.store.truth, self.params.data.skeleton.eyes)

    def shifted(self, fold: int, shift: float) -> np.ndarray:
        """Move the labels of `fold` down; return how far each of its out-of-fold points moves, in box heights."""
        own, height = self.table.fold == fold, self.store.faces.height.to_numpy()
        labels, crops = self.store.truth.copy(), self.work / "crops"
        labels[own, :, 1] += shift * height[own, None]
        shutil.copytree(PATHS.crops / "train", crops)
        np.save(crops / "keypoints.npy", labels)
        placed = self.points(self.locator)
        for other in self.params.split.folds:
            rows = self.table.fold == other
            if other != fold:
                placed[rows] = self.fit(self.locator, crops, rows, other)
        found = self.place_and_fit(placed, labels, fold)
        return ((found - self.points(self.member)[own])[..., 1] / height[own, None]).mean(1)

    @cached_property
    def pairs(self) -> dict[frozenset[int], tuple[pd.Series, np.ndarray]]:
        """Rows of each pair of folds, and their points by a locator that saw neither fold."""
        found = {}
        for pair in combinations(self.params.split.folds, 2):
            rows = self.table.fold.isin(pair)
            found[frozenset(pair)] = (rows, self.fit(self.locator, PATHS.crops / "train", rows, pair[0]))
        return found

    def placed_by_fewer(self, saw_fold: bool) -> np.ndarray:
        """(N, K, 2) out-of-fold points of the member, a fold's training faces placed by locators that saw it, or not.

        A training face is placed by one that did not see the face's own fold, either. Each fold has one of its own.
        """
        folds, fold = self.params.split.folds, self.table.fold
        result = np.empty_like(self.store.truth)
        for own in folds:
            placed = self.points(self.locator)
            for other in set(folds) - {own}:
                after = folds[folds.index(other) + 1:] + folds
                third = next(each for each in after if each not in (own, other))
                rows, points = self.pairs[frozenset((third if saw_fold else own, other))]
                placed[fold == other] = points[fold[rows] == other]
            result[fold == own] = self.place_and_fit(placed, self.store.truth, own)
        return result

    @property
    def locator(self) -> str:
        """The model that places the upright crops."""
        return self.params.align.locator[0]

    def place_and_fit(self, placed: np.ndarray, labels: np.ndarray, fold: int) -> np.ndarray:
        """Cut all faces by the points `placed` and train the member; return its points of the faces of `fold`."""
        data, crops = self.params.data, self.work / "aligned"
        annotations = formats.read_parts(Path(data.root), data.train, data.test, data.layout())["train"]
        write_aligned(annotations, Path(data.root), crops, placed, mean_face(labels, data.skeleton.flip),
                      self.params.aligned_crop(), data.label_offset())
        return self.fit(self.member, crops, self.table.fold == fold, fold)

    def fit(self, model: str, crops: Path, held_out: pd.Series, fold: int) -> np.ndarray:
        """Train a model, with the seed of `fold`, on the faces not `held_out`; return its points of those that are."""
        train, paths, recipe = self.params.train, Paths(self.work), self.params.recipe(model)
        recipe = replace(recipe, seed=recipe.seed + 100 * self.seed)
        flip, runtime = self.params.data.skeleton.flip, make_runtime(train.device, train.precision, train.threads)
        paths.folds.parent.mkdir(exist_ok=True)
        self.table.assign(fold=np.where(held_out, fold, -1)).to_csv(paths.folds, index=False)
        train_fold(paths, crops, model, fold, recipe=recipe, skeleton=self.params.data.skeleton, runtime=runtime)
        store, rows = CropStore.open(crops), np.flatnonzero(held_out)
        predictor = load_predictor(paths.run(model, fold), store, flip_indices=flip, runtime=runtime,
                                   tta=self.params.predict)
        return predictor.predict(store, rows, f"{model}-{fold}").points


if __name__ == "__main__":
    main()
