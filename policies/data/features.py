"""Numbers about every frame of a store that take long to make, made once and kept in the store's folder.

They lie in blocks of frames, each written whole or not at all, so that making them can be stopped and gone on with.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from policies.data.dataset import DemonstrationDataset
from vla.durable import write_text_atomically, written_aside
from vla.strict_json import strict_json

FEATURES_DIR = "features"
"""Folder of a store; it may be deleted at any time that nobody reads from it."""
ABOUT_FILE = "about.json"
BLOCK_FRAMES = 256
MAPPED_BLOCKS = 256
"""Blocks that a process has mapped at a time, of all stores: each holds a file open, of which there may be 1024."""

Make = Callable[[Int[np.ndarray, " b"]], Float[np.ndarray, "b ..."]]
"""From frames of the store to their numbers, float32."""


class FrameFeatures:
    """Numbers of one ``shape`` for each frame of ``dataset``; ``about`` says what made them, JSON-ready.

    Their folder is named after ``about`` and the episodes, so numbers of another maker or of other data lie elsewhere.
    ``ValueError`` where what lies there says of itself that it is of something else.
    """

    def __init__(self, dataset: DemonstrationDataset, about: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        self.frames, self.shape = dataset.num_frames, shape
        content = {
            "data": dataset.fingerprint,
            "frames": self.frames,
            "shape": list(shape),
            "block_frames": BLOCK_FRAMES,
            "about": dict(about),
        }
        self.about = json.loads(strict_json(content))
        name = hashlib.sha256(strict_json(self.about, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = dataset.path / FEATURES_DIR / name
        self._check_about()

    @property
    def missing(self) -> list[int]:
        """The blocks that are not there whole."""
        return [index for index in range(-(-self.frames // BLOCK_FRAMES)) if self._open(index) is None]

    def fill(self, make: Make, done: Callable[[int], None] = lambda _: None) -> None:
        """Make what is missing, block by block; ``done`` is told how many frames are there after each.

        An ``OSError`` names the file that cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.folder / ABOUT_FILE, strict_json(self.about, indent=1) + "\n")
        missing = self.missing
        there = self.frames - sum(len(self._frames_of(index)) for index in missing)
        for index in missing:
            frames = self._frames_of(index)
            values = np.ascontiguousarray(make(frames), dtype=np.float32)
            if values.shape != (len(frames), *self.shape):
                raise ValueError(f"expected numbers of shape {(len(frames), *self.shape)}, got {values.shape}")
            with written_aside(self._path(index)) as aside, aside.open("wb") as stream:
                np.save(stream, values)
            there += len(frames)
            done(there)

    def read(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b ..."]:
        """The numbers at these frames, in this order; ``ValueError`` where they have not been made."""
        out = np.empty((len(frames), *self.shape), np.float32)
        owner = frames // BLOCK_FRAMES
        for index in np.unique(owner):
            block = self._open(int(index))
            if block is None:
                raise ValueError(f"{self._path(int(index))} is gone or damaged: start again, and it is made anew")
            rows = owner == index
            out[rows] = block[frames[rows] - index * BLOCK_FRAMES]
        return out

    def _frames_of(self, index: int) -> Int[np.ndarray, " b"]:
        return np.arange(index * BLOCK_FRAMES, min((index + 1) * BLOCK_FRAMES, self.frames))

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npy"

    def _open(self, index: int) -> Float[np.ndarray, "b ..."] | None:
        """A block, mapped read-only; None where it is not there, cut short or of another form."""
        try:
            return _mapped(self._path(index), (len(self._frames_of(index)), *self.shape))
        except (OSError, ValueError, EOFError):
            return None

    def _check_about(self) -> None:
        file = self.folder / ABOUT_FILE
        if not file.exists():
            return
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged; delete its folder to have it made anew: {error}") from error
        if content != self.about:
            differing = sorted(key for key in self.about if content.get(key) != self.about[key])
            raise ValueError(
                f"{self.folder} holds numbers of something else than its name says, it differs in "
                f"{', '.join(differing)}; delete it to have it made anew"
            )


@lru_cache(maxsize=MAPPED_BLOCKS)
def _mapped(file: Path, shape: tuple[int, ...]) -> Float[np.ndarray, "b ..."]:
    """A block, mapped read-only; ``OSError``, ``EOFError`` or ``ValueError`` where there is none of this form."""
    block = np.load(file, mmap_mode="r")
    if block.shape != shape or block.dtype != np.float32:
        raise ValueError(f"expected float32 of shape {shape} in {file}, got {block.dtype} of {block.shape}")
    return block
