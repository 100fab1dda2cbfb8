"""A 3-D head with the 68 points of iBUG (Sagonas et al., 2013): shape, expression, pose.

Lengths are millimetres of a mean adult head: x to the right in the image, y down, z towards the camera, the origin
between the eyes. The skin is a grid R × C of heights (rows) and longitudes (columns, 0 is straight ahead), and the
points are exact positions on it: whatever moves the skin moves them too.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator

NUM_POINTS = 68
PIVOT = np.array([0.0, 45.0, -75.0])  # where the head turns on the neck

_SECTIONS = np.array([
    [-112, -111, -108, -97, -78, -50, -25, 0, 25, 44, 61, 77, 90, 101, 109, 112, 113],  # height
    [0, 17, 32, 52, 66, 73, 75, 75, 73, 70.5, 66, 58.5, 49, 35.5, 19, 9, 0],  # half width
    [-85, -85, -85, -82, -80, -75, -66, -60, -57, -54, -50, -44, -35, -24, -14, -11, -12],  # z of the widest place
    [-85, -66, -48, -22, -4, 5, 8, 5, 4, 4, 4, 4, 3, 2, -1, -5, -12],  # z of the front, without nose, lips, …
    [-85, -104, -124, -152, -172, -182, -185, -183, -172, -145, -110, -82, -60, -43, -29, -20, -12],  # z of the back
])
_NOSE = np.array([
    [-20, -6, 4, 14, 28, 39, 45, 50, 54, 58, 66],  # height
    [0, 3, 6, 10, 17, 24, 24.5, 15, 6, 1.5, 0],  # how far the ridge stands out
    [9, 7.5, 7, 7.5, 9, 11, 12, 12.5, 13, 13, 13],  # half width
])
_JAW = [6, 25, 44, 61, 77, 90, 101, 109, 112]  # heights of points 0–8, on the outline seen from the front
_MIDDLE = [(0, -2), (0, 12), (0, 28), (0, 43)]  # points 27–30
_BROW = [(12, -18), (24, -23), (37, -24), (50, -21), (60, -13)]  # points 22–26
_NOSE_BASE = [(-14, 51), (-7, 53.5), (0, 55), (7, 53.5), (14, 51)]  # points 31–35
_EYE = [(18, 1.5), (27, -5), (37, -5.5), (46, 0), (38, 4.5), (28, 4.5)]  # points 42–47
_LIPS = [(-26, 75.5), (-16, 70), (-6, 67), (0, 68.5), (6, 67), (16, 70), (26, 75.5), (16, 84), (7, 88), (0, 88.8),
         (-7, 88), (-16, 84), (-22, 75.8), (-8, 73), (0, 73.5), (8, 73), (22, 75.8), (8, 78.6), (0, 79),
         (-8, 78.6)]  # points 48–67, the mouth open by 5.5
REST_OPENING = 5.5

EXPRESSIONS = ("open", "smile", "pucker", "brow_left", "brow_right", "frown", "lid_left", "lid_right", "corner_shift")

ROWS = np.concatenate([-35 - 77 * np.cos(np.linspace(0, np.pi / 2, 23))[:-1], np.linspace(-35, 105, 83)[:-1],
                       105 + 8 * np.sin(np.linspace(0, np.pi / 2, 8))])
_FRONT = np.concatenate([np.arange(0, 46, 2), np.arange(48, 104, 4), np.linspace(106, 180, 7)])
COLUMNS = np.concatenate([-_FRONT[:0:-1], _FRONT])  # degrees


def _along(table: np.ndarray, heights: np.ndarray) -> list[np.ndarray]:
    """Interpolate each row of a table, but the first, at heights; the first row has the table's heights."""
    return [PchipInterpolator(table[0], row)(heights) for row in table[1:]]


