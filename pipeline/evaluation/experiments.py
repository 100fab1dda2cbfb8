"""Runs to compare: what a workspace, a copy of one, a git revision or a DVC experiment predicted out of fold.

Legend: N train faces, K points, in photo pixels; NaN where the truth is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX
from pipeline.inference.ensemble import pool_oof, read_fold
from pipeline.inference.predictions import Predictions
from pipeline.params import load_names

ENSEMBLE = "ensemble"  # its name among the models of an experiment

Locate = Callable[[str], Path]  # path in a workspace, as "data/folds.csv" → where this file lies on disk


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One side of a comparison.

    Attributes:
        label: what it is called.
        models: those that its params train, and the ensemble.
        eyes: see `Skeleton`.
        faces: (N,) image and box of each train face, no two alike.
        truth: (N, K, 2); fold, group: (N,).
        oof: model → (N, K, 2) its out-of-fold points; read when it is asked for.
    """

    label: str
    models: Sequence[str]
    eyes: tuple[int, int] | None
    faces: pd.Index
    truth: np.ndarray
    fold: np.ndarray
    group: np.ndarray
    oof: Callable[[str], np.ndarray]


def load_experiment(
    label: str, locate: Locate, *, params: str, crops: str, folds: str, runs: str, ensemble: str
) -> Experiment:
    """Read the faces, the folds and the names of the models.

    Args:
        label: what to call it, also in messages.
        locate: see `folder_files` and `revision_files`.
        params, folds: files, and crops (its train part), runs, ensemble: folders in the workspace.

    Raises:
        UserError: what is missing or does not fit together.
    """
    models, skeleton = load_names(locate(params))
    try:
        truth = np.load(locate(f"{crops}/keypoints.npy"), allow_pickle=False)
        table = pd.read_csv(locate(f"{crops}/faces.csv"))
        fold = read_fold(locate(folds), len(truth))
        group = pd.read_csv(locate(folds)).sort_values("face")["group"].to_numpy()
        boxes, again = table[BOX].astype(float).to_numpy().tolist(), table.groupby(["image", *BOX]).cumcount()
        faces = pd.Index([f"{image} {box}" + f" #{number + 1}" * (number > 0)  # a box can be there twice
                          for image, box, number in zip(table["image"], boxes, again, strict=True)])
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{label}: no crops and folds as this version writes them ({error}); run `dvc repro` "
                        "there") from None

    def oof(model: str) -> np.ndarray:
        if model == ENSEMBLE:
            found = Predictions.load(locate(f"{ensemble}/oof.npz")).by_face()
        else:
            files = {number: locate(f"{runs}/{model}/fold{number}/oof.npz") for number in sorted(set(fold.tolist()))}
            found = pool_oof({number: Predictions.load(file) for number, file in files.items()})
        if not np.array_equal(found.face, np.arange(len(truth))) or found.points.shape != truth.shape:
            raise UserError(f"{label}: the predictions of {model} are not those of its {len(truth)} train faces; run "
                            "`dvc repro` there")
        if not np.isfinite(found.points).all():
            raise UserError(f"{label}: {model} predicts points that are not numbers; train it again")
        return found.points

    return Experiment(label=label, models=[*models, ENSEMBLE], eyes=skeleton.eyes, faces=faces, truth=truth, fold=fold,
                      group=group, oof=oof)


def folder_files(root: Path) -> Locate:
    """The files of a workspace, or of a copy of one."""
    def locate(name: str) -> Path:
        if not (root / name).is_file():
            raise UserError(f"{root / name}: not found; run `dvc repro` there first")
        return root / name

    return locate


def revision_files(repo: Path, revision: str, folder: Path) -> Locate:
    """The files of a git revision or a DVC experiment, each copied into `folder` when it is asked for.

    Args:
        repo: the workspace, or a folder in it.
        revision: a branch, tag, commit or the name of an experiment.

    Raises:
        UserError: there is no such revision; from the result also where a file is neither in git nor in DVC's cache.
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

    def locate(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.get_file(name, str(path))
            except (OSError, DvcException, DataIndexError):
                path.unlink(missing_ok=True)
                raise UserError(f"{revision}: {name} is neither in git nor in DVC's cache; check {revision} out and "
                                "run `dvc repro` there, or repeat the experiment with `dvc exp run`") from None
        return path

    return locate
