"""The sample competition: photos of drawn heads with the 68 points of iBUG, in the layout of the real competition.

What is hard in real photos is hard here: pose, light, expression, blur, noise, things in front of the face, boxes with
the error of a detector, faces over the edge of the photo, several faces in one photo, mirrored copies.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import joblib
import numpy as np
import psutil
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pipeline.common.files import atomic_path, write_text
from pipeline.common.processes import describe, end_with
from pipeline.data.annotations import dlib_xml, tabulate
from pipeline.keypoints.skeleton import SKELETONS
from pipeline.synthetic.head import Camera, Head, make_head, project_points, template
from pipeline.synthetic.portrait import SUPER, Light, Look, draw_head, noise, shade

HEAD_SIZE = 135.0  # mm from the brows to the chin and from ear to ear, what a detector's box covers
_FLIP = SKELETONS["ibug68"].flip
_PARTS = ("train", "test")
_SKINS = np.array([[170, 195, 232], [140, 170, 215], [110, 145, 200], [80, 115, 175], [55, 80, 130], [38, 50, 82]])
_HAIRS = np.array([[15, 17, 22], [25, 38, 58], [40, 66, 100], [95, 150, 195], [40, 70, 140], [150, 150, 155]])
_IRISES = np.array([[30, 55, 90], [50, 100, 110], [140, 110, 75], [25, 35, 50]])
Photo = tuple[str, tuple[int, int], np.ndarray, np.ndarray]  # name, (width, height), boxes (F, 4), points (F, 68, 2)


class Shot(NamedTuple):
    """A photo to be made: its number within the part, how many faces, and whether it has a mirrored copy."""

    part: str
    number: int
    faces: int
    mirrored: bool
    outdoor: bool

    @property
    def name(self) -> str:
        """Path of the file within the competition's folder, without its ending."""
        return f"{'outdoor' if self.outdoor else 'indoor'}/{self.part}/{self.number:04d}"


def _linear(colour: np.ndarray) -> np.ndarray:
    """A colour on a screen, 0 to 255, in linear light."""
    return (np.asarray(colour, np.float32).clip(0, 255) / np.float32(255)) ** np.float32(2.2)


def _between(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """A random mixture of two neighbours in a table of screen colours."""
    at = rng.uniform(0, len(colours) - 1)
    low = int(at)
    return colours[low] + (colours[low + 1] - colours[low]) * (at - low) + rng.normal(0, 5, 3)


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    """A screen colour such as things have, mostly dull."""
    return rng.uniform(10, 245) + rng.normal(0, rng.choice([8, 22, 60]), 3)


def _random_look(rng: np.random.Generator) -> Look:
    skin = _between(rng, _SKINS)
    pale = skin.mean() / 200
    man = rng.random() < 0.5
    hair = _between(rng, _HAIRS)
    return Look(
        skin=_linear(skin),
        lips=_linear(skin * [0.66, 0.62, 0.88] + [0, 0, rng.uniform(-20, 25) * pale]),
        hair=_linear(_any_colour(rng) if rng.random() < 0.1 else hair),  # or a scarf
        iris=_linear(_between(rng, _IRISES)),
        cloth=_linear(_any_colour(rng)),
        hairline=None if man and rng.random() < 0.15 else rng.uniform(*[(-25, 10), (10, 42)][rng.random() < 0.3]),
        parting=rng.normal(0, 10),
        thickness=rng.uniform(2, 14),
        long_hair=rng.uniform(40, 190) if rng.random() < (0.1 if man else 0.65) else None,
        brow_colour=_linear(hair) * 0.7,
        brow=rng.uniform(3.5, 9 if man else 7),
        brow_dark=rng.uniform(0.25, 0.95),
        beard=rng.uniform(0.1, 0.9) if man and rng.random() < 0.5 else 0.0,
        blush=rng.uniform(0.1, 1),
        gaze=(rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)),
        glasses=rng.choice(["clear", "dark"], p=[0.7, 0.3]).item() if rng.random() < 0.2 else None,
    )


def _random_head(rng: np.random.Generator) -> Head:
    identity = rng.normal(0, 0.85, len(template().identity)).clip(-2, 2)
    mood = {"open": rng.choice([rng.uniform(0, 1.5), rng.uniform(2, 8), rng.uniform(8, 24)], p=[0.55, 0.3, 0.15])}
    mood |= {"smile": rng.uniform(0.1, 1.1)} if rng.random() < 0.5 else {"pucker": rng.uniform(0, 0.9)}
    raised = rng.normal(0, 0.6)
    mood |= {"brow_left": raised + rng.normal(0, 0.2), "brow_right": raised + rng.normal(0, 0.2)}
    closed = rng.uniform(0.6, 1) if rng.random() < 0.1 else rng.uniform(-0.25, 0.4)
    mood |= {"lid_left": closed, "lid_right": 1.0 if rng.random() < 0.03 else closed}
    mood |= {"frown": rng.uniform(0, 1) * (rng.random() < 0.3), "corner_shift": rng.normal(0, 0.5)}
    return make_head(identity, mood)


