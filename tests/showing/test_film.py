"""Films show the frames they were given, in order; panels and sheets hold what was recorded, where it belongs."""

import sys

import av
import numpy as np
import pytest
from synthetic_demonstrations import make_embodiment, make_episode

from policies.showing.colours import depth_colours, depth_map, depth_range, segment_colours
from policies.showing.film import write_mp4
from policies.showing.panels import CAPTION_PX, MARGIN_PX, contact_sheet, panels, views


def decoded(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]), stream


def gradients(count, height, width):
    """Smooth pictures whose brightness says which frame they are."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 100 // width, y * 100 // height, np.full_like(x, 40)], -1)
    return [(picture + 100 * k // count).astype(np.uint8) for k in range(count)]


@pytest.mark.parametrize(("height", "width", "fps"), [(64, 96, 20.0), (63, 95, 12.5)])
def test_an_mp4_decodes_to_the_frames_that_were_written(tmp_path, height, width, fps):
    frames = gradients(17, height, width)
    assert write_mp4(tmp_path / "film.mp4", iter(frames), fps) == 17
    got, stream = decoded(tmp_path / "film.mp4")
    assert got.shape == (17, height + height % 2, width + width % 2, 3)
    assert float(stream.average_rate) == fps and stream.codec_context.pix_fmt == "yuv420p"
    error = np.abs(got[:, :height, :width].astype(int) - np.stack(frames).astype(int))
    assert error.mean() < 3 and error.reshape(17, -1).mean(1).max() < 4


def test_without_libx264_the_mp4_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    write_mp4(tmp_path / "film.mp4", gradients(5, 64, 64), 10.0)
    got, stream = decoded(tmp_path / "film.mp4")
    assert stream.codec_context.name == "mpeg4"
    assert np.abs(got.astype(int) - np.stack(gradients(5, 64, 64)).astype(int)).mean() < 5


def broken_off():
    yield from gradients(3, 16, 16)
    raise RuntimeError("the camera fell down")


@pytest.mark.parametrize(
    ("frames", "error", "complaint"),
    [
        ([], ValueError, "at least one frame"),
        ([np.zeros((16, 16, 3), np.float32)], ValueError, r"expected uint8 \(h, w, 3\).*got float32"),
        ([np.zeros((16, 16), np.uint8)], ValueError, r"got uint8 \(16, 16\)"),
        ([*gradients(2, 16, 16), *gradients(1, 16, 18)], ValueError, "frame 2: expected"),
        (broken_off(), RuntimeError, "fell down"),
    ],
)
def test_a_film_that_fails_leaves_the_old_one(tmp_path, frames, error, complaint):
    write_mp4(tmp_path / "film.mp4", gradients(4, 16, 16), 10.0)
    with pytest.raises(error, match=complaint):
        write_mp4(tmp_path / "film.mp4", frames, 10.0)
    assert len(decoded(tmp_path / "film.mp4")[0]) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_without_av_one_learns_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vla-stack\[video\]'"):
        write_mp4(tmp_path / "film.mp4", gradients(2, 16, 16), 10.0)


def test_depth_goes_from_bright_to_dark_and_nothing_is_black():
    depth = np.linspace(0.4, 1.6, 50, dtype=np.float32)
    colours = depth_colours(depth, 0.4, 1.6)
    assert tuple(colours[0]) == tuple(depth_map()[0]) and tuple(colours[-1]) == tuple(depth_map()[-1])
    luminance = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) < 0).all()
    outside = depth_colours(np.array([0, 0.1, 9], np.float32), 0.4, 1.6)
    assert not outside[0].any() and np.array_equal(outside[1:], depth_map()[[0, -1]])


def test_a_depth_range_holds_most_hits_and_none_of_the_misses():
    depth = np.concatenate([np.zeros(500), np.linspace(0.62, 1.21, 960), np.full(40, 8.0)]).astype(np.float32)
    near, far = depth_range(depth)
    assert (near, far) == pytest.approx((0.6, 1.2))
    assert depth_range(np.zeros(5, np.float32)) == (0, 1)


def test_every_geom_has_its_own_colour_whatever_else_is_seen():
    geoms = np.arange(-1, 60, dtype=np.int32)
    colours = segment_colours(geoms)
    assert not colours[0].any() and len(np.unique(colours, axis=0)) == len(geoms)
    assert np.array_equal(segment_colours(geoms[20:30]), colours[20:30])
    neighbours = np.abs(np.diff(colours[1:].astype(int), axis=0)).sum(1)
    assert neighbours.min() > 60


@pytest.mark.parametrize(
    ("depth", "segmentation", "grid"),
    [
        (False, False, [["front RGB", "wrist RGB"]]),
        (True, False, [["front RGB", "front depth"], ["wrist RGB", "wrist depth"]]),
        (
            True,
            True,
            [[f"{camera} {kind}" for kind in ("RGB", "depth", "segmentation")] for camera in ("front", "wrist")],
        ),
    ],
)
def test_panels_hold_every_view_of_every_frame(depth, segmentation, grid):
    embodiment = make_embodiment(depth=depth, segmentation=segmentation)
    episode = make_episode(0, embodiment, 37)
    assert [[f"{view.camera} {view.kind}" for view in row] for row in views(episode)] == grid
    film = list(panels(episode, 10.0))
    assert len(film) == 37 and len({panel.shape for panel in film}) == 1
    rows, columns = len(grid), len(grid[0])
    height, width, _ = film[0].shape
    assert width == columns * 240 + (columns + 1) * MARGIN_PX
    bottom = height - MARGIN_PX - 240
    wrist = slice(width - MARGIN_PX - 240, width - MARGIN_PX)
    for k in (0, 33, 36):
        shown = film[k][bottom : bottom + 240 : 20, wrist][:, ::20]  # 12 px views, enlarged 20 times
        assert np.array_equal(shown, views(episode)[-1][-1].colours([k])[0])
        above = bottom - (rows - 1) * (240 + CAPTION_PX + MARGIN_PX)
        front = film[k][above : above + 240 : 20, MARGIN_PX : MARGIN_PX + 240 : 20]
        assert np.array_equal(front, episode.images["front"][k])


def test_a_panel_says_how_far_the_episode_has_come():
    film = list(panels(make_episode(0, make_embodiment(depth=False), 10), 10.0))
    header = np.stack(film)[:, :60].astype(int)
    changed = (header[1:] != header[:-1]).any((1, 2, 3))
    assert changed.all()


@pytest.mark.parametrize(("length", "columns"), [(40, 8), (5, 5), (1, 1)])
def test_a_contact_sheet_shows_evenly_spaced_frames(length, columns):
    episode = make_episode(0, make_embodiment(segmentation=True), length)
    for image in episode.images.values():  # each frame in one shade of grey that names it
        image[:] = (100 + np.arange(length))[:, None, None, None]
    sheet = contact_sheet(episode, 10.0, 8)
    assert sheet.shape[1] == 104 + 3 * MARGIN_PX + columns * 154 - 4
    assert sheet.shape[0] > 6 * 154
    row = sheet[sheet.shape[0] - MARGIN_PX - 6 * 154 + 75]  # through the middle of the first of six rows
    shades = [row[104 + 2 * MARGIN_PX + 154 * k + 75] for k in range(columns)]
    expected = np.linspace(0, length - 1, columns).round()
    assert np.array_equal(np.stack(shades)[:, 0] - 100, expected)


def test_a_long_instruction_is_wrapped_and_not_cut():
    embodiment = make_embodiment(depth=False)
    short, long = make_episode(0, embodiment, 3), make_episode(0, embodiment, 3)
    object.__setattr__(
        long, "instruction", "open the drawer, put the red cube into it, close it, and then press the button"
    )
    (tall, *_), (low, *_) = panels(long, 10.0), panels(short, 10.0)
    assert tall.shape[0] > low.shape[0] and tall.shape[1] == low.shape[1]
