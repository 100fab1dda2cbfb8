"""Types of checked parameters, for the frozen dataclasses that params.yaml and the library share.

Pydantic checks them where params.yaml is read: ranges, no silent conversion of types, no unknown keys.
"""

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
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Folder = Annotated[str, AfterValidator(_local)]  # that is only read
InFolder = Annotated[str, AfterValidator(_below)]  # in the folder of the data
OutputFile = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)*\w[\w.-]*\.csv$")]  # below the project