def bell(x: np.ndarray, y: np.ndarray, at: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """Evaluate a Gaussian bump, on both sides of the face."""
    return np.exp(-(((np.abs(x) - at[0]) / size[0]) ** 2) - ((y - at[1]) / size[1]) ** 2)


def _nose(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the nose stands out of the face."""
    ridge, width = _along(_NOSE, np.clip(y, _NOSE[0, 0], _NOSE[0, -1]))
    return ridge * np.exp(-((np.abs(x) / width) ** 2.4)) + 7 * bell(x, y, (13, 46), (5, 6))


def _relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What stands out of, or is sunk into, the smooth front of the head."""
    bumps = [
        (4, (27, -20), (22, 8)),  # brow ridge
        (-10, (31, 0), (19, 12)),  # socket
        (6, (32, 0), (12, 8)),  # eyeball
        (6, (46, 30), (17, 16)),  # cheekbone
        (-4, (50, 72), (14, 18)),  # hollow of the cheek
        (6, (0, 76), (24, 14)),  # teeth
        (3, (0, 70.5), (17, 3.5)),  # upper lip
        (4, (0, 83), (15, 4)),  # lower lip
        (-3.5, (0, 91.5), (17, 5)),  # below the lip
        (7, (0, 102), (16, 8)),  # chin
    ]
    return _nose(x, y) + sum(height * bell(x, y, at, size) for height, at, size in bumps)


def _skin(longitude: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The mean head's surface (…, 3) at longitudes in degrees and heights."""
    u = np.deg2rad(longitude)
    width, widest, front, back = _along(_SECTIONS, y)
    x, ahead = width * np.sin(u), np.cos(u)
    z = widest + np.where(ahead > 0, (front - widest) * np.abs(ahead) ** 0.9, (widest - back) * ahead)
    z = z + _relief(x, y) * np.clip(ahead * 3, 0, 1)
    return np.stack([x, y + 0 * x, z], axis=-1)


def _point_places() -> np.ndarray:
    """Longitude and height (68, 2) of the points."""
    mirrored = [(-x, y) for x, y in _BROW[::-1]], [(-_EYE[i][0], _EYE[i][1]) for i in (3, 2, 1, 0, 5, 4)]
    x, y = np.array([*mirrored[0], *_BROW, *_MIDDLE, *_NOSE_BASE, *mirrored[1], *_EYE, *_LIPS], np.float64).T
    front = np.column_stack([np.rad2deg(np.arcsin(x / _along(_SECTIONS, y)[0])), y])
    jaw = [(-90, y) for y in _JAW[:8]] + [(0, _JAW[8])] + [(90, y) for y in _JAW[7::-1]]
    return np.concatenate([jaw, front])


def _identity_modes(points: np.ndarray) -> np.ndarray:
    """How each way in which people differ, at one standard deviation, moves the points (n, 3): (modes, n, 3)."""
    x, y, z = points.T
    side, zero = np.tanh(x / 6), np.zeros_like(x)
    eye, lips = bell(x, y, (32, -6), (24, 22)), bell(x, y, (0, 77), (36, 15))
    low = np.clip((y - 20) / 80, 0, 1)
    moves = [
        (x * 0.06, zero, zero),  # wide face
        (x * 0.09 * low, zero, zero),  # wide jaw
        (zero, np.clip(y - 40, 0, None) * 0.08, zero),  # long chin
        (zero, np.clip(y, 0, 50) * 0.07, zero),  # long middle of the face
        (zero, -np.clip(-y - 30, 0, None) * 0.1, zero),  # high forehead
        (zero, zero, (z + 75) * 0.05),  # deep head
        (side * eye * 2.2, zero, zero),  # eyes apart
        (zero, y * 0.16 * bell(x, y, (32, 0), (18, 9)), zero),  # large eyes
        (zero, -(np.abs(x) - 32) * 0.1 * eye, zero),  # slanting eyes
        (zero, 2.2 * bell(x, y, (36, -22), (28, 10)), zero),  # low brows
        (zero, 3 * bell(x, y, (0, 48), (20, 15)), zero),  # long nose
        (x * 0.16 * bell(x, y, (0, 48), (19, 13)), zero, zero),  # wide nose
        (zero, zero, _nose(x, y) * 0.16),  # nose stands out
        (x * 0.1 * lips, zero, zero),  # wide mouth
        (zero, (y - 76) * 0.2 * bell(x, y, (0, 76), (24, 11)), zero),  # full lips
        (zero, 2 * lips, zero),  # low mouth
        (zero, zero, 4 * bell(x, y, (0, 104), (22, 14))),  # chin stands out
        (side * 4 * bell(x, y, (60, 65), (22, 24)), zero, zero),  # full cheeks
        (np.clip(y, -20, None) * 0.025, zero, zero),  # face not straight
        (1.5 * bell(x, y, (0, 40), (20, 18)), zero, zero),  # nose not straight
    ]
    return np.array([np.stack(move, axis=-1) * ((z + 115) / 45).clip(0, 1)[:, None] for move in moves])


def _expression_modes(points: np.ndarray) -> np.ndarray:
    """How each expression moves the 68 points: (expressions, 68, 3); `open` per mm, the others from 0 to 1."""
    modes = np.zeros((len(EXPRESSIONS), NUM_POINTS, 3))
    opened, smile, pucker, brow_left, brow_right, frown, lid_left, lid_right, corner_shift = modes
    opened[3:14, 1] = [0.06, 0.2, 0.45, 0.7, 0.82, 0.86, 0.82, 0.7, 0.45, 0.2, 0.06]
    opened[[48, 54, 60, 64], 1] = 0.4
    opened[[48, 60], 0], opened[[54, 64], 0] = 0.1, -0.1
    opened[[49, 53], 1], opened[[50, 51, 52], 1], opened[[61, 62, 63], 1] = -0.02, -0.13, -0.14
    opened[[55, 59], 1], opened[[56, 57, 58], 1], opened[[65, 66, 67], 1] = 0.72, 0.85, 0.86
    corners, side = [48, 54, 60, 64], np.array([-1, 1, -1, 1])
    smile[corners] = np.stack([6 * side, [-6] * 4, [-5] * 4], axis=-1)
    smile[[49, 53, 59, 55]] = np.array([[-4, -1.5, -2], [4, -1.5, -2], [-4, -3, -2], [4, -3, -2]])
    smile[[40, 41, 46, 47], 1], smile[[31, 35], 0] = -1.2, [-1.2, 1.2]
    pucker[48:68, 0] = -0.3 * points[48:68, 0]
    pucker[48:68, 2] = 3
    brow_left[17:22, 1] = brow_right[22:27, 1] = -6
    frown[20:24] = np.array([[2, 2.5, 0], [3, 4, 0], [-3, 4, 0], [-2, 2.5, 0]])
    for lid, upper, lower in ((lid_left, [37, 38], [41, 40]), (lid_right, [43, 44], [47, 46])):
        lid[upper, 1] = points[lower, 1] - points[upper, 1] - 1.2
        lid[lower, 1] = -1.2
    corner_shift[[48, 54, 60, 64, 57, 51], :2] = np.array([[2, 2], [3, -2], [2, 2], [3, -2], [2.5, 0], [2, 0]])
    return modes


def _wendland(a: np.ndarray, b: np.ndarray, radius: float = 55.0) -> np.ndarray:
    """Wendland's (1995) smooth positive definite function of the distances (len(a), len(b)), 0 beyond the radius."""
    r = np.minimum(np.linalg.norm(a[:, None] - b[None], axis=-1) / radius, 1)
    return (1 - r) ** 4 * (4 * r + 1)


def _spread_matrix(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 68): how moves of the 68 points carry the whole skin along, exact at the points."""
    chains = [range(17), range(17, 22), range(22, 27), [*range(36, 42), 36], [*range(42, 48), 42], [*range(48, 60), 48],
              [*range(60, 68), 60]]
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    share = np.eye(NUM_POINTS)
    share = np.stack([*share, *((share[i] + share[j]) / 2 for i, j in pairs)])
    between = np.array([_skin(*(places[i] + places[j]) / 2) for i, j in pairs])
    controls = np.concatenate([points[-NUM_POINTS:], between])
    return _wendland(points, controls) @ np.linalg.solve(_wendland(controls, controls), share)


@dataclass(frozen=True, kw_only=True)
class Template:
    """The mean head. n = R·C skin positions followed by the 68 points."""

    points: np.ndarray  # (n, 3)
    grid: np.ndarray  # (68, 2) row and column of each point, fractional
    identity: np.ndarray  # (modes, n, 3) moves at one standard deviation
    expression: np.ndarray  # (expressions, n, 3) moves


@cache
def template() -> Template:
    """Build the mean head, once a process."""
    skin = _skin(*np.meshgrid(COLUMNS, ROWS)).reshape(-1, 3)
    places = _point_places()
    points = np.concatenate([skin, _skin(places[:, 0], places[:, 1])])
    rows = np.interp(places[:, 1], ROWS, np.arange(len(ROWS)))
    columns = np.interp(places[:, 0], COLUMNS, np.arange(len(COLUMNS)))
    carried = _spread_matrix(places, points)
    expression = np.array([carried @ mode for mode in _expression_modes(points[-NUM_POINTS:])])
    grid = np.stack([rows, columns], axis=-1)
    return Template(points=points, grid=grid, identity=_identity_modes(points), expression=expression)


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head in its own frame: `skin` (R, C, 3), `points` (68, 3)."""

    skin: np.ndarray
    points: np.ndarray


def make_head(identity: np.ndarray, expression: dict[str, float]) -> Head:
    """Build the head of one person with one expression.

    `identity` (modes,) are standard deviations from the mean; `expression` are amounts by name in EXPRESSIONS: `open`
    in mm (0 is closed), others 0 to 1, absent ones 0.
    """
    mean, amounts = template(), np.array([expression.get(name, 0.0) for name in EXPRESSIONS])
    amounts[0] -= REST_OPENING
    points = mean.points + np.tensordot(identity, mean.identity, 1) + np.tensordot(amounts, mean.expression, 1)
    skin = points[:-NUM_POINTS].reshape(len(ROWS), len(COLUMNS), 3)
    return Head(skin=skin, points=points[-NUM_POINTS:])


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Pose of the head and the camera: turns in degrees, `scale` pixels a mm, `centre` of the photo in pixels.

    Positive yaw turns the nose to the image's right, positive pitch up; positive roll turns clockwise on the screen.
    `distance` in mm from the camera to the head gives a mild perspective.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    centre: tuple[float, float]
    distance: float = 1200.0

    def turn(self, positions: np.ndarray, *, roll: bool = True) -> np.ndarray:
        """Turn positions or directions (…, 3) about the origin."""
        (a, b, c), (s, t, w) = (f(np.deg2rad([self.yaw, self.pitch, self.roll * roll])) for f in (np.cos, np.sin))
        about_y = np.array([[a, 0, s], [0, 1, 0], [-s, 0, a]])
        about_x = np.array([[1, 0, 0], [0, b, -t], [0, t, b]])
        about_z = np.array([[c, -w, 0], [w, c, 0], [0, 0, 1]])
        return positions @ (about_z @ about_x @ about_y).T

    def view(self, positions: np.ndarray) -> np.ndarray:
        """Project positions (…, 3) of the head to pixels: x, y of the photo and z towards the camera."""
        turned = self.turn(positions - PIVOT) - np.array([0, 0, -PIVOT[2]])
        nearer = self.distance / (self.distance - turned[..., 2:])
        xy = turned[..., :2] * nearer * self.scale + np.array(self.centre)
        return np.concatenate([xy, turned[..., 2:] * self.scale], axis=-1)


def project_points(head: Head, camera: Camera) -> np.ndarray:
    """Project the 68 points (68, 2) as an annotator marks them: those of the jaw lie on the outline that is seen.

    A jaw point whose place is hidden by the turned face is moved forward along its height to the outline
    (landmark marching; Zhu et al., 2015). Points hidden by anything else stay where they are.
    """
    points = head.points.copy()
    turned = camera.turn(head.skin - PIVOT, roll=False)[..., 0]
    rows = template().grid[:, 0]
    for k in (*range(8), *range(9, 17)):
        side = -1 if k < 8 else 1
        columns = np.flatnonzero((side * COLUMNS >= 12) & (side * COLUMNS <= 92))
        low = int(rows[k])
        part = rows[k] - low
        edge = side * ((1 - part) * turned[low, columns] + part * turned[low + 1, columns])
        best = columns[np.argmax(edge)]
        if edge.max() > side * camera.turn(points[k] - PIVOT, roll=False)[0]:
            points[k] = (1 - part) * head.skin[low, best] + part * head.skin[low + 1, best]
    return camera.view(points)[:, :2]
