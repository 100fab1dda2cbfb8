"""Photos as people have them: image files, folders of them, videos and webcams."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import cv2
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import write_bytes

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
WEBCAM_FRAMES = 100


def find_photos(sources: Sequence[str], frames: Path, *, every: int = 1, limit: int | None = None) -> list[Path]:
    """List the image files of all sources; a folder stands for all images below it, in order of their names.

    Args:
        sources: paths, or the number of a webcam.
        frames: folder for the frames of videos and webcams, PNG files in a folder of each.
        every, limit: write every n-th frame, and at most so many of each video; of a webcam 100 by default.

    Raises:
        UserError: names every folder without images, and every video or webcam without frames.
    """
    photos, problems = [], []
    for source in sources:
        path = Path(source)
        webcam = source.isdecimal() and not path.exists()
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and cv2.haveImageReader(str(file)))
            problems += [f"{source}: no images in this folder"] * (not found)
        elif webcam or (path.suffix.lower() in VIDEOS and path.is_file()):
            name, last = (f"webcam{source}", limit or WEBCAM_FRAMES) if webcam else (path.name, limit)
            found = list(_write_frames(int(source) if webcam else str(path), frames / name, every, last))
            problems += [f"{source}: OpenCV reads no frame of this {'webcam' if webcam else 'video'}"] * (not found)
        else:
            found = [path]
        photos += found
    if problems:
        raise UserError(*problems)
    return photos


def _write_frames(source: str | int, folder: Path, every: int, limit: int | None) -> Iterator[Path]:
    """Write frames, numbered from 0 as the source counts them; Ctrl-C ends a webcam's."""
    video = cv2.VideoCapture(source)
    total = None if isinstance(source, int) else int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    try:
        with tqdm(total=total, desc=folder.name, unit="frame", disable=None) as bar:
            for number in count():
                read, image = video.read()
                if not read or (limit is not None and number >= limit * every):
                    return
                bar.update()
                if number % every == 0:
                    path = folder / f"{number:06d}.png"
                    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())
                    yield path
    except KeyboardInterrupt:
        if not isinstance(source, int):
            raise
    finally:
        video.release()
