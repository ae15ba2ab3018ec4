"""A network as a directory: ``config.json``, ``model.safetensors``, and what its backbone keeps beside them.

Frozen weights of a pretrained model are not among the weights: the config names the checkpoint and their hash.
"""

import json
from pathlib import Path

import torch

from vla.checkpoint import CheckpointError, read_weights, write_atomically, write_weights
from vla.config import VLAConfig
from vla.model import VLA
from vla.strict_json import strict_json

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_vla(model: VLA, directory: Path | str) -> None:
    """Write config and weights, each atomically; the config last. :func:`load_vla` is the inverse."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    model.backbone.save(directory)
    write_weights(directory / WEIGHTS_FILE, model.kept())
    write_atomically(directory / CONFIG_FILE, strict_json(model.config.to_dict(), indent=2).encode())


def load_vla(directory: Path | str, device: torch.device | str = "cpu") -> VLA:
    """The network saved in ``directory``, in evaluation mode.

    Raises ``CheckpointError`` when a file is missing, damaged, or does not match the config, and where the pretrained
    model that it learned on is not there or another one.
    """
    directory = Path(directory)
    model = VLA(read_config(directory / CONFIG_FILE), saved=directory)
    weights = read_weights(directory / WEIGHTS_FILE, model.kept())  # all that it keeps, and nothing else
    model.load_state_dict(weights, strict=False)
    return model.to(device).eval()


def read_config(path: Path) -> VLAConfig:
    """The config stored at ``path``; ``CheckpointError`` says what is wrong with it."""
    try:
        return VLAConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"expected a VLA config at {path}: {error}") from error
