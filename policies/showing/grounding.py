"""What a network learns to look from, for people: views with the referent's outline and middle, the sentence below."""

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

from envs.specs import Grounding
from policies.showing.panels import BACKGROUND, FAINT, MARGIN_PX, TEXT, TEXT_PX, TILE_PX, wrapped

OUTLINE = (255, 60, 220)
MIDDLE = (255, 255, 255)
_LINES = 3
_LINE_PX = round(TEXT_PX * 1.35)
_CROSS_PX = 6


def grounding_sheet(shown: Grounding, count: int, columns: int = 3) -> UInt8[np.ndarray, "h w 3"]:
    """The first ``count`` sentences, each with all views of its table; ``ValueError`` if there is none."""
    count = min(count, len(shown.sentences))
    if count < 1:
        raise ValueError(f"expected at least one sentence to show, got {count}")
    tiles = [_tile(shown, index) for index in range(count)]
    columns = min(columns, count)
    width, height = tiles[0].size
    rows = -(-count // columns)
    size = (MARGIN_PX + columns * (width + MARGIN_PX), MARGIN_PX + rows * (height + MARGIN_PX))
    sheet = Image.new("RGB", size, BACKGROUND)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (MARGIN_PX + column * (width + MARGIN_PX), MARGIN_PX + row * (height + MARGIN_PX)))
    return np.asarray(sheet)


def _tile(shown: Grounding, index: int) -> Image.Image:
    """One sentence's views side by side."""
    table = int(shown.table[index])
    images, cover = shown.images[table].numpy(), shown.cover[index].numpy()
    factor = -(-TILE_PX // images.shape[2])
    height, width = images.shape[1] * factor, images.shape[2] * factor
    tile = Image.new("RGB", (len(images) * (width + 4) - 4, height + _LINES * _LINE_PX + 4), BACKGROUND)
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(TEXT_PX)
    for view, picture in enumerate(images):
        left = view * (width + 4)
        large = picture.repeat(factor, 0).repeat(factor, 1)
        outline = _outline(cover[view].repeat(factor, 0).repeat(factor, 1))
        tile.paste(Image.fromarray(np.where(outline[..., None], np.array(OUTLINE, np.uint8), large)), (left, 0))
        x, y = ((shown.pixel[index, view] + 1) / 2).tolist()
        if 0 <= x <= 1 and 0 <= y <= 1:
            _cross(draw, left + x * width, y * height)
        if not bool(shown.seen[index, view]):
            draw.text((left + 4, 2), "not seen", OUTLINE, font)
    point = ", ".join(f"{coordinate:.2f}" for coordinate in shown.point_m[index].tolist())
    lines = wrapped(f"{table}: {shown.sentences[index]}", font, tile.width)
    for line, text in enumerate([*lines, f"({point}) m"][:_LINES]):
        draw.text((2, height + 2 + line * _LINE_PX), text, TEXT if line < len(lines) else FAINT, font)
    return tile


def _outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of a mask at its edge."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    for colour, thick in (((0, 0, 0), 3), (MIDDLE, 1)):
        draw.line((x - _CROSS_PX, y, x + _CROSS_PX, y), colour, thick)
        draw.line((x, y - _CROSS_PX, x, y + _CROSS_PX), colour, thick)
