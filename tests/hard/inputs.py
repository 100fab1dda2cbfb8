"""Bad annotations and photos for each reader, and bad params."""

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Annotations, Layout, formats
from pipeline.data.validation import validate_files
from pipeline.params import load_params
from tests.conftest import ROOT, SKELETON
from tests.data.test_formats import FIXTURES, HELD, PHOTOS
from tests.hard.tally import Tally

NUMBER = re.compile(rb"(?<![\w.-])\d+(?:\.\d+)?(?![\w.])")
NO_NUMBERS = [b"nan", b"inf", b"-inf", b"1e999", b"1e300", b"--5", b"0x10", "１２".encode(), b"1_0", b"1,5", b"five",
              b"4 5", b"-99999"]
NAMES = [b"/etc/passwd", b"../a.png", b"", b"x" * 5000, b"a\x00.png", b"a\n.png", b"\\ud800.png", b"\xff\xfe.png",
         b"nowhere.png", b"b"]
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "UTF-16": lambda text: text.encode("utf-16"), "byte order mark": lambda text: text.encode("utf-8-sig"),
    "Latin-1": lambda text: text.replace("a.png", "ä.png").encode("latin-1"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(), "CR": lambda text: text.replace("\n", "\r").encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(), "no line end": lambda text: text.rstrip("\n").encode(),
    "empty": lambda text: b"", "blank": lambda text: b"\n \n", "twice": lambda text: (text + text).encode(),
}


HARMLESS = ("16 bits", "of one grey")


def spoiled_bytes(data: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield what was done to an annotation file, and what came of it."""
    text = data.decode()
    for name, encode in ENCODINGS.items():
        yield name, encode(text)
    for cut in draw.sample(range(1, len(data)), 16):
        yield f"cut after {cut} bytes", data[:cut]
    for place in draw.sample(range(len(data)), 10):
        junk = draw.choice([b"\x00", b"\xff", b"\xc3", b"<", b"}", b"\"", b"\x1b[31m", b"%n"])
        yield f"{junk!r} at {place}", data[:place] + junk + data[place:]
    lines = data.splitlines(keepends=True)
    for line in draw.sample(range(len(lines)), min(5, len(lines))):
        yield f"line {line + 1} gone", b"".join(lines[:line] + lines[line + 1:])
    numbers = list(NUMBER.finditer(data))
    for text_of in NO_NUMBERS:
        found = draw.choice(numbers)
        yield f"{text_of!r} for the number at {found.start()}", data[:found.start()] + text_of + data[found.end():]
    for found in draw.sample(numbers, 4):
        yield f"no number at {found.start()}", data[:found.start()] + data[found.end():]
    for name in NAMES:
        yield f"{name!r} for a name", data.replace(b"a.png", name, 1)


def spoiled_photos(draw: random.Random) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Yield what is done to a photo, and a function that does it."""
    header = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
    yield "gone", Path.unlink
    yield "empty", lambda path: path.write_bytes(b"")
    yield "text", lambda path: path.write_text("no picture")
    yield "cut", lambda path: path.write_bytes(path.read_bytes()[: draw.randrange(1, 60)])
    yield "huge", lambda path: path.write_bytes(header + (40000).to_bytes(4, "big") * 2 + path.read_bytes()[24:])
    yield "folder", lambda path: (path.unlink(), path.mkdir())
    yield "dangling link", lambda path: (path.unlink(), path.symlink_to("nowhere.png"))
    yield "link to itself", lambda path: (path.unlink(), path.symlink_to(path.name))
    yield "16 bits", lambda path: cv2.imwrite(str(path), np.zeros((16, 16), np.uint16))
    yield "of one grey", lambda path: cv2.imwrite(str(path), np.zeros((16, 16), np.uint8))


def try_annotations(tally: Tally, work: Path, draw: random.Random) -> None:
    """Spoil the annotations and the photos of each format."""
    photo = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    for name, (format, *_) in HELD.items():
        clean = work / "clean" / name
        shutil.copytree(FIXTURES, clean)
        root, inside = (clean / name, ".") if (clean / name).is_dir() else (clean, name)
        for image in PHOTOS:
            (root / image).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(root / image), photo)
        layout = Layout(format=format, num_points=5)
        expected = formats.read(root, inside, layout)
        victim = next(root.glob("a.*s*")) if inside == "." else root / inside  # a.pts or a.asf
        before = victim.read_bytes()
        for what, data in spoiled_bytes(before, draw):
            victim.write_bytes(data)
            tally.add(f"reader {format}", *judge(root, inside, layout, expected, f"{name}: {what}"))
        victim.write_bytes(before)
        if format == "kaggle_pixels":
            continue  # has its photos inside
        for what, spoil in spoiled_photos(draw):
            shutil.copytree(root, work / "copy")
            spoil(work / "copy" / "a.png")
            outcome, line = judge(work / "copy", inside, layout, expected, f"{name}: photo {what}")
            if outcome == "accepted rightly" and what not in HARMLESS:
                outcome = "silent"
            tally.add(f"photos of {format}", outcome, line)
            shutil.rmtree(work / "copy")