def _random_camera(rng: np.random.Generator, size: float, centre: Sequence[float]) -> Camera:
    """A camera that sees a face `size` pixels large with its middle near `centre`."""
    yaw = rng.uniform(-45, 45) if rng.random() < 0.45 else rng.normal(0, 14)
    pitch, roll = rng.normal(0, 9), rng.normal(0, 16 if rng.random() < 0.3 else 7)
    pose = {"yaw": np.clip(yaw, -45, 45), "pitch": np.clip(pitch, -22, 22), "roll": np.clip(roll, -38, 38)}
    pose |= {"scale": size / HEAD_SIZE, "distance": rng.uniform(600, 2500)}
    middle = Camera(centre=(0, 0), **pose).view(np.array([0.0, 45.0, -20.0]))[:2]
    return Camera(centre=(centre[0] - middle[0], centre[1] - middle[1]), **pose)


def _detect(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A detector's box (4,) int64 for a face: left, top, width, height."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = np.sqrt(np.prod(high - low)) * 0.97
    size = side * rng.uniform(0.92, 1.08, 2)
    size = size if rng.random() < 0.1 else size[[0, 0]]
    middle = (low + high) / 2 + side * (rng.uniform(-0.08, 0.08, 2) + np.array([0, -0.03]))
    corner = np.rint(middle - size / 2)
    return np.concatenate([corner, np.rint(size)]).astype(np.int64)


def _random_light(rng: np.random.Generator, outdoor: bool) -> Light:
    azimuth, height = rng.uniform(-1.3, 1.3), rng.uniform(-0.2, 1.1)
    direction = [np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)]
    lamp = rng.uniform(0.5, 1.4) if outdoor else rng.uniform(0.2, 1)
    ambient = rng.uniform(0.25, 0.6) if outdoor else rng.uniform(0.08, 0.35)
    warm = np.array([1 - rng.uniform(0, 0.35), 1, 1 + rng.uniform(0, 0.25)], np.float32)
    return Light(direction=np.array(direction, np.float32), lamp=np.float32(lamp) * warm,
                 ambient=np.float32(ambient) * (warm[::-1] if outdoor else warm))


def _draw_background(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) of clutter: a gradient, texture, and blurred shapes, some of them the colour of skin."""
    height, width = shape
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    side = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * np.float32(rng.uniform(-0.3, 0.3))
    start, end = _linear(_any_colour(rng)), _linear(_any_colour(rng))
    picture = np.ascontiguousarray((start + (end - start) * ramp) * (1 + side))
    for _ in range(rng.integers(0, 26)):
        colour = _linear(_between(rng, _SKINS) if rng.random() < 0.3 else _any_colour(rng)).tolist()
        at, size = rng.uniform(0, 1, 2) * [width, height], rng.uniform(0.02, 0.35, 2) * width
        thick = -1 if rng.random() < 0.7 else int(rng.integers(1, 8))
        if rng.random() < 0.5:
            box = cv2.boxPoints((at.tolist(), size.tolist(), rng.uniform(0, 90)))
            (cv2.fillPoly(picture, [box.astype(np.int32)], colour) if thick < 0 else
             cv2.polylines(picture, [box.astype(np.int32)], True, colour, thick))
        else:
            whole = np.rint([*at, *(size / 2 + 1)]).astype(int).tolist()
            cv2.ellipse(picture, whole[:2], whole[2:], rng.uniform(0, 180), 0, 360, colour, thick)
    texture = noise(rng, shape, [(4, 4), (20, 20), (height // 3, width // 3)])
    picture *= (1 + np.float32(rng.uniform(0, 0.4)) * texture).clip(0.1)[..., None]
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 4))


def _draw_hand(
    picture: np.ndarray, tip: np.ndarray, mm: float, light: Light, skin: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw a hand whose fingers end at the pixel `tip`, in place: lit tubes. `mm` is the pixels of a millimetre."""
    angle = rng.uniform(-0.9, 0.9) + np.pi / 2  # from the tip to the wrist, mostly down
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    spread = rng.uniform(16, 20)
    tubes: list[tuple] = [((75, 0), (110, 0), 38), ((110, 0), (260, 0), 28)]  # start, end, radius
    lengths = np.array([12, 3, 0, 5]) * rng.uniform(0, 2)
    for aside, length in zip((-1.5, -0.5, 0.5, 1.5), lengths, strict=True):
        tubes.append(((length, aside * spread), (85, aside * 17), rng.uniform(7.5, 9.5)))
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    for start, end, radius in tubes:
        a, b = (tip + mm * (p[0] * along + p[1] * across) for p in (start, end))
        share = (((x - a[0]) * (b[0] - a[0]) + (y - a[1]) * (b[1] - a[1])) / ((b - a) @ (b - a))).clip(0, 1)
        dx, dy = (x - a[0] - share * (b[0] - a[0])) / (radius * mm), (y - a[1] - share * (b[1] - a[1])) / (radius * mm)
        far = dx * dx + dy * dy
        inside = far < 1
        normal = np.stack([dx, dy, np.sqrt((1 - far).clip(0.02))], axis=-1)[inside].astype(np.float32)
        picture[inside] = shade(np.broadcast_to(skin, normal.shape), normal, light)


