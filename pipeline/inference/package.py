"""Packages: all that annotating images takes of a finished run, in one folder of JSON and safetensors files.

`keypoint-folds.json` has every value and a digest of the whole, `arrays.safetensors` the reference of the upright
crops, the shape correction and the intervals, `runs/MODEL/foldF` each network, `README.md` what people should know. No
file names another: all paths follow from the checked names of models and folds. The digest finds damage; it is no
signature.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.common.errors import UserError
from pipeline.common.files import atomic_path, write_text
from pipeline.common.tables import count_of
from pipeline.common.types import MAX_POINTS, Slug
from pipeline.data.crops import CropGeometry
from pipeline.inference.annotate import Annotator, Cascade
from pipeline.inference.ensemble import Blend
from pipeline.inference.intervals import Intervals
from pipeline.inference.predict import check_fit
from pipeline.inference.shape import ShapeCorrection
from pipeline.inference.tta import TTA
from pipeline.keypoints.skeleton import Skeleton, make_skeleton
from pipeline.models.checkpoint import fingerprint, load_model, save_model
from pipeline.models.device import make_runtime

MANIFEST, ARRAYS, CARD = "keypoint-folds.json", "arrays.safetensors", "README.md"
RADII = ("base", "slope", "quantile")  # of `Intervals`

FoldNames = Annotated[list[Annotated[str, Field(pattern=r"^fold[0-9]+$")]], Field(min_length=1)]


class Part(BaseModel):
    """A part of the manifest: read-only, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Points(Part):
    """The arguments of `make_skeleton`."""

    name: str
    points: Annotated[int, Field(ge=1, le=MAX_POINTS)]
    pairs: list[list[int]]
    eyes: list[int] | None
    edges: list[list[int]]
    regions: dict[str, list[int]]
    names: list[str]


class Upright(Part):
    """A `Cascade`, but for its reference."""

    models: list[Slug]
    locator: Slug
    folds: FoldNames
    geometry: CropGeometry


class Manifest(Part):
    """An `Annotator`, but for its arrays and networks.

    `weights` are those of the blend, `shape` is whether it has a correction, `intervals` the coverage. A device is
    "auto" but for the CPU, which every machine has.
    """

    format: Literal[2]
    skeleton: Points
    geometry: CropGeometry
    whole_photos: bool = False
    cascade: Upright | None
    members: Annotated[dict[Slug, FoldNames], Field(min_length=1)]
    weights: list[float] | None
    shape: bool
    intervals: Annotated[float, Field(gt=0, lt=1)] | None
    device: Literal["auto", "cpu"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    tta: TTA

    def files(self) -> list[str]:
        """List all files beside the manifest, relative to it."""
        asked = [*self.members.items(), *([(self.cascade.locator, self.cascade.folds)] if self.cascade else [])]
        runs = sorted({f"runs/{model}/{fold}" for model, folds in asked for fold in folds})
        return [ARRAYS, CARD, *(f"{run}/model.{ending}" for run in runs for ending in ("json", "safetensors"))]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """List the arrays and their shapes."""
        size = 2 * self.skeleton.points
        reference: dict[str, tuple[int, ...]] = {"reference": (self.skeleton.points, 2)} if self.cascade else {}
        shape: dict[str, tuple[int, ...]] = {"weights": (size, size), "offset": (size,)} if self.shape else {}
        return reference | shape | dict.fromkeys(RADII if self.intervals else (), (self.skeleton.points,))


def write_package(folder: Path, annotator: Annotator, device: str, precision: str, notes: Sequence[str]) -> list[str]:
    """Write an annotator; return the files. A package that is there is replaced.

    Args:
        device, precision: see `make_runtime`; "auto" is that of the machine that annotates, and so is any GPU.
        notes: what people should know, a paragraph each: scores, the data and their licence.

    Raises:
        UserError: `folder` is there and is no package; a network is missing or does not fit.
    """
    blend, cascade = annotator.blend, annotator.cascade
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UserError(f"{folder}: is there and is no package; choose another --out")
    manifest = Manifest.model_validate({
        "format": 2,
        "skeleton": describe_skeleton(annotator.skeleton), "geometry": asdict(annotator.geometry),
        "whole_photos": annotator.whole_photos,
        "cascade": cascade and {"models": list(cascade.models), "locator": cascade.locator,
                                "folds": _names(cascade.runs), "geometry": asdict(cascade.geometry)},
        "members": {model: _names(runs) for model, runs in annotator.members.items()},
        "weights": None if blend.weights is None else blend.weights.tolist(), "shape": blend.shape is not None,
        "intervals": annotator.intervals and annotator.intervals.coverage,
        "device": "cpu" if device == "cpu" else "auto", "precision": precision, "tta": asdict(annotator.tta),
    })
    with atomic_path(folder.resolve()) as partial:
        for model, runs in annotator.members.items():
            geometry = cascade.geometry if cascade and model in cascade.models else annotator.geometry
            _copy_networks(runs, partial, geometry, manifest.skeleton.points)
        if cascade:
            _copy_networks(cascade.runs, partial, annotator.geometry, manifest.skeleton.points)
        arrays = {"reference": cascade.reference} if cascade else {}
        arrays |= {"weights": blend.shape.weights, "offset": blend.shape.offset} if blend.shape else {}
        arrays |= {name: getattr(annotator.intervals, name) for name in RADII if annotator.intervals}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial / ARRAYS)
        write_text(partial / CARD, _card(manifest, notes))
        contents = manifest.model_dump(mode="json")
        digest = _digest(contents, [partial / name for name in manifest.files()])
        write_text(partial / MANIFEST, json.dumps({"digest": digest, "contents": contents}, indent=1) + "\n")
    return [MANIFEST, *manifest.files()]


