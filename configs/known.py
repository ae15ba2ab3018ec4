"""Published recipes as complete training configs: sizes, rates and what of them is another here.

Steps and batches are the papers', for several large GPUs: ``--train.steps`` and ``--train.batch-size`` make them less.
About how much memory each needs with a checkpoint at hand, ``vla info CHECKPOINT`` says.
"""

from dataclasses import replace

from configs.training import Config
from policies.imitation.config import TrainConfig
from policies.imitation.stages import Stage
from policies.processors import NormalizationMode
from vla.backbones.vlm.config import VLMConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.flow import FlowConfig
from vla.heads.mlp import MLPConfig

CONNECTOR = r"multi_modal_projector\..*"
ALL_BUT_CONNECTOR = r"(?!multi_modal_projector\.).*"
"""Linear layers of both encoders and of the language model, where the connector, being new, learns as a whole."""
FUSED_QWEN, FUSED_LLAMA = "models/dinosiglip-qwen2.5-0.5b", "models/dinosiglip-llama2-7b"
SIGLIP_QWEN = "models/siglip-qwen2.5-0.5b"
"""Folders that examples/compose_vlm.py writes."""


BY_QUANTILES = TrainConfig(
    weight_decay=0.01,
    state_normalization=NormalizationMode.QUANTILES,
    action_normalization=NormalizationMode.QUANTILES,
    save_every=5000,
)
"""Actions and state scaled by their 1st and 99th percentile, as OpenVLA and what came of it do."""


def vla_adapter() -> Config:
    """VLA-Adapter (arXiv 2509.09372): DINOv2 and SigLIP before Qwen2.5-0.5B, 64 queries and the bridge head.

    Sizes: 224 px, 256 tokens for each view, 24 layers of width 896, chunks of 8, updates of rank 64 in all linear
    layers. Memory: the authors' code took about 20 GB at 4 samples and 29 GB at 8. Departures: the checkpoint is made
    by examples/compose_vlm.py, so its connector is new and learns too, where the authors' has learned to describe
    pictures; the bridge is the paper's equation (--head.attention released has their code's).
    """
    backbone = VLMConfig(
        checkpoint=FUSED_QWEN,
        tuning="lora",
        n_queries=64,
        lora_rank=64,
        lora_alpha=128,
        lora_targets=ALL_BUT_CONNECTOR,
        also_learns=CONNECTOR,
        side_px=224,
    )
    train = replace(BY_QUANTILES, steps=150_000, stages=(Stage(warmup_steps=15_000),), batch_size=64, lr=1e-4)
    return Config(name="vla-adapter", backbone=backbone, head=BridgeConfig(heads=8), horizon=8, train=train)


def openvla_oft() -> Config:
    """OpenVLA-OFT (arXiv 2502.19645): DINOv2 and SigLIP before Llama-2-7B, one pass, an MLP and L1 on the chunk.

    Sizes: 224 px, 256 tokens for each view, 32 layers of width 4096, chunks of 8, updates of rank 32 in all linear
    layers. Memory: the weights alone are about 15 GB in bfloat16. Departures: the checkpoint is made by
    examples/compose_vlm.py, so it has not been pre-trained on robots as OpenVLA has; the MLP reads the mean of 56
    queries (theirs, one place for each of 8 × 7 numbers) instead of each action's own; no FiLM; the rate falls along
    half a cosine instead of once. --head tokens with --head.decoding parallel is its discrete variant.
    """
    backbone = VLMConfig(
        checkpoint=FUSED_LLAMA,
        tuning="lora",
        n_queries=56,
        lora_rank=32,
        lora_alpha=16,
        lora_targets=ALL_BUT_CONNECTOR,
        also_learns=CONNECTOR,
        side_px=224,
        gradient_checkpointing=True,
    )
    train = replace(BY_QUANTILES, steps=150_000, stages=(Stage(warmup_steps=2000),), batch_size=64, lr=5e-4)
    return Config(name="openvla-oft", backbone=backbone, head=MLPConfig(width=4096, layers=2), horizon=8, train=train)


