"""Export of trained models to ONNX (Open Neural Network Exchange), checked against torch.

A folder holds the file that is asked for, `ensemble.onnx` or that of one model, and, where it sees upright crops,
`locator.onnx`, which places them. What their use takes stands in their metadata, as JSON under `keypoint-folds`.

Inputs: `box_crops` or `upright_crops`, `box_affines` or `upright_affines`, and `boxes` where there are intervals.
Outputs: `points`, `spread`, and `radius` where there are intervals; of the locator also `upright_affines`.
"""

import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import atomic_path
from pipeline.common.tables import count_of
from pipeline.data.annotations import BOX, Annotations
from pipeline.data.crops import CropGeometry, store_size, write_store
from pipeline.data.store import CropStore
from pipeline.inference.annotate import Annotator
from pipeline.inference.graph import Ensemble, Locator, Member
from pipeline.inference.package import describe_skeleton
from pipeline.keypoints.geometry import crop_affine
from pipeline.models.backbone import Float32OnCPU, KeypointNetwork

KEY, LOCATOR = "keypoint-folds", "locator"
PRECISIONS = ("float32", "float16")
PARITY = 0.05  # pixels that a point may lie from torch's
SAME = 0.999  # share of the points that must, on the same crops; of the others rounding decides between two places
FACES = 100  # that are compared with torch
ABOUT = {
    "pixels": "x, y; the centre of the top-left pixel is (0, 0); of the image as it is stored, EXIF rotation ignored; "
              "a box is left, top, width, height",
    "preprocessing": "uint8 RGB, or grey, cut by cv2.warpAffine(image, affine, (size, size)), bilinear, black outside; "
                     "an image of more than twice the crop's scale is shrunk by area first; normalisation is inside",
}
Feeds = dict[str, np.ndarray]  # inputs and outputs by their names, N faces each


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A module to export, its inputs as `forward` takes them, and the crops it sees."""

    module: nn.Module
    kinds: Sequence[str]
    boxes: bool
    outputs: Sequence[str]

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in the order of `arguments`."""
        return [f"{kind}_{what}" for what in ("crops", "affines") for kind in self.kinds] + ["boxes"] * self.boxes

    def arguments(self, feeds: dict[str, torch.Tensor]) -> tuple:
        """Arrange inputs as `forward` takes them."""
        if isinstance(self.module, Locator):
            return feeds["box_crops"], feeds["box_affines"]
        parts = tuple([feeds[f"{kind}_{what}"] for kind in self.kinds] for what in ("crops", "affines"))
        return (*parts, feeds["boxes"]) if self.boxes else parts


def build_graphs(annotator: Annotator, name: str) -> tuple[dict[str, Graph], dict]:
    """Build the modules, by the names of their files in the order in which they are asked.

    Returns the modules, and the geometry of the crops by kind: whole stored crops, so that they are those of the
    pipeline.
    """
    cascade = annotator.cascade
    geometry = {"box": annotator.geometry} | ({"upright": cascade.geometry} if cascade else {})

    def member(model: str, runs: Sequence[Path], kind: str) -> Member:
        return Member(runs, kind, geometry[kind], annotator.skeleton.flip, annotator.tta)

    upright = cascade.models if cascade else []
    members = [member(model, runs, "upright" if model in upright else "box")
               for model, runs in annotator.members.items()]
    located = member(cascade.locator, cascade.runs, "box") if cascade else None
    for kind, known in geometry.items():
        size = store_size(known.size, known.padding)
        geometry[kind] = replace(known, size=size, margin=known.margin * size / known.size, padding=1.0)
    graphs = {}
    if cascade and located:
        locator = Locator(located, cascade.reference, geometry["upright"])
        graphs[LOCATOR] = Graph(module=locator, kinds=["box"], boxes=False,
                                outputs=["points", "spread", "upright_affines"])
    ensemble, has_radius = Ensemble(members, annotator.blend, annotator.intervals), annotator.intervals is not None
    graphs[name] = Graph(module=ensemble, kinds=ensemble.kinds, boxes=has_radius,
                         outputs=["points", "spread", *["radius"] * has_radius])
    return {stem: replace(graph, module=graph.module.eval()) for stem, graph in graphs.items()}, {
        kind: asdict(known) for kind, known in geometry.items()}