def load_package(folder: Path) -> Annotator:
    """Read what `write_package` wrote, and nothing outside the folder.

    A UserError says that it is incomplete or not as it was written.
    """
    try:
        manifest = _read_manifest(folder)
        arrays = _read_arrays(folder / ARRAYS, manifest.shapes())
        skeleton = make_skeleton(**manifest.skeleton.model_dump())
        if manifest.weights is not None and len(manifest.weights) != len(manifest.members):
            raise ValueError(f"{len(manifest.weights)} weights of {len(manifest.members)} models")
    except (OSError, ValueError, TypeError, RecursionError, SafetensorError, UserError) as error:
        raise UserError(f"{folder}: not a whole package ({_reason(error)}); copy it again, or write it again by "
                        "`python -m stages.package`") from None
    cascade, shape = None, None
    if upright := manifest.cascade:
        cascade = Cascade(
            models=upright.models, locator=upright.locator, runs=_runs(folder, upright.locator, upright.folds),
            reference=arrays["reference"], geometry=upright.geometry)
    if manifest.shape:
        shape = ShapeCorrection(weights=arrays["weights"], offset=arrays["offset"])
    intervals = None
    if manifest.intervals:
        intervals = Intervals(**{name: arrays[name] for name in RADII}, factor={}, coverage=manifest.intervals)
    return Annotator(
        members={model: _runs(folder, model, folds) for model, folds in manifest.members.items()},
        blend=Blend(weights=None if manifest.weights is None else np.array(manifest.weights), shape=shape),
        skeleton=skeleton, geometry=manifest.geometry, cascade=cascade,
        runtime=make_runtime(manifest.device, manifest.precision), tta=manifest.tta, intervals=intervals,
        whole_photos=manifest.whole_photos,
    )


def describe_skeleton(skeleton: Skeleton) -> dict:
    """Find the arguments from which `make_skeleton` builds a skeleton."""
    flip = skeleton.flip.tolist()
    return {
        "name": skeleton.name, "points": len(flip), "pairs": [[one, two] for one, two in enumerate(flip) if one < two],
        "eyes": skeleton.eyes and list(skeleton.eyes), "edges": [list(edge) for edge in skeleton.edges],
        "regions": {region: list(run) for region, run in skeleton.regions.items()}, "names": list(skeleton.names),
    }


def _card(manifest: Manifest, notes: Sequence[str]) -> str:
    """What people should know, as Markdown."""
    asked = dict(manifest.members) | ({manifest.cascade.locator: manifest.cascade.folds} if manifest.cascade else {})
    networks = ", ".join(f"{model} ({count_of(len(folds), 'fold')})" for model, folds in asked.items())
    return "\n\n".join([
        f"# Facial keypoints: {manifest.skeleton.points} points, {manifest.skeleton.name}",
        f"Networks: {networks}.", *notes,
        "`python -m stages.annotate --from THIS_FOLDER photo.jpg` of keypoint-folds finds the points in any photo.",
    ]) + "\n"


def _names(runs: Iterable[Path]) -> list[str]:
    return [run.name for run in runs]


def _runs(folder: Path, model: str, folds: Iterable[str]) -> list[Path]:
    return [folder / "runs" / model / fold for fold in folds]


def _copy_networks(runs: Iterable[Path], folder: Path, geometry: CropGeometry, num_points: int) -> None:
    """Copy networks without the path of the weights that their training started from, after `check_fit`."""
    for run in runs:
        network, _, description = load_model(run)
        check_fit(run, description, size=geometry.size, channels=1 if geometry.color == "grey" else 3,
                  num_points=num_points)
        known = description["network"]
        offline = {"pretrained": False} if "pretrained" in known else {}
        save_model(folder / "runs" / run.parent.name / run.name, network, description | {"network": known | offline})


def _read_manifest(folder: Path) -> Manifest:
    """Read the manifest and check that all files are there, in the folder, and as they were written."""
    written = json.loads(_inside(folder, MANIFEST).read_bytes())
    if not isinstance(written, dict) or set(written) != {"digest", "contents"}:
        raise ValueError(f"{MANIFEST} is something else")
    manifest = Manifest.model_validate(written["contents"])
    if _digest(written["contents"], [_inside(folder, name) for name in manifest.files()]) != written["digest"]:
        raise ValueError("something in it was changed or damaged")
    return manifest


def _digest(contents: dict, files: list[Path]) -> str:
    return fingerprint(json.dumps(contents), *files)  # a text, for the order of the members counts


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"it lacks {name}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is a link out of it")
    return path


def _read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    arrays = load_file(path)
    if {name: array.shape for name, array in arrays.items()} != shapes:
        raise ValueError(f"{ARRAYS} has other arrays than {shapes}")
    finite = {name: np.isfinite(array) | (name == "quantile") & (array == np.inf) for name, array in arrays.items()}
    if not all(arrays[name].dtype.kind == "f" and found.all() for name, found in finite.items()):
        raise ValueError(f"{ARRAYS} has values that are no finite numbers")
    return arrays


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())[:300]
