"""Where a network aims, for people: the pictures that it looks at, as dark as its heatmaps are low, and its answers."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from policies.showing.colours import heated

SIDE_PX = 96
ANSWER = (0, 190, 255)
_CROSS_PX = 3


def aim_sheet(
    pictures: Float[np.ndarray, "looks v 3 s s"],
    heatmaps: Float[np.ndarray, "looks v s s"] | None,
    places: Float[np.ndarray, "looks v 2"],
) -> UInt8[np.ndarray, "h w 3"]:
    """A row for each look, the views side by side; ``pictures`` are RGB in [0, 1] and ``places`` where the answer
    appears, −1 … 1 from the left or upper edge to the other.
    """
    rows = []
    for look, views in enumerate(pictures):
        tiles = []
        for view, picture in enumerate(views):
            tile = _enlarged((255 * np.clip(picture, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0))
            tile = tile if heatmaps is None else heated(tile, heatmaps[look, view])
            tiles.append(_crossed(tile, places[look, view]))
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows, axis=0)


def beside(
    frame: UInt8[np.ndarray, "h w 3"], sheet: UInt8[np.ndarray, "height w2 3"]
) -> UInt8[np.ndarray, "height w3 3"]:
    """A camera's picture as high as the sheet, left of it."""
    width = round(frame.shape[1] * len(sheet) / len(frame))
    large = Image.fromarray(frame).resize((width, len(sheet)), Image.Resampling.NEAREST)
    return np.concatenate([np.asarray(large), sheet], axis=1)


def _enlarged(picture: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "side side 3"]:
    return np.asarray(Image.fromarray(picture).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST))


def _crossed(picture: UInt8[np.ndarray, "s s 3"], place: Float[np.ndarray, " 2"]) -> UInt8[np.ndarray, "s s 3"]:
    """With a cross at a place, none where that is outside."""
    if np.abs(place).max() > 1:
        return picture
    picture = picture.copy()
    x, y = np.minimum((place + 1) / 2 * len(picture), len(picture) - 1).astype(int)
    picture[y, max(x - _CROSS_PX, 0) : x + _CROSS_PX + 1] = ANSWER
    picture[max(y - _CROSS_PX, 0) : y + _CROSS_PX + 1, x] = ANSWER
    return picture
