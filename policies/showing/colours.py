"""Colours for what has none: distances, geom indices, and where a network looks."""

import colorsys

import numpy as np
from jaxtyping import Float, Int32, UInt8
from PIL import Image

NOTHING = (0, 0, 0)
"""Where a ray hit nothing."""

HEAT = (255, 225, 0)
HEAT_SHARE = 0.45
"""How much of that colour the hottest cell has; the rest is the picture's."""
COLD = 0.45
"""How bright the picture stays where nothing is looked at."""

GOLDEN_RATIO = (5**0.5 - 1) / 2
ANCHORS = (
    (253, 231, 37),
    (181, 222, 43),
    (110, 206, 88),
    (53, 183, 121),
    (31, 158, 137),
    (38, 130, 142),
    (49, 104, 142),
    (62, 73, 137),
    (72, 40, 120),
    (68, 1, 84),
)
"""Viridis (Smith and van der Walt, 2015) from near to far: equal steps of distance look equally large."""


def depth_map(count: int = 256) -> UInt8[np.ndarray, "count 3"]:
    """``count`` colours from near to far."""
    at, knots = np.linspace(0, 1, count), np.linspace(0, 1, len(ANCHORS))
    channels = [np.interp(at, knots, channel) for channel in np.array(ANCHORS, np.float32).T]
    return np.stack(channels, -1).round().astype(np.uint8)


def depth_range(depth_m: Float[np.ndarray, "*shape"]) -> tuple[float, float]:
    """Nearest and farthest distance worth a colour, in metres, rounded to 5 cm outwards.

    From the nearest 1 % of the hits to the nearest 93 %, so that a strip of far background does not flatten the rest.
    """
    hits = depth_m[depth_m > 0]
    if hits.size == 0:
        return 0.0, 1.0
    near, far = np.percentile(hits, (1, 93))
    near, far = np.floor(near * 20) / 20, np.ceil(far * 20) / 20
    return float(near), float(max(far, near + 0.05))


def depth_colours(depth_m: Float[np.ndarray, "*shape"], near_m: float, far_m: float) -> UInt8[np.ndarray, "*shape 3"]:
    """Bright where near, dark where far, the ends of the range beyond it; black for 0, where nothing was hit."""
    shade = np.clip((depth_m - near_m) * (255 / (far_m - near_m)), 0, 255).astype(np.uint8)
    return np.where((depth_m > 0)[..., None], depth_map()[shade], np.array(NOTHING, np.uint8))


def segment_colours(geoms: Int32[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """A colour of its own for every geom index, always the same; black for −1, where nothing was hit."""
    table = [NOTHING, *(_segment_colour(geom) for geom in range(int(geoms.max(initial=-1)) + 1))]
    return np.array(table, np.uint8)[np.clip(geoms, -1, None) + 1]


def heated(
    picture: UInt8[np.ndarray, "h w 3"], heatmap: Float[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "h w 3"]:
    """``picture`` in the dark, lit where the heatmap is high compared with its highest cell; smooth between cells."""
    height, width = picture.shape[:2]
    heat = Image.fromarray((heatmap / max(heatmap.max(), 1e-12)).astype(np.float32))
    warmth = np.asarray(heat.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    share, light = HEAT_SHARE * warmth, COLD + (1 - COLD) * warmth
    return (picture * light * (1 - share) + np.array(HEAT) * share).round().astype(np.uint8)


def _segment_colour(geom: int) -> tuple[int, int, int]:
    """Hues by the golden ratio, so that neighbours lie far apart, in three strengths."""
    saturation, value = ((0.35, 0.65), (0.50, 0.95), (0.75, 0.80))[geom % 3]
    red, green, blue = colorsys.hsv_to_rgb((0.08 + geom * GOLDEN_RATIO) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
