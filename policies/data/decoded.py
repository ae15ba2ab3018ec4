"""Pictures decoded once into a file in the store's folder and mapped from there: for stores that memory cannot hold."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from policies.data.dataset import LOAD_FRAMES, DemonstrationDataset
from vla.durable import written_aside
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

DECODED_DIR = "decoded"
"""Folder of a store; it may be deleted at any time that nobody reads from it."""


def decoded_file(dataset: DemonstrationDataset, keys: Sequence[str]) -> Path:
    """Where these fields lie decoded, named after what the file is of: episodes, fields in order, types and sizes."""
    fields = [(key, dataset.field(key).dtype, dataset.field(key).shape) for key in keys]
    about = {"fingerprint": dataset.fingerprint, "frames": dataset.num_frames, "fields": fields}
    return dataset.path / DECODED_DIR / f"{hashlib.sha256(strict_json(about).encode()).hexdigest()[:32]}.npy"


def decoded_views(dataset: DemonstrationDataset, keys: Sequence[str]) -> Shaped[np.ndarray, "n v ..."] | None:
    """Fields of one form at every frame, side by side, mapped read-only from their file, which is made if need be.

    Where it cannot be (a full disk, a store that may only be read), or is damaged, a warning says so and there is
    ``None``.
    """
    file = decoded_file(dataset, keys)
    try:
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            _decode(dataset, keys, file)
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        log.warning("pictures are read from the store as they are: %s cannot be made or is damaged: %s", file, error)
        return None


def _decode(dataset: DemonstrationDataset, keys: Sequence[str], file: Path) -> None:
    """Write the ``.npy`` file, a block of frames at a time, whole or not at all.

    It is written, not mapped: a disk that fills up under a map kills the process.
    """
    spec = dataset.field(keys[0])
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(spec.dtype)),
        "fortran_order": False,
        "shape": (dataset.num_frames, len(keys), *spec.shape),
    }
    with written_aside(file) as aside, aside.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for first in range(0, dataset.num_frames, LOAD_FRAMES):
            end = min(first + LOAD_FRAMES, dataset.num_frames)
            stream.write(np.stack([dataset.block(key, first, end) for key in keys], 1).tobytes())
        stream.flush()