def smolvla() -> Config:
    """SmolVLA (arXiv 2506.01844): a frozen SmolVLM2-500M and an action expert that learns flow matching.

    Sizes: 512 px, 64 tokens for each view, 32 layers of width 960, an expert of width 720, chunks of 50, 10 steps.
    Memory: little beyond the weights (about 1 GB in bfloat16) and the expert's, since nothing else learns. Departures:
    the expert looks at all layers, not at the first half, and attends to actions and to what is seen in one softmax of
    every layer, where theirs takes turns; it has not been pre-trained on community data.
    """
    backbone = VLMConfig(
        checkpoint="HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        tuning="frozen",
        n_queries=1,
        side_px=512,
        prompt="{instruction}\n",
    )
    train = TrainConfig(
        steps=100_000,
        stages=(Stage(warmup_steps=1000),),
        batch_size=64,
        lr=1e-4,
        min_lr_ratio=0.025,
        weight_decay=1e-10,
        betas=(0.9, 0.95),
        grad_clip=10.0,
        action_normalization=NormalizationMode.MEAN_STD,
        save_every=5000,
    )
    return Config(name="smolvla", backbone=backbone, head=FlowConfig(width=720, heads=12), horizon=50, train=train)


def pi0() -> Config:
    """π0 (arXiv 2410.24164): PaliGemma-3B, all of which learns, and an action expert that learns flow matching.

    Sizes: 224 px, 256 tokens for each view, 18 layers of width 2048, an expert of width 1024, chunks of 50, 10 steps.
    Memory: weights, gradients, moments and average of 3 billion numbers in float32, about 60 GB, and activations;
    --backbone.tuning lora needs a small part of that. Departures: the expert's feed-forward is plain and twice as wide
    (theirs gated and four times), and its heads are its own, not PaliGemma's; it has not been pre-trained on robots.
    """
    backbone = VLMConfig(
        checkpoint="google/paligemma-3b-pt-224",
        tuning="full",
        n_queries=1,
        side_px=224,
        prompt="{instruction}\n",
        gradient_checkpointing=True,
    )
    train = TrainConfig(
        steps=30_000,
        stages=(Stage(warmup_steps=1000),),
        batch_size=32,
        lr=2.5e-5,
        min_lr_ratio=0.1,
        weight_decay=1e-10,
        betas=(0.9, 0.95),
        ema_decay=0.99,
        action_normalization=NormalizationMode.MEAN_STD,
        save_every=5000,
    )
    return Config(name="pi0", backbone=backbone, head=FlowConfig(width=1024, heads=8), horizon=50, train=train)


def bridge_qwen() -> Config:
    """The bridge head on SigLIP-B/16 and Qwen2.5-0.5B: VLA-Adapter's recipe with one encoder, for a single GPU.

    Sizes: 224 px, 196 tokens for each view, 24 layers of width 896, chunks of 8, updates of rank 64 in the language
    model. Memory: about 2 GB of weights in float32, and activations that --train.accumulate and
    --backbone.gradient-checkpointing make smaller. Departures from arXiv 2509.09372: no DINOv2, the encoder stays as it
    is, and the checkpoint is made by examples/compose_vlm.py, so its connector is new and learns too.
    """
    backbone = VLMConfig(checkpoint=SIGLIP_QWEN, tuning="lora", n_queries=64, also_learns=CONNECTOR, side_px=224)
    train = replace(BY_QUANTILES, steps=20_000, stages=(Stage(warmup_steps=500),), batch_size=16, lr=1e-4)
    return Config(name="bridge-qwen0.5b", backbone=backbone, head=BridgeConfig(heads=8), horizon=8, train=train)


KNOWN = {
    "vla-adapter": vla_adapter,
    "openvla-oft": openvla_oft,
    "smolvla": smolvla,
    "pi0": pi0,
    "bridge-qwen0.5b": bridge_qwen,
}
