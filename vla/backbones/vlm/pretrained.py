"""What a checkpoint of transformers gives: network, tokenizer, numbers for pictures; and what a policy keeps of it."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.families import Family, family_of
from vla.backbones.vlm.locate import CONFIG_FILE, locate
from vla.backbones.vlm.pictures import PictureNumbers
from vla.backbones.vlm.words import PromptTokenizer
from vla.checkpoint import CheckpointError
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
    """A checkpoint in memory. ``sha256`` is that of the weights of ``model``, as they are before any tuning."""

    model: Any
    family: Family
    tokenizer: PromptTokenizer
    pictures: PictureNumbers
    sha256: str


def open_checkpoint(config: VLMConfig) -> Parts:
    """What ``config.checkpoint`` holds. Raises ``CheckpointError`` where something of it is missing or damaged, or its
    weights are others than ``config`` says; ``ValueError`` for a family that is not supported.
    """
    folder = locate(config.checkpoint)
    architecture = read_architecture(folder)
    family = family_of(architecture)
    tokenizer = PromptTokenizer(folder, config.prompt, begins_text=family.begins_text)
    pictures = read_pictures(folder)
    model = load_weights(folder, architecture)
    sha256 = _checked_hash(model, config, folder)
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
        pictures, vocabulary = PictureNumbers.from_dict(content["pictures"]), content["vocabulary"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    tokenizer = PromptTokenizer(folder, config.prompt, begins_text=family.begins_text)
    if tokenizer.fingerprint != vocabulary:
        raise CheckpointError(
            f"the tokenizer in {folder} cuts texts otherwise ({tokenizer.fingerprint[:12]}…) "
            f"than the one that the policy learned with ({vocabulary[:12]}…)"
        )
    if config.tuning == "full":
        model, sha256 = _new_network(architecture), config.sha256
    else:
        base = locate(config.checkpoint)
        if (given := read_architecture(base).model_type) != architecture.model_type:
            raise CheckpointError(f"the policy learned on a {architecture.model_type}, {base} holds a {given}")
        model = load_weights(base, architecture)
        sha256 = _checked_hash(model, config, base)
    return Parts(model=model, family=family, tokenizer=tokenizer, pictures=pictures, sha256=sha256)


def save_parts(parts: Parts, directory: Path) -> None:
    """Write architecture, tokenizer and numbers into a policy's folder; :func:`open_saved` reads them back."""
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        parts.family.config.save_pretrained(aside)
        parts.tokenizer.save(Path(aside))
        for path in sorted(Path(aside).iterdir()):
            write_atomically(folder / path.name, path.read_bytes())
    content = {
        "format_version": FORMAT_VERSION,
        "vocabulary": parts.tokenizer.fingerprint,
        "pictures": parts.pictures.to_dict(),
    }
    write_text_atomically(folder / NUMBERS_FILE, strict_json(content, indent=2) + "\n")


def tokenizer_of(config: VLMConfig) -> PromptTokenizer:
    """The checkpoint's tokenizer alone; errors are those of :func:`open_checkpoint`."""
    folder = locate(config.checkpoint)
    family = family_of(read_architecture(folder))
    return PromptTokenizer(folder, config.prompt, begins_text=family.begins_text)


def read_architecture(folder: Path) -> Any:
    """The config that transformers keeps in ``folder``; ``CheckpointError`` where there is none that it knows."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"expected a {CONFIG_FILE} of transformers in {folder}: {error}") from error


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


def load_weights(folder: Path, architecture: Any) -> Any:
    """The network of ``architecture``, in float32, with what lies in ``folder``: all of it, and nothing missing."""
    from transformers import AutoModel

    try:
        with _quiet():
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
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"the weights in {folder} lack {len(missing)} tensors, among them {missing[0]}")
    if extra := sorted(name for name in found["unexpected_keys"] if _HEAD not in name.split(".")):
        log.warning("left out %d tensors of %s that the network lacks, among them %s", len(extra), folder, extra[0])
    return model.eval()


def _new_network(architecture: Any) -> Any:
    from transformers import AutoModel

    return AutoModel.from_config(architecture, dtype=torch.float32).eval()


def _checked_hash(model: nn.Module, config: VLMConfig, folder: Path) -> str:
    sha256 = weights_hash(model)
    if config.sha256 not in ("", sha256):
        raise CheckpointError(
            f"the weights in {folder} are others than those that were learned with: "
            f"their hash is {sha256}, expected {config.sha256}"
        )
    return sha256


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers' own report of what it loaded is left out: the errors here say it."""
    from transformers.utils import logging as messages

    before, bar = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(before)
        if bar:
            messages.enable_progress_bar()
