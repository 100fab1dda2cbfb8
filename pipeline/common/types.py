"""Types of checked parameters, for the frozen dataclasses that params.yaml and the library share.

Pydantic checks them where params.yaml is read: ranges, no silent conversion of types, no unknown keys.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, Strict


def _local(path: str) -> str:
    if "://" in path or not path.isprintable():
        raise ValueError("not the path of a folder on this machine")
    return path


def _below(path: str) -> str:
    if path.startswith("/") or not path.isprintable() or {"", ".", ".."} & set(path.split("/")):
        raise ValueError("not a folder below data.root, written relative to it, as in `images/train`")
    return path


def _shaped(pattern: str, name: str) -> AfterValidator:
    """Check that a string is a `name`, which is what `pattern` matches."""
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {name}")
        return value

    return AfterValidator(check)


MAX_POINTS = 2_000  # of a face; more are a mistake, and would only fill the memory
CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)  # of a dataclass, as `__pydantic_config__`

Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Count = Annotated[Integer, Field(ge=1, le=1_000_000)]
NotNegativeInteger = Annotated[Integer, Field(ge=0, le=1_000_000)]
Seed = Annotated[Integer, Field(ge=0, lt=2**31)]
Channels = Annotated[Integer, Field(ge=1, le=8192)]
Few = Annotated[Integer, Field(ge=1, le=64)]  # bins a pixel, side of a convolution's kernel
Positive = Annotated[Number, Field(gt=0, le=1e6)]
NotNegative = Annotated[Number, Field(ge=0, le=1e6)]
Pixels = Annotated[Number, Field(ge=-1000, le=1000)]
Width = Annotated[Number, Field(ge=0.01, le=16)]  # of a Gaussian in cells or pixels, of a network in its usual channels
Share = Annotated[Number, Field(ge=0, le=1)]
ShareBelowOne = Annotated[Number, Field(ge=0, lt=1)]

# DVC puts these into paths and commands: it removes an output before its stage runs, and a shell runs the command.
Slug = Annotated[str, _shaped(r"[a-z0-9][a-z0-9_]*", "of small letters, digits and _")]
Folder = Annotated[str, AfterValidator(_local)]  # that is only read
InFolder = Annotated[str, AfterValidator(_below)]  # in the folder of the data
OutputFile = Annotated[str, _shaped(r"(\w[\w.-]*/)*\w[\w.-]*\.csv", "a .csv file below this folder")]
Device = Annotated[str, _shaped(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or one GPU, as cuda:1")]
