"""Video files: frames to H.264 in an mp4, through PyAV (extra ``video``)."""

import importlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vla.durable import written_aside

CODECS = {"libx264": {"crf": "18", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}
"""Encoders by preference, with settings under which little is lost."""


def require_av() -> Any:
    """The ``av`` module; ``ModuleNotFoundError`` says how to install it."""
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("mp4 files need PyAV: pip install 'vla-stack[video]'", name="av") from error


def write_mp4(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> int:
    """Write RGB ``frames``, all of one size, to ``path`` at ``fps`` and return how many there were.

    Encoded as they come, whole or not at all. The picture is yuv420p, which every player shows and which needs even
    sides: an odd one repeats its last row or column. ``ValueError`` for no frames, or one that does not fit.
    """
    av = require_av()
    codec = next(name for name in CODECS if name in av.codecs_available)
    count, size, stream = 0, (), None
    with written_aside(path) as aside, av.open(str(aside), "w", format="mp4", options={"movflags": "faststart"}) as out:
        for frame in frames:
            size = size or frame.shape
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != size:
                raise ValueError(
                    f"frame {count}: expected uint8 (h, w, 3) like the first, got {frame.dtype} {frame.shape}"
                )
            if stream is None:
                stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=CODECS[codec])
                stream.height, stream.width = (side + side % 2 for side in size[:2])
                stream.pix_fmt = "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(_even(frame), format="rgb24")))
            count += 1
        if stream is None:
            raise ValueError(f"{path}: a video needs at least one frame, got none")
        out.mux(stream.encode())
    return count


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
