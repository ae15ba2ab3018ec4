"""Scores by their names, as runs and commands ask for them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rl.rewards.classifier import AskedClassifier, SuccessClassifier
from rl.rewards.clip import GoalSimilarity
from rl.rewards.config import ScorerConfig
from rl.rewards.features import FrozenFeatures
from rl.rewards.head import HEAD_FILE, load_head, read_learned
from rl.rewards.nano_towers import BackboneTowers, FrozenTokens
from rl.rewards.process import ProcessReward
from rl.rewards.reward import Scorer
from rl.rewards.state_towers import TOWERS_KIND, LearnedTowers, load_towers
from vla.backbones.vlm.answering import PROMPT, YesOrNo
from vla.backbones.vlm.config import VLMConfig
from vla.towers import Towers, TransformersTowers

TOWERS, STATES, ASK = "towers", "states", "ask:"
SHIPPED_STATES = Path(__file__).parent / "pretrained" / "states"
"""What ``vla reward train towers --tasks reach pick place --episodes 30`` left: 1.7 MB."""


def make_scorer(
    name: str,
    config: ScorerConfig,
    *,
    cameras: Sequence[str],
    image_size_px: tuple[int, int],
    describe: Callable[[str], str] = str,
) -> Scorer:
    """The score called ``name``, for a robot with these ``cameras``.

    ``towers`` are those of the package's own backbone, ``states`` those that learned states on top of it, for reach,
    pick and place; a folder is a reward that was trained here; ``ask:CHECKPOINT``
    is a vision-language model that is asked; everything else is a checkpoint of CLIP or SigLIP, by its folder or its id
    on the hub, which looks through the first camera. Errors are those of reading it.
    """
    if name.startswith(ASK):
        asked = VLMConfig(checkpoint=name.removeprefix(ASK), prompt=config.prompt or PROMPT)
        return AskedClassifier(YesOrNo(asked, image_size_px, device=config.device), cameras[:1])
    folder = score_folder(name)
    if folder and (folder / HEAD_FILE).is_file():
        return _learned(folder, config, describe)
    towers: Towers
    towers = BackboneTowers(device=config.device) if name == TOWERS else TransformersTowers(name, config.device)
    return _similarity(towers, towers.cameras or cameras[:1], config, describe)


def score_folder(name: str) -> Path | None:
    """The weights of the score called ``name``; None of the package's own backbone, and of an id on the hub."""
    folder = SHIPPED_STATES if name == STATES else Path(name.removeprefix(ASK)).expanduser()
    return folder if folder.is_dir() else None


def _similarity(
    towers: Towers, cameras: Sequence[str], config: ScorerConfig, describe: Callable[[str], str]
) -> GoalSimilarity:
    return GoalSimilarity(
        towers,
        cameras,
        baseline=config.baseline or None,
        alpha=config.alpha,
        describe=describe if config.described else str,
    )


def _learned(folder: Path, config: ScorerConfig, describe: Callable[[str], str]) -> Scorer:
    if read_learned(folder)[0]["kind"] == TOWERS_KIND:
        saved = load_towers(folder)
        towers = LearnedTowers(FrozenTokens(saved.base_folder, config.device), saved.towers)
        return _similarity(towers, towers.cameras, config, describe)
    saved = load_head(folder)
    features = FrozenFeatures(saved.base_folder, torch.device(config.device))
    if saved.kind == "classifier":
        return SuccessClassifier(features, saved.head)
    if saved.kind == "process":
        return ProcessReward(features, saved.head, config.output)
    raise ValueError(
        f"{folder} holds a reward of the kind {saved.kind!r}, expected a classifier, a process reward or towers"
    )
