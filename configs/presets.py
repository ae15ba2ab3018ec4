"""Complete training configs by name: what a preset fixes is written out in one function."""

from dataclasses import replace
from pathlib import Path

from configs.known import KNOWN
from configs.training import Config
from policies.imitation.config import TrainConfig
from policies.imitation.stages import Stage
from policies.shipped import SHIPPED
from vla.backbones.nano import NanoConfig
from vla.backbones.nano_text import NanoTextConfig
from vla.backbones.vlm.config import VLMConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.chat import ChatConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.heatmap_config import HeatmapConfig
from vla.heads.mapper import MapperConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.objectives import LossWeights


def look_then_move(warmup_steps: int = 50) -> tuple[Stage, Stage]:
    """First where motions go, from their starts; then the actions too, on all frames."""
    look = Stage(
        share=0.39, weights=LossWeights(action=0, waypoint=1), frames="motion_starts", warmup_steps=warmup_steps
    )
    return look, Stage(share=0.61, warmup_steps=warmup_steps)


def from_an_eye() -> tuple[Stage]:
    """All frames and losses at once, for a network that can look already: its convolutions stay as they are."""
    return (Stage(warmup_steps=50, rates={"backbone.image_encoder": 0.0, "backbone.map_position": 0.0}),)


LAPTOP = TrainConfig(steps=2400, stages=from_an_eye(), lr=2e-3, save_every=500, threads=1)
"""Training that fits a laptop's CPU; a second thread gains little there and loses much when anything else runs."""


def nano_bridge() -> Config:
    """The small vision-language network with the bridge head: the default."""
    return Config(name="nano-bridge", backbone=NanoConfig(), head=BridgeConfig(), train=LAPTOP)


def nano_tabletop() -> Config:
    """The policy that the package ships, which knows where its cameras stand, taught a few more tasks."""
    train = replace(LAPTOP, steps=800, lr=1e-3)
    backbone = NanoConfig(use_cameras=True)
    return Config(name="nano-tabletop", backbone=backbone, head=BridgeConfig(), train=train, init_from=Path(SHIPPED))


def nano_bridge_fresh() -> Config:
    """The same network from nothing: it learns where motions go before it learns to move."""
    train = replace(LAPTOP, steps=3600, stages=look_then_move())
    return Config(name="nano-bridge-fresh", backbone=NanoConfig(weights="fresh"), head=BridgeConfig(), train=train)


def nano_mlp() -> Config:
    """The same network with a plain MLP on its last layer: the baseline of the bridge head."""
    return Config(name="nano-mlp", backbone=NanoConfig(), head=MLPConfig(), train=LAPTOP)


def nano_gaussian() -> Config:
    """The default network with a Gaussian about the bridge head's chunk: the simplest that can learn from reward."""
    return Config(name="nano-gaussian", backbone=NanoConfig(), head=GaussianConfig(), train=LAPTOP)


def nano_tokens() -> Config:
    """Actions as tokens of 256 bins, decoded one after the other by the network itself, as OpenVLA does."""
    return Config(name="nano-tokens", backbone=NanoConfig(), head=TokensConfig(), train=LAPTOP)


def nano_fast() -> Config:
    """Actions as FAST tokens, a few for a whole chunk, out of a vocabulary that is fitted to the data first."""
    return Config(name="nano-fast", backbone=NanoConfig(), head=TokensConfig(binning="fast"), train=LAPTOP)


def nano_flow() -> Config:
    """Flow matching with an action expert, as in π0 and SmolVLA."""
    return Config(name="nano-flow", backbone=NanoConfig(), head=FlowConfig(), train=LAPTOP)


def nano_text() -> Config:
    """The default network reading with all-MiniLM-L6-v2, frozen, in place of its own words; --backbone.text names any
    other text encoder, by its id or its folder.
    """
    return Config(name="nano-text", backbone=NanoTextConfig(text=MINILM), head=BridgeConfig(), train=LAPTOP)


def nano_chat() -> Config:
    """Says what it does before it does it, as in VLA4CD; vla eval measures whether both agree."""
    return Config(name="nano-chat", backbone=NanoConfig(), head=ChatConfig(), train=LAPTOP)


def nano_heatmap() -> Config:
    """BridgeVLA small: heatmaps of where to go next, in three pictures of a cloud of what depth cameras see. It learns
    from where motions begin, for it looks at the end of one.
    """
    stage = Stage(frames="motion_starts", warmup_steps=30, rates={"backbone.image_encoder": 0.3})
    train = replace(LAPTOP, steps=600, stages=(stage,), batch_size=16)
    head = HeatmapConfig(turn_rad=0.3)
    return Config(name="nano-heatmap", backbone=NanoConfig(), head=head, horizon=1, train=train)


