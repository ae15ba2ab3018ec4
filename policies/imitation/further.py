"""The settings of what a run learns beside the demonstrations' actions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from policies.imitation.stages import Stage
from vla.objectives.embedding import CosineConfig, LayersConfig
from vla.objectives.surprise import SurpriseConfig

ALIGN, LAYERS, COSINE, SURPRISE = "align", "layers", "cosine", "surprise"
OBJECTIVES = (ALIGN, LAYERS, COSINE, SURPRISE)
"""What a stage can weigh beside the head's loss and the waypoint's."""


@dataclass(frozen=True, kw_only=True)
class TeachersConfig:
    """Who teaches, and how, in the stages whose weights count an objective.

    ``policy`` is a run, checkpoint or policy directory of ours whose hidden states are to be matched (``align``), and
    ``encoder`` one, or an encoder of transformers by its folder or its id on the hub, whose embeddings are to be
    predicted (``layers``, ``cosine``); ``surprise`` needs neither. Each is asked once about every frame, and what it
    says is kept beside the data, unless it is to run ``online`` beside the network.
    """

    policy: Path | None = None
    encoder: Path | None = None
    online: bool = False
    layers: LayersConfig = field(default_factory=LayersConfig)
    cosine: CosineConfig = field(default_factory=CosineConfig)
    surprise: SurpriseConfig = field(default_factory=SurpriseConfig)


def objectives_in(stages: Iterable[Stage]) -> tuple[str, ...]:
    """The further objectives that any of the stages counts; ``ValueError`` for one that there is not."""
    names = dict.fromkeys(name for stage in stages for name in stage.weights.further)
    if unknown := [name for name in names if name not in OBJECTIVES]:
        raise ValueError(f"there is no objective {unknown[0]!r} to weigh; there are {', '.join(OBJECTIVES)}")
    return tuple(name for name in OBJECTIVES if name in names)
