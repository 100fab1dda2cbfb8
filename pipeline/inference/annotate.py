"""Points for any photos, by the ensemble or one model: predicted, written as CSV and dlib XML, and drawn."""

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
from pipeline.data.align import write_aligned
from pipeline.data.annotations import BOX, Annotations, dlib_xml, tabulate
from pipeline.data.annotations.fields import path_problem
from pipeline.data.crops import write_crops
from pipeline.data.images import read_image
from pipeline.data.store import CropStore
from pipeline.inference.boxes import Boxes
from pipeline.inference.ensemble import SHAPE, Blend, average_folds
from pipeline.inference.predict import predict_points
from pipeline.inference.predictions import Predictions
from pipeline.inference.shape import ShapeCorrection
from pipeline.keypoints.skeleton import Skeleton
from pipeline.models.checkpoint import load_model
from pipeline.models.device import make_runtime
from pipeline.plots.faces import draw_image

CSV, XML = "points.csv", "points.xml"


@dataclass(frozen=True, kw_only=True)
class SecondLook:
    """What models on aligned crops need.

    Attributes:
        models: their names.
        by: the model whose points place the crops; runs: folders of its trained folds.
        reference: (K, 2), see `align.mean_face`.
        crop: what else `align.write_aligned` takes.
    """

    models: Sequence[str]
    by: str
    runs: Sequence[Path]
    reference: np.ndarray
    crop: dict


def annotate(
    out: Path, boxes: Boxes, members: dict[str, list[Path]], blend: Blend, *, skeleton: Skeleton,
    crop: dict, second: SecondLook | None, device: str, precision: str, batch_size: int, flip: bool,
    shift_tta: bool,
) -> list[Path]:
    """Predict the points of every box and write `points.csv`, `points.xml` and a picture of each photo.

    The files name the photos relative to the deepest folder that holds them all, so that both are read back with it as
    the data folder; the picture of a photo lies in `out` under this name and `.png`.

    Args:
        out: the folder to write to.
        boxes: photo → its boxes.
        members: model → folders of its trained folds; blend: of the models. See `choose_members`.
        skeleton: the points.
        crop: as the models were trained; see `write_crops`.
        second: what the models on aligned crops need, None where there are none.
        device, precision: see `make_runtime`; batch_size, flip, shift_tta: see `predict_points`.

    Returns:
        The files, the pictures first.

    Raises:
        UserError: a model is missing or was trained on other crops or points; a photo cannot be named or would be
            overwritten.
    """
    root, names = name_photos(list(boxes))
    pictures = {photo: out / f"{name}.png" for photo, name in names.items()}
    _check_out(out, pictures)
    rows = [(names[photo], *box) for photo, part in boxes.items() for box in part]
    faces = tabulate([(number, *row, row[0]) for number, row in enumerate(rows)], None)
    points = predict(
        root, faces, members, blend, flip_indices=skeleton.flip, crop=crop, second=second, device=device,
        precision=precision, batch_size=batch_size, flip=flip, shift_tta=shift_tta,
    ).points
    for photo, name in names.items():
        own = (faces.faces.image == name).to_numpy()
        draw_image(pictures[photo], read_image(photo, "rgb"), boxes[photo], points[own], skeleton)
    annotated = replace(faces, keypoints=points)
    write_text(out / CSV, to_csv(annotated))
    dlib_xml.write(out / XML, annotated, f"images relative to {root}")
    return [*pictures.values(), out / CSV, out / XML]


def choose_members(
    runs: Path, ensemble: Path, models: Sequence[str], folds: Sequence[int], *,
    model: str | None = None, fold: int | None = None,
) -> tuple[dict[str, list[Path]], Blend]:
    """Which trained folds to ask, and how to blend them.

    Args:
        runs: folder of the run folders; ensemble: of what the ensemble stage wrote.
        models, folds: those of the ensemble.
        model: only this one, the mean of its folds; fold: only this fold of it.

    Returns:
        model → folders of its folds; and how to blend these models.

    Raises:
        UserError: a fold without a model, or an ensemble that is missing or of other models.
    """
    if model is not None:
        chosen = folds if fold is None else [fold]
        return {model: [runs / model / f"fold{one}" for one in chosen]}, Blend(weights=np.ones(1), shape=None)
    if fold is not None:
        raise UserError("--fold is one fold of one model: name it with --model")
    file = ensemble / "weights.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: no weights of an ensemble ({error}); run `dvc repro` (or the ensemble "
                        "stage), or choose one model with --model") from None
    if found["blend"] == "median":
        used, weights = list(models), None
    elif set(found["test"]) != set(models):
        raise UserError(f"{file}: blends {', '.join(found['test'])}, but the params train "
                        f"{', '.join(models)}; run the ensemble stage again")
    else:
        used = [name for name in models if found["test"][name] > 0]
        weights = np.array([found["test"][name] for name in used])
    shape = None if found.get("ridge") is None else ShapeCorrection.load(ensemble / SHAPE)
    return {name: [runs / name / f"fold{one}" for one in folds] for name in used}, Blend(weights=weights, shape=shape)


