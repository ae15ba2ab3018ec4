"""Episodes as pictures for people: every camera in RGB, depth and segmentation, with what names the episode."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

from policies.data.episode import Episode
from policies.showing.colours import depth_colours, depth_map, depth_range, segment_colours

Colour = tuple[int, int, int]
BACKGROUND: Colour = (18, 20, 24)
RAISED: Colour = (44, 48, 56)
TEXT: Colour = (238, 240, 243)
FAINT: Colour = (150, 156, 166)
SUCCESS: Colour = (96, 200, 128)
FAILURE: Colour = (236, 112, 99)

MARGIN_PX = 14
TITLE_PX = 19
TEXT_PX = 13
CAPTION_PX = 22
"""Height of the line above a tile."""
TILE_PX = 240
"""Smaller views are enlarged by a whole factor until they are this wide."""
THUMBNAIL_PX = 150
LABEL_PX = 104
"""Width of a contact sheet's left column."""
BATCH = 32
"""Frames coloured and composed at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One camera's film in one kind; a depth's ``range_m`` is the nearest and the farthest distance with a colour."""

    camera: str
    kind: Literal["RGB", "depth", "segmentation"]
    film: Shaped[np.ndarray, "t h w ..."]
    range_m: tuple[float, float] = (0.0, 1.0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame, enlarged to be seen."""
        height, width = self.film.shape[1:3]
        return width * self.factor, height * self.factor

    @property
    def factor(self) -> int:
        return -(-TILE_PX // self.film.shape[2])

    def colours(self, frames: slice | list[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """These frames, in colour and as large as they were recorded."""
        if self.kind == "depth":
            return depth_colours(self.film[frames], *self.range_m)
        return segment_colours(self.film[frames]) if self.kind == "segmentation" else self.film[frames]

    def enlarged(self, frames: slice) -> UInt8[np.ndarray, "k h w 3"]:
        return self.colours(frames).repeat(self.factor, 1).repeat(self.factor, 2)


def views(episode: Episode) -> list[list[View]]:
    """A row per camera of what was recorded: RGB, depth, segmentation. RGB alone lies in one row."""
    rows = []
    for camera, images in episode.images.items():
        row = [View(camera=camera, kind="RGB", film=images)]
        if camera in episode.depth:
            depth = episode.depth[camera]
            row.append(View(camera=camera, kind="depth", film=depth, range_m=depth_range(depth[:, ::2, ::2])))
        if camera in episode.segmentation:
            row.append(View(camera=camera, kind="segmentation", film=episode.segmentation[camera]))
        rows.append(row)
    return rows if any(len(row) > 1 for row in rows) else [[view for row in rows for view in row]]


def panels(episode: Episode, rate_hz: float) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The episode's frames as panels, one after the other: all views, and how far the episode has come."""
    grid = views(episode)
    widths = [max(view.size[0] for view in column) for column in zip(*_squared(grid), strict=True)]
    heights = [max(view.size[1] for view in row) for row in grid]
    width = sum(widths) + MARGIN_PX * (len(widths) + 1)
    header = _header(episode, width)
    height = header.height + sum(heights) + (CAPTION_PX + MARGIN_PX) * len(heights)
    blank = Image.new("RGB", (width, height), BACKGROUND)
    blank.paste(header)
    places: list[tuple[View, int, int]] = []
    top = header.height
    for row, row_height in zip(grid, heights, strict=True):
        left = MARGIN_PX
        for view, column_width in zip(row, widths, strict=False):
            _caption(blank, view, left, top)
            places.append((view, left, top + CAPTION_PX))
            left += column_width + MARGIN_PX
        top += row_height + CAPTION_PX + MARGIN_PX
    for start in range(0, len(episode), BATCH):
        frames = slice(start, min(start + BATCH, len(episode)))
        batch = np.repeat(np.asarray(blank)[None], frames.stop - start, axis=0)
        for view, left, top in places:
            tile_width, tile_height = view.size
            batch[:, top : top + tile_height, left : left + tile_width] = view.enlarged(frames)
        for index, panel in enumerate(batch, start):
            _draw_progress(panel, index, len(episode), rate_hz, header.height)
            yield panel


def contact_sheet(episode: Episode, rate_hz: float, count: int = 8) -> UInt8[np.ndarray, "h w 3"]:
    """``count`` evenly spaced frames from the first to the last, a row for every view; fewer if it is that short."""
    frames = sorted(set(np.linspace(0, len(episode) - 1, count).round().astype(int).tolist()))
    rows = [view for row in views(episode) for view in row]
    sizes = [(THUMBNAIL_PX, round(THUMBNAIL_PX * view.size[1] / view.size[0])) for view in rows]
    width = LABEL_PX + 3 * MARGIN_PX + len(frames) * (THUMBNAIL_PX + 4) - 4
    header = _header(episode, width)
    height = header.height + CAPTION_PX + sum(tall + 4 for _, tall in sizes) + MARGIN_PX
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    sheet.paste(header)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    lefts = [LABEL_PX + 2 * MARGIN_PX + column * (THUMBNAIL_PX + 4) for column in range(len(frames))]
    for frame, left in zip(frames, lefts, strict=True):
        draw.text((left, header.height + 2), _moment(frame, len(episode), rate_hz), FAINT, font)
    top = header.height + CAPTION_PX
    for view, size in zip(rows, sizes, strict=True):
        _label(sheet, view, top)
        smooth = Image.Resampling.NEAREST if view.kind == "segmentation" else Image.Resampling.LANCZOS
        for picture, left in zip(view.colours(frames), lefts, strict=True):
            sheet.paste(Image.fromarray(picture).resize(size, smooth), (left, top))
        top += size[1] + 4
    return np.asarray(sheet)


def _squared(grid: list[list[View]]) -> list[list[View]]:
    """Rows of equal length: a short one repeats its last view."""
    longest = max(map(len, grid))
    return [row + row[-1:] * (longest - len(row)) for row in grid]


def _header(episode: Episode, width: int) -> Image.Image:
    """What was asked, and which episode this is."""
    title, small = ImageFont.load_default(TITLE_PX), ImageFont.load_default(TEXT_PX)
    lines = wrapped(f"“{episode.instruction}”", title, width - 2 * MARGIN_PX)
    line_px = round(TITLE_PX * 1.3)
    header = Image.new("RGB", (width, MARGIN_PX + line_px * len(lines) + TEXT_PX + 20), BACKGROUND)
    draw = ImageDraw.Draw(header)
    for index, line in enumerate(lines):
        draw.text((MARGIN_PX, MARGIN_PX - 2 + index * line_px), line, TEXT, title)
    top, about = MARGIN_PX + 2 + line_px * len(lines), f"{episode.task} · seed {episode.seed} · "
    draw.text((MARGIN_PX, top), about, FAINT, small)
    outcome, colour = ("success", SUCCESS) if episode.success else ("failure", FAILURE)
    draw.text((MARGIN_PX + small.getlength(about), top), outcome, colour, small)
    return header


def wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def _moment(frame: int, length: int, rate_hz: float) -> str:
    return f"step {frame + 1} of {length}" if frame + 1 == length else f"step {frame + 1} · {frame / rate_hz:.1f} s"


def _draw_progress(
    panel: UInt8[np.ndarray, "h w 3"], frame: int, length: int, rate_hz: float, header_height: int
) -> None:
    """The step and the time at the header's right, and a bar below it, drawn into ``panel``."""
    width = panel.shape[1] - 2 * MARGIN_PX
    font, text = ImageFont.load_default(TEXT_PX), f"step {frame + 1} of {length} · {frame / rate_hz:.1f} s"
    counter = Image.new("RGB", (round(font.getlength(text)) + 1, TEXT_PX + 4), BACKGROUND)
    ImageDraw.Draw(counter).text((0, 0), text, FAINT, font)
    right, top = MARGIN_PX + width, header_height - TEXT_PX - 18
    panel[top : top + counter.height, right - counter.width : right] = np.asarray(counter)
    bar = slice(header_height - 9, header_height - 6)
    panel[bar, MARGIN_PX : MARGIN_PX + width] = RAISED
    panel[bar, MARGIN_PX : MARGIN_PX + round(width * (frame + 1) / length)] = FAINT


def _caption(picture: Image.Image, view: View, left: int, top: int) -> None:
    """The line above a tile: camera, kind and, for depth, what the colours mean."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT_PX)
    draw.text((left, top + 2), view.camera, TEXT, font)
    draw.text((left + font.getlength(f"{view.camera} "), top + 2), f" {view.kind}", FAINT, font)
    if view.kind == "depth":
        near, far = (f"{metres:.2f}" for metres in view.range_m)
        right = left + view.size[0] - font.getlength(f"{far} m")
        draw.text((right, top + 2), f"{far} m", FAINT, font)
        picture.paste(_colour_bar(48), (round(right) - 54, top + 6))
        draw.text((right - 60 - font.getlength(near), top + 2), near, FAINT, font)


def _label(sheet: Image.Image, view: View, top: int) -> None:
    """A contact sheet's row heading."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    draw.text((MARGIN_PX, top + 4), view.camera, TEXT, font)
    draw.text((MARGIN_PX, top + 22), view.kind, FAINT, font)
    if view.kind == "depth":
        near, far = view.range_m
        sheet.paste(_colour_bar(LABEL_PX - 16), (MARGIN_PX, top + 44))
        draw.text((MARGIN_PX, top + 54), f"{near:.2f} … {far:.2f} m", FAINT, font)


def _colour_bar(width: int) -> Image.Image:
    return Image.fromarray(np.broadcast_to(depth_map(width), (6, width, 3)).copy())
