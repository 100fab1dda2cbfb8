"""Proposed params for a data set of one's own, from its files alone."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Annotations, formats
from pipeline.data.images import Images, find_folder
from pipeline.data.split import describe_people, suggest_pattern
from pipeline.data.symmetry import infer_pairs, mirror_problems
from pipeline.keypoints.geometry import mean_face
from pipeline.keypoints.skeleton import SKELETONS

FEW = 5  # points: of so few, the uppermost pair is the eyes
LOOKUP = "IdLookupTable.csv"
LR = 0.01  # for few faces: better than the default's 0.002 on two sets of photos, see docs/data.md
MOST_EPOCHS = 10  # times the default's
SOME = 100  # faces that are measured, at most
SMALL_FACE = 0.5  # longer side of the points, in longer sides of the photo
TWO_CROPS = ("the {} faces have boxes, the {} faces have none and get the whole photo: crops that differ so much make "
             "poor predictions; give both boxes")
SMALL_FACES = ("a face fills {:.0%} of its photo's longer side (median), which leaves few pixels of it; python -m "
               "stages.detect finds boxes, see docs/data.md")
UNKNOWN = ("which are left and right is not known (few faces, or all look to one side), so nothing is mirrored; give "
           "data.skeleton `pairs`, and turn augment.flip and predict.flip on")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One annotation file: its name in the data folder, format, faces, problems, and the folder of its images."""

    name: str
    format: str
    annotations: Annotations
    problems: Sequence[str]
    photos: str | None

    @property
    def boxless(self) -> int:
        """How many faces have no box."""
        return int(self.annotations.faces[BOX].isna().all(axis=1).sum())

    def describe(self) -> str:
        """Say in one line what the file holds."""
        faces, points = self.annotations.faces, self.annotations.keypoints
        boxes = {0: "boxes", len(faces): "no boxes"}.get(self.boxless, f"boxes but for {self.boxless}")
        missing = 0 if points is None else int(np.isnan(points).any(axis=(1, 2)).sum())
        return (f"{self.name}: {self.format}, {len(faces)} faces in {faces.image.nunique()} photos, "
                + (f"{points.shape[1]} points" if points is not None else "no points")
                + (f" (some missing in {missing} faces)" if missing else "") + f", {boxes}"
                + (f"; photos in {self.photos}" if self.photos else ""))

    def notes(self) -> Iterator[str]:
        """Yield what a person should know of it."""
        faces = self.annotations.faces
        if self.problems:
            yield (f"{self.name}: {len(self.problems)} problems, the first: {self.problems[0]}; "
                   "`python -m stages.validate` names all")
        yield from (f"{self.name}: {note}" for note in self.annotations.notes)
        if crowded := int((faces.image[faces[BOX].isna().all(axis=1)].value_counts() > 1).sum()):
            yield f"{self.name}: {crowded} photos with several faces and no boxes: a whole photo does not tell which"


def propose(
    photos: Path, train: Path, test: Path | None, default: Mapping | None = None,
) -> tuple[dict, list[str], list[str]]:
    """Look at the files of a data set: find what its params have otherwise than the default.

    Args:
        photos: the folder of the photos.
        train, test: the annotations of the faces to train on and to predict, each a file or a folder of files.
        default: the default's params, whose epochs and rates are raised for fewer faces; None leaves them as they are.

    Returns:
        The params, lines on what was recognised, and notes on what may be unexpected.

    Raises:
        UserError: a file is missing, not recognised, without faces or (for `train`) points, or not with its photos; or
            there is no folder that holds everything and nothing of the project's.
    """
    root = data_folder(photos, [train, *([test] if test else [])])
    first, second = look(root, photos, train), look(root, photos, test) if test else None
    parts = [part for part in (first, second) if part]
    if first.annotations.keypoints is None:
        raise UserError(f"{train}: no face has any points; the faces to train on need them")
    notes = [note for part in parts for note in part.notes()]
    if second and bool(first.boxless) != bool(second.boxless):
        notes.append(TWO_CROPS.format(*(("test", "train") if first.boxless else ("train", "test"))))
    skeleton, said, mirrored = _skeleton(first.annotations.keypoints, first.annotations.names)
    lines = [*(part.describe() for part in parts), said]
    changes: dict = {"data": _data(root, first, second) | {"skeleton": skeleton}, "sample": {"sets": []}}
    if not mirrored:
        changes |= {"augment": {"flip": 0.0}, "predict": {"flip": False}}
    if first.boxless == len(first.annotations):
        changes["crop"] = {"margin": 1.0, "shift_y": 0.0}
        lines.append("crop: the whole photo, for want of boxes (margin 1.0)")
        if (share := _filled(root, first.annotations)) < SMALL_FACE:
            notes.append(f"{first.name}: {SMALL_FACES.format(share)}")
    if people := describe_people(first.annotations.faces.image):
        changes["split"] = {"photo_pattern": suggest_pattern(first.annotations.faces.image)}
        lines.append(people.partition("; ")[0] + ": split.photo_pattern keeps each in one fold")
    if first.format == "kaggle_pixels" and (root / LOOKUP).is_file():
        changes["submit"] = {"lookup": LOOKUP}
    if default and (epochs := _more_epochs(default, len(first.annotations))):
        changes["models"] = {name: {"epochs": number, "lr": LR} for name, number in epochs.items()}
        lines.append(f"lr {LR:g}, epochs: " + ", ".join(f"{name} {number}" for name, number in epochs.items())
                     + f", so that {len(first.annotations)} faces give as many steps as the default's "
                     f"{default['sample']['train_faces']}")
    return changes, lines, notes


