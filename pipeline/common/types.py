"""Types of checked parameters, for the frozen dataclasses that params.yaml and the library share.

Pydantic checks them where params.yaml is read: ranges, no silent conversion of types, no unknown keys.
"""

from typing import Annotated

from pydantic import ConfigDict, Field, Strict

CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)  # of a dataclass, as `__pydantic_config__`

Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Count = Annotated[Integer, Field(ge=1)]
NotNegativeInteger = Annotated[Integer, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
ShareBelowOne = Annotated[Number, Field(ge=0, lt=1)]