def _develop(picture: np.ndarray, outdoor: bool, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of a picture: uint8 photo (H, W, 3) with blur, exposure, noise and JPEG's traces."""
    height, width = (round(side / SUPER) for side in picture.shape[:2])
    photo: Any = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.9, 2.2) if rng.random() < 0.3 else rng.uniform(0.35, 0.8))
    if rng.random() < 0.12:
        length = int(rng.integers(3, 8))
        streak = np.zeros((2 * length + 1,) * 2, np.float32)
        step = np.rint(length / 2 * np.array([np.cos(turn := rng.uniform(0, np.pi)), np.sin(turn)])).astype(int)
        cv2.line(streak, (length - step).tolist(), (length + step).tolist(), 1.0)
        photo = cv2.filter2D(photo, -1, streak / streak.sum())
    bright = rng.uniform(0.7, 1.5) * np.sqrt(0.25 / max(float(photo.mean()), 0.03))
    photo = (photo * np.float32(bright)).clip(0) ** np.float32(1 / rng.uniform(1.8, 2.6)) * np.float32(255)
    grain = rng.uniform(1, 6) if outdoor else rng.uniform(2, 15)
    photo += np.float32(grain) * rng.standard_normal(photo.shape, dtype=np.float32)
    if rng.random() < 0.25:
        photo = np.repeat(photo.mean(axis=-1, keepdims=True), 3, axis=-1)
    photo = np.rint(photo.clip(0, 255)).astype(np.uint8)
    if rng.random() < 0.4:
        quality = int(rng.integers(25, 80))
        photo = cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return photo


def _place_faces(count: int, rng: np.random.Generator) -> tuple[int, int, list[tuple[float, float, float]]]:
    """Photo width and height, and size and middle x, y of each face; several faces stand side by side."""
    if count > 1:
        width, height = 320, 2 * int(rng.integers(95, 161))
        slot = width / count
        sizes = rng.uniform(58, min(92, slot * 0.68), count)
        across = slot * (np.arange(count) + 0.5 + rng.uniform(-0.06, 0.06, count))
        return width, height, [(size, x, height * 0.42 + rng.uniform(-25, 25))
                               for size, x in zip(sizes.tolist(), across.tolist(), strict=True)]
    width, height = (2 * int(side) for side in rng.integers(80, 161, 2))  # even: `SUPER` is 1.5
    size = float(np.exp(rng.uniform(np.log(60), np.log(min(140, 0.78 * min(width, height))))))
    edge = -0.1 if rng.random() < 0.08 else 0.6  # the face's middle is this many face sizes within the photo
    middle = [rng.uniform(edge * size, side - edge * size) for side in (width, height)]
    if edge < 0.6:
        over = int(rng.integers(0, 2))
        middle[over] = rng.choice([0.3 * size, (width, height)[over] - 0.3 * size])
        middle[1 - over] = (width, height)[1 - over] / 2
    return width, height, [(size, middle[0], middle[1])]


