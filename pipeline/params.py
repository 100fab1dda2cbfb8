"""Typed and checked parameters: an unknown key, a wrong type or a value out of range is named.

The library's functions take values; only the stages read params.yaml.
"""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.common.errors import UserError
from pipeline.common.types import (
    CHECKED,
    MAX_POINTS,
    Channels,
    Count,
    Device,
    Few,
    Folder,
    InFolder,
    NotNegative,
    NotNegativeInteger,
    OutputFile,
    Pixels,
    Positive,
    Seed,
    ShareBelowOne,
    Slug,
    Width,
)
from pipeline.data.annotations import Layout
from pipeline.data.crops import CropGeometry, LabelOffset
from pipeline.inference.tta import TTA
from pipeline.keypoints.skeleton import Skeleton, get_skeleton, make_skeleton
from pipeline.training.settings import Augmentation, Recipe, Schedule


def _different(numbers: list[int]) -> list[int]:
    if len(set(numbers)) != len(numbers):
        raise ValueError("a number stands twice in the list")
    return numbers


Different = AfterValidator(_different)
MAX_BYTES = 1 << 20
PHRASES = [("^Value error, ", ""), ("^(Input|List|String|Dictionary) should", "must"), (" after validation", ""),
           ("valid dictionary( or instance of .*)?", "mapping"),
           ("^Input tag (.*) found using 'name' does not match any of the expected tags: ",
            r"name \1 is unknown; choose one of ")]  # pydantic's, and ours
SHORT = Repr()  # of values in messages: aliases can make a small file print for ever
SHORT.maxlevel, SHORT.maxlist, SHORT.maxdict, SHORT.maxstring, SHORT.maxother = 2, 20, 20, 200, 200


class Section(BaseModel):
    """A part of params.yaml: read-only, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CustomSkeleton(Section):
    """A point set of one's own; see `pipeline.keypoints.skeleton.make_skeleton`."""

    points: Annotated[Count, Field(le=MAX_POINTS)]
    pairs: list[list[int]] = []
    eyes: list[int] | None = None
    edges: list[list[int]] = []
    regions: dict[str, list[int]] = {}
    names: list[str] | None = None


def _skeleton(value: object) -> Skeleton:
    if not isinstance(value, dict | str):
        raise ValueError("neither a name nor a mapping with `points` and what else describes them")
    try:
        if isinstance(value, str):
            return get_skeleton(value)
        return make_skeleton("custom", **CustomSkeleton.model_validate(value).model_dump())
    except UserError as error:
        details = [InitErrorDetails(type=PydanticCustomError("skeleton", "{text}", {"text": text}), input=value)
                   for text in error.problems]
        raise ValidationError.from_exception_data("skeleton", details) from None


class Points(Section):
    """Which points the faces have: in YAML, the name of a skeleton, or a description of one's own."""

    skeleton: Annotated[Skeleton, PlainValidator(_skeleton)]


class Data(Points):
    """Where the competition lies and which points it has."""

    root: Folder
    train: str
    test: str | None
    photos: InFolder | None
    test_photos: InFolder | None
    solution: str | None
    exclude: str | None
    format: Literal["auto", "dlib_xml", "pts", "asf", "csv_points", "kaggle_pixels", "wflw", "coco"]
    box: Literal["photo", "points"]
    points: Annotated[list[NotNegativeInteger], Field(min_length=1), Different] | None
    offset: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    mirrored: re.Pattern[str] | None

    def absent(self) -> list[str]:
        """Tell that there is no file of the answers, which no stage reads before `score`."""
        path = Path(self.root) / (self.solution or "")
        problem = f"data.solution: {path} is not there; set it to null where the answers are not known"
        return [problem] if self.solution and not path.is_file() else []

    def label_offset(self) -> LabelOffset:
        """What the labels are off by."""
        return LabelOffset(offset=self.offset, mirrored=self.mirrored)

    def excluded(self) -> Path | None:
        """The list of train faces to leave out."""
        return Path(self.root) / self.exclude if self.exclude else None

    def layout(self) -> Layout:
        """How the annotations are read."""
        return Layout(num_points=self.skeleton.num_points, format=self.format, points=self.points, box=self.box,
                      photos=self.photos or "", test_photos=self.test_photos or "")


class Sample(Section):
    """The built-in competition; `sets` is empty where it is not wanted."""

    sets: list[Literal["sample"]]
    train_faces: Count
    test_faces: Count
    seed: Seed


class Align(Section):
    """See `pipeline.data.align`; `locator` and `models` are empty where it is not wanted."""

    locator: Annotated[list[Slug], Field(max_length=1)]
    models: list[Slug]
    size: Annotated[int, Field(ge=16, le=1024)]
    margin: Annotated[float, Field(ge=0.5, le=4)]
    padding: Annotated[float, Field(ge=1, le=3)]


