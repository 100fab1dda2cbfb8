"""Renderer of a `pipeline.synthetic.head.Head`: z-buffered surfaces, light, skin, hair, eyes, mouth, clothes, glasses.

Pictures are float32 (H, W, 3) BGR in linear light, `SUPER` times finer than the photo on each side. Every pixel of the
picture is painted and lit for itself from where on the head it lies (deferred shading; Deering et al., 1988).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from pipeline.synthetic.head import COLUMNS, ROWS, Camera, Head, bell, template

SUPER = 1.5
_FACTOR = 5  # texels per cell of the skin's grid
_SHAPE = (len(ROWS) * _FACTOR, len(COLUMNS) * _FACTOR)
_TEXEL = 1.7 / _FACTOR  # mm, about

@dataclass(frozen=True, kw_only=True)
class Look:
    """What a head is painted with. Colours are linear BGR (3,) float32; lengths are mm; the rest runs from 0 to 1."""

    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray
    hairline: float | None  # how much lower than the mean; None for a bald head
    parting: float  # mm by which the hairline drops from one side of the forehead to the other
    thickness: float
    long_hair: float | None  # height at which long hair ends; None for short hair
    brow: float  # thickness
    brow_colour: np.ndarray
    brow_dark: float
    beard: float
    blush: float
    gaze: tuple[float, float]  # -1 to 1
    glasses: str | None  # "clear", "dark" or None


@dataclass(frozen=True, kw_only=True)
class Light:
    """A lamp far away (`direction` towards it, unit length, camera axes) and light from all sides. Linear BGR."""

    direction: np.ndarray
    lamp: np.ndarray
    ambient: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A surface seen by `camera`."""

    grid: np.ndarray  # (R, C, 3) in the head frame
    camera: Camera
    paint: Callable[[np.ndarray, np.ndarray], np.ndarray]  # positions (n, 3), fractional cells (n, 2) → albedo (n, 3)
    both: bool = False  # whether it can be seen from behind


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: list[tuple[int, int]]) -> np.ndarray:
    """Make a smooth texture (H, W) float32 of about unit spread: the sum of random grids of `cells` rows, columns."""
    total = np.zeros(shape, np.float32)
    for rows, columns in cells:
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return total / np.float32(len(cells) ** 0.5)


def _curve(*indices: int) -> np.ndarray:
    """A smooth line (m, 2) in texels, x and y, through points of the skin."""
    points = (template().grid[list(indices)][:, ::-1] + 0.5) * _FACTOR - 0.5
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return CubicSpline(at, points, bc_type="natural")(np.linspace(0, at[-1], 24))


def _draw_mask(shapes: list[np.ndarray], *, width: int = 0, blur: float) -> np.ndarray:
    """Mask (texels,) from 0 to 1 that is 1 within polygons, or along lines `width` texels wide."""
    mask, fixed = np.zeros(_SHAPE, np.uint8), [np.rint(shape * 16).astype(np.int32) for shape in shapes]
    if width:
        cv2.polylines(mask, fixed, False, 255, width, cv2.LINE_AA, 4)
    for polygon in fixed if not width else []:
        cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), blur).astype(np.float32).ravel() / np.float32(255)


def _brow(thickness: float, *indices: int) -> np.ndarray:
    """Outline (m, 2) in texels of a brow `thickness` mm thick, its points given from the thin end to the nose."""
    line = _curve(*indices)
    half = np.interp(np.linspace(0, 1, len(line)), [0, 0.3, 0.85, 1], [0.1, 0.75, 1.0, 0.6]) * thickness / _TEXEL
    above, below = (np.column_stack([line[:, 0], line[:, 1] + share * half]) for share in (-0.4, 0.6))
    return np.concatenate([above, below[::-1]])