def nano_4d() -> Config:
    """4D-VLA small: depth says where in the world what it sees is, and a memory shows it what was before, and when."""
    backbone = NanoConfig(
        use_points=True, use_times=True, frames=3, frame_gap=4, frame_sampling="memory_bank", frame_memory=10
    )
    return Config(name="nano-4d", backbone=backbone, head=BridgeConfig(), train=LAPTOP)


def debug() -> Config:
    """A tiny network and a few steps: does everything hold together?"""
    return Config(
        name="debug",
        backbone=NanoConfig(
            weights="fresh",
            width=32,
            depth=2,
            heads=2,
            n_queries=2,
            channels=8,
            blocks=1,
            keypoints=2,
            keypoints_per_token=1,
        ),
        head=BridgeConfig(heads=2),
        train=TrainConfig(steps=20, stages=look_then_move(2), batch_size=8, log_every=5, save_every=10),
    )


MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SMOLVLM = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
"""A small pretrained vision-language model; --backbone.checkpoint names any other, by its id or its folder."""

FINE_TUNING = TrainConfig(
    steps=20_000, stages=(Stage(warmup_steps=500),), batch_size=16, lr=1e-4, weight_decay=0.01, save_every=1000
)
"""Rates for pretrained weights: those of VLA-Adapter (arXiv 2509.09372), on fewer steps."""


def vlm_bridge() -> Config:
    """A pretrained vision-language model with low-rank updates and the bridge head: VLA-Adapter's recipe."""
    backbone = VLMConfig(checkpoint=SMOLVLM, tuning="lora")
    return Config(name="vlm-bridge", backbone=backbone, head=BridgeConfig(heads=8), train=FINE_TUNING)


def vlm_frozen() -> Config:
    """The same with the model as it is: queries, what reads the state and the bridge head learn alone."""
    backbone = VLMConfig(checkpoint=SMOLVLM, tuning="frozen")
    return Config(name="vlm-frozen", backbone=backbone, head=BridgeConfig(heads=8), train=FINE_TUNING)


def vlm_mlp() -> Config:
    """A pretrained vision-language model with low-rank updates and a plain MLP on its last layer."""
    backbone = VLMConfig(checkpoint=SMOLVLM, tuning="lora")
    return Config(name="vlm-mlp", backbone=backbone, head=MLPConfig(width=1024), train=FINE_TUNING)


def align_then_tune() -> tuple[Stage, Stage]:
    """VITA-VLA's two stages (arXiv 2510.09607): what leads to a teacher's hidden states, then everything, to act."""
    leads = ("backbone.queries", "backbone.state_encoder", "head.mapper")
    weights = LossWeights(action=0, waypoint=0, objectives={"align": 1.0})
    return Stage(share=0.3, weights=weights, learns=leads, warmup_steps=500), Stage(share=0.7, warmup_steps=500)


def vlm_vita() -> Config:
    """A pretrained model that first learns the hidden states of a small policy: --train.teachers.policy RUN."""
    backbone = VLMConfig(checkpoint=SMOLVLM, tuning="lora", n_queries=8)
    train = replace(FINE_TUNING, stages=align_then_tune())
    return Config(name="vlm-vita", backbone=backbone, head=MapperConfig(), train=train)


def vlm_ola() -> Config:
    """Its layers first also predict an encoder's embeddings of the pictures: --train.teachers.encoder FOLDER_OR_ID."""
    look = Stage(share=0.3, weights=LossWeights(objectives={"layers": 0.5}), warmup_steps=500)
    train = replace(FINE_TUNING, stages=(look, Stage(share=0.7, warmup_steps=500)))
    return replace(vlm_bridge(), name="vlm-ola", train=train)


def nano_vl2v() -> Config:
    """The default network, near to what an encoder makes of pictures and words: --train.teachers.encoder CLIP."""
    near = LossWeights(action=0, waypoint=0, objectives={"cosine": 1.0})
    project = Stage(share=0.1, weights=near, learns=("objectives.cosine",), warmup_steps=50)
    act = replace(from_an_eye()[0], share=0.9, weights=LossWeights(objectives={"cosine": 1.0}))
    return replace(nano_bridge(), name="nano-vl2v", train=replace(LAPTOP, stages=(project, act)))


PRESETS = {
    "nano-bridge": nano_bridge,
    "nano-tabletop": nano_tabletop,
    "nano-bridge-fresh": nano_bridge_fresh,
    "nano-mlp": nano_mlp,
    "nano-gaussian": nano_gaussian,
    "nano-tokens": nano_tokens,
    "nano-fast": nano_fast,
    "nano-flow": nano_flow,
    "nano-text": nano_text,
    "nano-chat": nano_chat,
    "nano-heatmap": nano_heatmap,
    "nano-4d": nano_4d,
    "vlm-bridge": vlm_bridge,
    "vlm-frozen": vlm_frozen,
    "vlm-mlp": vlm_mlp,
    "vlm-vita": vlm_vita,
    "vlm-ola": vlm_ola,
    "nano-vl2v": nano_vl2v,
    **KNOWN,
    "debug": debug,
}
