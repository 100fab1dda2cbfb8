"""Annotation of any images, by the ensemble or one model: points as CSV, dlib XML and COCO JSON, and pictures."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.paths import Paths
from pipeline.data.align import write_aligned
from pipeline.data.annotations import BOX, Annotations, coco, dlib_xml, tabulate
from pipeline.data.annotations.fields import path_problem
from pipeline.data.crops import CropGeometry, write_crops
from pipeline.data.images import read_image
from pipeline.data.store import CropStore
from pipeline.inference.boxes import Boxes
from pipeline.inference.ensemble import SHAPE, Blend, average_folds
from pipeline.inference.intervals import Intervals, interval_lines
from pipeline.inference.predict import load_predictor
from pipeline.inference.predictions import Predictions
from pipeline.inference.shape import ShapeCorrection
from pipeline.inference.tta import TTA
from pipeline.keypoints.geometry import finite_mean
from pipeline.keypoints.skeleton import Skeleton, segments
from pipeline.models.device import Runtime
from pipeline.plots.faces import draw_image

CSV, XML, JSON, INTERVALS = "points.csv", "points.xml", "points.json", "intervals.csv"


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """The second stage of a two-stage cascade: upright crops for `models`, placed by the points of `locator`.

    `runs` are the folders of the locator's trained folds, `reference` (K, 2) is that of `align.mean_face`.
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
        members, blend: see `choose_members`.
        geometry: of the crops around the boxes.
        whole_photos: whether the faces that they were trained on had no boxes; see `find_boxes`.
        cascade: None where no member sees upright crops.
        intervals: of the points; None where they were not calibrated.
        runtime, tta: see `Predictor`.
    """

    members: dict[str, list[Path]]
    blend: Blend
    skeleton: Skeleton
    geometry: CropGeometry
    cascade: Cascade | None
    runtime: Runtime
    tta: TTA
    intervals: Intervals | None = None
    whole_photos: bool = False

    def predict(self, root: Path, faces: Annotations) -> Predictions:
        """Predict the points of `faces`, images in `root`, in image pixels; for errors see `load_predictor`."""
        upright = [model for model in self.members if self.cascade and model in self.cascade.models]
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            boxed, aligned = Path(folder, "crops"), Path(folder, "aligned")
            write_crops(faces, root, boxed, self.geometry)
            found = {model: self._ask(runs, boxed) for model, runs in self.members.items() if model not in upright}
            if upright and (cascade := self.cascade):
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
            by_fold.append(predictor.predict(store, np.arange(len(store)), f"{run.parent.name} {run.name}"))
        return average_folds(by_fold)


def annotate(out: Path, boxes: Boxes, annotator: Annotator) -> tuple[list[Path], str]:
    """Predict the points of every box; write `points.csv`, `points.xml`, `points.json` and a picture of each image.

    Where there are intervals, `intervals.csv` has the radius of each point. The files name the images relative to the
    deepest folder that holds them all, so that each is read back with it as the data folder; the picture of an image
    lies in `out` under this name, and `.png` after it where OpenCV writes no images of its kind.

    Returns the files, the pictures first, and a line on the radii, "" without any. A UserError says that a model does
    not fit, or that an image cannot be named or would be overwritten.
    """
    root, names = name_images(list(boxes))
    pictures = {image: out / (name if cv2.haveImageWriter(name) else f"{name}.png") for image, name in names.items()}
    images = {os.path.abspath(image) for image in pictures}
    problems = [f"{picture}: the picture of {image} would overwrite a photo; choose another --out"
                for image, picture in pictures.items() if os.path.abspath(picture) in images]
    if problems or out.is_file():
        raise UserError(*problems, *[f"{out}: is a file; --out is a folder"] * out.is_file())
    rows = [(names[image], *box) for image, part in boxes.items() for box in part]
    faces = tabulate([(number, *row, row[0]) for number, row in enumerate(rows)], None)
    found, skeleton, sizes = annotator.predict(root, faces), annotator.skeleton, {}
    for image, name in tqdm(names.items(), "draw", unit="photo", disable=None):
        own, pixels = (faces.faces.image == name).to_numpy(), read_image(image, "rgb")
        assert pixels is not None  # `find_boxes` has read it
        sizes[name] = pixels.shape[1], pixels.shape[0]
        draw_image(pictures[image], pixels, boxes[image], found.points[own], skeleton)
    write_text(out / CSV, to_csv(faces, found.points))
    labelled = replace(faces, keypoints=found.points)
    dlib_xml.write(out / XML, labelled, f"images relative to {root}", sizes=sizes)
    coco.write(out / JSON, labelled, sizes=sizes, names=skeleton.names, lines=segments(skeleton))
    files, said = [*pictures.values(), out / CSV, out / XML, out / JSON], ""
    (out / INTERVALS).unlink(missing_ok=True)  # of other points
    if annotator.intervals:
        radii = annotator.intervals.radii(found, faces.faces)
        write_text(out / INTERVALS, "".join(interval_lines(faces.faces, found, radii)))
        files.append(out / INTERVALS)
        said = (f"{out / INTERVALS}: a radius for each point, to hold {annotator.intervals.coverage:.0%} of them, "
                f"in the mean {finite_mean(radii, None):.1f} px")
    return files, said


def choose_members(
    paths: Paths, models: Sequence[str], folds: Sequence[int], *, model: str | None = None, fold: int | None = None
) -> tuple[dict[str, list[Path]], Blend]:
    """Choose the trained folds to ask, model → their folders, and the blend of these models.

    By default those of the ensemble; else the mean of the folds of one model, or only one fold of it. A UserError says
    that the ensemble is missing or of other models.
    """
    if model is not None:
        chosen = folds if fold is None else [fold]
        return {model: [paths.run(model, one) for one in chosen]}, Blend(weights=np.ones(1), shape=None)
    if fold is not None:
        raise UserError("--fold is one fold of one model: name it with --model")
    file, used, shares = paths.ensemble / "weights.json", list(models), None
    try:
        weights = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: no weights of an ensemble ({error}); run `dvc repro` (or the ensemble "
                        "stage), or choose one model with --model") from None
    if weights["blend"] != "median":
        if set(weights["test"]) != set(models):
            raise UserError(f"{file}: blends {', '.join(weights['test'])}, but the params train {', '.join(models)}; "
                            "run the ensemble stage again")
        used = [name for name in models if weights["test"][name] > 0]
        shares = np.array([weights["test"][name] for name in used])
    shape = None if weights.get("ridge") is None else ShapeCorrection.load(paths.ensemble / SHAPE)
    return {name: [paths.run(name, one) for one in folds] for name in used}, Blend(weights=shares, shape=shape)


def name_images(images: Sequence[Path]) -> tuple[Path, dict[Path, str]]:
    """Find the deepest folder that holds all images, and name each relative to it, with forward slashes.

    A UserError has the names that no reader of annotations would take.
    """
    absolute = {image: Path(os.path.abspath(image)) for image in images}
    root = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    names = {image: path.relative_to(root).as_posix() for image, path in absolute.items()}
    problems = [f"{image}: {reason}" for image, name in names.items() if (reason := path_problem(name))]
    if problems:
        raise UserError(*problems)
    return root, names


def to_csv(faces: Annotations, points: np.ndarray) -> str:
    """Format the faces as `csv_points` reads them: image_name, box, and part_0_x, part_0_y, …, nothing rounded."""
    names = [f"part_{point}_{axis}" for point in range(points.shape[1]) for axis in "xy"]
    return pd.concat([
        faces.faces.image.rename("image_name"), faces.faces[BOX].map("{:.15g}".format),
        pd.DataFrame(points.reshape(len(points), -1).astype(str), columns=names),
    ], axis=1).to_csv(index=False, lineterminator="\n")
