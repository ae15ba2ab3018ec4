"""What objectives own, beside a saved backbone: an LM head, towers, a map to a teacher's vectors."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vla.backbone import Backbone
from vla.base import load_base
from vla.checkpoint import CheckpointError, read_weights, write_weights
from vla.objectives.matching import Matching
from vla.objectives.objective import Objective, ObjectiveWeights
from vla.objectives.teaching import TextTeacher
from vla.objectives.telling import Telling
from vla.objectives.together import Objectives

OBJECTIVES_FILE = "objectives.safetensors"


def save_parts(weights: Mapping[str, Tensor], directory: Path) -> None:
    """Write the weights of :attr:`Objectives.parts`; nothing where they have none."""
    if weights:
        write_weights(directory / OBJECTIVES_FILE, weights)


def load_objectives(directory: Path) -> Objectives:
    """The backbone saved in ``directory`` with the objectives that own weights, in evaluation mode.

    What of the backbone was not learned has fresh weights, and every term of theirs its default weight.
    ``CheckpointError`` where a file is missing or damaged.
    """
    base, path = load_base(directory), directory / OBJECTIVES_FILE
    backbone = base.config.build()
    try:
        shapes = safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"expected what objectives own at {path}: {error}") from error
    if not (parts := _parts(backbone, shapes)):
        raise CheckpointError(f"{path} holds nothing of an objective that is known, but {sorted(shapes)[:1]}")
    objectives = Objectives(backbone, parts)
    objectives.parts.load_state_dict(read_weights(path, dict(objectives.parts.named_parameters())))
    if unknown := backbone.load_state_dict(dict(base.weights), strict=False).unexpected_keys:
        raise CheckpointError(f"{directory} has tensors that its backbone lacks, among them {unknown[0]}")
    return objectives.eval()


def _parts(backbone: Backbone, saved: Mapping[str, Tensor]) -> dict[str, Objective]:
    names, every = {name.partition(".")[0] for name in saved}, ObjectiveWeights()
    parts: dict[str, Objective] = {}
    if "telling" in names:
        parts["telling"] = Telling(backbone, every)
    if "matching" in names:
        parts["matching"] = Matching(backbone, every)
    if (out := saved.get("text_teacher.out.weight")) is not None:
        parts["text_teacher"] = TextTeacher(backbone, every, teacher_dim=len(out))
    return parts