class Split(Section):
    """See `pipeline.data.folds`."""

    folds: Annotated[list[NotNegativeInteger], Field(min_length=2), Different]
    seed: Seed
    photo_pattern: re.Pattern[str] | None
    near_duplicates: bool


class Train(Section):
    """What all models share in training."""

    models: Annotated[list[Slug], Field(min_length=1)]
    seed: Seed
    device: Device
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    workers: NotNegativeInteger
    threads: NotNegativeInteger
    deterministic: bool
    validate_every: Count


class BackboneParams(Section):
    """See `pipeline.models.backbone.Backbone`."""

    name: str
    backbone: str
    pretrained: bool | str
    width: Width
    frozen: list[str]


class ResNetParams(BackboneParams):
    """See `pipeline.models.resnet.ResNet`."""

    name: Literal["resnet"]
    stem: Literal["sum", "mean"]
    head: Literal["average", "flatten", "maps"]
    reduction: Literal[8, 16] | None
    dropout: ShareBelowOne


class UNetParams(BackboneParams):
    """See `pipeline.models.unet.UNet`."""

    name: Literal["unet"]
    decoder_channels: Annotated[list[Channels], Field(min_length=1, max_length=5)]
    upsample: Literal["nearest", "transposed"]


class SimpleNetParams(Section):
    """See `pipeline.models.simplenet.SimpleNet`."""

    name: Literal["simplenet"]
    channels: Annotated[list[Channels], Field(min_length=1)]
    kernels: list[Few]
    padding: Annotated[list[NotNegativeInteger], Field(max_length=20)]
    hidden: Annotated[list[Channels], Field(min_length=2, max_length=2)]
    dropout: ShareBelowOne


class SmallCNNParams(Section):
    """See `pipeline.models.smallcnn.SmallCNN`."""

    name: Literal["smallcnn"]
    channels: Annotated[list[Channels], Field(min_length=3, max_length=6)]
    kernels: list[Few]
    pools: list[Few]
    hidden: Channels


class RegressionParams(Section):
    """See `pipeline.models.codecs.Regression`."""

    name: Literal["regression"]


class SimCCParams(Section):
    """See `pipeline.models.codecs.SimCC`."""

    name: Literal["simcc"]
    bins: Few
    sigma: Width
    padding: Annotated[NotNegative, Field(le=1024)]


class HeatmapParams(Section):
    """See `pipeline.models.codecs.Heatmap`."""

    name: Literal["heatmap", "gaussian", "sigmoid"]
    sigma: Width
    padding: Annotated[NotNegative, Field(le=1024)]
    decoder: Literal["window", "argmax"]


# As the classes of `pipeline.models` have them, which would load torch; a test compares.
LOSSES = {"regression": ("l1", "smooth_l1", "mse"), "simcc": ("axis_cross_entropy",), "heatmap": ("cross_entropy",),
          "gaussian": ("mse",), "sigmoid": ("binary_cross_entropy",)}
SPATIAL = {"unet", "heatmap", "gaussian", "sigmoid"}


class LossParams(Section):
    """See `pipeline.models.losses`; `beta` is the width of smooth_l1's parabola, in units of the codec."""

    name: str
    beta: Positive | None = None


def _augmentation_changes(values: dict[str, Any]) -> dict[str, Any]:
    """Check some keys of an Augmentation as all of them are checked."""
    off = {"backend": "auto"} | {field.name: 0.0 for field in fields(Augmentation) if field.name != "backend"}
    TypeAdapter(Augmentation).validate_python(off | values)
    return values


AugmentationChanges = Annotated[dict[str, Any], AfterValidator(_augmentation_changes)]


@dataclass(frozen=True, kw_only=True)
class Model(Schedule):
    """A network with its codec, loss, schedule and what it has otherwise than Params' `augment`."""

    __pydantic_config__ = CHECKED

    network: Annotated[SimpleNetParams | SmallCNNParams | ResNetParams | UNetParams, Field(discriminator="name")]
    codec: Annotated[RegressionParams | SimCCParams | HeatmapParams, Field(discriminator="name")]
    loss: LossParams
    augment: AugmentationChanges


def _fits(model: Model) -> Model:
    """Check that the codec fits the network, and the loss the codec."""
    network, codec, loss = model.network.name, model.codec.name, model.loss
    if (network in SPATIAL) != (codec in SPATIAL):
        fitting = [name for name in LOSSES if (name in SPATIAL) == (network in SPATIAL)]
        raise ValueError(f"codec {codec} does not fit network {network}; its codec.name is one of {', '.join(fitting)}")
    if loss.name not in LOSSES[codec]:
        raise ValueError(f"loss {loss.name} does not fit codec {codec}; its loss.name is one of "
                         f"{', '.join(LOSSES[codec])}")
    if loss.beta is not None and loss.name != "smooth_l1":
        raise ValueError(f"loss {loss.name} has no beta; only smooth_l1 has one")
    return model


class Ensemble(Section):
    """See `pipeline.inference.ensemble`."""

    blend: Literal["mean", "median", "weights"]
    ridge: Positive | None