def draw_photo(faces: int, outdoor: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a photo of `faces` people.

    Returns:
        uint8 photo (H, W, 3) BGR, boxes (F, 4) int64 left, top, width, height, and points (F, 68, 2) to 0.01 pixel.
    """
    width, height, places = _place_faces(faces, rng)
    light, fine = _random_light(rng, outdoor), (round(width * SUPER), round(height * SUPER))
    picture = cv2.resize(_draw_background((height, width), rng), fine, interpolation=cv2.INTER_LINEAR)
    picture = picture * ((light.ambient + 0.3 * light.lamp) * np.float32(rng.uniform(0.6, 1.6)))
    boxes, points = [], []
    for size, *middle in places:
        head, camera, look = _random_head(rng), _random_camera(rng, size, middle), _random_look(rng)
        draw_head(picture, head, camera, look, light, rng)
        seen = project_points(head, camera).round(2)
        if rng.random() < 0.1:
            tip = seen[rng.choice([3, 5, 8, 11, 13, 31, 35, 48, 54, 57, 36, 45])] + rng.normal(0, 0.05 * size, 2)
            _draw_hand(picture, (tip + 0.5) * SUPER - 0.5, camera.scale * SUPER, light, look.skin * 0.9, rng)
        boxes.append(_detect(seen, rng))
        points.append(seen)
    return _develop(picture, outdoor, rng), np.array(boxes), np.array(points)


def mirror(photo: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirror what `draw_photo` gives: left and right points are swapped too."""
    width = photo.shape[1]
    boxes, points = boxes.copy(), points[:, _FLIP].copy()
    boxes[:, 0] = width - boxes[:, 0] - boxes[:, 2]
    points[..., 0] = width - 1 - points[..., 0]
    return photo[:, ::-1], boxes, points.round(2)


def _plan(part: str, faces: int, seed: int) -> list[Shot]:
    """Photos that hold exactly `faces` faces, mirrored copies counted."""
    rng = np.random.default_rng([seed, _PARTS.index(part)])
    shots: list[Shot] = []
    left = faces
    while left:
        count = min(left, int(rng.choice([1, 2, 3], p=[0.9, 0.07, 0.03])))
        mirrored, outdoor = rng.random() < 0.15 and 2 * count <= left, rng.random() < 0.5
        shots.append(Shot(part, len(shots) + 1, count, bool(mirrored), bool(outdoor)))
        left -= count * (1 + mirrored)
    return shots


def _shoot(folder: Path, shot: Shot, seed: int, owner: str) -> list[Photo]:
    """Draw and write one photo, and its mirrored copy if it has one, in a process that works for `owner`."""
    end_with(owner)
    rng = np.random.default_rng([seed, _PARTS.index(shot.part), shot.number])
    with threadpool_limits(1):  # sums must not depend on the number of threads
        drawn = draw_photo(shot.faces, shot.outdoor, rng)
    photos = {f"{shot.name}.jpg": drawn} | ({f"{shot.name}_mirror.jpg": mirror(*drawn)} if shot.mirrored else {})
    for name, (photo, _, _) in photos.items():
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(photo), [cv2.IMWRITE_JPEG_QUALITY, 92])
        (folder / name).write_bytes(data.tobytes())
    return [(name, photo.shape[1::-1], boxes, points) for name, (photo, boxes, points) in photos.items()]


def make_sample(root: Path, *, train_faces: int, test_faces: int, seed: int, jobs: int = 1) -> None:
    """Make the sample competition in the folder `root`, in place of what was there.

    Writes photos `SOURCE/PART/NUMBER.jpg` (SOURCE `indoor` or `outdoor`, PART `train` or `test`, mirrored copies
    `NUMBER_mirror.jpg`), `train.xml` with boxes and 68 points, `test.xml` with boxes only, and `solution.csv`: header
    `Id,Predicted`, Id i·136 + j for value j (x0, y0, x1, …) of test face i, in pixels of the photo. Points are the
    projections of places on the head, seen or hidden; those of the jaw lie on the visible outline. The folder is
    written atomically. The same seed gives the same bytes whatever `jobs` is, on the same machine and library versions.

    Args:
        train_faces, test_faces: faces in each part, mirrored copies counted.
        jobs: processes that draw.
    """
    parts = {"train": train_faces, "test": test_faces}
    with atomic_path(Path(root).resolve()) as folder:  # absolute: workers may have been started elsewhere
        shots = [shot for part, faces in parts.items() for shot in _plan(part, faces, seed)]
        for shot in shots:
            (folder / shot.name).parent.mkdir(parents=True, exist_ok=True)
        owner = describe(psutil.Process())
        tasks = [joblib.delayed(_shoot)(folder, shot, seed, owner) for shot in shots]
        drawn = joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks)
        photos: dict[str, list[Photo]] = {part: [] for part in _PARTS}
        progress = tqdm(drawn, total=len(shots), desc="sample", unit="photo", disable=None)
        for shot, made in zip(shots, progress, strict=True):
            photos[shot.part] += made
        for part in _PARTS:
            boxes = [(name, *box, "") for name, _, found, _ in photos[part] for box in found.tolist()]
            points = np.concatenate([points for _, _, _, points in photos[part]])
            known = tabulate([(number, *face) for number, face in enumerate(boxes)], points)
            written = known if part == "train" else replace(known, keypoints=None)
            sizes = {name: size for name, size, _, _ in photos[part]}
            dlib_xml.write(folder / f"{part}.xml", written, f"sample competition, {part}", sizes=sizes, decimals=2)
        rows = [f"{number},{value:.2f}" for number, value in enumerate(points.ravel())]  # of the test part, the last
        write_text(folder / "solution.csv", "\n".join(["Id,Predicted", *rows, ""]))
