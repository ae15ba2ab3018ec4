"""Scenes on disk: what was rendered once is read the next time, by this training or another one.

A file holds one batch, named by what was asked for and of which source. It is written whole or not at all; one that
is damaged, or of another layout, is made anew.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Bool, UInt8
from safetensors import SafetensorError
from torch import Tensor

from envs.specs import Grounding, GroundingSource
from policies.pretraining.packing import packed, unpacked
from vla.durable import write_atomically

_LAYOUT = 2
_EFFORT = 1
"""Of zlib: the least; pictures of tables shrink to about a third of their size with it."""
_TEXTS, _COVERS = "texts", ("cover", "receivers.cover")


class KeptSource:
    """Fulfils ``envs.specs.GroundingSource``: from ``folder`` where it can, else from ``source`` and kept.

    ``fingerprint`` must tell sources apart that give other scenes for the same arguments. What comes from the folder is
    what the source gave, bit by bit.
    """

    def __init__(self, source: GroundingSource, folder: Path, fingerprint: str) -> None:
        self._source, self._folder, self._fingerprint = source, folder, fingerprint
        self.embodiment = source.embodiment
        folder.mkdir(parents=True, exist_ok=True)

    def batch(
        self,
        first_seed: int,
        tables: int,
        sentences_per_table: int,
        questions_per_table: int = 0,
        captions: bool = False,
    ) -> Grounding:
        asked = (first_seed, tables, sentences_per_table, questions_per_table, captions)
        path = self._path(asked)
        found = _read(path)
        if found is None:
            found = self._source.batch(*asked)
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, to_bytes(found))
        return found

    def close(self) -> None:
        self._source.close()

    def _path(self, asked: tuple[int, ...]) -> Path:
        """Where the answer is kept: files lie in 256 folders."""
        about = json.dumps([_LAYOUT, self._fingerprint, *asked], allow_nan=False)
        name = hashlib.sha256(about.encode()).hexdigest()
        return self._folder / name[:2] / f"{name[2:34]}.scenes"


def to_bytes(scenes: Grounding) -> bytes:
    """Scenes as the bytes of a file, with one bit for each pixel that is covered; :func:`from_bytes` is the inverse."""
    tensors, texts = unpacked(scenes)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    for name in _COVERS:
        cover = tensors[name]
        tensors |= {name: _bits(cover), f"{name}.shape": torch.tensor(cover.shape)}
    tensors[_TEXTS] = torch.frombuffer(bytearray(json.dumps(texts, allow_nan=False).encode()), dtype=torch.uint8)
    return zlib.compress(safetensors.torch.save(tensors), _EFFORT)


def from_bytes(data: bytes) -> Grounding:
    """The scenes in a file's bytes; ``zlib.error``, ``SafetensorError``, ``ValueError``, ``KeyError`` or ``TypeError``
    for what is no such file.
    """
    tensors = safetensors.torch.load(zlib.decompress(data))
    texts = json.loads(bytes(tensors.pop(_TEXTS).numpy()))
    for name in _COVERS:
        tensors[name] = _from_bits(tensors[name], tuple(tensors.pop(f"{name}.shape").tolist()))
    return packed(tensors, {name: tuple(each) for name, each in texts.items()})


def _read(path: Path) -> Grounding | None:
    """What ``path`` holds, or None where that is nothing whole."""
    try:
        return from_bytes(path.read_bytes())
    except (FileNotFoundError, zlib.error, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _bits(cover: Bool[Tensor, "*shape"]) -> UInt8[Tensor, " bytes"]:
    return torch.from_numpy(np.packbits(cover.numpy()))


def _from_bits(bits: UInt8[Tensor, " bytes"], shape: tuple[int, ...]) -> Bool[Tensor, "*shape"]:
    count = int(np.prod(shape))
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).astype(bool).reshape(shape))
