"""What a checkpoint of transformers gives: network, tokenizer, numbers for pictures; and what a policy keeps of it."""

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.families import Family, family_of
from vla.backbones.vlm.fused import (
    CONNECTOR_FILE,
    ENCODERS,
    FUSED,
    FusedArchitecture,
    FusedModel,
    new_fused,
)
from vla.backbones.vlm.locate import CONFIG_FILE, locate
from vla.backbones.vlm.pictures import PictureNumbers
from vla.backbones.vlm.quiet import quiet
from vla.backbones.vlm.words import PromptTokenizer
from vla.checkpoint import CheckpointError, read_weights
from vla.durable import write_atomically, write_text_atomically
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

FOLDER, NUMBERS_FILE = "backbone", "backbone.json"
"""Where a policy's folder keeps architecture and tokenizer, and in it the file for the rest."""
FORMAT_VERSION = 1
_HEAD = "lm_head"
"""What of a whole model a backbone has no use for."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A checkpoint in memory, with the numbers of each of its vision encoders. ``sha256`` is that of the weights of
    ``model``, as they are before any tuning.
    """

    model: Any
    family: Family
    tokenizer: PromptTokenizer
    pictures: tuple[PictureNumbers, ...]
    sha256: str


def open_checkpoint(config: VLMConfig) -> Parts:
    """What ``config.checkpoint`` holds. Raises ``CheckpointError`` where something of it is missing or damaged, or its
    weights are others than ``config`` says; ``ValueError`` for a family that is not supported.
    """
    folder = locate(config.checkpoint)
    architecture = read_architecture(folder)
    family = family_of(architecture)
    tokenizer = PromptTokenizer(folder, config.prompt, begins_text=family.begins_text)
    pictures = tuple(read_pictures(each) for each in _picture_folders(folder, architecture))
    model = _load_weights(folder, architecture)
    family.trim(model)
    sha256 = check_hash(model, config.sha256, folder)
    return Parts(model=model, family=family, tokenizer=tokenizer, pictures=pictures, sha256=sha256)


def open_saved(config: VLMConfig, directory: Path) -> Parts:
    """What a policy in ``directory`` keeps, with the checkpoint's weights where they are frozen; other ones are those
    of a new network. Errors are those of :func:`open_checkpoint`, and ``CheckpointError`` for another tokenizer.
    """
    folder = directory / FOLDER
    architecture = read_architecture(folder)
    family = family_of(architecture)
    path = folder / NUMBERS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"this version reads format {FORMAT_VERSION}, got {content['format_version']!r}")
        each = (content["pictures"], *content.get("further_pictures", ()))
        pictures, vocabulary = tuple(PictureNumbers.from_dict(numbers) for numbers in each), content["vocabulary"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    tokenizer = PromptTokenizer(folder, config.prompt, begins_text=family.begins_text)
    tokenizer.check_cuts_like(vocabulary, folder)
    if config.tuning == "full":
        model, sha256 = new_network(architecture).eval(), config.sha256
        family.trim(model)
    else:
        base = locate(config.checkpoint)
        if (given := read_architecture(base).model_type) != architecture.model_type:
            raise CheckpointError(f"the policy learned on a {architecture.model_type}, {base} holds a {given}")
        model = _load_weights(base, architecture)
        family.trim(model)
        sha256 = check_hash(model, config.sha256, base)
    return Parts(model=model, family=family, tokenizer=tokenizer, pictures=pictures, sha256=sha256)


def save_parts(parts: Parts, directory: Path) -> None:
    """Write architecture, tokenizer and numbers into a policy's folder; :func:`open_saved` reads them back."""
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "vocabulary": parts.tokenizer.fingerprint,
        "pictures": parts.pictures[0].to_dict(),
    }
    if further := parts.pictures[1:]:
        content["further_pictures"] = [numbers.to_dict() for numbers in further]
    write_files(directory / FOLDER, parts.family.config, parts.tokenizer, NUMBERS_FILE, content)


def write_files(
    folder: Path, architecture: Any, tokenizer: PromptTokenizer, name: str, content: dict[str, Any]
) -> None:
    """Architecture and tokenizer, and ``content`` as JSON in the file ``name``, each file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        architecture.save_pretrained(aside)
        tokenizer.save(Path(aside))
        for path in sorted(Path(aside).iterdir()):
            write_atomically(folder / path.name, path.read_bytes())
    write_text_atomically(folder / name, strict_json(content, indent=2) + "\n")


def tokenizer_of(config: VLMConfig) -> PromptTokenizer:
    """The checkpoint's tokenizer alone; errors are those of :func:`open_checkpoint`."""
    folder = locate(config.checkpoint)
    family = family_of(read_architecture(folder))
    return PromptTokenizer(folder, config.prompt, begins_text=family.begins_text)