def _more_epochs(default: Mapping, count: int) -> dict[str, int]:
    """Raise the epochs of the default's models for fewer faces than its sample has; none where there are as many."""
    factor = min(default["sample"]["train_faces"] / count, MOST_EPOCHS)
    return {name: round(factor * model["epochs"]) for name, model in default["models"].items()} if factor > 1 else {}


def data_folder(photos: Path, files: Sequence[Path]) -> Path:
    """Find the folder that holds photos and annotations; a UserError where it holds more than DVC should look at."""
    problems = [f"{path}: not found; check the path" for path in (photos, *files) if not path.exists()]
    if photos.exists() and not photos.is_dir():
        problems.append(f"{photos}: is a file; the folder of the photos is expected first")
    if problems:
        raise UserError(*problems)
    absolute = [Path(os.path.abspath(path)) for path in (photos, *files)]
    root = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in absolute]))
    if (Path.cwd() / "data/crops").is_relative_to(root):
        raise UserError(
            f"photos and annotations have only {root} in common, which holds other things, too; put them into a folder "
            f"of their own (links will do): mkdir -p data/mine && ln -s {' '.join(map(str, absolute))} data/mine")
    return root


def _data(root: Path, first: Part, second: Part | None) -> dict:
    """The params' `data` of the faces to train on and to predict; `root` is relative below the working folder."""
    written = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
    return {
        "root": written.as_posix(), "train": first.name, "test": second and second.name, "photos": first.photos,
        "test_photos": second and second.photos, "solution": None,
        "format": first.format if second is None or second.format == first.format else "auto", "box": "photo",
    }


def look(root: Path, photos: Path, file: Path) -> Part:
    """Read one annotation file, and find its photos."""
    name = Path(os.path.relpath(os.path.abspath(file), root)).as_posix()
    format = formats.recognise(root, name)
    annotations, problems = formats.FORMATS[format](root, name, None)
    if not len(annotations):
        raise UserError(*problems)
    found = Part(name=name, format=format, annotations=annotations, problems=problems, photos=None)
    images = annotations.faces.image.tolist()
    if format in formats.UNNAMED:
        return found
    below = Path(os.path.relpath(os.path.abspath(photos), root)).as_posix()
    folder, count = find_folder(root / below, images)
    inside = "/".join(part for part in (below, folder) if part not in ("", "."))
    if not count:  # names that start above the folder of the photos, as `photos/a.jpg`
        inside, count = find_folder(root, images)
    if not count:
        raise UserError(f"{file}: none of the {len(set(images))} images that it names, for example {images[0]}, is in "
                        f"{photos} or below")
    absent = [image for image in set(images) if not os.path.isfile(root / inside / image)]
    wrong = [f"{len(absent)} images are missing, for example {root / inside / min(absent)}"] if absent else []
    placed, _ = formats.place_images(annotations, root, inside, format)
    return replace(found, annotations=placed, problems=[*problems, *wrong], photos=inside or None)


def _filled(root: Path, annotations: Annotations) -> float:
    """Measure the longer side of the box around a face's points, in longer sides of its photo: the median of some."""
    rows = np.unique(np.linspace(0, len(annotations) - 1, SOME).astype(int))
    assert annotations.keypoints is not None
    points, images = annotations.keypoints[rows], annotations.faces.image.iloc[rows]
    size, _ = Images(root, annotations.images).sizes(images.tolist())
    known = np.isfinite(points).all(axis=(1, 2)) & np.isfinite(size).all(axis=1)
    side = (points[known].max(axis=1) - points[known].min(axis=1)).max(axis=1)
    return float(np.median(side / size[known].max(axis=1))) if known.any() else 1.0


def _skeleton(points: np.ndarray, names: Sequence[str]) -> tuple[str | dict, str, bool]:
    """Find the params' skeleton of labelled faces (N, K, 2), a line on it, and whether its pairs are known.

    `names` are those of the points, if the file has any.
    """
    points, count = points[np.isfinite(points).all(axis=2).any(axis=1)], points.shape[1]
    for name, known in SKELETONS.items():
        if known.num_points == count and not mirror_problems(points, known):
            return name, f"skeleton: {name}, by its number of points", True
    skeleton: dict = {"points": count} | ({"names": [*names]} if names else {})
    pairs = infer_pairs(points)
    if pairs is None:
        return skeleton, f"skeleton: {count} points; {UNKNOWN}", False
    skeleton, said = skeleton | {"pairs": pairs}, f"skeleton: {count} points, {len(pairs)} left/right pairs"
    outer = [pair for pair in pairs if names and all(re.search("(?i)eye.*out|out.*eye", names[one]) for one in pair)]
    if len(outer) == 1:
        return skeleton | {"eyes": [*outer[0]]}, f"{said}, of which {outer[0]} are the outer eye corners by name", True
    if not pairs or count > FEW:
        return skeleton, f"{said}; no NME unless data.skeleton names the outer `eyes`", True
    height = mean_face(points)[:, 1]
    eyes = min(pairs, key=lambda pair: height[pair].mean())
    return skeleton | {"eyes": [*eyes]}, f"{said}, of which {eyes} are the uppermost, taken for the eyes", True
