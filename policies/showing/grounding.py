"""Tables and sentences about them, for people: views with the sentence below.

What a network learns from is shown as the referent's outline and a white cross at its middle, what a network answers as
a light on a dark picture and a blue cross.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from envs.specs import Grounding
from policies.looking import Sighting
from policies.showing.colours import heated
from policies.showing.panels import BACKGROUND, FAINT, MARGIN_PX, TEXT, TEXT_PX, TILE_PX, Colour, wrapped

OUTLINE = (255, 60, 220)
MIDDLE = (255, 255, 255)
FOUND = (0, 190, 255)
_LINES = 3
_LINE_PX = round(TEXT_PX * 1.35)
_CROSS_PX = 6


def grounding_sheet(
    shown: Grounding, count: int, columns: int = 3, found: Sighting | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """The first ``count`` sentences, each with all views of its table, and what a network ``found``; a place of NaN is
    not known. ``ValueError`` if there is no sentence.
    """
    count = min(count, len(shown.sentences))
    if count < 1:
        raise ValueError(f"expected at least one sentence to show, got {count}")
    tiles = [_tile(shown, index, found) for index in range(count)]
    columns = min(columns, count)
    width, height = tiles[0].size
    rows = -(-count // columns)
    size = (MARGIN_PX + columns * (width + MARGIN_PX), MARGIN_PX + rows * (height + MARGIN_PX))
    sheet = Image.new("RGB", size, BACKGROUND)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (MARGIN_PX + column * (width + MARGIN_PX), MARGIN_PX + row * (height + MARGIN_PX)))
    return np.asarray(sheet)


def _tile(shown: Grounding, index: int, found: Sighting | None) -> Image.Image:
    """One sentence's views side by side, and its places."""
    table = int(shown.table[index])
    images, cover = shown.images[table].numpy(), shown.cover[index].numpy()
    factor = -(-TILE_PX // images.shape[2])
    height, width = images.shape[1] * factor, images.shape[2] * factor
    lines = _LINES + (found is not None)
    tile = Image.new("RGB", (len(images) * (width + 4) - 4, height + lines * _LINE_PX + 4), BACKGROUND)
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(TEXT_PX)
    for view, picture in enumerate(images):
        left = view * (width + 4)
        large = picture.repeat(factor, 0).repeat(factor, 1)
        here = found if found is not None and bool(found.looked[view]) else None
        if here is not None:
            large = heated(large, here.heatmap[index, view].numpy())
        outline = _outline(cover[view].repeat(factor, 0).repeat(factor, 1))
        tile.paste(Image.fromarray(np.where(outline[..., None], np.array(OUTLINE, np.uint8), large)), (left, 0))
        _cross(draw, left, (width, height), shown.pixel[index, view], MIDDLE)
        if here is not None:
            _cross(draw, left, (width, height), here.pixel[index, view], FOUND)
        if found is not here:
            draw.text((left + 4, 2), "no picture", OUTLINE, font)
        elif not bool(shown.seen[index, view]):
            draw.text((left + 4, 2), "not seen", OUTLINE, font)
    sentence = shown.sentences[index] if found else f"{table}: {shown.sentences[index]}"
    said = [(text, TEXT) for text in wrapped(sentence, font, tile.width)]
    for line, (text, colour) in enumerate([*said, *_places(shown, index, found)][:lines]):
        draw.text((2, height + 2 + line * _LINE_PX), text, colour, font)
    return tile


def _places(shown: Grounding, index: int, found: Sighting | None) -> list[tuple[str, Colour]]:
    """The referent's and the found place in the world, as far as they are known."""
    truth, answer = shown.point_m[index], None if found is None or found.point_m is None else found.point_m[index]
    places: list[tuple[str, Tensor | None, Colour]] = [("" if found is None else "truth ", truth, FAINT)]
    places.append(("found ", answer, FOUND))
    return [
        (f"{what}({', '.join(f'{coordinate:.2f}' for coordinate in point_m.tolist())}) m", colour)
        for what, point_m, colour in places
        if point_m is not None and bool(point_m.isfinite().all())
    ]


def _outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of a mask at its edge."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _cross(
    draw: ImageDraw.ImageDraw, left: int, size: tuple[int, int], pixel: Float[Tensor, "2"], colour: Colour
) -> None:
    """A cross at ``pixel`` (x, y; −1 … 1) of the view that begins at ``left``; none outside of it, or for NaN."""
    x, y = ((pixel + 1) / 2).tolist()
    if not (0 <= x <= 1 and 0 <= y <= 1):
        return
    x, y = left + x * size[0], y * size[1]
    for ink, thick in (((0, 0, 0), 5), (colour, 2)):
        draw.line((x - _CROSS_PX, y, x + _CROSS_PX, y), ink, thick)
        draw.line((x, y - _CROSS_PX, x, y + _CROSS_PX), ink, thick)
