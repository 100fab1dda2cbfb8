"""The sample competition: same bytes for a seed, exact counts, mirrored copies, points where the face is drawn."""

import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.keypoints.skeleton import SKELETONS
from pipeline.synthetic.head import Camera, make_head, project_points, template
from pipeline.synthetic.portrait import SUPER, Light, Look, draw_head
from pipeline.synthetic.sample import draw_photo, make_sample, mirror

TRAIN, TEST, SEED = 12, 4, 10  # this seed has mirrored copies with several faces
SKELETON = SKELETONS["ibug68"]


def digest(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*")) if path.is_file()}  # fmt: skip


def read(root: Path, part: str) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Image, box and points (68, 2) or None of each face, read with the standard library alone."""
    faces = []
    for image in ET.parse(root / f"{part}.xml").getroot().iter("image"):
        for box in image.iter("box"):
            names = [part.get("name") for part in box]
            assert names in ([], [f"{k:02d}" for k in range(68)])
            points = np.array([[float(part.get("x")), float(part.get("y"))] for part in box]) if names else None
            sides = np.array([int(box.get(side)) for side in ("left", "top", "width", "height")])
            faces.append((image.get("file"), sides, points))
    return faces


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("competition") / "sample"
    make_sample(folder, train_faces=TRAIN, test_faces=TEST, seed=SEED)
    return folder


def test_make_sample_with_the_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    make_sample(tmp_path / "again", train_faces=TRAIN, test_faces=TEST, seed=SEED, jobs=2)
    assert digest(tmp_path / "again") == digest(root)


def test_make_sample_with_another_seed_replaces_the_folder(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "stale.txt").write_text("old")
    make_sample(folder, train_faces=1, test_faces=1, seed=SEED + 1)
    assert not set(digest(folder).values()) & set(digest(root).values())
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]
    assert not (folder / "stale.txt").exists()


def test_make_sample_of_given_counts_has_them(root: Path) -> None:
    train, test = read(root, "train"), read(root, "test")
    assert (len(train), len(test)) == (TRAIN, TEST)
    assert all(points is not None for _, _, points in train)
    assert all(points is None for _, _, points in test)
    photos = {image for image, _, _ in train + test}
    assert photos == {name for name in digest(root) if name.endswith(".jpg")}
    assert not {image for image, _, _ in train} & {image for image, _, _ in test}
    assert {Path(name).parts[0] for name in photos} == {"indoor", "outdoor"}
    for name in photos:
        height, width = cv2.imread(str(root / name)).shape[:2]
        assert 160 <= min(height, width) <= max(height, width) <= 320


def test_solution_of_the_sample_has_the_test_points_in_order(root: Path) -> None:
    solution = pd.read_csv(root / "solution.csv")
    assert list(solution.columns) == ["Id", "Predicted"]
    assert solution.Id.tolist() == list(range(TEST * 136))
    points = solution.Predicted.to_numpy().reshape(TEST, 68, 2)
    for (_, (left, top, width, height), _), face in zip(read(root, "test"), points, strict=True):
        assert np.abs(face.mean(axis=0) - [left + width / 2, top + height / 2]).max() < 0.4 * max(width, height)
        assert face[27, 1] < face[8, 1]  # x and y are not swapped: the nose's root is above the chin


def test_points_of_the_sample_lie_about_their_box(root: Path) -> None:
    inside = []
    for _, (left, top, width, height), points in read(root, "train"):
        assert np.isfinite(points).all()
        assert 35 <= min(width, height) <= max(width, height) <= 190
        relative = (points - [left + width / 2, top + height / 2]) / [width, height]
        assert (np.abs(relative) < 0.75).mean() > 0.9
        inside.append((np.abs(relative) < 0.5).all(axis=1).mean())
    assert 0.75 < np.mean(inside) < 1
    assert min(inside) < 1


def test_mirror_of_a_photo_is_its_mirror_image() -> None:
    rng = np.random.default_rng(1)
    photo, boxes, points = draw_photo(2, True, rng)
    mirrored, copy_boxes, copy_points = mirror(photo, boxes, points)
    width = photo.shape[1]
    assert np.array_equal(mirrored, photo[:, ::-1])
    left = points[1, 36]  # the eye corner that is left in the photo becomes the right one of its mirrored copy
    assert copy_points[1, 45] == pytest.approx([width - 1 - left[0], left[1]])
    again = mirror(mirrored, copy_boxes, copy_points)
    for once, back in zip((photo, boxes, points), again, strict=True):
        np.testing.assert_allclose(back, once, atol=1e-6)


def test_mirrored_copies_on_disk_are_mirror_images(root: Path) -> None:
    faces = {}
    for image, box, points in read(root, "train"):
        faces.setdefault(image, []).append((box, points))
    copies = [name for name in faces if name.endswith("_mirror.jpg")]
    assert copies
    for name in copies:
        original = name.replace("_mirror", "")
        pair = [cv2.imread(str(root / file)).astype(float) for file in (original, name)]
        assert np.abs(pair[0][:, ::-1] - pair[1]).mean() < 8  # JPEG alone makes them differ
        width = pair[0].shape[1]
        for (box, points), (copy_box, copy_points) in zip(faces[original], faces[name], strict=True):
            np.testing.assert_allclose(copy_points[:, 0], width - 1 - points[SKELETON.flip, 0], atol=1e-6)
            np.testing.assert_allclose(copy_points[:, 1], points[SKELETON.flip, 1], atol=1e-6)
            assert copy_box.tolist() == [width - box[0] - box[2], *box[1:]]


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (30, 0, 0), (-30, 10, 0), (0, -10, 25)])
def test_points_of_a_posed_head_lie_on_what_is_drawn(yaw: float, pitch: float, roll: float) -> None:
    """A black head with white eyeballs: each white patch has the middle and the height of its six points."""
    black, white = np.zeros(3, np.float32), np.ones(3, np.float32)
    look = Look(skin=black, lips=black, hair=black, iris=white * 0.55 / 0.35, cloth=black, hairline=None, parting=0,
                thickness=0, long_hair=None, brow=5, brow_colour=black, brow_dark=0, beard=0, blush=0, gaze=(0, 0),
                glasses=None)  # fmt: skip
    light = Light(direction=np.array([0, 0, 1], np.float32), lamp=black, ambient=white)
    head = make_head(np.zeros(len(template().identity)), {"lid_left": -0.2, "lid_right": -0.2})
    camera = Camera(yaw=yaw, pitch=pitch, roll=roll, scale=1.4, centre=(120.0, 140.0))
    picture = np.zeros((round(280 * SUPER), round(240 * SUPER), 3), np.float32)
    draw_head(picture, head, camera, look, light, np.random.default_rng(0))
    points = project_points(head, camera)
    bright = cv2.morphologyEx((picture[..., 1] > 0.05).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    _, _, stats, centres = cv2.connectedComponentsWithStats(bright)
    largest = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:2] + 1  # smaller ones are glints and teeth
    order = largest[np.argsort(centres[largest, 0])]
    for part, eye in zip(order, (points[36:42], points[42:48]), strict=True):
        polygon = cv2.moments(eye.astype(np.float32))
        middle = np.array([polygon["m10"], polygon["m01"]]) / polygon["m00"]
        drawn = (centres[part] + 0.5) / SUPER - 0.5
        assert (np.abs(drawn - middle) < [0.45, 0.6]).all()  # lashes darken the upper edge
        width = stats[part, cv2.CC_STAT_WIDTH] / SUPER
        assert width == pytest.approx(np.ptp(eye[:, 0]), abs=4)


def test_jaw_of_a_turned_head_lies_on_its_outline() -> None:
    head = make_head(np.zeros(len(template().identity)), {})
    for yaw, hidden in ((40, range(10, 15)), (-40, range(2, 7))):
        camera = Camera(yaw=yaw, pitch=0, roll=0, scale=1, centre=(0, 0))
        points, skin = project_points(head, camera), camera.view(head.skin).reshape(-1, 3)
        outward = np.sign(yaw)
        for x, y in points[list(hidden)]:
            level = skin[np.abs(skin[:, 1] - y) < 1.5, 0]
            assert (outward * level).max() == pytest.approx(outward * x, abs=2)
    straight = project_points(head, Camera(yaw=0, pitch=0, roll=0, scale=1, centre=(0, 0)))
    np.testing.assert_allclose(straight[SKELETON.flip] * [-1, 1], straight, atol=1e-6)