def judge(root: Path, name: str, layout: Layout, expected: Any, what: str) -> tuple[str, str]:
    """Validate and read spoiled annotations: an outcome and what to print of it."""
    try:
        report, = validate_files(root, name, None, SKELETON, layout)
        if report.problems:
            raise UserError(*report.problems)
        found = formats.read(root, name, layout)
    except UserError as error:
        told = not any("\n" in problem.replace("\n  ", "") for problem in error.problems)
        return ("refused", what) if told else ("silent", f"{what}: message of several lines: {error.problems[0]!r}")
    except Exception as error:
        return "tracebacks", f"{what}: {type(error).__name__}: {error}"
    known = set(faces_of(expected))
    strange = [face for face in faces_of(found) if face not in known]
    gaps = np.isnan(found.keypoints).sum() - np.isnan(expected.keypoints).sum()
    if not strange or gaps > 0 or found.boxes_made > expected.boxes_made:
        return "accepted rightly", what  # the same faces, some of them, or a point or box fewer, which is counted
    return "silent", f"{what}: {len(found)} faces, of which {len(strange)} other than before"


def faces_of(annotations: Annotations) -> Iterator[tuple]:
    """Yield name or picture, box and points of each face."""
    for image, box, points in zip(annotations.faces.image, annotations.faces[BOX].to_numpy(), annotations.keypoints,
                                  strict=True):
        yield annotations.images[image].tobytes() if annotations.images else image, *box, points.tobytes()


def leaves(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in nested dicts and lists."""
    if isinstance(value, dict | list) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, *path, key)
    else:
        yield path


def try_params(tally: Tally, work: Path, draw: random.Random) -> None:
    """Set each parameter to values of other types and sizes."""
    yaml = YAML(typ="safe", pure=True)
    text = (ROOT / "presets/sample.yaml").read_text()
    path = work / "params.yaml"
    wrong = [None, "", "x; touch hit #", -1, 10**30, 1e30, float("nan"), [], {}, [[]], True, [None]]
    for keys in leaves(yaml.load(text)):
        for value in draw.sample(wrong, 6):
            values = yaml.load(text)
            part = values
            for key in keys[:-1]:
                part = part[key]
            part[keys[-1]] = value
            with path.open("w") as file:
                yaml.dump(values, file)
            what = f"{'.'.join(map(str, keys))}: {value!r}"
            try:
                load_params(path)
            except UserError as error:
                named = str(keys[0]) in str(error)
                tally.add("params", "refused" if named else "silent", f"{what}: not named: {error}")
            except Exception as error:
                tally.add("params", "tracebacks", f"{what}: {type(error).__name__}: {error}")
            else:
                tally.add("params", "accepted rightly", what)
    hostile = {
        "deep": "a: " + "[" * 50_000, "tag": "!!python/object/apply:os.system ['touch hit']", "tab": "a:\n\t- b",
        "aliases": "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 1}]\n" for n in range(12)),
        "twice": text + "\ntrain: {}\n", "binary": "\x00\x01", "anchor": "a: *b", "number": "7", "list": "- 1",
        "empty": "",
    }
    for name, content in hostile.items():
        path.write_text(content)
        try:
            load_params(path)
            tally.add("params", "silent", name)
        except UserError:
            tally.add("params", "refused")
        except Exception as error:
            tally.add("params", "tracebacks", f"{name}: {type(error).__name__}: {error}")
    if Path("hit").exists():
        tally.add("params", "silent", "a params file ran a command")