@cache
def _masks() -> dict[str, np.ndarray]:
    """Masks (texels,) and fields of the skin's grid; the same for everybody, made once a process."""
    upper = [_curve(36, 37, 38, 39), _curve(42, 43, 44, 45)]
    lower = [_curve(39, 40, 41, 36), _curve(45, 46, 47, 42)]
    outer = [_curve(*range(48, 55)), _curve(*range(54, 60), 48)]
    inner = [_curve(*range(60, 65)), _curve(64, 65, 66, 67, 60)]
    rows, columns = cv2.resize(ROWS[:, None], (1, _SHAPE[0])), cv2.resize(COLUMNS[None], (_SHAPE[1], 1))
    height, longitude = np.broadcast_arrays(rows, columns)
    aside = np.abs(longitude)
    x, front = 74 * np.sin(np.deg2rad(aside)), aside < 90
    above = np.interp(aside, [0, 25, 50, 90, 105], [60, 60, 70, 12, 8])
    around, line = [0, 30, 45, 60, 72, 84, 95, 110, 130, 180], [-70, -68, -62, -46, -18, 12, 16, 20, 55, 68]
    fields = {
        "nostril": bell(x, height, (7, 52.5), (3.6, 2.2)) * front,
        "wing": bell(x, height, (16.5, 48), (2, 6)) * front,
        "blush": (bell(x, height, (44, 36), (18, 16)) + bell(x, height, (0, 44), (14, 10))) * front,
        "socket": (bell(x, height, (22, -2), (12, 9)) + bell(x, height, (33, 10), (14, 5))) * front,
        "beard": (1 - bell(x, height, (0, 60), (10, 6)) * front) * (aside < 112) / (1 + np.exp((above - height) / 3)),
        "height": height,
        "hairline": np.interp(aside, around, line),
        "forehead": np.clip((85 - aside) / 25, 0, 1),
        "sideways": np.clip(longitude / 60, -1, 1),
    }
    return {
        "eye": _draw_mask([np.concatenate(pair) for pair in zip(upper, lower, strict=True)], blur=1),
        "lash": _draw_mask(upper, width=3, blur=0.8),
        "rim": _draw_mask(lower, width=2, blur=0.8),
        "lid": _draw_mask([line - [0, 3.2 / _TEXEL] for line in upper], width=3, blur=1.5),
        "lips": _draw_mask([np.concatenate(outer)], blur=1.8),
        "mouth": _draw_mask([np.concatenate(inner)], blur=0.8),
        "seam": _draw_mask(inner, width=3, blur=1.2),
    } | {name: np.ascontiguousarray(field, dtype=np.float32).ravel() for name, field in fields.items()}


def _mix(base: np.ndarray, colour: np.ndarray | list[float] | float, share: np.ndarray) -> np.ndarray:
    """`base` (n, 3) mixed with a colour by shares (n,)."""
    return base + (np.asarray(colour, np.float32) - base) * np.clip(share, 0, 1)[:, None]


def _eyeball(place: np.ndarray, head: Head, look: Look) -> np.ndarray:
    """Albedo (n, 3) of eyeballs at positions (n, 3) in the head frame."""
    ball = np.full_like(place, 0.55)
    for corners in ([36, 39], [42, 45]):
        centre = head.points[corners].mean(axis=0)[:2] + [0, -0.8] + np.array(look.gaze) * [6, 2]
        x, y = (place[:, :2] - centre.astype(np.float32)).T
        far, glint = np.hypot(x, y), np.hypot(x + 2, y + 2.2)
        ball = _mix(ball, look.iris * 0.35, (6.6 - far) / 0.8)
        ball = _mix(ball, look.iris, (5.6 - far) / 0.8)
        ball = _mix(ball, 0.006, (2.6 - far) / 0.8)
        ball = _mix(ball, 1.6, (1.5 - glint) / 0.6)
    return ball


def _mouth(place: np.ndarray, head: Head) -> np.ndarray:
    """Albedo (n, 3) of the inside of the mouth at positions (n, 3): dark, with the upper teeth."""
    edge = np.float32(head.points[[50, 52], 1].mean() + 11.5)
    teeth = np.clip((edge - place[:, 1]) / 1.5, 0, 1) * np.clip((20 - np.abs(place[:, 0])) / 4, 0, 1)
    gaps = np.where(np.abs((place[:, 0] / 7) % 1 - 0.5) < 0.07, 0.65, 0.85).astype(np.float32)
    return _mix(np.full_like(place, [0.02, 0.02, 0.06]), [0.5, 0.58, 0.62], teeth * gaps)


