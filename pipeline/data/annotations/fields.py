"""Checks of untrusted input that the readers share: text, numbers of pixels, paths, numbers of points."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.common.types import MAX_POINTS

BOM = b"\xef\xbb\xbf"  # of UTF-8
MAX_PIXEL = 1e7  # a larger coordinate is a mistake
NO_POINTS = np.empty((0, 2))
NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*", re.ASCII)  # spaces as float knows


def read_text(path: Path, what: str, encoding: str = "utf-8") -> tuple[str, list[str]]:
    """Read a text file; return its text, less a byte order mark, and the problems.

    `what` names the format that is expected.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return "", [f"{path}: cannot be read ({error.strerror}); check the path"]
    if data.startswith(BOM):
        data, encoding = data.removeprefix(BOM), "utf-8"
    if not data.strip():
        return "", [f"{path}: is empty; {what} is expected"]
    try:
        return data.decode(encoding), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", [f"{path}:{line}: is not text in UTF-8; {what} is expected"]


def cut_problem(end: str) -> str | None:
    """Return the problem of a table that ends as `end` does, in a number without a line end, or None."""
    cut = end[-1:] in set("0123456789.")
    return "the last line has no line end: its number may be cut; write the file again" if cut else None


def number(text: str | None) -> float | None:
    """Parse a plain decimal number of pixels, or None: no NaN, no infinity, nothing beyond MAX_PIXEL."""
    if text is None or not NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) < MAX_PIXEL else None


def numbers(texts: list[str]) -> tuple[list[float], list[str]]:
    """Parse numbers; return those that could be read, and one problem for each text that is none."""
    values = [number(text) for text in texts]
    problems = [f"{text[:40]!r} is not a number of pixels" for text, value in zip(texts, values, strict=True)
              if value is None]
    return [value for value in values if value is not None], problems


def names_told(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a file's points; none where all end in digits, as part_0 does, or two are equal or unprintable."""
    told = not all(name[-1:].isdigit() for name in names) and all(map(str.isprintable, names))
    return tuple(names) if told and len(set(names)) == len(names) else ()


def path_problem(image: str) -> str | None:
    """Return the problem of an image path, or None: it must be relative and stay in the data folder."""
    if not image.strip():
        return "the image path is empty"
    if not image.isascii() and image != image.encode("utf-8", "ignore").decode():
        return f"image path {image!r} is not Unicode text"
    if "\0" in image:
        return f"image path {image!r} has a NUL"
    if "\\" in image:
        return f"image path {image!r} has a backslash; write forward slashes"
    if image.startswith("/") or re.match(r"[A-Za-z]:", image):
        return f"image path {image!r} is absolute; write it relative to the data folder"
    if ".." in image.split("/"):
        return f"image path {image!r} leaves the data folder; '..' is not allowed"
    return None


def count_problem(found: int, wanted: int | None) -> str | None:
    """Return the problem of a number of points a face, or None; `wanted` is None where any will do."""
    if wanted is None:
        return f"{found} points a face are too many; at most {MAX_POINTS} are read" if found > MAX_POINTS else None
    if found != wanted:
        return f"{found} points a face, but {wanted} are expected; choose the skeleton of this file"
    return None