def read_architecture(folder: Path) -> Any:
    """The config that lies in ``folder``, of transformers or of a fused pair of encoders, with all dropout off: a model
    that learns computes what it computes when it acts. ``CheckpointError`` where there is none that is known.
    """
    from transformers import AutoConfig

    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("model_type") == FUSED:
            architecture = FusedArchitecture.from_dict(content)
            for part in architecture.parts.values():
                _turn_off_dropout(part)
            return architecture
        architecture = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"expected a {CONFIG_FILE} of transformers in {folder}: {error!r}") from error
    _turn_off_dropout(architecture)
    return architecture


def new_network(architecture: Any) -> Any:
    """The network of ``architecture`` with new weights, in float32."""
    from transformers import AutoModel

    if isinstance(architecture, FusedArchitecture):
        return new_fused(architecture)
    return AutoModel.from_config(architecture, dtype=torch.float32)


def weights_hash(model: nn.Module) -> str:
    """Of names, shapes and all digits of a network's weights, in whatever files they were."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_pictures(folder: Path) -> PictureNumbers:
    """Those of the image processor in ``folder``; ``CheckpointError`` where there is none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        content, _ = ImageProcessingMixin.get_image_processor_dict(str(folder), local_files_only=True)
        return PictureNumbers.from_dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"expected the config of an image processor in {folder}: {error}") from error


def _picture_folders(folder: Path, architecture: Any) -> list[Path]:
    """Where the numbers for pictures of each vision encoder lie."""
    return [folder / name for name in ENCODERS] if isinstance(architecture, FusedArchitecture) else [folder]


def _turn_off_dropout(config: Any) -> None:
    """In ``config`` and in those of its parts."""
    for name, value in vars(config).items():
        if "drop" in name and isinstance(value, int | float) and value > 0 and not isinstance(value, bool):
            setattr(config, name, 0.0)
        elif hasattr(value, "model_type"):
            _turn_off_dropout(value)


def _load_weights(folder: Path, architecture: Any) -> Any:
    """The network of ``architecture``, in float32, with what lies in ``folder``: all of it, and nothing missing."""
    if isinstance(architecture, FusedArchitecture):
        parts = {name: load_weights(folder / name, config) for name, config in architecture.parts.items()}
        fused = FusedModel(architecture, parts)
        connector = fused.multi_modal_projector
        connector.load_state_dict(read_weights(folder / CONNECTOR_FILE, connector.state_dict()))
        return fused.eval()
    return load_weights(folder, architecture)


def load_weights(folder: Path, architecture: Any, unused: str = "\n") -> Any:
    """One network of transformers, in float32, with what lies in ``folder``: all of it, and nothing missing but what
    nobody needs, whose names begin with ``unused``.
    """
    model, missing = read_network(folder, architecture)
    if lacking := [name for name in missing if not name.startswith(unused)]:
        raise CheckpointError(f"the weights in {folder} lack {len(lacking)} tensors, among them {lacking[0]}")
    return model


def read_network(folder: Path, architecture: Any) -> tuple[Any, list[str]]:
    """One network of transformers, in float32 and evaluation mode, with what lies in ``folder``, and the names of the
    weights that are not there, which are new. Files are read that hold numbers and no code; ``CheckpointError`` where
    they do not fit.
    """
    from transformers import AutoModel

    try:
        with quiet():
            model, found = AutoModel.from_pretrained(
                str(folder),
                config=architecture,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
            )
    except Exception as error:  # transformers and safetensors raise errors of many kinds for files that do not fit
        raise CheckpointError(f"expected the weights of a {architecture.model_type} in {folder}: {error}") from error
    if extra := sorted(name for name in found["unexpected_keys"] if _HEAD not in name.split(".")):
        log.warning("left out %d tensors of %s that the network lacks, among them %s", len(extra), folder, extra[0])
    return model.eval(), sorted(found["missing_keys"])


def check_hash(model: nn.Module, expected: str, folder: Path) -> str:
    """That of the weights of ``model``, from ``folder``; ``CheckpointError`` where another one is ``expected``."""
    sha256 = weights_hash(model)
    if expected not in ("", sha256):
        raise CheckpointError(
            f"the weights in {folder} are others than those that were learned with: "
            f"their hash is {sha256}, expected {expected}"
        )
    return sha256