def _hair_share(look: Look, ragged: np.ndarray, mask: dict[str, np.ndarray]) -> np.ndarray:
    """How much hair covers each of n places, of which `ragged` (n,) noise and the masks (n,) are given."""
    if look.hairline is None:
        return np.zeros(len(ragged), np.float32)
    line = mask["hairline"] + (look.hairline + look.parting * mask["sideways"]) * mask["forehead"]
    return 1 / (1 + np.exp(((mask["height"] - line + 2 * ragged) / 1.8).clip(-30, 30)))


def _paint_skin(head: Head, look: Look, ragged: np.ndarray, rng: np.random.Generator) -> Callable:
    """Paint of the head: skin, hair, beard, brows, eyes, lips and mouth."""
    fine = noise(rng, _SHAPE, [(9, 9), (40, 40), (200, 160)]).ravel()
    strands = noise(rng, _SHAPE, [(6, 90), (12, 200), (20, 400)]).ravel()
    brows = _draw_mask([_brow(look.brow, *range(17, 22)), _brow(look.brow, *range(26, 21, -1))], blur=2.0)

    def paint(place: np.ndarray, cell: np.ndarray) -> np.ndarray:
        row, column = (np.rint((cell.T + 0.5) * _FACTOR - 0.5)).astype(np.int64)
        texels = row.clip(0, _SHAPE[0] - 1) * _SHAPE[1] + column.clip(0, _SHAPE[1] - 1)
        mask = {name: values[texels] for name, values in _masks().items()}
        grain, strand = fine[texels], strands[texels]
        dark = (1 + 0.06 * grain) * (1 - 0.3 * mask["socket"])
        dark *= np.clip(1 - 0.45 * mask["wing"] - 0.85 * mask["nostril"], 0.1, 1)
        red = np.array([0.3, 0.3, 0], np.float32) * look.blush
        albedo = look.skin * dark[:, None] * (1 - mask["blush"][:, None] * red)
        albedo = _mix(albedo, look.brow_colour, look.beard * mask["beard"] * (0.75 + 0.25 * grain))
        albedo = _mix(albedo, look.lips, mask["lips"] * (0.8 + 0.1 * strand))
        albedo *= (1 - 0.7 * mask["seam"] * mask["lips"])[:, None]
        for name, inside in (("mouth", lambda at: _mouth(at, head)), ("eye", lambda at: _eyeball(at, head, look))):
            at = np.flatnonzero(mask[name])
            albedo[at] = _mix(albedo[at], inside(place[at]), mask[name][at])
        albedo *= ((1 - 0.35 * mask["lid"]) * (1 - 0.8 * mask["lash"]) * (1 - 0.35 * mask["rim"]))[:, None]
        albedo = _mix(albedo, look.brow_colour, brows[texels] * look.brow_dark * (0.85 + 0.15 * strand + 0.1 * grain))
        share = _hair_share(look, ragged[texels], mask)
        return _mix(albedo, look.hair, share) * (1 + 0.35 * share * strand).clip(0.2)[:, None]

    return paint


def _normals(grid: np.ndarray) -> np.ndarray:
    """Outward unit normals (R, C, 3) of a surface grid."""
    normal = np.cross(np.gradient(grid, axis=1), np.gradient(grid, axis=0))
    return normal / np.sqrt(np.einsum("rci,rci->rc", normal, normal) + 1e-12)[..., None]


def _skin_surface(head: Head, camera: Camera, look: Look, rng: np.random.Generator) -> Surface:
    """The head, with its hair standing out of the skin."""
    ragged = noise(rng, _SHAPE, [(5, 60), (8, 140)]).ravel()
    coarse = np.arange(_SHAPE[0] * _SHAPE[1]).reshape(_SHAPE)[2::_FACTOR, 2::_FACTOR].ravel()
    mask = {name: values[coarse] for name, values in _masks().items()}
    share = _hair_share(look, ragged[coarse], mask).reshape(head.skin.shape[:2])
    lumps = 1 + 0.25 * noise(rng, share.shape, [(7, 9), (16, 24)])
    grid = head.skin + _normals(head.skin) * (cv2.blur(share, (3, 3)) * lumps * look.thickness)[..., None]
    return Surface(grid=grid, camera=camera, paint=_paint_skin(head, look, ragged, rng))


