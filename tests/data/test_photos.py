"""Photos from folders, videos and webcams."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.data import photos as module
from pipeline.data.photos import find_photos


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, sub/b.JPG, notes.txt, an empty folder, and clip.avi of five frames of growing brightness."""
    monkeypatch.chdir(tmp_path)
    for name in ("sub", "empty"):
        Path(name).mkdir()
    for name in ("a.png", "sub/b.JPG"):
        cv2.imwrite(name, np.full((30, 40, 3), 90, np.uint8))
    Path("notes.txt").write_text("no photo")
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(5):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    return tmp_path


def test_find_photos_of_folder_are_its_images_in_order(place: Path) -> None:
    assert find_photos([".", "notes.txt"], Path("frames")) == [Path("a.png"), Path("sub/b.JPG"), Path("notes.txt")]


@pytest.mark.parametrize(("every", "limit", "numbers"), [(1, None, range(5)), (2, None, (0, 2, 4)), (2, 2, (0, 2))])
def test_find_photos_of_video_are_its_frames(place: Path, every: int, limit: int | None, numbers: tuple) -> None:
    found = find_photos(["clip.avi"], Path("frames"), every=every, limit=limit)
    assert found == [Path(f"frames/clip.avi/{number:06d}.png") for number in numbers]
    assert [round(cv2.imread(str(path)).mean() / 40) for path in found] == list(numbers)


def test_find_photos_without_any_names_each_source(place: Path) -> None:
    Path("broken.mp4").write_bytes(b"no video")
    with pytest.raises(UserError) as caught:
        find_photos(["empty", "broken.mp4", "a.png"], Path("frames"))
    assert list(caught.value.problems) == ["empty: no images in this folder",
                                           "broken.mp4: OpenCV reads no frame of this video"]


def test_find_photos_of_webcam_end_with_ctrl_c(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Webcam:
        def __init__(self, source: int) -> None:
            assert source == 7
            self.left = 2

        def read(self) -> tuple:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return True, np.zeros((30, 40, 3), np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr(module.cv2, "VideoCapture", Webcam)
    found = find_photos(["7"], Path("frames"))
    assert found == [Path("frames/webcam7/000000.png"), Path("frames/webcam7/000001.png")]
