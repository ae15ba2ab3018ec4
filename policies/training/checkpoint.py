"""Checkpoints that are either whole or not there.

``checkpoints/000500/`` holds what the run makes, such as ``policy/`` (what ``VLAPolicy.load`` takes: averaged weights,
normalisers, embodiment) or ``backbone/``, then ``training_state/`` (``tensors.safetensors`` and ``progress.json``: all
that a resumed run needs) and ``manifest.json`` (size and SHA-256 of every file). The newest whole one is found by these
names and manifests alone; the relative links ``checkpoints/last`` and ``best`` are for people. Nothing is pickled.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.checkpoint import CheckpointError
from vla.durable import fsync_path
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
POLICY, BACKBONE = "policy", "backbone"
"""Products."""
LAST, BEST = "last", "best"
"""Links."""
_STATE = "training_state"
_TENSORS, _PROGRESS = f"{_STATE}/tensors.safetensors", f"{_STATE}/progress.json"
_WRITING, _REMOVING = ".writing-", ".removing-"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that a resumed run needs beside its config.

    ``step`` counts the optimiser steps done; ``tensors`` are weights, optimiser moments and averages by
    name; ``progress`` is JSON-ready.
    """

    step: int
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def save_checkpoint(
    root: Path,
    state: TrainingState,
    product: str,
    write: Callable[[Path], None],
    keep_last: int,
    best: int | None = None,
) -> Path:
    """Write ``root/<step>`` aside, make it durable, rename it into place, and prune all but ``keep_last`` and that
    after ``best`` steps.

    ``write`` is called with the (existing, empty) folder ``product``, to fill it.
    """
    final = checkpoint_path(root, state.step)
    aside = final.with_name(_WRITING + final.name)
    _remove(aside)
    (aside / product).mkdir(parents=True)
    (aside / _STATE).mkdir()
    write(aside / product)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}, aside / _TENSORS)
    progress = strict_json({"step": state.step, **state.progress}, indent=2)
    (aside / _PROGRESS).write_text(progress + "\n", encoding="utf-8")
    files = sorted(path for path in aside.rglob("*") if path.is_file())
    manifest = {path.relative_to(aside).as_posix(): _fingerprint(path) for path in files}
    (aside / MANIFEST).write_text(strict_json(manifest, indent=2) + "\n", encoding="utf-8")

    for path in (*aside.rglob("*"), aside):
        fsync_path(path)
    _remove(final)
    aside.rename(final)
    fsync_path(root)
    settle(root, state.step, keep_last, best)
    return final


def settle(root: Path, newest: int, keep_last: int, best: int | None = None) -> None:
    """Point the links at the checkpoints after ``newest`` and ``best`` steps, and prune as a save does.

    What was killed after a checkpoint was in its place, and before this was done, does it when it goes on.
    """
    _point_at(checkpoint_path(root, newest), LAST)
    if best is not None and checkpoint_path(root, best).is_dir():
        _point_at(checkpoint_path(root, best), BEST)
    _prune(root, newest, keep_last, best)


def verify_checkpoint(checkpoint: Path) -> None:
    """Raise :class:`CheckpointError` that names the first file that is missing, cut short or altered."""
    try:
        manifest: Mapping[str, Mapping[str, Any]] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{checkpoint} is no complete checkpoint: it has no {MANIFEST}") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{checkpoint / MANIFEST} cannot be read: {error}") from error
    for name, expected in manifest.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} is incomplete: {name} is missing")
        if path.stat().st_size != expected["bytes"]:
            raise CheckpointError(
                f"{path} is corrupt: it has {path.stat().st_size} bytes, {expected['bytes']} were written"
            )
        if _fingerprint(path) != expected:
            raise CheckpointError(f"{path} is corrupt: its content differs from what was written")


def checkpoint_path(root: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` optimiser steps lies."""
    return root / f"{step:06d}"


def checkpoints(root: Path) -> list[Path]:
    """The checkpoints under ``root``, oldest first; what a killed run left half-written is not among them."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def newest_whole(root: Path) -> Path | None:
    """The newest checkpoint under ``root`` that is whole; a warning names every newer one that had to be skipped.

    ``None`` where no checkpoint was ever finished; ``CheckpointError`` where there are some and none is whole.
    """
    faults: list[str] = []
    for checkpoint in reversed(checkpoints(root)):
        try:
            verify_checkpoint(checkpoint)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            log.warning("skipped a checkpoint: %s", fault)
        return checkpoint
    if faults:
        raise CheckpointError("none of the checkpoints can be used:\n  " + "\n  ".join(faults))
    return None


def find_product(path: Path, product: str, marker: str) -> Path:
    """The folder with the file ``marker``: ``path`` itself, or the product in a checkpoint or in the newest whole one
    of a run's directory.

    ``CheckpointError`` where there is none, and for a checkpoint that is damaged.
    """
    if (path / marker).is_file():
        return path
    if (path / MANIFEST).is_file():
        verify_checkpoint(path)
        return _product_of(path, product)
    roots = (path / CHECKPOINTS, path)
    for root in roots:
        if checkpoint := newest_whole(root):
            return _product_of(checkpoint, product)
    looked = [path, path / product, *(root / "<step>" / product for root in roots)]
    raise CheckpointError(f"no {marker} in any of {[str(folder) for folder in looked]}")


def _product_of(checkpoint: Path, product: str) -> Path:
    if not (checkpoint / product).is_dir():
        there = sorted(path.name for path in checkpoint.iterdir() if path.is_dir() and path.name != _STATE)
        raise CheckpointError(f"{checkpoint} holds no {product}; it holds {', '.join(there) or 'nothing'}")
    return checkpoint / product


def load_newest(root: Path) -> TrainingState | None:
    """The state in :func:`newest_whole`."""
    checkpoint = newest_whole(root)
    return None if checkpoint is None else _read_state(checkpoint)


def clear_leftovers(root: Path) -> None:
    """Remove what a killed run left half-written or half-removed."""
    for path in list(root.glob(f"{_WRITING}*")) + list(root.glob(f"{_REMOVING}*")):
        _remove(path)


def _read_state(checkpoint: Path) -> TrainingState:
    progress = json.loads((checkpoint / _PROGRESS).read_text(encoding="utf-8"))
    return TrainingState(step=progress.pop("step"), tensors=load_file(checkpoint / _TENSORS), progress=progress)


def _point_at(checkpoint: Path, name: str) -> None:
    """Set the link ``name``; a folder in its place, which a copy of the run that follows links leaves, gives way."""
    link = checkpoint.with_name(name)
    if link.is_dir() and not link.is_symlink():
        _remove(link)
    aside = checkpoint.with_name(f"{_WRITING}{name}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(checkpoint.name, target_is_directory=True)
    aside.replace(link)
    fsync_path(checkpoint.parent)


def _prune(root: Path, newest: int, keep_last: int, best: int | None) -> None:
    """Keep ``best`` and ``keep_last`` up to step ``newest``; later ones are damaged ones that a resumed run will
    replace.
    """
    for old in [path for path in checkpoints(root) if int(path.name) <= newest][:-keep_last]:
        if int(old.name) != best:
            _remove(old)


def _remove(path: Path) -> None:
    """Remove a folder, file or link; a folder is renamed first, so that it is never seen half-removed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        doomed = path if path.name.startswith((_WRITING, _REMOVING)) else path.with_name(_REMOVING + path.name)
        if doomed != path:
            path.rename(doomed)
        shutil.rmtree(doomed)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