def _loft(sections: list, rows: int, degrees: np.ndarray, z: float) -> np.ndarray:
    """Surface grid (R, C, 3) of ellipses around an upright axis, given as height, half width and half depth."""
    heights, widths, depths = np.array(sections).T
    at = np.linspace(heights[0], heights[-1], rows)[:, None]
    wide, deep, u = np.interp(at, heights, widths), np.interp(at, heights, depths), np.deg2rad(degrees)
    return np.stack(np.broadcast_arrays(wide * np.sin(u), at, z + deep * np.cos(u)), axis=-1)


def _body(camera: Camera, look: Look, rng: np.random.Generator) -> Surface:
    """Neck and clothed shoulders, which turn less than the head."""
    sections = [(50, 48, 50), (140, 49, 50), (158, 62, 56), (175, 112, 70), (195, 160, 85), (225, 188, 95),
                (420, 205, 110)]
    grid = _loft(sections, 40, np.linspace(-100, 100, 30), -84) * [rng.uniform(0.92, 1.12), 1, 1]
    collar, stripe, stripes = rng.uniform(-5, 70), rng.uniform(1, 8), rng.uniform(0, 0.5)

    def paint(place: np.ndarray, cell: np.ndarray) -> np.ndarray:
        x, y, z = place.T
        skin = look.skin * np.clip((y - 85) / 70, 0.35, 1)[:, None]
        cloth = look.cloth * (1 + stripes * np.sin(y / stripe))[:, None]
        return _mix(skin, cloth, 0.5 + y - (152 + collar * np.cos(np.arctan2(x, z + 84)) ** 4))

    still = Camera(yaw=camera.yaw * 0.25, pitch=0, roll=camera.roll * 0.5, scale=camera.scale, centre=camera.centre)
    return Surface(grid=grid, camera=still, paint=paint)


def _ear(head: Head, camera: Camera, look: Look, side: int) -> Surface:
    """One ear (`side` -1 is left in the image): a flat shell beside the head."""
    u, v = np.meshgrid(np.linspace(-np.pi, np.pi, 25), np.linspace(0.05, np.pi - 0.05, 15))
    shell = np.stack([np.sin(v) * np.sin(u), -np.cos(v), np.sin(v) * np.cos(u)], axis=-1) * [6, 30, 16]
    shell[..., 0] += side * (5 - 0.25 * shell[..., 2])
    centre = head.points[0 if side < 0 else 16] + [0, -4, -16]

    def paint(place: np.ndarray, cell: np.ndarray) -> np.ndarray:
        across = np.hypot((place[:, 1] - centre[1]) / 30, (place[:, 2] - centre[2]) / 16)
        return look.skin * np.array([0.85, 0.85, 1], np.float32) * (0.65 + 0.35 * np.cos(9 * across))[:, None]

    return Surface(grid=shell + centre, camera=camera, paint=paint)


def _long_hair(camera: Camera, look: Look, end: float, rng: np.random.Generator) -> Surface:
    """Hair that hangs around the head down to the height `end`."""
    flare, begin = rng.uniform(0, 25), rng.uniform(76, 98)
    sections: list[tuple] = [(-95, 45, 70), (-80, 66, 88), (-50, 79, 104), (0, 86, 112)]
    sections += [(70, 84 + flare / 2, 106)] * (end > 75) + [(end, 80 + flare, 90)]
    grid = _loft(sections, 24, np.linspace(begin, 360 - begin, 45), -82)
    grid += noise(rng, grid.shape[:2], [(4, 12), (5, 25)])[..., None] * [2.5, 0, 2.5]
    strands = noise(rng, (24 * 8, 45 * 12), [(3, 60), (5, 200), (12, 400)])

    def paint(place: np.ndarray, cell: np.ndarray) -> np.ndarray:
        row, column = (cell.T * [[8], [12]]).astype(np.int64)
        return look.hair * (1 + 0.35 * strands[row, column]).clip(0.2)[:, None]

    return Surface(grid=grid, camera=camera, paint=paint, both=True)


