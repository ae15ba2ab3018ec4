"""Where a pretrained checkpoint lies on this machine: a folder, or an id on the hub that is fetched once."""

import os
from pathlib import Path

from vla.checkpoint import CheckpointError

FOLDERS_VARIABLE = "VLA_CHECKPOINTS"
"""Folders, separated like those of PATH, in which checkpoints are looked for by their id or its last part."""
CONFIG_FILE = "config.json"
ANSWER_S = 5.0
"""How long the hub may take to answer at all."""
_WEIGHTS = "*.safetensors"
_WANTED = ("*.json", _WEIGHTS, "*.model", "*.txt", "*.jinja")


def locate(checkpoint: str, *, weights: bool = True) -> Path:
    """The folder of ``checkpoint``: itself, one in ``VLA_CHECKPOINTS``, or the hub's, fetched if it is not there yet.

    Without ``weights`` the hub is asked for everything else alone. ``CheckpointError`` within seconds where there is
    none, which says what to give instead.
    """
    given = Path(checkpoint).expanduser()
    if (given / CONFIG_FILE).is_file():
        return given
    if given.is_dir() or given.is_absolute() or len(given.parts) > 2 or ".." in given.parts:
        state = f"it has no {CONFIG_FILE}" if given.is_dir() else "there is no such folder"
        raise CheckpointError(f"expected a folder with a model of transformers at {given}, but {state}; {_advice()}")
    for folder in _folders():
        for name in (checkpoint, given.name):
            if (folder / name / CONFIG_FILE).is_file():
                return folder / name
    wanted = [name for name in _WANTED if weights or name != _WEIGHTS]
    return _kept(checkpoint, wanted) or _fetched(checkpoint, wanted)


def _folders() -> list[Path]:
    return [Path(name).expanduser() for name in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if name]


def _kept(checkpoint: str, wanted: list[str]) -> Path | None:
    """What the hub's own cache holds of ``checkpoint``, if all that is ``wanted`` is there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(checkpoint, local_files_only=True, allow_patterns=wanted))
    except (OSError, ValueError):
        return None
    lacking = _WEIGHTS in wanted and not any(folder.glob(_WEIGHTS))
    return None if lacking or not (folder / CONFIG_FILE).is_file() else folder


def _fetched(checkpoint: str, wanted: list[str]) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:  # one question without retries, so that an unknown id or a missing network is told at once
        HfApi().model_info(checkpoint, timeout=ANSWER_S)
        return Path(snapshot_download(checkpoint, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises those of the library that it speaks HTTP with
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the checkpoint {checkpoint!r} is no folder, none in {FOLDERS_VARIABLE} and not fetched before, "
            f"and the hub does not give it: {reason}; {_advice()}"
        ) from error


def _advice() -> str:
    return (
        "give a folder that holds config.json, *.safetensors, the tokenizer's files and preprocessor_config.json, "
        f"or name the folder around it in {FOLDERS_VARIABLE}"
    )
