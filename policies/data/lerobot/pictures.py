"""Pictures in and out of LeRobot's files: PNGs in a cell, and H.264 videos of many episodes, through PyAV."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from jaxtyping import UInt8

from policies.data.layout import DatasetError

CODEC = "libx264"
CODEC_SETTINGS = {"crf": "18", "preset": "veryfast", "g": "2", "bf": "0"}
"""Little is lost, every other picture can be jumped to, and none waits for a later one."""

Size = tuple[int, int]
"""Height and width in pixels."""


def encode_png(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """An RGB picture as a PNG file, bit for bit."""
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "rgb24", Fraction(1, 1), 1
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def decode_picture(file: bytes, size: Size | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """A picture file as RGB, of ``size`` where given; ``ValueError`` for what is none."""
    try:
        with av.open(io.BytesIO(file), "r") as container:
            return _rgb(next(container.decode(video=0)), size)
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(f"cannot decode a picture of {len(file)} bytes: {error}") from error


class VideoWriter:
    """One mp4 that pictures are added to; frame k is shown at k / fps seconds."""

    def __init__(self, path: Path, size: Size, fps: int) -> None:
        height, width = size
        if height % 2 or width % 2:
            raise ValueError(f"{path.name}: a video needs even sides, got {height}×{width}: write pictures as png")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.frames, self._fps = path, 0, fps
        self._out = av.open(str(path), "w", format="mp4")
        self._stream = self._out.add_stream(CODEC, rate=fps, options=CODEC_SETTINGS)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, fps)

    @property
    def bytes(self) -> int:
        """How large the file is by now, but for the last few pictures; it begins when the first has been encoded."""
        return self.path.stat().st_size if self.path.exists() else 0

    def write(self, pictures: UInt8[np.ndarray, "t h w 3"]) -> None:
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
            self._out.mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        if self.frames:
            self._out.mux(self._stream.encode(None))
        self._out.close()


class VideoReader:
    """A video file, decoded from its beginning on: frames are found by counting them, whatever their times say.

    Reading on from where the last read ended decodes nothing twice. ``size`` is what pictures are brought to.
    """

    def __init__(self, path: Path, size: Size | None = None) -> None:
        self.path, self._size = path, size
        if not path.is_file():
            raise DatasetError(f"{path} does not exist")
        try:
            with av.open(str(path)) as container:
                self.frames = container.streams.video[0].frames
                """How many frames the file says that it has; 0 where it does not say."""
        except (av.error.FFmpegError, IndexError) as error:
            raise DatasetError(f"{path} is no video that can be read: {error}") from error
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._next = -1

    def read(self, first: int, count: int) -> UInt8[np.ndarray, "t h w 3"]:
        """The frames ``first … first + count − 1``; ``DatasetError`` names the first that cannot be had."""
        if not 0 <= self._next <= first:
            self._decoded, self._next = self._decode(), 0
        pictures: list[np.ndarray] = []
        try:
            while self._next < first + count:
                frame = next(self._decoded)
                if self._next >= first:
                    pictures.append(_rgb(frame, self._size))
                self._next += 1
        except (StopIteration, av.error.FFmpegError) as error:
            at, self._next = self._next, -1
            why = "the file ends before it" if isinstance(error, StopIteration) else str(error)
            raise DatasetError(f"{self.path}: cannot decode frame {at}: {why}") from error
        return np.stack(pictures)

    def _decode(self) -> Iterator[av.VideoFrame]:
        with av.open(str(self.path)) as container:
            yield from container.decode(video=0)


def _rgb(frame: av.VideoFrame, size: Size | None) -> UInt8[np.ndarray, "h w 3"]:
    if size is None or size == (frame.height, frame.width):
        return frame.to_ndarray(format="rgb24")
    height, width = size
    return frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