def write_onnx(path: Path, graph: Graph, geometry: dict[str, dict], metadata: dict) -> None:
    """Write one file in float32, for any number of faces at once."""
    feeds = {"boxes": torch.ones(2, 4)}
    for kind in graph.kinds:
        size, channels = geometry[kind]["size"], [3] * (geometry[kind]["color"] == "rgb")
        feeds[f"{kind}_crops"] = torch.zeros(2, size, size, *channels, dtype=torch.uint8)
        feeds[f"{kind}_affines"] = torch.eye(3)[:2].repeat(2, 1, 1)
    arguments = graph.arguments(feeds)
    faces = {0: torch.export.Dim("faces")}
    shapes = tuple([faces] * len(part) if isinstance(part, list) else faces for part in arguments)
    with _quiet():
        program = torch.onnx.export(
            graph.module, arguments, dynamo=True, verbose=False, input_names=graph.inputs,
            output_names=list(graph.outputs), dynamic_shapes=shapes)
        crops = {kind: geometry[kind] for kind in graph.kinds}
        program.model.metadata_props[KEY] = json.dumps(metadata | {"crops": crops})  # type: ignore[union-attr]
        program.save(path)  # type: ignore[union-attr]


def to_float16(module: nn.Module) -> None:
    """Compute the networks up to their heads in float16; points and affines stay in float32."""
    for network in [part for part in module.modules() if isinstance(part, KeypointNetwork)]:
        for layer in network.modules():
            if isinstance(layer, Float32OnCPU):
                layer.__class__ = type(layer).__mro__[2]  # the convolution into which that is mixed
        network.normalize = nn.Sequential(network.normalize, _Half())
        for part in ("backbone", "decoder"):
            getattr(network, part, nn.Identity()).half()


class _Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.half()


def ask(
    folder: Path, names: Sequence[str], root: Path, faces: Annotations, threads: int = 0
) -> tuple[Feeds, dict[str, float]]:
    """Ask exported files for faces of images in `root`, one after another.

    Returns all that goes in and comes out, and the points of each file by its name; and by the names of the files the
    CPU time a face in milliseconds, one face at a time.
    """
    import onnxruntime

    boxes, milliseconds = faces.faces[BOX].to_numpy(np.float64), {}
    feeds: Feeds = {"boxes": boxes.astype(np.float32)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for name in names:
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options)
        for kind, known in json.loads(session.get_modelmeta().custom_metadata_map[KEY])["crops"].items():
            affines = feeds["upright_affines"].astype(np.float64) if kind == "upright" else crop_affine(
                boxes, size=known["size"], margin=known["margin"], shift_y=known["shift_y"])
            feeds[f"{kind}_affines"] = affines.astype(np.float32)
            with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
                write_store(faces, root, Path(temporary, kind), affines, CropGeometry(**known))
                feeds[f"{kind}_crops"] = np.array(CropStore.open(Path(temporary, kind)).crops)
        inputs, outputs = ([each.name for each in part] for part in (session.get_inputs(), session.get_outputs()))
        start = time.process_time()
        found = [session.run(None, {each: feeds[each][row : row + 1] for each in inputs})
                 for row in tqdm(range(len(faces)), f"{name} by onnxruntime", unit="face", disable=None)]
        milliseconds[name] = 1000 * (time.process_time() - start) / len(faces)
        feeds |= {each: np.concatenate(part) for each, part in zip(outputs, zip(*found, strict=True), strict=True)}
        feeds[name] = feeds["points"]
    return feeds, milliseconds