def _to_picture(camera: Camera, positions: np.ndarray) -> np.ndarray:
    """Positions (…, 3) of the head frame in pixels of the fine picture."""
    seen = camera.view(positions)
    seen[..., :2] = (seen[..., :2] + 0.5) * SUPER - 0.5
    return seen


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _rasterize(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which of the quads (q, 4, 3), given in pixels, is seen at each pixel: (H, W) int32, -1 for none.

    Painter's algorithm: from the farthest (smallest z) to the nearest.
    """
    shown = np.full(shape, -1, np.int32)
    fixed = np.rint(corners[:, :, :2] * 16).astype(np.int32)
    for quad in np.argsort(sum(corners[:, i, 2] for i in range(4)), kind="stable").tolist():
        cv2.fillConvexPoly(shown, fixed[quad], quad, cv2.LINE_8, 4)
    return shown


def _weights(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which three corners (p, 3) of quads (p, 4, 3) lie around the places x, y (p,), and their shares (p, 3)."""
    at = np.stack([x, y], axis=1) - corners[:, 0, :2]
    right, far, down = (corners[:, i, :2] - corners[:, 0, :2] for i in (1, 2, 3))
    upper = (_cross(far, at) * _cross(far, right) > 0)[:, None]
    other = np.where(upper, right, down)
    area = _cross(other, far)
    area = np.where(np.abs(area) < 1e-6, np.float32(np.inf), area)
    second, third = (_cross(at, far) / area).clip(0, 1), (_cross(other, at) / area).clip(0, 1)
    weights = np.stack([(1 - second - third).clip(0), second, third], axis=1)
    return np.where(upper, [0, 1, 2], [0, 3, 2]), weights / (weights[:, :1] + weights[:, 1:2] + weights[:, 2:])


def shade(albedo: np.ndarray, normal: np.ndarray, light: Light) -> np.ndarray:
    """Compute the light (n, 3) that comes back: Lambert, softly wrapped, and Blinn's (1977) highlight."""
    normal = normal / np.sqrt(np.einsum("pi,pi->p", normal, normal) + np.float32(1e-9))[:, None]
    half = light.direction + np.array([0, 0, 1], np.float32)
    half = half / np.linalg.norm(half)
    diffuse = ((normal @ light.direction + 0.15) / 1.15).clip(0, 1)[:, None]
    above = (0.75 - 0.25 * normal[:, 1:2]) * (0.7 + 0.3 * normal[:, 2:])
    shine = 0.06 * (normal @ half).clip(0, 1)[:, None] ** 16
    return albedo * (light.ambient * above + light.lamp * diffuse) + shine * light.lamp


def _project(part: Surface, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cells that can be seen: their corners (q, 4, 3) in pixels and vertex numbers (q, 4)."""
    first = np.arange(part.grid.size // 3).reshape(part.grid.shape[:2])  # clockwise where they face the camera
    quads = np.stack([first[:-1, :-1], first[:-1, 1:], first[1:, 1:], first[1:, :-1]], axis=-1).reshape(-1, 4)
    seen = _to_picture(part.camera, part.grid.reshape(-1, 3)).astype(np.float32)
    at = np.ascontiguousarray(seen[:, :2])
    area = _cross(at[quads[:, 2]] - at[quads[:, 0]], at[quads[:, 3]] - at[quads[:, 1]])
    near = (at > -60).all(axis=1) & (at[:, 0] < shape[1] + 60) & (at[:, 1] < shape[0] + 60)
    keep = quads[near[quads[:, 0]] & (np.abs(area) > 1e-3 if part.both else area > 1e-3)]
    return seen[keep], keep


def _draw(picture: np.ndarray, surfaces: list[Surface], light: Light) -> None:
    """Draws surfaces that hide each other into `picture` (H, W, 3), in place."""
    corners, quads = zip(*(_project(part, picture.shape[:2]) for part in surfaces), strict=True)
    shown = _rasterize(np.concatenate(corners), picture.shape[:2]).ravel()
    pixels = np.flatnonzero(shown >= 0)
    shown, start = shown[pixels], 0
    for part, corner, quad in zip(surfaces, corners, quads, strict=True):
        mine = np.flatnonzero((shown >= start) & (shown < start + len(quad)))
        pixel, cell = pixels[mine], shown[mine] - start
        y, x = np.divmod(pixel, picture.shape[1])
        place, normal, where = np.split(_interpolate(part, corner[cell], quad[cell], x, y), [3, 6], axis=1)
        picture.reshape(-1, 3)[pixel] = shade(part.paint(place, where), normal, light)
        start += len(quad)


def _interpolate(part: Surface, corners: np.ndarray, quads: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Position, normal and cell (p, 3 + 3 + 2) of the surface at the pixels x, y (p,), whose quads are given."""
    which, weights = _weights(corners, x.astype(np.float32), y.astype(np.float32))
    rows, columns = np.divmod(np.arange(part.grid.size // 3), part.grid.shape[1])
    normals = part.camera.turn(_normals(part.grid)).reshape(-1, 3)
    known = np.column_stack([part.grid.reshape(-1, 3), normals, rows, columns]).astype(np.float32)
    vertices = np.take_along_axis(quads, which, axis=1)
    values = sum(known[vertices[:, i]] * weights[:, i : i + 1] for i in range(3))
    if part.both:
        values[:, 3:6] *= np.where(values[:, 5:6] < 0, np.float32(-1), np.float32(1))
    return values


def draw_head(
    picture: np.ndarray, head: Head, camera: Camera, look: Look, light: Light, rng: np.random.Generator
) -> None:
    """Draw a head with neck and shoulders into `picture` (H, W, 3), in place. `camera` is that of the photo."""
    surfaces = [_skin_surface(head, camera, look, rng), _body(camera, look, rng)]
    surfaces += [_ear(head, camera, look, side) for side in (-1, 1)]
    if look.long_hair is not None:
        surfaces.append(_long_hair(camera, look, look.long_hair, rng))
    _draw(picture, surfaces, light)
    if look.glasses is not None:
        _draw_glasses(picture, head, camera, look, light, rng)


def _draw_glasses(
    picture: np.ndarray, head: Head, camera: Camera, look: Look, light: Light, rng: np.random.Generator
) -> None:
    """Draws glasses that sit on the nose, in place."""
    bright = float(light.ambient.mean() + 0.4 * light.lamp.mean())
    width = max(1, round(rng.uniform(1.2, 3.2) * camera.scale * SUPER))
    u, power = np.linspace(0, 2 * np.pi, 40), rng.uniform(0.6, 1.0)
    circle = np.stack([np.cos(u), np.sin(u)], axis=-1)
    ring = np.sign(circle) * np.abs(circle) ** power * [rng.uniform(20, 25), rng.uniform(15, 21)]
    rim, z = rng.uniform(0, 0.4) ** 2 * bright * np.ones(3), head.points[27, 2] + 4
    cover, colour = (0.9, 0.02) if look.glasses == "dark" else (rng.uniform(0, 0.3), rng.uniform(0.3, 0.9))
    lines = []
    for side, corners, ear in ((-1, [36, 39], 0), (1, [42, 45], 16)):
        centre = head.points[corners].mean(axis=0)[:2] + np.array([side * 2, 3])
        lens = np.column_stack([ring + centre, z - 0.006 * (ring[:, 0] + centre[0]) ** 2])
        mask = np.zeros(picture.shape[:2], np.uint8)
        lines.append(np.rint(_to_picture(camera, lens)[:, :2]).astype(np.int32))
        cv2.fillPoly(mask, lines[-1:], 255, cv2.LINE_AA)
        part = np.flatnonzero(mask)
        flat, share = picture.reshape(-1, 3), mask.ravel()[part, None] * np.float32(cover / 255)
        flat[part] = flat[part] * (1 - share) + share * np.float32(colour * bright)
        arms = [np.array([[0, -3, z + 1], [side * 11, -1, z]])]  # the bridge
        if -side * camera.yaw > -8:  # the other arm is behind the face
            arms.append(np.stack([lens[np.argmax(side * lens[:, 0])], head.points[ear] + [side * 2, -8, -14]]))
        lines += [np.rint(_to_picture(camera, arm)[:, :2]).astype(np.int32) for arm in arms]
    cv2.polylines(picture, lines, False, rim.tolist(), width, cv2.LINE_AA)
