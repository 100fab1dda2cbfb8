"""Readers on annotation files that are spoiled at random: each gives faces or one UserError.

`pytest tests/data/test_fuzz.py --hypothesis-profile=fuzz --timeout 0` tries 20,000 of each.
"""

import shutil
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Layout, formats
from tests.data.test_formats import FIXTURES, HELD, PHOTOS

TOKENS = [b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"-1", b"0", b"1e999", b"nan", b"9" * 400, b"1_0", "１２".encode(),
          b'"', b"'", b"<", b">", b"&", b"]]>", b"<!--", b"{", b"}", b"[", b"]", b":", b",", b";", b"\t", b"\n", b"\r",
          b" ", b"../a.png", b"/", b"\\ud800", b"null", b"true", "é".encode()]
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(TOKENS) | st.binary(max_size=6))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures, with photos beside them."""
    folder = shutil.copytree(FIXTURES, tmp_path_factory.mktemp("fuzz") / "data")
    for name in product(("", "pts", "asf"), PHOTOS):
        path = folder.joinpath(*name)
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((16, 16), 9, np.uint8))
    return folder


@pytest.mark.parametrize("name", HELD)
@settings(deadline=None)
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_reader_of_a_spoiled_file_gives_faces_or_an_error(name, clean, edits):
    root, inside = (clean / name, ".") if (clean / name).is_dir() else (clean, name)
    victim = next(root.glob("a.*s*")) if inside == "." else root / inside  # a.pts or a.asf
    before = data = victim.read_bytes()
    for place, removed, added in edits:
        start = round(place * len(data))
        data = data[:start] + added + data[start + removed:]
    victim.write_bytes(data)
    try:
        found = formats.read(root, inside, Layout(format=HELD[name][0], num_points=5))
        assert np.isfinite(found.faces[BOX]).all(axis=None)
        assert found.keypoints is None or not np.isinf(found.keypoints).any()
    except UserError as error:
        assert error.problems and all(str(victim.name) in problem or inside == "." for problem in error.problems)
    finally:
        victim.write_bytes(before)