def write_export(
    folder: Path, annotator: Annotator, *, root: Path, faces: Annotations, precision: str = "float32",
    about: str = "",
) -> list[str]:
    """Write the files of an annotator, the last named `ensemble` or as its only model, and compare them with torch.

    An export that is there is replaced; where anything fails, it stays.

    Args:
        annotator: on the CPU, in float32.
        faces: of images in `root`, to compare on.
        precision: one of PRECISIONS, of the networks up to their heads.
        about: what people should know of the data and their licence.

    Returns:
        Lines that say what was written, how fast it is, and how far its points lie from those of torch.

    Raises:
        UserError: ONNX is not installed, `folder` is something else, a network does not fit, or the points of float32
            are not those of torch.
    """
    _check(folder)
    skeleton = describe_skeleton(annotator.skeleton) | {"flip": annotator.skeleton.flip.tolist()}
    tta = {"flip": annotator.tta.flip, "shift": annotator.tta.shift_tta}
    metadata = {"format": 1, "about": about, "precision": precision, "tta": tta, "skeleton": skeleton, **ABOUT,
                "models": {model: [run.name for run in runs] for model, runs in annotator.members.items()}}
    name = "ensemble" if len(annotator.members) > 1 else next(iter(annotator.members))
    graphs, geometry = build_graphs(annotator, name)
    written = graphs
    if precision == "float16":
        written = build_graphs(annotator, name)[0]
        for graph in written.values():
            to_float16(graph.module)
    with atomic_path(folder) as partial:
        partial.mkdir()
        for stem, graph in written.items():
            write_onnx(partial / f"{stem}.onnx", graph, geometry, metadata)
        distance, lines = _compare(partial, graphs, annotator, root, faces)
        if precision == "float32" and not distance < PARITY:
            raise UserError(f"{folder}: not written, the points should lie within {PARITY} px of torch's, but:", *lines)
    return lines


def _compare(
    folder: Path, graphs: dict[str, Graph], annotator: Annotator, root: Path, faces: Annotations
) -> tuple[float, list[str]]:
    """Compare the files with torch, each on the same crops, and all from the image on, which has its own rounding.

    Returns the 99.9% quantile of the distances of the former, or the 99% quantile of the latter if that is larger:
    where two places are as likely, rounding decides. And what there is to say.
    """
    feeds, onnx = ask(folder, [*graphs], root, faces, annotator.runtime.threads)
    lines, usual = [], [0.0]
    for stem, graph in graphs.items():
        points, milliseconds = _ask_torch(graph, feeds)
        distance = np.linalg.norm(feeds[stem] - points, axis=-1)
        usual.append(float(np.quantile(distance, SAME)))
        size = (folder / f"{stem}.onnx").stat().st_size / 1e6
        lines.append(f"{stem}.onnx: {size:.1f} MB, {onnx[stem]:.1f} ms of CPU time a face, torch {milliseconds:.1f}; "
                     f"on the same crops {SAME:.1%} of the points below {usual[-1]:.4f} px from torch, the farthest "
                     f"{distance.max():.4f}")
    moved = np.linalg.norm(feeds["points"] - annotator.predict(root, faces).points, axis=-1)
    usual.append(float(np.quantile(moved, 0.99)))
    return max(usual), [*lines, (
        f"from the image on, {count_of(len(faces), 'face')}: {moved.mean():.4f} px from torch in the mean, 99% of the "
        f"points below {usual[-1]:.4f}, the farthest {moved.max():.4f}")]


def choose_faces(annotations: Annotations, count: int = FACES) -> Annotations:
    """Choose faces, evenly spread, without their points."""
    rows = np.unique(np.linspace(0, len(annotations) - 1, min(count, len(annotations))).astype(int))
    return replace(annotations, faces=annotations.faces.iloc[rows].reset_index(drop=True), keypoints=None)


def _ask_torch(graph: Graph, feeds: Feeds) -> tuple[np.ndarray, float]:
    """Return torch's points for the inputs of a file, and its CPU time a face in milliseconds, one face at a time."""
    rows = range(len(feeds["boxes"]))
    inputs = [graph.arguments({name: torch.from_numpy(feeds[name][row : row + 1]) for name in graph.inputs})
              for row in rows]
    start = time.process_time()
    with torch.inference_mode():
        points = [graph.module(*arguments)[0].numpy() for arguments in inputs]
    return np.concatenate(points), 1000 * (time.process_time() - start) / len(rows)


def _check(folder: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install -e '.[export]'") from None
    if folder.is_file() or (folder.is_dir() and any(path.suffix != ".onnx" for path in folder.iterdir())):
        raise UserError(f"{folder}: is there and is no export; choose another --out")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks to its own developers from the user."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
