"""Out-of-fold predictions of a workspace, a copy of one, a git revision or a DVC experiment.

Legend: N train faces, K points, in image pixels; NaN where the truth is missing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.data.annotations import BOX
from pipeline.data.folds import read_folds
from pipeline.evaluation.results import ENSEMBLE
from pipeline.inference.predictions import Predictions
from pipeline.params import load_names

PATHS = Paths()

Locate = Callable[[Path], Path]  # path relative to a workspace → where this file lies on disk


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One side of a comparison.

    Attributes:
        models: those that its params train, and the ensemble; eyes: see `Skeleton`.
        faces: (N,) image and box of each train face, no two alike.
        truth: (N, K, 2); fold, group: (N,).
        locate: finds the files of its predictions.
    """

    label: str
    models: Sequence[str]
    eyes: tuple[int, int] | None
    faces: pd.Index
    truth: np.ndarray
    fold: np.ndarray
    group: np.ndarray
    locate: Locate

    def oof(self, model: str) -> np.ndarray:
        """Read the out-of-fold points (N, K, 2) of a model; a UserError where they are not those of the train faces."""
        if model == ENSEMBLE:
            found = Predictions.load(self.locate(PATHS.ensemble / "oof.npz")).by_face()
        else:
            files = [self.locate(PATHS.run(model, fold) / "oof.npz") for fold in np.unique(self.fold)]
            found = Predictions.pool([Predictions.load(file) for file in files])
        if not np.array_equal(found.face, np.arange(len(self.truth))) or found.points.shape != self.truth.shape:
            raise UserError(f"{self.label}: the predictions of {model} are not those of its {len(self.truth)} train "
                            "faces; run `dvc repro` there")
        return found.points


def parse_side(text: str) -> tuple[str, str | None]:
    """Split WHERE[:MODEL], as `stages.compare` takes it; the workspace is a dot."""
    where, colon, model = text.rpartition(":")
    if not colon or Path(text).exists() or not re.fullmatch("[a-z0-9][a-z0-9_]*", model):
        where, model = text, ""
    return where or ".", model or None


def open_experiment(where: str, folder: Path) -> Experiment:
    """Load a folder that holds `runs`, or a git revision or DVC experiment, whose files are copied into `folder`."""
    local = where == "." or (Path(where) / "runs").is_dir()
    locate = folder_files(Path(where)) if local else revision_files(Path(), where, folder)
    return load_experiment("workspace" if where == "." else where, locate)


def load_experiment(label: str, locate: Locate) -> Experiment:
    """Read faces, folds and names of the models; a UserError says what is missing or does not fit together."""
    models, skeleton = load_names(locate(PATHS.params))
    try:
        truth = np.load(locate(PATHS.crops / "train/keypoints.npy"), allow_pickle=False)
        table = pd.read_csv(locate(PATHS.crops / "train/faces.csv"))
        boxes, again = table[BOX].astype(float).to_numpy().tolist(), table.groupby(["image", *BOX]).cumcount()
        faces = pd.Index([f"{image} {box}" + f" #{number + 1}" * (number > 0)  # a box that is there twice
                          for image, box, number in zip(table["image"], boxes, again, strict=True)])
        folds = read_folds(locate(PATHS.folds), len(truth))
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{label}: no crops and folds as this version writes them ({error}); run `dvc repro` "
                        "there") from None
    return Experiment(label=label, models=[*models, ENSEMBLE], eyes=skeleton.eyes, faces=faces, truth=truth,
                      fold=folds.fold.to_numpy(), group=folds.group.to_numpy(), locate=locate)


def folder_files(root: Path) -> Locate:
    """Locate the files of a workspace, or of a copy of one."""
    def locate(name: Path) -> Path:
        if not (root / name).is_file():
            raise UserError(f"{root / name}: not found; run `dvc repro` there first")
        return root / name

    return locate


def revision_files(repo: Path, revision: str, folder: Path) -> Locate:
    """Locate the files of a git revision or a DVC experiment, each copied into `folder` when it is asked for.

    `repo` is the workspace, or a folder in it. A UserError says that there is no such revision or, from the result,
    that a file is neither in git nor in DVC's cache.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.index import DataIndexError

    try:
        files = DVCFileSystem(Repo(str(repo), rev=revision))
    except DvcException as error:
        raise UserError(f"{revision}: neither a folder with predictions in it, nor a git revision or a DVC experiment "
                        f"({str(error).splitlines()[0]})") from None

    def locate(name: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            try:
                files.get_file(name.as_posix(), str(path))
            except (OSError, DvcException, DataIndexError):
                path.unlink(missing_ok=True)
                raise UserError(f"{revision}: {name} is neither in git nor in DVC's cache: {revision} was not run on "
                                "this machine. Run `dvc repro`, commit dvc.lock, and compare what comes later with "
                                f"that; or check {revision} out and run `dvc repro` there") from None
        return path

    return locate
