"""Arrays that need not fit into memory: they hold what others hold, and their pages are a file's."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.common.pieces import PIECE, gather, pieces, scratch


def anonymous() -> int:
    """Bytes of this process that the kernel cannot write back to a file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


@pytest.mark.parametrize("count", [0, 1, PIECE, 2 * PIECE + 1])
def test_pieces_cover_each_row_once(count):
    assert [row for piece in pieces(count) for row in range(count)[piece]] == list(range(count))
    assert all(piece.stop - piece.start <= PIECE for piece in pieces(count))


def test_scratch_is_zero_of_any_shape_and_type():
    for shape in ((3, 2), (0, 2), (5,)):
        found = scratch(shape, np.float64)
        assert found.shape == shape and found.dtype == np.float64 and not found.any()
        found[:] = 7  # can be written to


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_scratch_and_gather_take_a_files_pages():
    before = anonymous()
    big = scratch((50 * PIECE, 500))
    big[:] = 1  # 100 MB
    rows = gather(big, np.arange(len(big))[::-1])
    assert rows.shape == big.shape and rows[-1, -1] == 1
    assert anonymous() - before < 20e6


def test_gather_is_indexing():
    array, rng = np.arange(6.0 * PIECE).reshape(-1, 2), np.random.default_rng(0)
    for rows in (rng.permutation(len(array)), rng.random(len(array)) < 0.5, np.array([3, 3, 1]), np.zeros(0, int)):
        np.testing.assert_array_equal(gather(array, rows), array[rows])
