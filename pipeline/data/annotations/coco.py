"""COCO keypoint JSON: `images` (id, file_name) and `annotations` (image_id, keypoints, bbox).

`keypoints` is x, y, v of each point: v is 0 where the point is missing (its x and y are not read), 1 where it is
hidden, 2 where it is seen. `bbox` is left, top, width, height and may be absent. Coordinates count pixels from 0.
Annotations with `iscrowd` 1 are left out. Where none has `keypoints`, the faces have no points; where there are no
annotations, each image is such a face. The points' names are those of the first of `categories` that has as many.
JSON has no lines to speak of, so messages name the record.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.common.files import write_text
from pipeline.data.annotations import BOX, NO_BOX, Annotations, Faces
from pipeline.data.annotations.fields import MAX_PIXEL, NO_POINTS, count_problem, names_told, path_problem, read_text


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file: see `formats.Reader`."""
    content, problems = _load(path)
    images, wrong = _images(content.get("images", []))
    problems += [f"{path}: {reason}" for reason in wrong]
    faces = Faces(num_points, problems)
    records = content.get("annotations") or []
    labelled = any(isinstance(record, dict) and "keypoints" in record for record in records)
    for position, record in enumerate(records):
        if not isinstance(record, dict) or record.get("iscrowd") != 1:
            image, box, points, reasons = _annotation(record, images, faces.num_points, labelled)
            faces.add(f"{path}: annotations[{position}]", image, points, box, reasons=reasons)
    if records and not faces.count and not faces.problems:
        faces.problems.append(f"{path}: has only crowds (iscrowd 1), {len(records)} of them; single faces are expected")
    if not records:
        for position, name in images.values():
            faces.add(f"{path}: images[{position}]", name, NO_POINTS)
        if not faces.count and not faces.problems:
            faces.problems.append(f"{path}: has no images and no annotations")
    annotations, problems = faces.result(labelled=labelled)
    return replace(annotations, names=_names(content.get("categories"), faces.num_points)), problems


def write(
    path: Path, annotations: Annotations, *, sizes: Mapping[str, tuple[int, int]], names: Sequence[str],
    lines: Sequence[tuple[int, int]],
) -> None:
    """Write labelled faces as COCO keypoints, atomically, as CVAT and Label Studio import them; `parse` reads it back.

    Args:
        sizes: image → width and height; of every image, also those without faces.
        names: of the K points; lines: pairs of points, counted from 0, between which a tool draws a line.
    """
    assert annotations.keypoints is not None
    numbers = {image: number for number, image in enumerate(sizes, start=1)}
    records = []
    for number, (row, points) in enumerate(zip(annotations.faces.itertuples(), annotations.keypoints, strict=True), 1):
        box, known = [float(getattr(row, side)) for side in BOX], np.isfinite(points).all(-1)
        places = [value for point, seen in zip(points.tolist(), known, strict=True)
                  for value in ([*point, 2] if seen else [0, 0, 0])]
        records.append({
            "id": number, "image_id": numbers[row.image], "category_id": 1, "bbox": box, "area": box[2] * box[3],
            "iscrowd": 0, "segmentation": [], "num_keypoints": int(known.sum()), "keypoints": places})
    category = {"id": 1, "name": "face", "supercategory": "person", "keypoints": list(names),
                "skeleton": [[one + 1, two + 1] for one, two in lines]}
    images = [{"id": number, "file_name": image, "width": sizes[image][0], "height": sizes[image][1]}
              for image, number in numbers.items()]
    write_text(path, json.dumps({"images": images, "annotations": records, "categories": [category]}) + "\n")


def _load(path: Path) -> tuple[dict, list[str]]:
    """Read the object in a file, with lists for `images` and `annotations`; {} and the problems where it is none."""
    text, problems = read_text(path, "COCO JSON")
    if problems:
        return {}, problems
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, [f"{path}:{error.lineno}: broken JSON ({error.msg}, column {error.colno})"]
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        return {}, [f"{path}: broken JSON (numbers too long or lists too deep); COCO JSON is expected"]
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return {}, [f"{path}: no list 'images'; COCO JSON is expected"]
    if not isinstance(content.get("annotations") or [], list):
        return {}, [f"{path}: 'annotations' is not a list"]
    return content, []


def _images(records: list) -> tuple[dict[Any, tuple[int, str]], list[str]]:
    """Map id → position in the file and path of each image; return the problems, too."""
    found: dict[Any, tuple[int, str]] = {}
    problems = []
    for position, record in enumerate(records):
        record = record if isinstance(record, dict) else {}
        key, name = record.get("id"), record.get("file_name")
        if not _is_id(key) or not isinstance(name, str):
            problems.append(f"images[{position}]: needs an 'id' and a 'file_name'")
        elif reason := path_problem(name):
            problems.append(f"images[{position}]: {reason}")
        elif key in found:
            problems.append(f"images[{position}]: id {key!r} comes twice")
        else:
            found[key] = (position, PurePosixPath(name).as_posix())
    return found, problems


def _names(categories: object, num_points: int | None) -> tuple[str, ...]:
    """Find the names of the points; none where no category tells them, or they are mere numbers."""
    for category in categories if isinstance(categories, list) else []:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if isinstance(names, list) and len(names) == num_points and all(isinstance(name, str) for name in names):
            return names_told(names)
    return ()


def _annotation(
    record: Any, images: dict[Any, tuple[int, str]], num_points: int | None, labelled: bool,
) -> tuple[str, tuple, np.ndarray, list[str]]:
    """Read image, box and points (K, 2) of one annotation; return the problems, too."""
    record, problems = record if isinstance(record, dict) else {}, []
    key, values, box = record.get("image_id"), record.get("keypoints"), record.get("bbox", [])
    _, image = images.get(key, (0, "?")) if _is_id(key) else (0, "?")
    if image == "?":
        problems.append(f"image_id {str(key)[:40]!r} is not among the images")
    if not isinstance(box, list) or len(box) not in (0, 4) or not all(map(_is_pixel, box)):
        problems.append("bbox is not left, top, width, height in pixels")
    rectangle = tuple(map(float, box)) if box and not problems else NO_BOX
    if not labelled:
        return image, rectangle, NO_POINTS, problems
    if not isinstance(values, list) or not values or len(values) % 3:
        return image, NO_BOX, NO_POINTS, [*problems, "keypoints are not x, y, v of each point"]
    if reason := count_problem(len(values) // 3, num_points):
        problems.append(reason)
    points = []
    for index in range(len(values) // 3):
        x, y, seen = values[3 * index : 3 * index + 3]
        if isinstance(seen, bool) or seen not in (0, 1, 2):
            problems.append(f"point {index}: visibility {str(seen)[:40]} is not 0, 1 or 2")
        elif seen and not (_is_pixel(x) and _is_pixel(y)):
            problems.append(f"point {index}: x={str(x)[:40]}, y={str(y)[:40]} are not numbers of pixels")
        else:
            points.append((x, y) if seen else (np.nan, np.nan))
    if problems:
        return image, NO_BOX, NO_POINTS, problems
    return image, rectangle, np.array(points, np.float64), []


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_pixel(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_PIXEL