class Submit(Section):
    """See `pipeline.evaluation.submission`, `lookup` and `intervals`."""

    path: OutputFile
    lookup: str | None
    intervals: OutputFile
    review: OutputFile
    coverage: Annotated[float, Field(gt=0, lt=1)]


class Params(Section):
    """All of params.yaml."""

    data: Data
    sample: Sample
    crop: CropGeometry
    split: Split
    align: Align
    train: Train
    models: dict[Slug, Annotated[Model, AfterValidator(_fits)]]
    augment: Augmentation
    predict: TTA
    ensemble: Ensemble
    submit: Submit

    @model_validator(mode="after")
    def _fits_together(self) -> "Params":
        if self.data.solution is not None and self.data.test is None:
            raise ValueError("data.solution names a file, but data.test is null; a solution is that of the test faces")
        if bool(self.align.locator) != bool(self.align.models):
            raise ValueError("align.locator and align.models go together: both name a model, or both are []")
        train, align = self.train.models, self.align.models
        for key, names, known in (("train.models", train, self.models), ("align.models", align, self.models),
                                  ("align.locator", self.align.locator, train)):
            if unknown := [name for name in names if name not in known]:
                owner = "train.models" if known is train else "models"
                raise ValueError(f"{key} names {', '.join(unknown)}, but {owner} has only {', '.join(known)}")
        if twice := sorted(set(align) & set(train)):
            raise ValueError(f"{', '.join(twice)} stands both in train.models and in align.models")
        return self

    @property
    def members(self) -> list[str]:
        """The models that are blended: all that are trained, on whichever crops, but for the locator."""
        return [model for model in self.trained if model not in self.align.locator]

    @property
    def trained(self) -> list[str]:
        """The models that are trained, the locator among them."""
        return [*self.train.models, *self.align.models]

    def aligned_crop(self) -> CropGeometry:
        """The geometry of the upright crops."""
        align = self.align
        return CropGeometry(size=align.size, margin=align.margin, padding=align.padding, color=self.crop.color)

    def recipe(self, name: str) -> Recipe:
        """All that decides how the model called `name` is trained."""
        model = self.models[name]
        return Recipe(
            network=model.network.model_dump(), codec=model.codec.model_dump(), loss=model.loss.model_dump(),
            schedule=Schedule(**{field.name: getattr(model, field.name) for field in fields(Schedule)}),
            augmentation=replace(self.augment, **model.augment),
            validate_every=self.train.validate_every, seed=self.train.seed,
        )

    def model(self, name: str | None) -> tuple[str, Model]:
        """The model called `name`, or the first member of the ensemble; a UserError lists the known ones."""
        name = name or self.members[0]
        if name not in self.models:
            raise UserError(f"models.{name}: no such model in the params; known are {', '.join(self.models)}")
        return name, self.models[name]

    def fold(self, fold: int) -> int:
        """`fold` if params knows it; else a UserError."""
        if fold not in self.split.folds:
            raise UserError(f"fold {fold}: split.folds in the params has only {', '.join(map(str, self.split.folds))}")
        return fold


def load_params(path: Path) -> Params:
    """Read a params file as YAML 1.2.

    Raises:
        UserError: one message a problem, each naming the file, the key, its value and what is allowed.
    """
    return _checked(Params, _read(path), path)


def load_names(path: Path) -> tuple[list[str], Skeleton]:
    """The models that a params file trains and its point set; the file may be of an older version of the project."""
    values = _read(path)
    try:
        models, skeleton = [*values["train"]["models"]], values["data"]["skeleton"]
        models += values.get("align", {}).get("models", [])
    except (TypeError, KeyError):
        raise UserError(f"{path}: has no train.models or no data.skeleton") from None
    return models, _checked(Points, {"skeleton": skeleton}, path).skeleton


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: over {MAX_BYTES >> 20} MiB; a params file has a few kilobytes")
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; write one, as by `python -m stages.preset sample`") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a params file") from None
    except RecursionError:
        raise UserError(f"{path}: not readable as YAML: lists or mappings in each other, too deep") from None
    except (YAMLError, ValueError) as error:  # ValueError: of a number or date that is none
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None


SomeSection = TypeVar("SomeSection", bound=Section)


def _checked(section: type[SomeSection], values: object, path: Path) -> SomeSection:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise UserError(*(f"{path}: {_message(**problem)}" for problem in error.errors())) from None


def _message(type: str, loc: tuple, input: object, msg: str, **_: object) -> str:
    key = ".".join(map(str, loc))
    if type in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: unknown key (its value: {SHORT.repr(input)}); remove it or fix its spelling"
    if type == "missing":
        return f"{key}: missing; see presets/sample.yaml for every key"
    for phrase, ours in PHRASES:
        msg = re.sub(phrase, ours, msg)
    value = "" if isinstance(input, dict | BaseModel | Model) else f" is {SHORT.repr(input)}:"
    return f"{key}{value} {msg}".strip()
