"""Rollouts as animated WebP pictures inside the page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

HOLD_LAST_MS = 1200
MIN_FRAME_MS = 40
MAX_FRAME_MS = 250


@dataclass(frozen=True, kw_only=True)
class Video:
    """One rollout: RGB frames, whether it succeeded, and what names it.

    ``instruction`` is what the policy was told and ``seed`` the episode's.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    seconds_per_frame: float
    task: str
    instruction: str
    seed: int
    success: bool


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """A rollout that has been made an animated WebP already."""

    webp: bytes
    task: str
    instruction: str
    seed: int
    success: bool


def animated_webp(video: Video, quality: int = 70) -> bytes:
    """The frames as an endless animation that rests on the last one.

    A frame is shown for its real time within 40…250 ms, so that a policy which looks rarely is not tedious to watch.
    ``ValueError`` if the frames are not uint8 ``(t, h, w, 3)`` with t ≥ 1.
    """
    frames = video.frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"a video needs uint8 frames (t, h, w, 3), got {frames.dtype} {tuple(frames.shape)}")
    duration_ms = round(min(max(1000 * video.seconds_per_frame, MIN_FRAME_MS), MAX_FRAME_MS))
    pictures = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(
        file,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=[duration_ms] * (len(pictures) - 1) + [HOLD_LAST_MS],
        loop=0,
        quality=quality,
        method=3,
    )
    return file.getvalue()


def still_webp(picture: np.ndarray) -> bytes:
    """One picture, uint8 ``(h, w, 3)``, to the last bit."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, format="WEBP", lossless=True)
    return out.getvalue()


def data_uri(webp: bytes) -> str:
    """The picture as an address that needs no file beside the page."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")
