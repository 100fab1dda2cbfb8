"""dlib's XML: `<image file><box top left width height><part name x y/>…`, as iBUG 300-W's labels come.

The file is untrusted input: it is read by expat as a stream, any DOCTYPE is refused (so there are no entities
to expand and nothing external to fetch), and no image path may leave the data folder. expat and not lxml because
libxml2 stores line numbers in 16 bits and guesses, off by one, beyond 65,535; label files are longer than that.
"""

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from pipeline.common.errors import UserError
from pipeline.common.files import write_text
from pipeline.common.types import MAX_POINTS
from pipeline.data.annotations import BOX, Annotations, tabulate
from pipeline.data.annotations.fields import number, path_problem

PARENT = {"image": "images", "box": "image", "part": "box"}


def read(path: Path, num_points: int | None = None) -> Annotations:
    """Read as `parse` does; a UserError names every problem of the file at once."""
    annotations, problems = parse(path, num_points)
    if problems:
        raise UserError(*problems)
    return annotations


def parse(path: Path, num_points: int | None = None) -> tuple[Annotations, list[str]]:
    """Read one file: see `formats.Reader`; where `num_points` is None, K is the largest index in the file plus one.

    A point without a `<part>` is NaN; keypoints is None where no box has any part. Boxes that dlib marks `ignore='1'`
    are left out.
    """
    try:
        with Path(path).open("rb") as file:
            if not any(line.strip() for line in file):
                return tabulate([], None), [f"{path}: is empty; dlib XML is expected"]
            file.seek(0)
            parser = _Parser(path, num_points)
            parser.feed(file)
            return parser.annotations(), parser.problems
    except OSError as error:
        return tabulate([], None), [f"{path}: cannot be read ({error.strerror}); check the path"]


def write(
    path: Path, annotations: Annotations, name: str = "", *,
    sizes: Mapping[str, tuple[int, int]] | None = None, decimals: int | None = None,
) -> None:
    """Write faces as dlib XML, atomically; missing points get no `<part>`.

    Args:
        annotations: the faces; those of one image stand one after another.
        name: of the data set.
        sizes: image → width and height, to be written beside its name.
        decimals: of x and y; None: as many as tell them apart, so that `read` reads them back exactly.
    """
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", "<dataset>", f"<name>{escape(name)}</name>", "<images>"]
    rows = list(annotations.faces.itertuples(index=False))
    for image, group in groupby(enumerate(rows), key=lambda item: item[1].image):
        size = "" if sizes is None else " width='{}' height='{}'".format(*sizes[image])
        lines.append(f"  <image file='{escape(image, {chr(39): '&apos;'})}'{size}>")
        for i, row in group:
            box = " ".join(f"{side}='{_text(getattr(row, side))}'" for side in ("top", "left", "width", "height"))
            parts = [] if annotations.keypoints is None else _parts(annotations.keypoints[i], decimals)
            lines += [f"    <box {box}>", *parts, "    </box>"] if parts else [f"    <box {box}/>"]
        lines.append("  </image>")
    write_text(Path(path), "\n".join([*lines, "</images>", "</dataset>", ""]))


def _parts(points: np.ndarray, decimals: int | None) -> list[str]:
    return [f"      <part name='{j:02d}' x='{_text(x, decimals)}' y='{_text(y, decimals)}'/>"
            for j, (x, y) in enumerate(points) if np.isfinite(x) and np.isfinite(y)]


def _text(value: float, decimals: int | None = None) -> str:
    return str(value).removesuffix(".0") if decimals is None else f"{value:.{decimals}f}"


