"""Annotation of any images, by the ensemble or one model: points as CSV and dlib XML, and pictures."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.paths import Paths
from pipeline.data.align import write_aligned
from pipeline.data.annotations import BOX, Annotations, dlib_xml, tabulate
from pipeline.data.annotations.fields import path_problem
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.images import read_image
from pipeline.data.store import CropStore
from pipeline.inference.boxes import Boxes
from pipeline.inference.ensemble import SHAPE, Blend, average_folds
from pipeline.inference.predict import load_predictor
from pipeline.inference.predictions import Predictions
from pipeline.inference.shape import ShapeCorrection
from pipeline.inference.tta import TTA
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models.device import Runtime
from pipeline.plots.faces import draw_image

CSV, XML = "points.csv", "points.xml"


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """The second stage of a two-stage cascade: upright crops, placed by a locator's points.

    Attributes:
        models: those that see upright crops.
        locator: the model whose points place the crops; runs: folders of its trained folds.
        reference: (K, 2), see `align.mean_face`.
        geometry: of the upright crops.
    """

    models: Sequence[str]
    locator: str
    runs: Sequence[Path]
    reference: np.ndarray
    geometry: CropGeometry


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Trained models, and how they are asked.

    Attributes:
        members: model → folders of its trained folds; blend: of the models. See `choose_members`.
        skeleton: the points.
        geometry: of the crops around the boxes.
        cascade: None where no member sees upright crops.
        runtime, tta: see `Predictor`.
    """

    members: dict[str, list[Path]]
    blend: Blend
    skeleton: Skeleton
    geometry: CropGeometry
    cascade: Cascade | None
    runtime: Runtime
    tta: TTA

    def predict(self, root: Path, faces: Annotations) -> Predictions:
        """Predict the points of `faces`, whose images lie in `root`, in image pixels.

        Raises:
            UserError: a model is missing or was trained on other crops or points.
        """
        upright = [model for model in self.members if self.cascade and model in self.cascade.models]
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            boxed, aligned = Path(folder, "crops"), Path(folder, "aligned")
            write_crops(faces, root, boxed, self.geometry)
            found = {model: self._ask(runs, boxed) for model, runs in self.members.items() if model not in upright}
            if upright:
                cascade = self.cascade
                located = found[cascade.locator] if cascade.locator in found else self._ask(cascade.runs, boxed)
                write_aligned(faces, root, aligned, located.points, cascade.reference, cascade.geometry)
                found |= {model: self._ask(self.members[model], aligned) for model in upright}
        return self.blend.apply([found[model] for model in self.members])

    def _ask(self, runs: Sequence[Path], crops: Path) -> Predictions:
        """Average the predictions of the folds of one model for all faces of a crop store."""
        store, by_fold = CropStore.open(crops), []
        for run in runs:
            predictor = load_predictor(
                run, store, flip_indices=self.skeleton.flip, runtime=self.runtime, tta=self.tta)
            by_fold.append(predictor.predict(store, range(len(store)), f"{run.parent.name} {run.name}"))
        return average_folds(by_fold)


def annotate(out: Path, boxes: Boxes, annotator: Annotator) -> list[Path]:
    """Predict the points of every box and write `points.csv`, `points.xml` and a picture of each image.

    The files name the images relative to the deepest folder that holds them all, so that both are read back with it as
    the data folder; the picture of an image lies in `out` under this name and `.png`.

    Args:
        out: the folder to write to.
        boxes: image → its boxes.

    Returns:
        The files, the pictures first.

    Raises:
        UserError: a model is missing or was trained on other crops or points; an image cannot be named or would be
            overwritten.
    """
    root, names = name_images(list(boxes))
    pictures = {image: out / f"{name}.png" for image, name in names.items()}
    _check_out(out, pictures)
    rows = [(names[image], *box) for image, part in boxes.items() for box in part]
    faces = tabulate([(number, *row, row[0]) for number, row in enumerate(rows)], None)
    points = annotator.predict(root, faces).points
    for image, name in names.items():
        own = (faces.faces.image == name).to_numpy()
        draw_image(pictures[image], read_image(image, "rgb"), boxes[image], points[own], annotator.skeleton)
    annotated = replace(faces, keypoints=points)
    write_text(out / CSV, to_csv(annotated))
    dlib_xml.write(out / XML, annotated, f"images relative to {root}")
    return [*pictures.values(), out / CSV, out / XML]


def choose_members(
    paths: Paths, models: Sequence[str], folds: Sequence[int], *, model: str | None = None, fold: int | None = None
) -> tuple[dict[str, list[Path]], Blend]:
    """Choose the trained folds to ask, and their blend.

    Args:
        models, folds: those of the ensemble.
        model: only this one, the mean of its folds; fold: only this fold of it.

    Returns:
        model → folders of its folds; and the blend of these models.

    Raises:
        UserError: a fold without a model, or an ensemble that is missing or of other models.
    """
    if model is not None:
        chosen = folds if fold is None else [fold]
        return {model: [paths.run(model, one) for one in chosen]}, Blend(weights=np.ones(1), shape=None)
    if fold is not None:
        raise UserError("--fold is one fold of one model: name it with --model")
    weights = _load_weights(paths.ensemble / "weights.json", models)
    used, shares = list(models), None
    if weights["blend"] != "median":
        used = [name for name in models if weights["test"][name] > 0]
        shares = np.array([weights["test"][name] for name in used])
    shape = None if weights.get("ridge") is None else ShapeCorrection.load(paths.ensemble / SHAPE)
    return {name: [paths.run(name, one) for one in folds] for name in used}, Blend(weights=shares, shape=shape)


def _load_weights(file: Path, models: Sequence[str]) -> dict:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: no weights of an ensemble ({error}); run `dvc repro` (or the ensemble "
                        "stage), or choose one model with --model") from None
    if found["blend"] != "median" and set(found["test"]) != set(models):
        raise UserError(f"{file}: blends {', '.join(found['test'])}, but the params train {', '.join(models)}; run the "
                        "ensemble stage again")
    return found


def name_images(images: Sequence[Path]) -> tuple[Path, dict[Path, str]]:
    """Find the deepest folder that holds all images, and name each relative to it, with forward slashes.

    Raises:
        UserError: a name that no reader of annotations would take.
    """
    absolute = {image: Path(os.path.abspath(image)) for image in images}
    root = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    names = {image: path.relative_to(root).as_posix() for image, path in absolute.items()}
    problems = [f"{image}: {reason}" for image, name in names.items() if (reason := path_problem(name))]
    if problems:
        raise UserError(*problems)
    return root, names


def to_csv(faces: Annotations) -> str:
    """Format the faces as `csv_points` reads them: image_name, box, and part_0_x, part_0_y, …, nothing rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"part_{point}_{axis}" for point in range(faces.keypoints.shape[1]) for axis in "xy"]
    writer.writerow(["image_name", *BOX, *parts])
    for row, points in zip(faces.faces.itertuples(), faces.keypoints, strict=True):
        writer.writerow([row.image, *(f"{getattr(row, name):.15g}" for name in BOX), *map(str, points.ravel())])
    return text.getvalue()


def _check_out(out: Path, pictures: dict[Path, Path]) -> None:
    images = {os.path.abspath(image) for image in pictures}
    problems = [f"{picture}: the picture of {image} would overwrite a photo; choose another --out"
                for image, picture in pictures.items() if os.path.abspath(picture) in images]
    if out.exists() and not out.is_dir():
        problems.append(f"{out}: is a file; --out is a folder")
    if problems:
        raise UserError(*problems)