def predict(
    root: Path, faces: Annotations, members: dict[str, list[Path]], blend: Blend, *, flip_indices: np.ndarray,
    crop: dict, second: SecondLook | None, device: str, precision: str, **how: object,
) -> Predictions:
    """The points of `faces`, in photo pixels; the arguments are those of `annotate`."""
    runtime = make_runtime(device, precision)

    def ask(runs: Sequence[Path], store: CropStore, key: str) -> Predictions:
        by_fold, rows = [], np.arange(len(store))
        for run in runs:
            network, codec, description = load_model(run)
            _check_model(run, description, store, len(flip_indices), key)
            points, spread = predict_points(runtime.place(network), codec, store, rows, flip_indices=flip_indices,
                                            runtime=runtime, progress=f"{run.parent.name} {run.name}", **how)
            by_fold.append(Predictions(face=rows, points=points, spread=spread))
        return average_folds(by_fold)

    aligned = [model for model in members if second and model in second.models]
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_crops(faces, root, Path(folder) / "faces", **crop)
        store = CropStore.open(Path(folder) / "faces")
        found = {model: ask(runs, store, "crop") for model, runs in members.items() if model not in aligned}
        if aligned:
            first = found[second.by] if second.by in found else ask(second.runs, store, "crop")
            write_aligned(faces, root, Path(folder) / "aligned", first.points, second.reference, **second.crop)
            store = CropStore.open(Path(folder) / "aligned")
            found |= {model: ask(members[model], store, "align") for model in aligned}
    return blend.apply([found[model] for model in members])


def name_photos(photos: Sequence[Path]) -> tuple[Path, dict[Path, str]]:
    """The deepest folder that holds all photos, and the name of each relative to it, with forward slashes.

    Raises:
        UserError: a name that no reader of annotations would take.
    """
    absolute = {photo: Path(os.path.abspath(photo)) for photo in photos}
    root = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    names = {photo: path.relative_to(root).as_posix() for photo, path in absolute.items()}
    problems = [f"{photo}: {reason}" for photo, name in names.items() if (reason := path_problem(name))]
    if problems:
        raise UserError(*problems)
    return root, names


def to_csv(faces: Annotations) -> str:
    """The faces as `csv_points` reads them: image_name, box, and part_0_x, part_0_y, …, nothing rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"part_{point}_{axis}" for point in range(faces.keypoints.shape[1]) for axis in "xy"]
    writer.writerow(["image_name", *BOX, *parts])
    for row, points in zip(faces.faces.itertuples(), faces.keypoints, strict=True):
        writer.writerow([row.image, *(f"{getattr(row, name):.15g}" for name in BOX), *map(str, points.ravel())])
    return text.getvalue()


def _check_out(out: Path, pictures: dict[Path, Path]) -> None:
    photos = {os.path.abspath(photo) for photo in pictures}
    problems = [f"{picture}: the picture of {photo} would overwrite a photo; choose another --out"
              for photo, picture in pictures.items() if os.path.abspath(picture) in photos]
    if out.exists() and not out.is_dir():
        problems.append(f"{out}: is a file; --out is a folder")
    if problems:
        raise UserError(*problems)


def _check_model(run: Path, description: dict, store: CropStore, num_points: int, key: str) -> None:
    if (description["size"], description["channels"]) != (store.size, store.channels):
        raise UserError(f"{run}: trained on crops of {description['size']} pixels and {description['channels']} "
                        f"channels, but {key} in the params says {store.size} and {store.channels}; use its params")
    if description["num_points"] != num_points:
        raise UserError(f"{run}: trained on {description['num_points']} points, but data.skeleton has {num_points}; "
                        "use its params")