class _Parser:
    """State of one pass over a file: what was read, and the problems."""

    def __init__(self, path: Path, num_points: int | None) -> None:
        self.path, self.num_points, self.limit = path, num_points, num_points or MAX_POINTS
        self.problems: list[str] = []
        self.rows: list[tuple] = []  # see `tabulate`
        self.points: list[np.ndarray] = []  # of each row: (P, 3) float32 index, x, y
        self.stack: list[str] = []  # open tags
        self.face, self.image, self.usable = -1, "", False
        self.row: tuple | None = None  # of the open box, None where it is invalid
        self.parts: dict[int, tuple[float, ...]] | None = None  # of the open box, None outside a box
        self.expat = expat.ParserCreate()
        self.expat.StartElementHandler, self.expat.EndElementHandler = self.start, self.end
        self.expat.StartDoctypeDeclHandler = self.refuse

    def feed(self, file: BinaryIO) -> None:
        try:
            self.expat.ParseFile(file)
        except UserError as error:
            self.problems += error.problems
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            self.problems.append(f"{self.path}:{error.lineno}: broken XML ({reason}, column {error.offset + 1})")
        except (LookupError, ValueError) as error:
            self.problems.append(f"{self.path}:1: the encoding in the XML header is not known ({error}); save as UTF-8")
        if not self.problems and self.face < 0:
            self.problems.append(f"{self.path}: has no faces; <images><image file=…><box …/> is expected")

    def refuse(self, *_: object) -> None:
        raise UserError(f"{self.path}:{self.expat.CurrentLineNumber}: has a DOCTYPE, which is refused; remove it")

    def problem(self, message: str, inside: bool = True) -> None:
        where = f"face {self.face} ({self.image}): " if inside else ""
        self.problems.append(f"{self.path}:{self.expat.CurrentLineNumber}: {where}{message}")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self.stack[-1] if self.stack else None
        self.stack.append(tag)
        if tag in PARENT and parent != PARENT[tag]:
            self.parts, place = None, f"<{parent}>" if parent else "nothing"
            self.problem(f"<{tag}> inside {place}; it belongs into <{PARENT[tag]}>", inside=False)
        elif tag in PARENT:
            {"image": self.on_image, "box": self.on_box, "part": self.on_part}[tag](attributes)

    def end(self, tag: str) -> None:
        self.stack.pop()
        if tag == "box" and self.parts is not None:
            if self.row:
                self.rows.append(self.row)
                parts = [(index, *point) for index, point in self.parts.items()]
                self.points.append(np.array(parts, np.float32).reshape(-1, 3))
            self.parts = None

    def on_image(self, attributes: dict[str, str]) -> None:
        self.image = attributes.get("file", "")
        reason = path_problem(self.image) if "file" in attributes else "<image> has no attribute 'file'"
        self.usable = reason is None
        if reason:
            self.problem(reason, inside=False)

    def on_box(self, attributes: dict[str, str]) -> None:
        self.parts = None
        if attributes.get("ignore") != "1":
            self.face += 1
            values, where = self.numbers(attributes, BOX), f"{self.path}:{self.expat.CurrentLineNumber}"
            valid = values and self.usable
            self.row = (self.face, PurePosixPath(self.image).as_posix(), *values, where) if valid else None
            self.parts = {}  # those of an invalid box are still checked

    def on_part(self, attributes: dict[str, str]) -> None:
        if self.parts is None:
            return
        name = attributes.get("name")
        if name is None:
            return self.problem("<part> has no attribute 'name'")
        index = int(name) if re.fullmatch("[0-9]{1,9}", name) else self.limit
        if index >= self.limit:
            return self.problem(f"part {name!r} is unknown; names are the indices 0 to {self.limit - 1}")
        if index in self.parts:
            return self.problem(f"part {name!r} comes twice")
        self.parts[index] = self.numbers(attributes, ["x", "y"], f"part {name!r}: ") or (np.nan, np.nan)

    def numbers(self, attributes: dict[str, str], names: list[str], what: str = "") -> tuple[float, ...]:
        """Parse attributes as floats; none, and the problems, where one is missing or not a number of pixels."""
        found = [number(attributes.get(name)) for name in names]
        for name, value in zip(names, found, strict=True):
            if name not in attributes:
                self.problem(f"{what}attribute {name!r} is missing")
            elif value is None:
                self.problem(f"{what}{name}={attributes[name]!r} is not a number of pixels")
        return () if None in found else tuple(value for value in found if value is not None)

    def annotations(self) -> Annotations:
        """Tabulate what was read."""
        if not any(map(len, self.points)):
            return tabulate(self.rows, None)
        size = self.num_points or 1 + int(max(parts[:, 0].max(initial=0) for parts in self.points))
        keypoints = np.full((len(self.rows), size, 2), np.nan, np.float32)
        for row, parts in zip(keypoints, self.points, strict=True):
            row[parts[:, 0].astype(int)] = parts[:, 1:]
        return tabulate(self.rows, keypoints)
